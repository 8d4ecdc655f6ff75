"""Published ports: from the host's loopback to services in guests, over the agent's link alone."""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from conftest import Workspace
from harness import guest_server
from harness.daemon import BIN, running
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


@pytest.fixture(scope="module")
def relayed(images):
    """A container whose daemon does not enter its network, for it does not know the runtime: the agent passes all on."""
    with tempfile.TemporaryDirectory(prefix="hearth-", dir="/var/tmp") as directory:  # a runtime sees another /tmp
        os.chmod(directory, 0o755)
        runtime = pathlib.Path(directory) / "stranger"
        runtime.symlink_to(shutil.which("runc") or shutil.which("crun"))
        with running(images, driver="oci", runtime=runtime) as hearthd, hearthd.client() as client:
            made = Published(client)
            made.daemon, made.port = hearthd, made.start()
            yield made
            made.workspace.delete()


@pytest.fixture(params=["direct", "by-the-agent"])
def either(request):
    """The daemon passes bytes on by itself, or the guest's agent does it with it."""
    return request.getfixturevalue("shared" if request.param == "direct" else "relayed")


def test_a_service_tells_its_ports_and_they_lead_to_it(shared):
    status = shared.status()
    assert status["published_ports"] == [{"host": "127.0.0.1", "host_port": shared.port, "guest_port": PORT,
                                          "protocol": "tcp"}]
    assert echo(shared.port, b"hello") == b"hello"
    assert shared.workspace.status()["network_policy"] == "published-ports"
    assert shared.workspace.status()["network_enabled"] is False


def test_each_direction_ends_by_itself(either):
    data = random.randbytes(3 << 20)
    with connect(either.port, "digest") as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert all_of(connection) == hashlib.sha256(data).hexdigest().encode()


def test_much_comes_whole(either):
    got = ask(either.port, f"send {32 << 20}")
    assert len(got) == 32 << 20 and got == bytes(range(256)) * (1 << 17)


def test_two_hundred_connections_at_once(either):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(either.port)) for _ in range(200)]
        for number, connection in enumerate(connections):
            connection.sendall(f"number {number}".encode())
        for number, connection in enumerate(connections):
            wanted, got = f"number {number}".encode(), b""
            while len(got) < len(wanted):
                got += connection.recv(100)
            assert got == wanted
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        data = random.randbytes(200_000)
        assert all(got == data for got in pool.map(lambda _: echo(either.port, data), range(200)))


def test_slow_readers_and_deaf_servers_harm_nobody(either, daemon):
    """Those that take nothing are held up where they are: what waits for them is bounded."""
    pid = getattr(either, "daemon", daemon).pid
    before = memory(pid)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(either.port, f"send {1 << 30}"))
            deaf = stack.enter_context(connect(either.port, "deaf"))
            deaf.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    deaf.send(bytes(65536))
        assert echo(either.port, bytes(1 << 20)) == bytes(1 << 20)
        assert either.workspace.exec("echo well")["stdout"] == "well\n"
        assert memory(pid) - before < 96 << 20


def memory(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) << 10


def descriptors(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


@contextlib.contextmanager
def stopped(pids):
    def tell(number):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # of another test's, and has ended meanwhile
                os.kill(pid, number)

    tell(signal.SIGSTOP)
    try:
        yield
    finally:
        tell(signal.SIGCONT)


@pytest.mark.skipif(os.geteuid() != 0, reason="a network is entered by root alone")
def test_bytes_pass_by_no_agent(shared, daemon):
    with stopped(daemon.guest_pids()):
        assert echo(shared.port, b"past it") == b"past it"


def test_the_agent_passes_on_where_nothing_else_can(relayed):
    with connect(relayed.port) as connection:
        connection.sendall(b"first")
        assert connection.recv(5) == b"first"
        with stopped(relayed.daemon.guest_pids()):
            connection.sendall(b"waits")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(5)
        connection.settimeout(60)
        assert connection.recv(5) == b"waits"


def test_the_daemon_stays_in_its_own_network(shared, daemon):
    """Sockets are made in the guest's: nothing else of the daemon is there."""
    assert echo(shared.port, b"there") == b"there"
    own = os.readlink(f"/proc/{daemon.pid}/ns/net")

    def networks():
        found = set()
        for thread in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has ended meanwhile: not there, or nobody's to be looked at
                found.add(os.readlink(thread / "ns/net"))
        return found

    until(lambda: networks() == {own})


def test_nothing_of_a_connection_is_left_when_the_workspace_stops(client, daemon):
    """Clients that stay are no reason to keep what is in the guest's network."""
    made = Published(client)
    client.post(f"{made.path}/stop")
    before = descriptors(daemon.pid)
    client.post(f"{made.path}/start")
    with contextlib.ExitStack() as stack:
        port = made.start()
        for _ in range(5):
            half = stack.enter_context(connect(port, "hold"))
            half.shutdown(socket.SHUT_WR)
            stack.enter_context(connect(port, f"send {1 << 30}"))
        client.post(f"{made.path}/stop")
        until(lambda: descriptors(daemon.pid) <= before)
    made.workspace.delete()


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


def test_a_port_nobody_serves_resets(either):
    reply = either.put("silent", PORT + 5, command="exec sleep 1000", ready_tcp=None)
    port = reply.json()["published_ports"][0]["host_port"]
    with pytest.raises(ConnectionResetError), \
            socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        assert connection.recv(1) != b""
    either.stop("silent")


def test_ports_close_with_the_service(either):
    port = either.start("short", PORT + 6)
    with connect(port, "hold") as held:
        assert ask(port, "name") == b"short"
        stopped = either.stop("short")
        assert stopped["published_ports"] == [] and stopped["state"] == "stopped"
        with contextlib.suppress(ConnectionResetError):
            assert held.recv(1) == b""
    assert is_refused(port)
    assert either.start("short", PORT + 6, published_ports=[{"guest_port": PORT + 6, "host_port": port}]) == port
    either.workspace.exec("pkill -f 'server.py 8129'")
    until(lambda: either.status("short")["state"] == "exited")
    assert is_refused(port)


def test_ports_stay_while_a_service_is_restarted(either):
    port = either.start("again", PORT + 7, restart="on-failure")
    either.workspace.exec("pkill -KILL -f 'server.py 8130'")
    until(lambda: either.status("again")["restarts"] == 1 and either.status("again")["state"] == "running")

    def answers():
        with contextlib.suppress(ConnectionError):
            return ask(port, "name") == b"again"
    until(answers)
    either.stop("again")


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
    token = client.new_tenant("other-ports")
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
    for words in ("8140x", "18140:8140:8141", "0x1fcc", " 8140", ":8140", "8140:", ""):
        done = subprocess.run([BIN / "hearth", "workspace", "service", "start", "ws_x", "cli", "--publish", words, "sleep 1"],
                              env={"HEARTH_URL": "unix:///nonexistent"}, capture_output=True, text=True)
        assert done.returncode == 2 and "usage" in done.stderr, words


def test_a_microvms_ports(machine_client):
    """The same by a machine's link: ends of directions, many connections, some of which take nothing."""
    made = Published(machine_client, mem_mib=256)
    port = made.start(ready_timeout_seconds=150)
    data = random.randbytes(1 << 20)
    assert echo(port, data) == data
    with connect(port, "digest") as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert all_of(connection) == hashlib.sha256(data).hexdigest().encode()
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(port, f"send {1 << 30}"))
        connections = [stack.enter_context(connect(port)) for _ in range(200)]
        for connection in connections:
            connection.sendall(b"x")
        assert all(connection.recv(1) == b"x" for connection in connections)
        assert made.workspace.exec("echo well")["stdout"] == "well\n"
    made.workspace.delete()
    assert is_refused(port)
