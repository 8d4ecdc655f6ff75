"""Shells, services and ports beside the plain thing: a PTY behind a Unix socket, a port that opens, socat over the
same kind of transport (TCP to a Unix socket to TCP)."""

import contextlib
import os
import pathlib
import pty
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from tree_times import seconds

PORT = 8123
LARGE = 256 << 20
ROUNDS = 200
SERVER = pathlib.Path(__file__).parent.parent.joinpath("harness/guest_server.py")


def milliseconds(value):
    return f"{value * 1000:.2f} ms"


def median_of(function, rounds):
    return statistics.median(seconds(function) for _ in range(rounds))


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


def server_in_guest():
    """Its first thread, from which those of later connections come."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.joinpath("cmdline").read_bytes().endswith(f"server.py\0{PORT}\0web\0".encode()):
                return int(process.name)
    raise LookupError("no server in the container")


@contextlib.contextmanager
def on_cores(client, others, pids):
    """This thread on one core and the first threads of others, and what they start, on another: what wakes whom where is
    half of a small request's time, and the scheduler's choice of it lasts as long as a connection."""
    free = os.sched_getaffinity(0)
    try:
        for pid in pids:
            os.sched_setaffinity(pid, {others})
        os.sched_setaffinity(0, {client})
        yield
    finally:
        for pid in (0, *pids):
            os.sched_setaffinity(pid, free)


@contextlib.contextmanager
def plain_server(directory):
    """The same server on this host, direct and behind two socats, and its process."""
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
        yield direct, relayed if len(started) > 1 else None, started[0].pid
    finally:
        for process in started:
            process.terminate()
            process.wait()


def small_requests(bench, published, direct, pids):
    cores = sorted(os.sched_getaffinity(0))
    for what, core in (("all on one core", cores[0]), ("the client on another core", cores[-1])):
        with on_cores(cores[0], core, pids):
            ours, peer = bench.pairs(lambda: Rounds(published).seconds(), lambda: Rounds(direct).seconds())
        bench.row(f"1 KiB there and back by a published port, {what}; direct", milliseconds(ours), milliseconds(peer),
                  ours / peer, "3", ours / peer <= 3)
    ours, peer = bench.pairs(lambda: Rounds(published).seconds(), lambda: Rounds(direct).seconds())
    bench.row("… wherever the scheduler has them", milliseconds(ours), milliseconds(peer), ours / peer, "", None)


def ports(bench, daemon, client, workspace):
    client.put(f"{workspace}/files/content", {"path": "server.py", "text": SERVER.read_text()})
    published = client.put(f"{workspace}/services/web", {
        "command": f"exec python3 server.py {PORT} web", "ready_tcp": str(PORT),
        "published_ports": [{"guest_port": PORT}]})["published_ports"][0]["host_port"]
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as directory, plain_server(directory) as (
            direct, relayed, plain):
        ours, peer = bench.pairs(lambda: download(published), (lambda: download(relayed)) if relayed else None, 3)
        bench.row("256 MiB from a published port; two socats over a Unix socket", f"{ours / 1e6:.0f} MB/s",
                  f"{peer / 1e6:.0f} MB/s" if peer else "", ours / peer if peer else None, "at least 0.5",
                  ours / peer >= 0.5 if peer else None)
        small_requests(bench, published, direct, (daemon.pid, server_in_guest(), plain))
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
    """Its client does as little for each request as that of the plain one does: bytes on a Unix socket, and a search in
    what comes back. Python's own HTTP client takes longer for a request than hearthd does."""

    def __init__(self, daemon, client, workspace):
        self.path = f"{workspace}/shells/{client.post(f'{workspace}/shells', {})['shell_id']}"
        self.number, self.cursor = 0, 0
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(str(daemon.socket_path))
        client.get(self.path, wait_for_idle_ms=300)

    def ask(self, method, path, body=b""):
        self.connection.sendall(b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d"
                                b"\r\n\r\n%s" % (method, path.encode(), len(body), body))
        reply = b""
        while b"\r\n\r\n" not in reply or not reply.endswith(b"}"):
            reply += self.connection.recv(65536)
        assert reply.startswith(b"HTTP/1.1 200"), reply
        return reply

    def once(self):
        self.number += 1
        wanted, seen = b"mark%d." % self.number, b""
        self.ask(b"POST", f"{self.path}/input", b'{"input":"%s","append_newline":false}' % wanted)
        while wanted not in seen:
            seen = self.ask(b"GET", f"{self.path}?cursor={self.cursor}")
        self.cursor = int(re.search(rb'"next_cursor":(\d+)', seen)[1])

    def status(self):
        self.ask(b"GET", f"{self.path}?cursor={self.cursor}")


def shells(bench, daemon, client, workspace):
    ours, plain = OurShell(daemon, client, workspace), PlainShell()
    plain.near.recv(65536)
    mine, theirs = bench.pairs(lambda: median_of(ours.once, 50), lambda: median_of(plain.once, 50))
    round_trip = median_of(ours.status, 50)
    plain.close()
    bench.row("typed, and its echo read (two requests); a PTY behind a Unix socket", milliseconds(mine),
              milliseconds(theirs), mine / theirs, f"2 x + a round trip of {milliseconds(round_trip)}",
              mine <= 2 * theirs + round_trip)


IDLE_MS = 100


def idleness(bench, daemon, client, workspace):
    """How much later than the last output and the time that was asked for: typing included, which can only add."""
    shell = OurShell(daemon, client, workspace)
    late = []
    for _ in range(30):
        begun = time.monotonic()
        client.post(f"{shell.path}/input", {"input": "x", "append_newline": False})
        assert client.get(shell.path, wait_for_idle_ms=IDLE_MS)["idle"]
        late.append(time.monotonic() - begun - IDLE_MS / 1000)
    late, round_trip = sorted(late)[len(late) // 2], median_of(shell.status, 50)
    bench.row("told that a shell is idle, later than it was", milliseconds(late), "", None,
              f"20 ms + a round trip of {milliseconds(round_trip)}", late <= 0.02 + round_trip)


def measure(bench, daemon, client):
    created = client.post("/v1/workspaces", {"environment": "debian:12", "network_policy": "published-ports"})
    workspace = f"/v1/workspaces/{created['workspace_id']}"
    bench.attempt(readiness, bench, client, workspace)
    for figure in (ports, shells, idleness):
        bench.attempt(figure, bench, daemon, client, workspace)
    client.delete(workspace)
