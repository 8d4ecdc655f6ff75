"""The tests' own tools: what they are to catch, they catch."""

import pathlib
import socket
import subprocess

import pytest

from harness import leaks, node_tags
from harness.http import Reply
from harness.replies import Replies

OPENAPI = {
    "openapi": "3.1.0",
    "paths": {
        "/v1/things": {"get": {"operationId": "list", "responses": {}}},
        "/v1/things/{id}": {"get": {"operationId": "get", "responses": {
            "200": {"content": {"application/json": {"schema": {
                "$ref": "#/components/schemas/Thing"}}}},
            "404": {"$ref": "#/components/responses/Problem"}}}},
        "/v1/things/new": {"get": {"operationId": "new", "responses": {
            "200": {"content": {"application/json": {"schema": {"type": "array"}}}}}}},
    },
    "components": {
        "schemas": {"Thing": {"type": "object", "required": ["id"], "additionalProperties": False,
                              "properties": {"id": {"type": "string"}}}},
        "responses": {"Problem": {"content": {"application/problem+json": {"schema": {
            "type": "object", "required": ["code"]}}}}},
    },
}


def reply(status, body, media_type="application/json"):
    return Reply(status, {"Content-Type": media_type}, body)


def test_replies_as_described_pass():
    check = Replies(OPENAPI)
    check("GET", "/v1/things/a%20b?x=1", reply(200, b'{"id":"a"}'))
    check("GET", "/v1/things/new", reply(200, b"[]"))
    check("GET", "/v1/things/a", reply(404, b'{"code":"gone"}', "application/problem+json"))
    check("GET", "/not/described", reply(200, b"1"))


@pytest.mark.parametrize("path, wrong", [
    ("/v1/things/a", reply(200, b"{}")),
    ("/v1/things/a", reply(200, b'{"id":1}')),
    ("/v1/things/a", reply(200, b'{"id":"a","more":1}')),
    ("/v1/things/a", reply(404, b"{}", "application/problem+json")),
    ("/v1/things/a", reply(404, b'{"code":"gone"}')),
    ("/v1/things/a", reply(409, b'{"code":"busy"}', "application/problem+json")),
    ("/v1/things/new", reply(200, b'{"id":"a"}')),
])
def test_other_replies_fail_the_test_that_gets_them(path, wrong):
    with pytest.raises(AssertionError):
        Replies(OPENAPI)("GET", path, wrong)


def test_a_left_over_directory_socket_or_process_is_found(tmp_path):
    tag, holder = node_tags.claim()
    assert not leaks.left_over(tmp_path, tag)
    (tmp_path / f"state/guests/gu_{tag}aaaa").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "run/s"))
    with subprocess.Popen(["tail", "-f", "/dev/null", tmp_path / "run"]) as process:
        try:
            # Popen returns once the child is past its exec, which may be before it has its words.
            while not pathlib.Path(f"/proc/{process.pid}/cmdline").read_bytes():
                pass
            kinds = sorted(line.split()[0] for line in leaks.left_over(tmp_path, tag))
        finally:
            process.kill()
            holder.close()
    assert kinds == ["directory:", "process", "socket:"]


def test_a_node_tag_is_nobody_elses_and_has_no_guests(monkeypatch):
    letters = iter("bbbbccdd")
    monkeypatch.setattr(node_tags.secrets, "choice", lambda _: next(letters))
    monkeypatch.setattr(node_tags.leaks, "cgroups", lambda tag: ["cgroup"] if tag == "cc" else [])
    first, holder = node_tags.claim()
    with holder:
        second, other = node_tags.claim()
        other.close()
    assert (first, second) == ("bb", "dd")
