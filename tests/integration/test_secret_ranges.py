"""What begins or ends within a secret shows no part of it: reads by ranges, downloads, searches, diffs, consoles."""

import base64
import random
import time

import pytest

from conftest import Workspace
from harness.images import ENVIRONMENT

MARK = "[REDACTED]"
TOKEN = "rAnged-t0ken-of-34-bytes-718/+=end"
LINES = [f"line-{number}-of-a-key-" + "KEYBYTES"[number:] * 3 for number in range(6)]
KEY = "-----BEGIN A KEY-----\n" + "\n".join(LINES) + "\n-----END A KEY-----\n"
SECRETS = [{"name": "TOKEN", "value": TOKEN}, {"name": "KEY", "value": KEY}]
BEFORE, AFTER = "b" * 90, "a" * 90
WHOLE = len(BEFORE + TOKEN + AFTER)
MASKED = BEFORE + MARK + "*" * (len(TOKEN) - len(MARK)) + AFTER


@pytest.fixture(scope="module")
def client(daemon):
    with daemon.client() as made:
        yield made


@pytest.fixture(scope="module")
def workspace(client):
    made = Workspace(client, secrets=SECRETS)
    made.exec(f'printf %s%s%s {BEFORE} "$TOKEN" {AFTER} >file', secret_env={"TOKEN": "TOKEN"})
    yield made
    made.delete()


def shown(begin, end):
    """The range as it is to be told."""
    inside = begin < len(BEFORE + TOKEN) and end > len(BEFORE)
    return (BEFORE[begin:end] + (MARK if inside else "")
            + AFTER[max(0, begin - len(BEFORE + TOKEN)):max(0, end - len(BEFORE + TOKEN))])


def ranges():
    edges = [0, 1, len(BEFORE) - 1, len(BEFORE), len(BEFORE) + 1, len(BEFORE) + 17, len(BEFORE + TOKEN) - 1,
             len(BEFORE + TOKEN), len(BEFORE + TOKEN) + 1, WHOLE - 1, WHOLE]
    return [(begin, end) for begin in edges for end in edges if begin < end]


def test_a_read_by_ranges(workspace):
    for begin, end in ranges():
        read = workspace.read("file", offset=begin, max_bytes=end - begin)
        assert read["content"] == shown(begin, end), (begin, end)
        assert (read["truncated"], read["size_bytes"]) == (end < WHOLE, WHOLE)
        coded = workspace.read("file", offset=begin, max_bytes=end - begin, encoding="base64")["content"]
        assert base64.b64decode(coded).decode() == shown(begin, end), (begin, end)
    assert workspace.read("file", offset=WHOLE + 5)["content"] == ""


def test_a_download_is_as_long_as_the_file(workspace):
    path = f"{workspace.path}/files/content"

    def download(value):
        return workspace.client.request("GET", path, query={"path": "file"}, headers={
            "Accept": "application/octet-stream", **({"Range": value} if value else {})})
    assert download(None).body.decode() == MASKED
    for begin, end in ranges():
        reply = download(f"bytes={begin}-{end - 1}")
        assert (reply.status, reply.body.decode()) == (206, MASKED[begin:end])
        assert reply.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{WHOLE}"
    assert download(f"bytes={len(BEFORE) + 3}-").body.decode() == MASKED[len(BEFORE) + 3:]


def test_a_long_download_is_masked_wherever_its_pieces_end(workspace):
    """Secrets about every border that pieces may have; all else as it was."""
    size, blank = 3 << 20, random.Random(7).randbytes(3 << 20)
    content, wanted = bytearray(blank), bytearray(blank)
    mask = (MARK + "*" * len(TOKEN))[:len(TOKEN)].encode()
    for border in range(1 << 16, size, 1 << 16):
        at = border - random.Random(border).randrange(len(TOKEN) + 1)
        content[at:at + len(TOKEN)], wanted[at:at + len(TOKEN)] = TOKEN.encode(), mask
    path = f"{workspace.path}/files/content"
    workspace.client.request("PUT", path, body=bytes(content), query={"path": "long"},
                             headers={"Content-Type": "application/octet-stream"})
    reply = workspace.client.request("GET", path, query={"path": "long"},
                                     headers={"Accept": "application/octet-stream"})
    assert reply.body == wanted
    reply = workspace.client.request("GET", path, query={"path": "long"}, headers={
        "Accept": "application/octet-stream", "Range": "bytes=65530-2000000"})
    assert reply.body == wanted[65530:2000001]
    workspace.exec("rm long")


def test_a_search_shows_no_part_of_one(workspace):
    for before in range(0, 520, 13):
        workspace.write("line", "w" * before + "NEEDLE" + "w" * 30 + TOKEN + "w" * 400)
        [match] = workspace.client.post(f"{workspace.path}/files/search", {
            "pattern": "NEEDLE", "path": "line"})["matches"]
        for at in range(len(TOKEN) - 4):
            assert TOKEN[at:at + 5] not in match["text"], (before, match)
    workspace.exec("rm line")


def test_a_key_is_shown_by_no_line_of_it(workspace):
    workspace.exec('printf "%s\\n" "$KEY" >key', secret_env={"KEY": "KEY"})
    found = workspace.client.post(f"{workspace.path}/files/search", {"pattern": "line-", "path": "key"})
    told = [match["text"] for match in found["matches"]]
    assert told == [MARK] * len(LINES)
    assert workspace.exec("sed -n 3p key")["stdout"] == MARK + "\n"
    assert workspace.exec("sed 's/^/> /' key | head -4")["stdout"] == f"> {MARK}\n" * 4
    for text in (workspace.client.request("GET", f"{workspace.path}/diff", query={"paths": "key"}).body.decode(),
                 workspace.exec("cat key")["stdout"]):
        assert MARK in text and not any(line in text for line in LINES)
    workspace.exec("rm key")


def test_a_stopped_disk_is_read_by_ranges(client):
    own = Workspace(client, secrets=SECRETS)
    own.exec(f'printf %s%s%s {BEFORE} "$TOKEN" {AFTER} >file', secret_env={"TOKEN": "TOKEN"})
    client.post(f"{own.path}/stop")
    for begin, end in ((0, WHOLE), (0, len(BEFORE) + 5), (len(BEFORE) + 5, WHOLE), (len(BEFORE) + 5, len(BEFORE) + 9)):
        for encoding in ("utf-8", "base64"):
            read = client.get(f"{own.path}/disk/read", path="file", offset=begin, max_bytes=end - begin,
                              encoding=encoding)
            content = read["content"] if encoding == "utf-8" else base64.b64decode(read["content"]).decode()
            assert content == shown(begin, end) and read["truncated"] == (end < WHOLE)
    own.delete()


def test_a_stream_hides_it_in_what_is_told_of_a_failure(workspace):
    lines = list(workspace.client.stream("POST", f"{workspace.path}/exec", {
        "argv": [f"/nowhere/{TOKEN}"], "cwd": f"/tmp/{TOKEN}", "stream": True}))
    assert TOKEN not in repr(lines) and MARK in repr(lines)


def test_a_machines_last_words_hide_it(machine_daemon):
    """What is told of a console begins within the secret: after that has been taken out."""
    with machine_daemon.client(timeout=300) as client:
        own = Workspace(client, mem_mib=256, secrets=SECRETS)
        for after, marked in (("w" * 40, True), ("w" * 240, False)):
            client.request("POST", f"{own.path}/exec", {
                "command": f'printf "<1>%s%s" "$TOKEN" "{after}" >/dev/kmsg; printf b >/proc/sysrq-trigger',
                "secret_env": {"TOKEN": "TOKEN"}, "timeout_seconds": 20})
            deadline = time.monotonic() + 60
            while (told := client.get(own.path))["state"] == "started":
                assert time.monotonic() < deadline
            detail = told["metadata"]["failure_detail"]
            assert after[:40] in detail and (not marked or MARK in detail), detail
            events = client.request("GET", "/v1/events", query={"workspace_id": own.id, "limit": 1000}).body.decode()
            for text in (repr(told), events, machine_daemon.log()):
                for at in range(len(TOKEN) - 7):
                    assert TOKEN[at:at + 8] not in text, text[-3000:]
            client.post(f"{own.path}/start")
        own.delete()
