"""A machine's link beside the same transport with next to nothing on it: `true` run, and 64 MiB
sent in and out.

The peer is bare_agent.c, which runs in the very machine that is measured, as a command of it. By
vsock it listens on a port of its own, which vhost-device-vsock connects us to as it connects the
daemon to the agent. A machine has one virtio-serial port, the agent's: here its QEMU is started by a
script that gives the same virtio-serial device a second one, behind a Unix socket as the agent's is;
it has no name in the file system but in the network namespace of the QEMU, which root alone can enter.
So both go through the same device of the same QEMU; ours has HTTP, the daemon and the agent between,
the peer a Python socket. What the peer is sent it writes to a file beside ours, and back it sends
that. Beside it the same file comes out by the stock socat in the machine, with its own defaults, on a
third port."""

import contextlib
import ctypes
import os
import random
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import time

from harness import daemon as harness_daemon
from harness.waiting import until
from port_times import median_of
from tree_times import milliseconds, seconds, timed

LARGE = 64 << 20
MEM_MIB = 512
VSOCK_PORTS = {"bare": 5005, "socat": 5006}
CLONE_NEWNET = 0x40000000
QEMU = shutil.which("qemu-system-x86_64")
MORE_PORTS = f"""#!/bin/sh
[ "$1" = --version ] && exec {QEMU} --version
for word; do
    shift
    [ "$word" = virtio-serial-device,max_ports=2 ] && word=virtio-serial-device,max_ports=4
    set -- "$@" "$word"
done
exec {QEMU} "$@" -chardev socket,id=bare,path=bare,abstract=on,server=on,wait=off \\
    -device virtserialport,chardev=bare,nr=2,name=bare \\
    -chardev socket,id=socat,path=socat,abstract=on,server=on,wait=off \\
    -device virtserialport,chardev=socat,nr=3,name=socat
"""


@contextlib.contextmanager
def inside_network_of(pid):
    """This thread alone is there."""
    def enter(namespace):
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter the network namespace of a QEMU")

    with open("/proc/self/ns/net", "rb") as own, open(f"/proc/{pid}/ns/net", "rb") as other:
        enter(other)
        try:
            yield
        finally:
            enter(own)


def put_program(client, path, program, name):
    reply = client.request("PUT", f"{path}/files/content", body=pathlib.Path(program).read_bytes(),
                           query={"path": name, "mode": "0755", "create_parents": "true"},
                           headers={"Content-Type": "application/octet-stream"})
    assert reply.status == 200, reply


class Peer:
    """A program in the machine that has a port or a vsock port of its own, and our end of that."""

    def __init__(self, daemon, client, path, transport, name):
        self.daemon, self.client, self.path = daemon, client, path
        self.transport, self.name = transport, name
        self.device = f"/dev/$(cd /sys/class/virtio-ports; dirname $(grep -lx {name} */name))"

    def start(self, command):
        answer = self.client.post(f"{self.path}/exec", {"command": f"setsid {command} >/dev/null 2>&1 </dev/null &"})
        assert answer["exit_code"] == 0, answer

    def connect(self):
        if self.transport == "serial":
            pid, = self.daemon.guest_pids()
            with inside_network_of(pid):
                self.connect_to(f"\0{self.name}")
        else:
            guest = self.daemon.guest_of(self.path.rsplit("/", 1)[1])
            address = os.fspath(self.daemon.runtime_dir / "machines" / guest / "vsock/guest")
            until(lambda: self.connect_vsock(address), f"no {self.name} listens")

    def connect_to(self, address):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(300)
        self.socket.connect(address)

    def connect_vsock(self, address):
        """False where nobody listens on the port of the guest yet."""
        self.connect_to(address)
        self.socket.sendall(f"CONNECT {VSOCK_PORTS[self.name]}\n".encode())
        with contextlib.suppress(OSError):
            said = self.socket.recv(3)
            while said and said[-1:] != b"\n":
                said += self.socket.recv(1)
            return said.startswith(b"OK ")
        return False

    def read(self, length):
        data = bytearray(length)
        view = memoryview(data)
        while view:
            got = self.socket.recv_into(view)
            assert got, f"{self.name} has gone"
            view = view[got:]
        return data


class Socat(Peer):
    """The host's own program and its libraries, run in the machine. It gives the file `large`."""

    def __init__(self, daemon, client, path, transport):
        super().__init__(daemon, client, path, transport, "socat")
        program = shutil.which("socat")
        put_program(client, path, program, "socat/socat")
        for library in re.findall(r"=> (/\S+)", subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True,
                                                               check=True).stdout):
            put_program(client, path, library, f"socat/{os.path.basename(library)}")
        if transport == "serial":
            self.connect()

    def get(self, length):
        """The file, and the seconds from its first bytes on: what socat takes to start is not counted."""
        where = f"OPEN:{self.device}" if self.transport == "serial" else f"VSOCK-LISTEN:{VSOCK_PORTS[self.name]}"
        self.start(f"env LD_LIBRARY_PATH=/workspace/socat socat/socat -u OPEN:large {where}")
        if self.transport != "serial":
            self.connect()
        first = self.read(1)
        begun = time.monotonic()
        data = first + self.read(length - 1)
        return time.monotonic() - begun, data


class Bare(Peer):
    def __init__(self, bench, daemon, client, path, transport):
        super().__init__(daemon, client, path, transport, "bare")
        put_program(client, path, bench.build / "tests/bench/bare_agent", "bare_agent")
        where = f"port {self.device}" if transport == "serial" else f"vsock {VSOCK_PORTS['bare']}"
        self.start(f"./bare_agent {where}")
        self.connect()

    def ask(self, what, number=0):
        self.socket.sendall(struct.pack("<cQ", what, number))

    def exec_true(self):
        self.ask(b"e")
        assert self.read(1) == b"\0"

    def put(self, data):
        self.ask(b"i", len(data))
        self.socket.sendall(data)
        assert self.read(1) == b"+"

    def get(self, length):
        self.ask(b"o", length)
        return self.read(length)


def execs(bench, client, path, bare, transport):
    def ours():
        answer = client.post(f"{path}/exec", {"argv": ["true"]})
        assert answer["exit_code"] == 0, answer

    for what in (ours, bare.exec_true):
        median_of(what, 20)
    mine, theirs = bench.pairs(lambda: median_of(ours, 20), lambda: median_of(bare.exec_true, 20))
    bench.row(f"exec of true in a machine by {transport}; a bare agent in it", milliseconds(mine), milliseconds(theirs),
              mine / theirs, "<= 1.5 x", mine <= 1.5 * theirs)


def files(bench, daemon, client, path, bare, transport):
    data = random.randbytes(LARGE)
    content = f"{path}/files/content"

    def put():
        taken, reply = timed(lambda: client.request(
            "PUT", content, body=data, query={"path": "large"},
            headers={"Content-Type": "application/octet-stream"}))
        assert reply.status == 200, reply
        return taken

    def get():
        taken, reply = timed(lambda: client.request(
            "GET", content, query={"path": "large"}, headers={"Accept": "application/octet-stream"}))
        assert reply.body == data, "another file came back"
        return taken

    def bare_get():
        taken, back = timed(lambda: bare.get(LARGE))
        assert back == data, "another file came back"
        return taken

    def row(way, peer, mine, theirs, asked):
        bench.row(f"64 MiB {way} by {transport}; {peer}", f"{64 / mine:.0f} MiB/s", f"{64 / theirs:.0f} MiB/s",
                  theirs / mine, ">= 0.7 x" if asked else "", theirs >= 0.7 * mine if asked else None)

    row("in", "a bare stream", *bench.pairs(put, lambda: seconds(lambda: bare.put(data))), True)
    row("out", "a bare stream", *bench.pairs(get, bare_get), False)
    if shutil.which("socat"):
        socat = Socat(daemon, client, path, transport)

        def socat_get():
            taken, back = socat.get(LARGE)
            assert back == data, "another file came back"
            return taken
        row("out", "socat", *bench.pairs(get, socat_get), True)


def measure(bench, image_dir):
    for transport in ("serial", "vhost-user-vsock"):
        with contextlib.ExitStack() as stack:
            daemon = harness_daemon.Hearthd(image_dir, check_replies=False, driver="qemu", template="off",
                                            transport=transport)
            stack.callback(daemon.destroy)
            if transport == "serial":
                script = daemon.base / "qemu"
                script.write_text(MORE_PORTS)
                script.chmod(0o755)
                daemon.base.chmod(0o755)
                daemon.flags["qemu"] = script
            client = stack.enter_context(daemon.start().client(timeout=300))
            path = "/v1/workspaces/" + client.post("/v1/workspaces", {
                "environment": "debian:12", "mem_mib": MEM_MIB})["workspace_id"]
            bare = Bare(bench, daemon, client, path, transport)
            bench.attempt(execs, bench, client, path, bare, transport)
            bench.attempt(files, bench, daemon, client, path, bare, transport)
