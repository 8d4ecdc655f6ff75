"""Published ports: from the host's loopback to services in guests, over the agent's link alone."""

import concurrent.futures
import contextlib
import hashlib
import pathlib
import random
import re
import socket
import subprocess

import pytest

from conftest import Workspace
from harness import guest_server
from harness.daemon import BIN
from harness.waiting import until

SERVER = pathlib.Path(guest_server.__file__).read_text()
PORT = 8123


class Published:
    """A workspace that publishes ports, with the server in it."""

    def __init__(self, client, policy="published-ports", **arguments):
        self.client = client
        self.workspace = Workspace(client, network_policy=policy, **arguments)
        self.path = self.workspace.path
        self.workspace.write("server.py", SERVER)

    def put(self, name="web", guest_port=PORT, **more):
        ports = more.pop("published_ports", [{"guest_port": guest_port}])
        return self.client.request("PUT", f"{self.path}/services/{name}", {
            "command": f"exec python3 server.py {guest_port} {name}", "ready_tcp": str(guest_port),
            "published_ports": ports, **more})

    def start(self, *arguments, **more):
        reply = self.put(*arguments, **more)
        assert reply.status in (200, 201), reply
        assert reply.json()["state"] == "running", reply
        return reply.json()["published_ports"][0]["host_port"]

    def stop(self, name="web"):
        return self.client.post(f"{self.path}/services/{name}/stop")

    def status(self, name="web"):
        return self.client.get(f"{self.path}/services/{name}")


def connect(port, word="echo"):
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(word.encode() + b"\n")
    return connection


def all_of(connection):
    return b"".join(iter(lambda: connection.recv(1 << 20), b""))


def ask(port, word):
    with connect(port, word) as connection:
        return all_of(connection)


def echo(port, data):
    with connect(port) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return all_of(connection)


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


@pytest.fixture(scope="module")
def shared(daemon):
    with daemon.client() as client:
        made = Published(client)
        made.port = made.start()
        yield made
        made.workspace.delete()


def test_a_service_tells_its_ports_and_they_lead_to_it(shared):
    status = shared.status()
    assert status["published_ports"] == [{"host": "127.0.0.1", "host_port": shared.port, "guest_port": PORT,
                                          "protocol": "tcp"}]
    assert echo(shared.port, b"hello") == b"hello"
    assert shared.workspace.status()["network_policy"] == "published-ports"
    assert shared.workspace.status()["network_enabled"] is False


def test_each_direction_ends_by_itself(shared):
    data = random.randbytes(3 << 20)
    with connect(shared.port, "digest") as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert all_of(connection) == hashlib.sha256(data).hexdigest().encode()


def test_much_comes_whole(shared):
    got = ask(shared.port, f"send {32 << 20}")
    assert len(got) == 32 << 20 and got == bytes(range(256)) * (1 << 17)


def test_two_hundred_connections_at_once(shared):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(shared.port)) for _ in range(200)]
        for number, connection in enumerate(connections):
            connection.sendall(f"number {number}".encode())
        for number, connection in enumerate(connections):
            wanted, got = f"number {number}".encode(), b""
            while len(got) < len(wanted):
                got += connection.recv(100)
            assert got == wanted
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        data = random.randbytes(200_000)
        assert all(got == data for got in pool.map(lambda _: echo(shared.port, data), range(200)))


def test_slow_readers_and_deaf_servers_harm_nobody(shared, daemon):
    """Those that take nothing are held up where they are: what waits for them is bounded."""
    before = memory(daemon.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(shared.port, f"send {1 << 30}"))
            deaf = stack.enter_context(connect(shared.port, "deaf"))
            deaf.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    deaf.send(bytes(65536))
        assert echo(shared.port, bytes(1 << 20)) == bytes(1 << 20)
        assert shared.workspace.exec("echo well")["stdout"] == "well\n"
        assert memory(daemon.pid) - before < 96 << 20


def memory(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) << 10


def test_a_taken_port_is_refused_and_nothing_is_left(shared):
    reply = shared.put("other", PORT + 1, published_ports=[{"guest_port": PORT + 2},
                                                           {"guest_port": PORT + 1, "host_port": shared.port}])
    body = reply.json()
    assert (reply.status, body["code"], body["field"]) == (409, "port_taken", "/published_ports/1/host_port")
    assert body["hint"]
    assert shared.client.request("GET", f"{shared.path}/services/other").status == 404
    assert echo(shared.port, b"still there") == b"still there"


def test_a_port_of_the_hosts_own_is_never_taken(shared, daemon):
    for address in (("127.0.0.1", 0), ("0.0.0.0", 0)):
        with socket.create_server(address) as own:
            reply = shared.put("other", PORT + 1, published_ports=[
                {"guest_port": PORT + 1, "host_port": own.getsockname()[1]}])
            assert (reply.status, reply.json()["code"]) == (409, "port_taken")
    daemons = int(daemon.url.rsplit(":", 1)[1])
    reply = shared.put("other", PORT + 1, published_ports=[{"guest_port": PORT + 1, "host_port": daemons}])
    assert (reply.status, reply.json()["code"]) == (409, "port_taken")


@pytest.mark.parametrize("ports, code, field", [
    ([{"guest_port": 80}, {"guest_port": 80}], "bad_ports", "/published_ports/1"),
    ([{"guest_port": 0}], None, "/published_ports/0/guest_port"),
    ([{"guest_port": 65536}], None, "/published_ports/0/guest_port"),
    ([{"guest_port": 80, "host_port": 80}], None, "/published_ports/0/host_port"),
    ([{"host_port": 8080}], "missing_argument", "/published_ports/0/guest_port"),
    ([{"guest_port": port} for port in range(1, 18)], None, "/published_ports"),
])
def test_bad_ports_are_refused(shared, ports, code, field):
    known = shared.client.get(f"{shared.path}/services")
    reply = shared.put("bad", PORT + 1, published_ports=ports)
    body = reply.json()
    assert reply.status == 422 and body["field"] == field and code in (None, body["code"]), body
    assert shared.client.get(f"{shared.path}/services") == known


@pytest.mark.parametrize("policy", ["off", "egress"])
def test_a_policy_without_ports_forbids_them(client, policy, workspace_factory):
    workspace = workspace_factory(network_policy=policy)
    reply = client.request("PUT", f"{workspace.path}/services/web", {
        "command": "sleep 1000", "published_ports": [{"guest_port": 80}]})
    body = reply.json()
    assert (reply.status, body["code"], body["field"]) == (422, "ports_not_allowed", "/published_ports")
    assert "published-ports" in body["hint"]
    assert client.get(f"{workspace.path}/services")["services"] == []


def test_ports_with_egress(client):
    made = Published(client, policy="egress+published-ports")
    assert echo(made.start(), b"both") == b"both"
    made.workspace.delete()


def test_a_port_nobody_serves_resets(shared):
    reply = shared.put("silent", PORT + 5, command="exec sleep 1000", ready_tcp=None)
    port = reply.json()["published_ports"][0]["host_port"]
    with pytest.raises(ConnectionResetError), \
            socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        assert connection.recv(1) != b""
    shared.stop("silent")


def test_ports_close_with_the_service(shared):
    port = shared.start("short", PORT + 6)
    with connect(port, "hold") as held:
        assert ask(port, "name") == b"short"
        stopped = shared.stop("short")
        assert stopped["published_ports"] == [] and stopped["state"] == "stopped"
        with contextlib.suppress(ConnectionResetError):
            assert held.recv(1) == b""
    assert is_refused(port)
    assert shared.start("short", PORT + 6, published_ports=[{"guest_port": PORT + 6, "host_port": port}]) == port
    shared.workspace.exec("pkill -f 'server.py 8129'")
    until(lambda: shared.status("short")["state"] == "exited")
    assert is_refused(port)


def test_ports_stay_while_a_service_is_restarted(shared):
    port = shared.start("again", PORT + 7, restart="on-failure")
    shared.workspace.exec("pkill -KILL -f 'server.py 8130'")
    until(lambda: shared.status("again")["restarts"] == 1 and shared.status("again")["state"] == "running")

    def answers():
        with contextlib.suppress(ConnectionError):
            return ask(port, "name") == b"again"
    until(answers)
    shared.stop("again")


def test_a_start_that_fails_leaves_no_port(shared):
    reply = shared.put("dies", PORT + 8, command="exit 3", ready_tcp=str(PORT + 8))
    assert reply.json()["state"] == "failed" and reply.json()["published_ports"] == []


def test_ports_end_with_a_stop_a_reset_and_a_delete(client):
    made = Published(client)
    for act in ("stop", "reset", "delete"):
        port = made.start()
        with connect(port, "hold") as held:
            if act == "delete":
                made.workspace.delete()
            else:
                client.post(f"{made.path}/{act}")
            with contextlib.suppress(ConnectionResetError):
                assert held.recv(1) == b""
        assert is_refused(port)
        if act == "stop":
            assert made.status()["published_ports"] == []
            client.post(f"{made.path}/start")
        elif act == "reset":
            made.workspace.write("server.py", SERVER)


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_ports_are_kept_over_a_restart_of_the_daemon(hearthd_factory, end):
    hearthd = hearthd_factory()
    made = Published(hearthd.client())
    port = made.start()
    held = connect(port, "hold")
    getattr(hearthd, end)()
    with held, contextlib.suppress(ConnectionResetError):
        assert held.recv(1) == b""
    with socket.create_server(("127.0.0.1", port)):
        hearthd.start()
        made.client = hearthd.client()
        assert made.status()["published_ports"][0]["host_port"] == port
        assert made.client.get("/livez") is not None
    until(lambda: not is_refused(port))
    assert echo(port, b"again") == b"again"
    made.stop()
    assert is_refused(port)
    hearthd.restart()
    assert is_refused(port)


def test_another_tenants_port_is_refused(daemon, client, shared):
    tenant = client.post("/v1/tenants", {"name": "other-ports"})["tenant_id"]
    token = client.post(f"/v1/tenants/{tenant}/tokens", {"rights": "operate"})["token"]
    with daemon.client(token) as other:
        made = Published(other)
        reply = made.put(published_ports=[{"guest_port": PORT, "host_port": shared.port}])
        assert (reply.status, reply.json()["code"]) == (409, "port_taken")
        port = made.start("theirs")
        assert (ask(port, "name"), ask(shared.port, "name")) == (b"theirs", b"web")
        made.workspace.delete()


def test_others_are_served_under_load(client, shared):
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        loads = [pool.submit(ask, shared.port, f"send {8 << 20}") for _ in range(20)]
        for _ in range(40):
            assert client.get("/v1/workspaces", limit=1)["count"] == 1
        assert all(len(load.result()) == 8 << 20 for load in loads)


def test_the_command_line_publishes(daemon, shared):
    done = subprocess.run([BIN / "hearth", "workspace", "service", "start", shared.workspace.id, "cli", "--json",
                           "--ready-tcp", "8140", "--publish", "8140", "--", "exec python3 server.py 8140 cli"],
                          env={"HEARTH_URL": daemon.url, "HEARTH_TOKEN": daemon.token}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    port = re.search(r'"host_port":\s*(\d+)', done.stdout).group(1)
    assert ask(int(port), "name") == b"cli"
    shared.stop("cli")
    done = subprocess.run([BIN / "hearth", "workspace", "service", "start", shared.workspace.id, "cli",
                           "--publish", f"{shared.port}:8140", "sleep 1"],
                          env={"HEARTH_URL": daemon.url, "HEARTH_TOKEN": daemon.token}, capture_output=True, text=True)
    assert done.returncode == 1 and "in use" in done.stderr


def test_a_microvms_ports(machine_client):
    made = Published(machine_client)
    port = made.start()
    data = random.randbytes(1 << 20)
    assert echo(port, data) == data
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in range(50)]
        for connection in connections:
            connection.sendall(b"x")
        assert all(connection.recv(1) == b"x" for connection in connections)
    made.workspace.delete()
    assert is_refused(port)
