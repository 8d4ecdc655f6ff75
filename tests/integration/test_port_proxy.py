"""A workspace's ports by HTTP: passed on as they are, streamed, upgraded, and nothing of ours with them."""

import base64
import concurrent.futures
import contextlib
import fcntl
import hashlib
import http.client
import json
import random
import socket
import struct
import termios
import threading

import pytest

from conftest import Workspace
from harness.waiting import until
from test_ports import PORT, SERVER, descriptors, memory


class Web:
    """A workspace without any published port, with the server in it."""

    def __init__(self, client, **arguments):
        self.client = client
        self.workspace = Workspace(client, **arguments)
        self.workspace.write("server.py", SERVER)
        self.started = client.put(f"{self.workspace.path}/services/web", {
            "command": f"exec python3 server.py {PORT} web", "ready_tcp": str(PORT)})
        self.path = f"{self.workspace.path}/ports/{PORT}"

    def ask(self, method="GET", path="/tell", **options):
        return self.client.request(method, self.path + path, **options)

    def told(self, method="GET", path="/tell", **options):
        reply = self.ask(method, path, **options)
        assert reply.status == 200, reply
        told = reply.json()
        told["headers"] = {name.lower(): value for name, value in told["headers"]}
        return told

    def raw(self, path, headers=(), method="GET"):
        """A connection that has sent a request's head."""
        host, port = self.client.url.removeprefix("http://").rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), timeout=60)
        lines = [f"{method} {self.path}{path} HTTP/1.1", f"Host: {host}:{port}",
                 f"Authorization: Bearer {self.client.token}", *headers]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return connection


@pytest.fixture(scope="module")
def web(daemon):
    with daemon.client() as client:
        made = Web(client)
        yield made
        made.workspace.delete()


def read_until(connection, end):
    got = b""
    while end not in got:
        piece = connection.recv(65536)
        assert piece, got
        got += piece
    return got


def problem(reply, status, code):
    body = reply.json()
    assert (reply.status, body["code"]) == (status, code), body
    assert reply.headers["Content-Type"] == "application/problem+json" and body["hint"]
    return body


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_any_method_goes_there_and_back(web, method):
    body = None if method in ("GET", "OPTIONS", "PROPFIND") else b"some bytes"
    told = web.told(method, "/tell/it?a=1&a=2&b=%2F+x", body=body)
    assert (told["method"], told["target"]) == (method, "/tell/it?a=1&a=2&b=%2F+x")
    assert told["length"] == len(body or b"")


def test_head_has_no_body_and_the_length(web):
    reply = web.ask("HEAD")
    assert reply.status == 200 and reply.body == b"" and int(reply.headers["Content-Length"]) > 100
    assert web.told()["method"] == "GET", "the connection goes on"


@pytest.mark.parametrize("path, wanted", [("", "/"), ("/", "/"), ("?x=1", "/?x=1"), ("/tell/a%20b/", "/tell/a%20b/")])
def test_the_path_is_passed_as_it_was_sent(web, path, wanted):
    assert web.told(path=path)["target"] == wanted


def test_what_is_ours_is_not_passed_on(web):
    told = web.told(headers={"Connection": "close, X-Mine", "X-Mine": "1", "TE": "trailers", "Keep-Alive": "5",
                             "Proxy-Authorization": "Basic x", "X-Forwarded-For": "1.2.3.4", "Cookie": "c=d",
                             "Idempotency-Key": "k", "Accept": "text/html"})["headers"]
    assert not {"authorization", "x-mine", "te", "keep-alive", "proxy-authorization", "x-forwarded-for", "upgrade",
                "idempotency-key"} & set(told)
    assert web.client.token not in json.dumps(told)
    assert told["host"] == f"127.0.0.1:{PORT}" and told["connection"] == "close"
    assert (told["cookie"], told["accept"]) == ("c=d", "text/html")
    assert told["x-forwarded-prefix"] == web.path and told["x-forwarded-host"] in web.client.url
    assert told["x-request-id"]


def test_an_origin_of_ours_becomes_the_guests(web):
    assert web.told(headers={"Origin": web.client.url})["headers"]["origin"] == f"http://127.0.0.1:{PORT}"
    problem(web.ask(headers={"Origin": "http://elsewhere.example"}), 403, "origin_not_allowed")


def test_the_answers_headers_are_the_guests(web):
    reply = web.ask()
    names = [name.lower() for name, _ in reply.headers.items()]
    assert names.count("set-cookie") == 2 and names.count("cache-control") == 1 and names.count("x-request-id") == 1
    assert reply.headers["Cache-Control"] == "max-age=60" and reply.headers["X-Own"] == "yes"
    assert "x-hop" not in names and "keep-alive" not in names
    assert "sandbox" in reply.headers["Content-Security-Policy"]


@pytest.mark.parametrize("status", [200, 201, 204, 301, 304, 401, 404, 429, 500, 503, 599])
def test_any_status_comes_back(web, status):
    reply = web.ask(path=f"/status/{status}")
    assert reply.status == status and reply.body == (b"" if status in (204, 304) else b"ok")
    assert "WWW-Authenticate" not in reply.headers and "Retry-After" not in reply.headers


@pytest.mark.parametrize("path, length", [("/big/0", 0), ("/big/33554432", 32 << 20), ("/open/5000000", 5000000)])
def test_bodies_come_whole(web, path, length):
    reply = web.ask(path=path)
    pattern = bytes(range(256)) * (length // 256 + 1)
    assert reply.status == 200 and reply.body == pattern[:length]


def test_chunks_come_whole_and_early_hints_are_skipped(web):
    reply = web.ask(path="/chunks/3000")
    assert reply.status == 200
    assert reply.body == b"".join(f"piece {number};".encode() * 50 for number in range(3000))


def test_bodies_go_whole(web):
    data = random.randbytes(20 << 20)
    assert web.told("POST", body=data)["sha256"] == hashlib.sha256(data).hexdigest()
    told = web.told("PUT", body=iter([data[:1000], data[1000:5 << 20], data[5 << 20:]]))
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["headers"]["transfer-encoding"] == "chunked"


def test_an_empty_chunked_body(web):
    assert web.told("POST", body=iter([]))["length"] == 0


def test_events_come_as_they_are_said(web):
    with web.raw("/events") as connection:
        read_until(connection, b"\r\n\r\n")
        for number in range(3):
            web.workspace.write(f"event-{number}", "")
            assert f"data: {number}".encode() in read_until(connection, b"\r\n\r\n")


def test_an_answer_before_the_body_is_read(web):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        reply = web.ask("POST", "/early", body=bytes(1 << 20))
        assert (reply.status, reply.body) == (413, b"no\r\n")


def test_an_upgrade_is_the_guests_own_protocol(web):
    with web.raw("/upgrade", ["Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                              "Sec-WebSocket-Key: c29tZQ==", f"Origin: {web.client.url}"]) as connection:
        head, _, rest = read_until(connection, b"first words;").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101") and b"Sec-WebSocket-Accept: c29tZQ==!" in head
        assert b"websocket" in head.lower() and rest == b"first words;"
        data = random.randbytes(3 << 20)
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        sender.join()
        assert got == data, "each direction ends by itself"


def test_bytes_behind_the_upgrades_head_are_passed_on(web):
    with web.raw("/upgrade", ["Connection: Upgrade", "Upgrade: mine\r\n\r\nearly bird"]) as connection:
        assert b"first words;early bird" in read_until(connection, b"early bird\r\n\r\n")


def test_many_upgraded_connections_and_slow_ones(web, daemon):
    before = memory(daemon.pid)
    with contextlib.ExitStack() as stack:
        tunnels = [stack.enter_context(web.raw("/upgrade", ["Connection: Upgrade", "Upgrade: mine"]))
                   for _ in range(60)]
        for number, tunnel in enumerate(tunnels):
            read_until(tunnel, b"first words;")
            tunnel.sendall(f"number {number}.".encode())
        for number, tunnel in enumerate(tunnels):
            assert read_until(tunnel, b".") == f"number {number}.".encode()
        for tunnel in tunnels[:30]:
            tunnel.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    tunnel.send(bytes(65536))
        for _ in range(20):
            stack.enter_context(web.raw("/big/100000000"))
        assert web.told()["method"] == "GET"
        assert memory(daemon.pid) - before < 128 << 20


def test_an_upgrade_that_the_guest_does_not_take(web):
    reply = web.ask(headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert reply.status == 200 and json.loads(reply.body)["method"] == "GET"


def answer(web, text, **options):
    encoded = base64.urlsafe_b64encode(text if isinstance(text, bytes) else text.encode()).decode()
    return web.ask(path=f"/bytes/{encoded}", **options)


@pytest.mark.parametrize("text", [
    b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 99 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", b"HTTP/1.1 200 OK\r\nBad name: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"HTTP/1.1 101 So\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
], ids=range(17))
def test_what_is_no_http_is_told(web, text):
    problem(answer(web, text), 502, "port_not_http")
    assert web.told()["method"] == "GET"


def test_a_head_that_is_too_large_is_told(web):
    web.workspace.write("large.py", "import socket\ns = socket.create_server(('127.0.0.1', 8190))\n"
                        "while True:\n c = s.accept()[0]\n c.recv(65536)\n"
                        " c.sendall(b'HTTP/1.1 200 OK\\r\\nX: ' + b'y' * 40000 + b'\\r\\n\\r\\n')\n c.close()\n")
    web.client.put(f"{web.workspace.path}/services/large", {"command": "exec python3 large.py", "ready_tcp": "8190"})
    body = problem(web.client.request("GET", f"{web.workspace.path}/ports/8190/"), 502, "port_not_http")
    assert "too large" in body["detail"]


@pytest.mark.parametrize("text", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\nhello",
], ids=range(5))
def test_a_body_that_is_cut_short_is_seen_to_be(web, text):
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer(web, text)
    assert web.told()["method"] == "GET"


def test_more_than_was_announced_is_dropped(web):
    reply = answer(web, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")
    assert (reply.status, reply.body) == (200, b"ok")
    assert web.told()["method"] == "GET"


def test_nobody_listens(web):
    body = problem(web.client.request("GET", f"{web.workspace.path}/ports/9/x"), 502, "port_not_listening")
    assert body["retryable"] is True and "9" in body["detail"]
    problem(web.client.request("POST", f"{web.workspace.path}/ports/9/x", body=bytes(100)), 502, "port_not_listening")


@pytest.mark.parametrize("port", ["0", "65536", "080", "x", "99999999999", "-1"])
def test_what_is_no_port(web, port):
    assert problem(web.client.request("GET", f"{web.workspace.path}/ports/{port}/"), 422,
                   "bad_port")["field"] == "/port"


def test_who_may_not(web, daemon, client):
    assert daemon.client("nonsense").request("GET", web.path + "/").status == 401
    tenant = client.post("/v1/tenants", {"name": "proxy-other"})["tenant_id"]
    token = client.post(f"/v1/tenants/{tenant}/tokens", {"rights": "operate"})["token"]
    with daemon.client(token) as other:
        problem(other.request("GET", web.path + "/"), 404, "workspace_not_found")
    reader = client.post(f"/v1/tenants/{tenant}/tokens", {"rights": "read-only"})
    with daemon.client(reader["token"]) as other:
        problem(other.request("GET", web.path + "/"), 403, "forbidden")


def test_an_answer_that_never_comes(hearthd_factory):
    hearthd = hearthd_factory(request_timeout_ms=4000)
    web = Web(hearthd.client())
    problem(web.ask(path="/never"), 504, "port_timeout")
    assert web.told()["method"] == "GET"


def test_a_client_that_leaves_takes_its_connection_along(web):
    def connections():
        return int(web.workspace.exec("grep -c ':1FBB .* 01 ' /proc/net/tcp || true")["stdout"])
    until(lambda: not connections())  # of the tests before
    for path in ("/never", "/big/100000000"):
        with web.raw(path):
            until(connections)
        until(lambda: not connections())


def test_a_stopped_workspace_and_a_service_that_ends(client, workspace_factory):
    web = Web(client)
    with web.raw("/never") as never, \
            web.raw("/upgrade", ["Connection: Upgrade", "Upgrade: mine"]) as tunnel:
        read_until(tunnel, b"first words;")
        client.post(f"{web.workspace.path}/services/web/stop")
        assert b"port_not_http" in read_until(never, b"}")
        with contextlib.suppress(ConnectionResetError):
            assert tunnel.recv(1) == b""
    client.post(f"{web.workspace.path}/stop")
    problem(web.ask(), 409, "workspace_not_started")
    web.workspace.delete()


def unread(connection):
    """Bytes that have come and wait."""
    return struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))[0]


def descriptors_at_rest(pid):
    """How many there are once their number stays: a workspace that was deleted before has some for a moment yet."""
    seen = []

    def stays():
        seen.append(descriptors(pid))
        return len(seen) > 30 and len(set(seen[-30:])) == 1
    until(stays)
    return seen[-1]


def test_a_client_that_does_not_read_keeps_nothing_in_a_network_that_is_gone(client, daemon):
    """What is left are its own connection and what it has yet to read, which are of the host's network."""
    web, count = Web(client), 8
    before = descriptors_at_rest(daemon.pid)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(web.raw(f"/big/{1 << 30}")) for _ in range(count)]
        seen = []

        def all_is_held_up():
            waiting = [unread(connection) for connection in connections]
            seen.append(sum(waiting))
            return all(waiting) and len(seen) > 30 and len(set(seen[-30:])) == 1
        until(all_is_held_up)
        assert descriptors(daemon.pid) >= before + 4 * count
        client.post(f"{web.workspace.path}/stop")
        until(lambda: descriptors(daemon.pid) <= before + 2 * count, patience_s=30)  # a client that is stuck has 60
    web.workspace.delete()


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_the_daemon_ends_with_tunnels_open(hearthd_factory, end):
    hearthd = hearthd_factory()
    web = Web(hearthd.client())
    with web.raw("/upgrade", ["Connection: Upgrade", "Upgrade: mine"]) as tunnel, web.raw("/big/100000000"):
        read_until(tunnel, b"first words;")
        if end == "stop":
            assert hearthd.stop() == 0
        else:
            hearthd.kill9()
        with contextlib.suppress(ConnectionResetError):
            assert tunnel.recv(1) == b""
    hearthd.start()
    web.client = hearthd.client()
    assert web.told()["method"] == "GET"


def test_side_by_side(web):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        def one(number):
            with web.client.another() as mine:
                return len(mine.request("GET", f"{web.path}/big/{number * 1000}").body)
        assert list(pool.map(one, range(200))) == [number * 1000 for number in range(200)]


def test_it_is_described(client):
    paths = client.get("/openapi.json")["paths"]["/v1/workspaces/{workspace_id}/ports/{port}/{path}"]
    assert {"get", "put", "post", "delete", "options", "patch"} == set(paths)


def test_a_microvms_ports(machine_client):
    """The same by a machine's link."""
    web = Web(machine_client, mem_mib=256)
    assert web.told()["method"] == "GET"
    data = random.randbytes(1 << 20)
    assert web.told("POST", body=data)["sha256"] == hashlib.sha256(data).hexdigest()
    test_an_upgrade_is_the_guests_own_protocol(web)
    test_a_body_that_is_cut_short_is_seen_to_be(web, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
    test_nobody_listens(web)
    web.workspace.delete()
