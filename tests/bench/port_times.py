"""Shells, services and ports beside the plain thing: a PTY behind a Unix socket, a port that opens, socat over the
same kind of transport (TCP to a Unix socket to TCP)."""

import contextlib
import os
import pathlib
import pty
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PORT = 8123
LARGE = 256 << 20
ROUNDS = 200
SERVER = pathlib.Path(__file__).parent.parent.joinpath("harness/guest_server.py")


def milliseconds(value):
    return f"{value * 1000:.2f} ms"


def median_of(function, rounds):
    times = []
    for _ in range(rounds):
        begun = time.monotonic()
        function()
        times.append(time.monotonic() - begun)
    return statistics.median(times)


def ask(port, word):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(word.encode() + b"\n")
    return connection


def download(port):
    """Bytes a second."""
    begun, got = time.monotonic(), 0
    buffer = bytearray(1 << 20)
    with ask(port, f"send {LARGE}") as connection:
        while count := connection.recv_into(buffer):
            got += count
    assert got == LARGE
    return LARGE / (time.monotonic() - begun)


class Rounds:
    """1 KiB there and back on one connection."""

    def __init__(self, port):
        self.connection = ask(port, "echo")
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def once(self):
        self.connection.sendall(bytes(1024))
        left = 1024
        while left:
            left -= len(self.connection.recv(left))

    def seconds(self):
        return median_of(self.once, ROUNDS)


@contextlib.contextmanager
def plain_server(directory):
    """The same server on this host, direct and behind two socats."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        direct = probe.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        relayed = probe.getsockname()[1]
    started = [subprocess.Popen([sys.executable, SERVER, str(direct), "plain"])]
    if shutil.which("socat"):
        path = os.path.join(directory, "relay.sock")
        started += [
            subprocess.Popen(["socat", f"UNIX-LISTEN:{path},fork", f"TCP:127.0.0.1:{direct}"]),
            subprocess.Popen(["socat", f"TCP-LISTEN:{relayed},fork,reuseaddr,bind=127.0.0.1", f"UNIX-CONNECT:{path}"])]
    try:
        for port in [direct] + [relayed] * (len(started) > 1):
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.01)
        yield direct, relayed if len(started) > 1 else None
    finally:
        for process in started:
            process.terminate()
            process.wait()


def ports(bench, client, workspace):
    client.put(f"{workspace}/files/content", {"path": "server.py", "text": SERVER.read_text()})
    published = client.put(f"{workspace}/services/web", {
        "command": f"exec python3 server.py {PORT} web", "ready_tcp": str(PORT),
        "published_ports": [{"guest_port": PORT}]})["published_ports"][0]["host_port"]
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as directory, plain_server(directory) as (direct, relayed):
        ours, peer = bench.pairs(lambda: download(published), (lambda: download(relayed)) if relayed else None, 3)
        bench.row("256 MiB from a published port; two socats over a Unix socket", f"{ours / 1e6:.0f} MB/s",
                  f"{peer / 1e6:.0f} MB/s" if peer else "", ours / peer if peer else None, "at least 0.5",
                  ours / peer >= 0.5 if peer else None)
        ours, peer = bench.pairs(Rounds(published).seconds, Rounds(direct).seconds)
        bench.row("1 KiB there and back by a published port; direct", milliseconds(ours), milliseconds(peer),
                  ours / peer, "3", ours / peer <= 3)
    client.post(f"{workspace}/services/web/stop")


def readiness(bench, client, workspace):
    """The guest says when its port opened: its clock is the host's in a container."""
    program = ("import socket,sys,time; time.sleep(0.3); s=socket.socket(); s.setsockopt(1,2,1); "
               "s.bind(('127.0.0.1',8300)); s.listen(); open('opened','w').write(repr(time.time())); time.sleep(1000)")
    late = []
    for _ in range(bench.repeats):
        client.request("DELETE", f"{workspace}/files/content", query={"path": "opened"})
        state = client.put(f"{workspace}/services/ready", {"command": f'exec python3 -c "{program}"', "ready_tcp": "8300"})
        answered = time.time()
        assert state["state"] == "running", state
        late.append(answered - float(client.get(f"{workspace}/files/content", path="opened")["content"]))
        client.post(f"{workspace}/services/ready/stop")
    ours = statistics.median(late)
    bench.row("a service told to run, after its port opened (default interval)", milliseconds(ours), "", None, "30 ms",
              ours <= 0.030)


class PlainShell:
    """bash on a PTY, its bytes passed on a Unix socket by one thread a direction."""

    def __init__(self):
        pid, self.master = pty.fork()
        if pid == 0:
            os.execvp("bash", ["bash", "--noprofile", "--norc", "-i"])
        self.pid = pid
        self.near, far = socket.socketpair()

        def outwards():
            with contextlib.suppress(OSError):
                while data := os.read(self.master, 65536):
                    far.sendall(data)

        def inwards():
            while data := far.recv(65536):
                os.write(self.master, data)
        for target in (outwards, inwards):
            threading.Thread(target=target, daemon=True).start()
        self.number = 0

    def once(self):
        self.number += 1
        wanted, seen = f"mark{self.number}.".encode(), b""
        self.near.sendall(wanted)
        while wanted not in seen:
            seen += self.near.recv(65536)

    def close(self):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


class OurShell:
    def __init__(self, client, workspace):
        self.client = client
        self.path = f"{workspace}/shells/{client.post(f'{workspace}/shells', {})['shell_id']}"
        self.number, self.cursor = 0, 0
        client.get(self.path, wait_for_idle_ms=300)

    def once(self):
        self.number += 1
        wanted, seen = f"mark{self.number}.", ""
        self.client.post(f"{self.path}/input", {"input": wanted, "append_newline": False})
        while wanted not in seen:
            read = self.client.get(self.path, cursor=self.cursor)
            seen += read["output"]
            self.cursor = read["next_cursor"]

    def status(self):
        self.client.get(self.path, cursor=self.cursor)


def shells(bench, client, workspace):
    ours, plain = OurShell(client, workspace), PlainShell()
    plain.near.recv(65536)
    mine, theirs = bench.pairs(lambda: median_of(ours.once, 50), lambda: median_of(plain.once, 50))
    round_trip = median_of(ours.status, 50)
    plain.close()
    bench.row("typed, and its echo read (two requests); a PTY behind a Unix socket", milliseconds(mine),
              milliseconds(theirs), mine / theirs, f"2 x + a round trip of {milliseconds(round_trip)}",
              mine <= 2 * theirs + round_trip)


def others(bench, client, workspace):
    """A status of somebody else's, p99, while eight downloads go on."""
    status = client.another()

    def p99():
        times = []
        for _ in range(300):
            begun = time.monotonic()
            status.get("/v1/workspaces", limit=1)
            times.append(time.monotonic() - begun)
        return sorted(times)[296]
    published = client.put(f"{workspace}/services/load", {
        "command": "exec python3 server.py 8124 load", "ready_tcp": "8124",
        "published_ports": [{"guest_port": 8124}]})["published_ports"][0]["host_port"]
    quiet = p99()
    script = ("import socket,sys\nfor _ in range(3):\n s=socket.create_connection(('127.0.0.1',%d))\n"
              " s.sendall(b'send 300000000\\n')\n while s.recv(1<<20): pass\n" % published)
    loads = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    loaded = p99()
    for load in loads:
        load.kill()
        load.wait()
    client.post(f"{workspace}/services/load/stop")
    bench.row("a list, p99, beside four downloads by ports; beside none", milliseconds(loaded), milliseconds(quiet),
              loaded / quiet, "2", loaded / quiet <= 2)


def measure(bench, client):
    created = client.post("/v1/workspaces", {"environment": "debian:12", "network_policy": "published-ports"})
    workspace = f"/v1/workspaces/{created['workspace_id']}"
    for figure in (ports, readiness, shells, others):
        bench.attempt(figure, bench, client, workspace)
    client.delete(workspace)
