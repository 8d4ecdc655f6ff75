"""Output and files over the API: binary, large, ranged, streamed."""

import base64
import hashlib
import json
import os

import pytest

from harness.waiting import until
from test_api import problem

MIB = 1 << 20


@pytest.mark.parametrize("command", ["head -c 8000000 /dev/urandom",
                                     "head -c 8000000 /dev/zero",
                                     "head -c 8000000 /dev/zero | tr '\\0' '\\377'",
                                     "head -c 4000000 /dev/urandom | tee /dev/stderr",
                                     "#" + "\x01" * 100000 + "\nhead -c 4000000 /dev/urandom | tee /dev/stderr"],
                         ids=["random", "zeros", "no text", "both", "and a long command"])
def test_a_flood_keeps_the_reply_under_two_mebibytes(workspace, command):
    reply = workspace.client.request("POST", f"{workspace.path}/exec",
                                     {"command": command, "max_output_bytes": 16 * MIB})
    assert reply.status == 200 and len(reply.body) < 2 * MIB
    result = reply.json()
    assert result["truncated"] and result["stdout_bytes"] in (8000000, 4000000)


def test_a_flood_by_a_tool_is_bounded_too(workspace):
    reply = workspace.client.request("POST", "/v1/tools/workspace_exec/call", {
        "workspace_id": workspace.id, "command": "head -c 8000000 /dev/urandom"})
    assert len(reply.body) < 2 * MIB and reply.json()["stdout_bytes"] == 8000000


@pytest.mark.parametrize("text, said", [("x" * MIB, ""), ("é\n" * 300000, "err\n" * 100000), ('"a"\n' * (MIB // 4), "")],
                         ids=["plain", "both", "escaped"])
def test_output_up_to_its_limit_comes_whole(workspace, text, said):
    workspace.write("out", text)
    workspace.write("err", said)
    result = workspace.exec("cat out; cat err >&2")
    assert (result["stdout"] == text, result["stderr"] == said, result["truncated"]) == (True, True, False)
    logged = workspace.client.get(f"{workspace.path}/logs")["entries"][0]
    assert logged["stdout"] == text and not logged["truncated"]


def test_a_part_of_a_file_is_text_without_a_hole(workspace):
    text = "é\n" * (MIB // 3)
    workspace.write("text", text)
    read = workspace.read("text", max_bytes=MIB)
    assert (read["content"] == text, read["truncated"]) == (True, False)
    workspace.exec("head -c 1048576 /dev/zero >zeros")
    read = workspace.read("zeros", max_bytes=MIB)
    assert read["truncated"] and set(read["content"]) == {"\0"}


def test_output_that_is_no_text(workspace):
    raw = bytes(range(256))
    command = "printf '%b' '" + "".join(f"\\0{byte:o}" for byte in raw) + "'"
    assert "�" in workspace.exec(command)["stdout"]
    assert base64.b64decode(workspace.exec(command, encoding="base64")["stdout"]) == raw
    entry = workspace.client.get(f"{workspace.path}/logs", encoding="base64")["entries"][-1]
    assert (base64.b64decode(entry["stdout"]), entry["stderr"]) == (raw, "")
    service = f"{workspace.path}/services/raw"
    workspace.client.put(service, {"command": f"{command}; echo over >&2; sleep 600"})
    logs = until(lambda: (now := workspace.client.get(f"{service}/logs", all="true", encoding="base64"))["stderr"] and now)
    assert (base64.b64decode(logs["stdout"]), base64.b64decode(logs["stderr"])) == (raw, b"over\n")
    assert "\ufffd" in workspace.client.get(f"{service}/logs", all="true")["stdout"]
    workspace.client.post(f"{service}/stop", {})


def content(workspace, path, **headers):
    return workspace.client.request("GET", f"{workspace.path}/files/content",
                                    query={"path": path},
                                    headers={"Accept": "application/octet-stream", **headers})


@pytest.fixture
def digits(workspace):
    workspace.write("digits", "0123456789")
    return workspace


@pytest.mark.parametrize("asked, status, body, named", [
    ("bytes=2-4", 206, b"234", "bytes 2-4/10"), ("bytes=7-", 206, b"789", "bytes 7-9/10"),
    ("bytes=8-99", 206, b"89", "bytes 8-9/10"), ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
    ("bytes=4-2", 200, b"0123456789", None), ("lines=1-2", 200, b"0123456789", None),
    ("bytes=0-1,3-4", 200, b"0123456789", None),
])
def test_ranges(digits, asked, status, body, named):
    reply = content(digits, "digits", Range=asked)
    assert (reply.status, reply.body) == (status, body)
    assert reply.headers["Content-Range"] == named
    assert reply.headers["Accept-Ranges"] == "bytes"


def test_a_range_of_a_version_is_the_whole_file(digits):
    """If-Range names a version, which files do not have: none can be the one that is named."""
    reply = content(digits, "digits", **{"Range": "bytes=2-4", "If-Range": '"1"'})
    assert (reply.status, reply.body) == (200, b"0123456789")


def test_a_range_past_the_end(digits):
    reply = content(digits, "digits", Range="bytes=10-")
    problem(reply, 416, "range_not_satisfiable")
    assert reply.headers["Content-Range"] == "bytes */10"


def test_paths_are_told_as_they_are_in_the_guest(digits):
    digits.write("below/one", "1")
    for asked in ("below", "./below/", "/workspace/below"):
        listed = digits.client.get(f"{digits.path}/files", path=asked)
        assert (listed["path"], listed["workspace_id"]) == ("/workspace/below", digits.id)
        assert [entry["path"] for entry in listed["entries"]] == ["/workspace/below/one"]
    # As Python writes a truth in a query.
    assert digits.client.get(f"{digits.path}/files", recursive="True")["recursive"] is True
    gone = digits.client.request("DELETE", f"{digits.path}/files?path=below/one")
    assert gone.json()["path"] == "/workspace/below/one"


def test_offset_and_length_as_text(digits):
    read = digits.read("digits", offset=3, max_bytes=4)
    assert (read["content"], read["size_bytes"], read["truncated"]) == ("3456", 10, True)
    assert digits.read("digits", offset=6)["truncated"] is False


def test_head_has_the_headers_and_no_body(digits):
    reply = digits.client.request("HEAD", digits.path)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["Content-Type"] == "application/json"
    reply = digits.client.request("HEAD", "/v1/workspaces/ws_aaaaaaaaaaaaaaaa")
    assert (reply.status, reply.body) == (404, b"")
    reply = digits.client.request("HEAD", f"{digits.path}/files/content", query={"path": "digits"},
                                  headers={"Accept": "application/octet-stream"})
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["Content-Length"] == "10"
    assert digits.status()["state"] == "started", "the connection is in step"


def put(workspace, path, body, **query):
    return workspace.client.request("PUT", f"{workspace.path}/files/content", body=body,
                                    query={"path": path, **query},
                                    headers={"Content-Type": "application/octet-stream"})


def test_sixty_four_mebibytes_go_in_and_out(workspace):
    data = os.urandom(MIB) * 64
    reply = put(workspace, "large.bin", data)
    assert reply.status == 200, reply
    assert reply.json()["bytes_written"] == reply.json()["size_bytes"] == len(data)
    digest = hashlib.sha256(data).hexdigest()
    assert workspace.exec("sha256sum large.bin")["stdout"].split()[0] == digest
    reply = content(workspace, "large.bin")
    assert reply.status == 200 and hashlib.sha256(reply.body).hexdigest() == digest


def chunks(*pieces):
    yield from pieces


def test_a_body_of_unknown_length(workspace):
    assert put(workspace, "chunked", chunks(b"one ", b"two")).json()["bytes_written"] == 7
    assert workspace.read("chunked")["content"] == "one two"


def test_an_empty_file_is_written_raw(workspace):
    assert put(workspace, "empty", b"").json()["size_bytes"] == 0
    assert workspace.read("empty")["content"] == ""


def test_text_beside_a_body_is_refused(digits):
    field = problem(put(digits, "digits", b"body", text="text"), 422, "conflicting_arguments")["field"]
    assert field == "/text" and digits.read("digits")["content"] == "0123456789"


def test_no_permissions_at_all_are_a_mode_too(workspace):
    for mode in ("0000", "0640", "000"):
        workspace.write("shut", "x", mode=mode)
        assert workspace.exec("stat -c %04a shut")["stdout"].strip() == mode.rjust(4, "0")
    workspace.write("shut", "y")
    assert workspace.exec("stat -c %04a shut")["stdout"] == "0000\n", "it keeps that of the file it replaces"


def test_what_is_no_file_is_not_written(workspace):
    workspace.exec("mkfifo fifo")
    problem(put(workspace, "fifo", b"x"), 409, "wrong_file_type")
    assert workspace.exec("test -p fifo")["exit_code"] == 0


def test_times_at_and_before_the_epoch(workspace):
    workspace.exec("touch -d @0 epoch; touch -d @-1.5 before; touch -d @1.25 after")
    entries = workspace.client.get(f"{workspace.path}/files")["entries"]
    assert [entry["mtime"] for entry in entries] == [1.25, -1.5, 0]


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "/workspace/../x"])
def test_a_path_that_leaves_the_workspace_is_refused(workspace, path):
    for reply in (put(workspace, path, b"x"), content(workspace, path),
                  workspace.client.request("PUT", f"{workspace.path}/files/content",
                                           {"path": path, "text": "x"})):
        assert reply.status == 422 and reply.json()["field"] == "/path", reply


def test_a_file_that_is_not_there(workspace):
    for reply in (content(workspace, "absent"),
                  workspace.client.request("GET", f"{workspace.path}/files/content",
                                           query={"path": "absent"})):
        assert reply.status == 404 and reply.json()["field"] == "/path", reply


def test_a_stream_ends_with_the_result(workspace):
    events = list(workspace.client.stream("POST", f"{workspace.path}/exec", {
        "command": "echo out; echo err >&2; exit 3", "stream": True}))
    assert json.dumps(events[-1]).count('"exit_code": 3') == 1, events


def test_a_stream_of_bytes_is_bytes_throughout(workspace):
    events = list(workspace.client.stream("POST", f"{workspace.path}/exec", {
        "command": "printf text; printf more >&2", "stream": True, "encoding": "base64"}))
    told = {event["type"]: (event["encoding"], event["data"]) for event in events if "data" in event}
    assert told == {"stdout": ("base64", "dGV4dA=="), "stderr": ("base64", "bW9yZQ==")}


def test_a_stream_can_be_read_again_from_its_begin(workspace):
    """What is there already when it begins, follows: the cursor of its first event is before it."""
    begun = [next(iter(workspace.client.stream("POST", f"{workspace.path}/exec", {
        "argv": ["echo", "told"], "stream": True, "detach": True}))) for _ in range(100)]
    assert {(event["type"], event["cursor"]) for event in begun} == {("started", "0.0")}
