"""Sync push and export: trees go in and out as they are, and nothing of what is refused goes in."""

import contextlib
import gzip
import http.client
import io
import json
import os
import subprocess
import tarfile
import threading
import time

import pytest

from harness.http import Problem
from harness.living import open_files
from harness.trees import describe, make_odd_tree

TAR = {"Content-Type": "application/x-tar"}


def tar_of(*members):
    """A tar of (name, content or a TarInfo's fields)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            data = b""
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(info, key, value)
            else:
                data = content.encode()
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def push(workspace, body, headers=TAR, **query):
    return workspace.client.request("POST", f"{workspace.path}/sync", body=body, query=query,
                                    headers=headers)


def pushed(workspace, body, headers=TAR, **query):
    reply = push(workspace, body, headers, **query)
    assert reply.status == 200, reply
    return reply.json()["workspace_sync"]


def export(workspace, path=".", **headers):
    return workspace.client.request("GET", f"{workspace.path}/export", query={"path": path},
                                    headers=headers)


def unpack(body, directory):
    directory.mkdir()
    subprocess.run(["tar", "-xpf", "-", "-C", directory], input=body, check=True)
    return directory


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return make_odd_tree(tmp_path_factory.mktemp("odd") / "tree")


@pytest.fixture(scope="module")
def odd_tar(odd):
    return subprocess.run(["tar", "--format=pax", "--sort=name", "-cf", "-", "-C", odd, "."],
                          stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("compress", [None, "gzip", "zstd"])
def test_a_tree_goes_in_and_out_as_it_is(workspace, odd, odd_tar, tmp_path, compress):
    body, headers = odd_tar, TAR
    if compress:
        body = subprocess.run([compress, "-c"], input=odd_tar, stdout=subprocess.PIPE, check=True).stdout
        headers = {"Content-Type": f"application/{compress}"}
    result = pushed(workspace, body, headers)
    # GNU tar names the directory itself too.
    assert result["mode"] == "tar_archive" and result["destination"] == "/workspace"
    assert result["entry_count"] == len(describe(odd))
    reply = export(workspace)
    assert reply.headers["Content-Type"] == "application/x-tar"
    assert reply.headers["Hearth-Artifact-Type"] == "directory"
    assert describe(unpack(reply.body, tmp_path / "out")) == describe(odd)
    assert export(workspace).body == reply.body


def test_a_push_adds_and_replaces(workspace):
    workspace.write("kept", "kept")
    workspace.write("dir/replaced", "old")
    before = workspace.status()["last_activity_at"]
    result = pushed(workspace, tar_of(("replaced", "new"), ("sub/added", "added")), dest="dir",
                    source_path="some/project")
    assert result == {"mode": "directory", "source_path": "some/project",
                      "destination": "/workspace/dir", "entry_count": 2, "bytes_written": 8}
    assert workspace.exec("cat kept dir/replaced dir/sub/added")["stdout"] == "keptnewadded"
    assert workspace.status()["last_activity_at"] > before


def test_an_upload_is_pushed_by_its_id(workspace):
    upload = workspace.client.request("POST", "/v1/uploads", body=tar_of(("a", "1")), headers=TAR).json()
    for dest in ("one", "/workspace/two"):
        answer = workspace.client.post(f"{workspace.path}/sync", {"upload_id": upload["upload_id"],
                                                                 "dest": dest})
        assert answer["workspace_id"] == workspace.id and answer["execution_mode"]
        assert answer["workspace_sync"]["entry_count"] == 1
    assert workspace.exec("cat one/a two/a")["stdout"] == "11"


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc"}
REFUSED = {
    "absolute": (tar_of(("fine", "x"), ("/etc/passwd", "x")), "archive_refused", "/etc/passwd"),
    "parent": (tar_of(("fine", "x"), ("a/../../b", "x")), "archive_refused", "a/../../b"),
    "through": (tar_of(("l", LINK), ("l/passwd", "x")), "archive_refused", "l/passwd"),
    "device": (tar_of(("fine", "x"), ("null", {"type": tarfile.CHRTYPE})), "archive_refused", "null"),
    "fifo": (tar_of(("pipe", {"type": tarfile.FIFOTYPE})), "archive_refused", "pipe"),
    "hard link": (tar_of(("h", {"type": tarfile.LNKTYPE, "linkname": "/etc/shadow"})), "archive_refused", "h"),
    "no tar": (b"This is no tar at all." * 100, "archive_refused", ""),
    "cut": (tar_of(("fine", "x" * 5000))[:3000], "archive_truncated", ""),
    "cut gzip": (gzip.compress(os.urandom(1) + tar_of(("fine", "x" * 50000)))[:80], None, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_changes_nothing(workspace, name):
    body, code, said = REFUSED[name]
    workspace.write("mine", "mine")
    reply = push(workspace, body)
    assert reply.status == 422 and said in reply.json()["detail"]
    assert reply.json()["code"] == code or code is None
    assert workspace.exec("find . -type f")["stdout"].split() == ["./mine"]
    with pytest.raises(Problem) as caught:  # And the same by an upload.
        workspace.client.ok("POST", "/v1/uploads", body=body, headers=TAR)
    assert caught.value.reply.status == 422


@pytest.mark.parametrize("arguments, code, field", [
    ({}, "missing_argument", "/upload_id"),
    ({"source_path": "/etc"}, "host_path_forbidden", "/source_path"),
    ({"upload_id": "up_aaaaaaaaaaaaaaaa"}, "upload_not_found", "/upload_id"),
    ({"upload_id": "up_aaaaaaaaaaaaaaaa", "dest": "../x"}, "path_outside_workspace", "/dest"),
    ({"upload_id": "up_aaaaaaaaaaaaaaaa", "dest": "/etc"}, "path_outside_workspace", "/dest"),
    ({"upload_id": "x", "mode": 1}, "unknown_argument", "/mode"),
])
def test_wrong_arguments_are_refused(workspace, arguments, code, field):
    reply = workspace.client.request("POST", f"{workspace.path}/sync", arguments)
    assert reply.status in (404, 422) and (reply.json()["code"], reply.json()["field"]) == (code, field)


def test_a_body_of_another_type_or_destination_is_refused(workspace):
    assert push(workspace, b"x", {"Content-Type": "image/png"}).status == 415
    # An upload has no arguments that JSON could bring.
    upload = workspace.client.request("POST", "/v1/uploads", body=tar_of(("a", "x")), headers={"Content-Type": "application/json"})
    assert (upload.status, upload.json()["code"]) == (415, "unsupported_media_type")
    assert push(workspace, tar_of(("a", "x")), dest="/tmp").json()["code"] == "path_outside_workspace"
    workspace.exec("ln -s /tmp out; touch file")
    assert push(workspace, tar_of(("a", "x")), dest="out").status == 422
    assert push(workspace, tar_of(("a", "x")), dest="file").json()["code"] == "archive_refused"
    assert workspace.exec("ls /tmp")["stdout"] == ""


def test_a_client_that_leaves_puts_nothing_in(workspace):
    """Its archive has an end, its body has not."""
    archive = tar_of(("early", "x" * 100000))
    connection = workspace.client.connect()
    connection.putrequest("POST", f"{workspace.path}/sync")
    for name, value in {"Content-Type": "application/x-tar", "Content-Length": len(archive) + 1000000,
                        "Authorization": f"Bearer {workspace.client.token}"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(archive[:50000])
    connection.close()
    pushed(workspace, tar_of(("after", "x")))
    assert workspace.exec("ls")["stdout"] == "after\n"


def test_a_large_push_streams(workspace, daemon):
    """256 MiB of what does not compress, while the daemon's memory and disk stay as they were."""
    size = 256 << 20

    def body():
        head = tarfile.TarInfo("large")
        head.size = size
        yield head.tobuf(tarfile.GNU_FORMAT)
        block = os.urandom(1 << 20)
        for _ in range(size >> 20):
            yield block
        yield b"\0" * 10240

    def memory():
        with open(f"/proc/{daemon.pid}/status") as file:
            return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) << 10

    def disk():
        return sum(os.fstat(file.fileno()).st_size for _, file in open_files(daemon.state_dir / "uploads"))

    with open(f"/proc/{daemon.pid}/clear_refs", "w") as file:
        file.write("5")
    before, spooled = memory(), disk()
    assert pushed(workspace, body())["bytes_written"] == size
    assert memory() - before < 64 << 20 and disk() == spooled
    assert workspace.exec("stat -c %s large")["stdout"] == f"{size}\n"


def test_pushes_side_by_side(workspace):
    results = []

    def one(index):
        with workspace.client.another() as client:
            body = tar_of(*[(f"{index}/{i}", f"{i}" * 1000) for i in range(100)])
            results.append(client.request("POST", f"{workspace.path}/sync", body=body, headers=TAR).status)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [200] * 8
    assert workspace.exec("find . -type f | wc -l")["stdout"].strip() == "800"


# Export

def test_a_file_a_link_and_a_directory_are_exported(workspace, tmp_path):
    workspace.write("dir/file", "content", mode="0751")
    workspace.exec("ln -s file dir/link; ln -s dir alias; mkfifo dir/pipe")
    reply = export(workspace, "dir/file")
    assert reply.headers["Hearth-Artifact-Type"] == "file"
    out = unpack(reply.body, tmp_path / "file")
    assert (out / "file").read_text() == "content" and (out / "file").stat().st_mode & 0o777 == 0o751
    assert export(workspace, "alias/file").body == reply.body
    reply = export(workspace, "/workspace/dir/link")
    assert reply.headers["Hearth-Artifact-Type"] == "symlink"
    assert os.readlink(unpack(reply.body, tmp_path / "link") / "link") == "file"
    assert sorted(os.listdir(unpack(export(workspace, "dir").body, tmp_path / "dir"))) == ["file", "link"]


@pytest.mark.parametrize("path, status, code", [
    ("absent", 404, "file_not_found"), ("../etc", 422, "path_outside_workspace"),
    ("/etc/passwd", 422, "path_outside_workspace"), ("out/passwd", 422, "path_outside_workspace"),
    ("pipe", 409, "wrong_file_type"), ("file/x", 422, "path_outside_workspace"),
])
def test_what_cannot_be_exported_is_told(workspace, path, status, code):
    workspace.exec("mkfifo pipe; touch file; ln -s /etc out")
    reply = export(workspace, path)
    assert (reply.status, reply.json()["code"], reply.json()["field"]) == (status, code, "/path")


def test_an_output_path_of_the_host_is_not_allowed(workspace):
    reply = workspace.client.request("GET", f"{workspace.path}/export",
                                     query={"path": ".", "output_path": "/tmp/out"})
    assert (reply.status, reply.json()["code"]) == (422, "host_path_forbidden")
    reply = workspace.client.request("POST", "/v1/tools/workspace_export/call",
                                     {"workspace_id": workspace.id, "path": "."})
    assert (reply.status, reply.json()["code"]) == (422, "missing_argument")


def test_export_is_no_activity(workspace):
    workspace.write("a", "a")
    before = workspace.status()["last_activity_at"]
    export(workspace)
    assert workspace.status()["last_activity_at"] == before


def test_a_file_that_grows_and_shrinks_gives_a_whole_tar(workspace):
    workspace.exec("while :; do head -c 3000000 /dev/zero > f; head -c 9000000 /dev/zero > f; done",
                   detach=True)
    told = {}
    while not told:
        body = export(workspace).body
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            for member in archive:
                if member.isfile():
                    assert len(archive.extractfile(member).read()) == member.size
            told.update(archive.pax_headers)
    assert told == {"comment": "changed while it was read: f"}


def test_a_reader_that_is_slow_holds_nobody(workspace):
    workspace.exec("head -c 100000000 /dev/urandom > large")
    connection = workspace.client.connect()
    connection.request("GET", f"{workspace.path}/export?path=.",
                       headers={"Authorization": f"Bearer {workspace.client.token}"})
    response = connection.getresponse()
    first = response.read(1 << 16)
    assert workspace.exec("echo on")["stdout"] == "on\n"
    total = len(first)
    while piece := response.read(1 << 20):
        total += len(piece)
    connection.close()
    assert total > 100000000


def test_a_guest_that_ends_in_the_middle_cuts_the_stream(workspace_factory):
    workspace = workspace_factory()
    workspace.exec("head -c 100000000 /dev/urandom > large")
    connection = workspace.client.connect()
    connection.request("GET", f"{workspace.path}/export?path=.",
                       headers={"Authorization": f"Bearer {workspace.client.token}"})
    response = connection.getresponse()
    response.read(1 << 16)
    workspace.client.post(f"{workspace.path}/stop")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and response.read(1 << 20):
            pass
    connection.close()


@pytest.mark.parametrize("method, target, media_type", [
    ("POST", "sync", "application/x-tar"), ("PUT", "files/content?path=f", "application/octet-stream")])
@pytest.mark.parametrize("end, status, codes", [
    ("stop", 409, {"workspace_stopped", "workspace_busy", "workspace_not_started"}),
    ("delete", 404, {"workspace_not_found"})])
def test_who_sends_while_the_workspace_ends_is_told_that_end(client, method, target, media_type, end, status, codes):
    """Nobody has cancelled it, and what was stopped is there yet."""
    from conftest import Workspace
    workspace = Workspace(client)
    with contextlib.closing(client.connect()) as connection:
        connection.putrequest(method, f"{workspace.path}/{target}")
        for name, value in (("Authorization", f"Bearer {client.token}"), ("Content-Type", media_type),
                            ("Transfer-Encoding", "chunked")):
            connection.putheader(name, value)
        connection.endheaders()
        piece = tar_of(("a", "a" * 4000))[:2048]
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end == "stop":
            client.post(f"{workspace.path}/stop")
        else:
            workspace.delete()
        with contextlib.suppress(OSError):
            connection.send(b"0\r\n\r\n")
        reply = connection.getresponse()
        problem = json.loads(reply.read())
    assert reply.status == status and problem["code"] in codes, problem
    if end == "stop":
        assert workspace.status()["state"] == "stopped"
        workspace.delete()
