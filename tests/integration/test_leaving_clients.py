"""Clients that leave, and streams that are broken off: nothing of their connections stays, whoever else is there."""

import socket
import struct

import pytest

from harness import daemon as harness_daemon
from harness.waiting import until

EXEC = ("POST", "/exec", b'{"command":"echo up; exec sleep 600","stream":true,"timeout_seconds":600}', "")
EVENTS = ("GET", "/v1/events", b"", "Accept: text/event-stream\r\n")
LINES = ("POST", "/mcp/streams", b"", "")


@pytest.fixture(scope="module")
def served(images):
    with harness_daemon.running(images) as hearthd:
        with hearthd.client() as client:
            path = f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': 'debian:12'})['workspace_id']}"
            yield hearthd, path


def begun(hearthd, path, stream, version):
    """A connection whose stream has begun."""
    method, target, body, headers = stream
    address, port = hearthd.url.removeprefix("http://").split(":")
    made = socket.create_connection((address, int(port)), timeout=60)
    made.sendall(f"{method} {target if target.startswith(('/v1', '/mcp')) else path + target} HTTP/{version}\r\n"
                 f"Host: {address}:{port}\r\nAuthorization: Bearer {hearthd.token}\r\n{headers}"
                 f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    got = b""
    while b"\r\n\r\n" not in got:
        got += made.recv(65536)
    assert got.split()[1] == b"200", got
    return made


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("stream", [EXEC, EVENTS, LINES], ids=["exec", "events", "mcp"])
def test_who_leaves_a_stream_leaves_no_connection(served, stream, version, reset):
    hearthd, path = served
    with hearthd.client() as older:  # It was there before, and stays.
        before = older.metric("http_connections")
        made = [begun(hearthd, path, stream, version) for _ in range(5)]
        assert older.metric("http_connections") == before + 5
        for connection in made:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        until(lambda: older.metric("http_connections") == before, patience_s=20)


def test_a_stream_that_the_daemon_breaks_off_leaves_no_connection(served):
    hearthd, _ = served
    with hearthd.client() as older:
        before = older.metric("http_connections")
        made = older.post("/v1/workspaces", {"environment": "debian:12"})["workspace_id"]
        path = f"/v1/workspaces/{made}"
        older.post(f"{path}/exec", {"command": "truncate -s 3G large"})
        export = begun(hearthd, path, ("GET", "/export?path=.", b"", "Accept: application/x-tar\r\n"), "1.1")
        with export:
            older.delete(path)
            got = b""
            while piece := export.recv(1 << 20):
                got = (got + piece)[-5:]
            assert got != b"0\r\n\r\n"  # Its client sees that it is not whole.
        until(lambda: older.metric("http_connections") == before, patience_s=20)
