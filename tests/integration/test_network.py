"""Outbound network, between two network namespaces that the test makes: the daemon's host, and a
world with servers of every kind of address beyond it. Nothing leaves this machine."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

from harness.daemon import Hearthd

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("pasta"),
                                reason="makes network namespaces, and needs pasta")

HOST, GATEWAY = "11.0.0.2", "11.0.0.1"  # the host's network; it is a public one, and denied still
PUBLIC, PRIVATE, METADATA, OTHER_PRIVATE = "8.8.4.100", "10.9.9.9", "169.254.169.254", "172.20.1.1"
NAME_SERVER = "11.0.0.1"

# The world: TCP and UDP servers on every address it has, and a name server.
WORLD = r"""
import socket, struct, subprocess, sys, threading

def tcp(address, port):
    server = socket.create_server((address, port))
    def serve():
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(f"tcp {address}".encode())
    threading.Thread(target=serve, daemon=True).start()

def udp(address, port, answer):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))
    def serve():
        while True:
            data, peer = server.recvfrom(2000)
            server.sendto(answer(data), peer)
    threading.Thread(target=serve, daemon=True).start()

def name(query):
    return (query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:query.index(b"\0", 12) + 5] +
            b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("8.8.4.100"))

for address in sys.argv[1:]:
    tcp(address, 7777)
    udp(address, 7777, lambda data, address=address: f"udp {address}".encode())
    if address == "11.0.0.1":
        udp(address, 53, name)
print("ready", flush=True)
sys.stdin.read()
"""

# In the guest: what each address comes to, all at the same time.
PROBE = r"""
import concurrent.futures, json, socket, sys

def tcp(address):
    with socket.create_connection((address, 7777), timeout=3) as made:
        made.settimeout(3)
        return made.recv(100).decode()

def udp(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(3)
        made.connect((address, 7777))
        made.send(b"x")
        return made.recv(100).decode()

def attempt(way, address):
    try:
        return f"{way.__name__} {address}", way(address)
    except OSError:
        return f"{way.__name__} {address}", ""

with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps(dict(pool.map(lambda pair: attempt(*pair), [
        (way, address) for way in (tcp, udp) for address in sys.argv[1:]]))))
"""


class Network:
    """Both namespaces, and processes in them, until the end."""

    def __init__(self, directory):
        self.processes = []
        self.world, self.host = self.namespace(), self.namespace()
        subprocess.run(["ip", "link", "add", "out", "netns", str(self.host.pid), "type", "veth",
                        "peer", "name", "in", "netns", str(self.world.pid)], check=True)
        self.run(self.world, "ip addr add 11.0.0.1/24 dev in; ip link set in up; "
                             "ip link set lo up; " +
                 "; ".join(f"ip addr add {address}/32 dev lo"
                           for address in (PUBLIC, PRIVATE, METADATA, OTHER_PRIVATE)))
        self.run(self.host, f"ip addr add {HOST}/24 dev out; ip link set out up; "
                            f"ip link set lo up; ip route add default via {GATEWAY}")
        resolver = directory / "resolv.conf"
        resolver.write_text(f"nameserver {NAME_SERVER}\n")
        self.run(self.host, f"mount --bind {resolver} /etc/resolv.conf")
        self.servers = [self.serve(self.world, GATEWAY, PUBLIC, PRIVATE, METADATA, OTHER_PRIVATE),
                        self.serve(self.host, HOST, "127.0.0.1")]

    def namespace(self):
        made = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", "echo; exec cat"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert made.stdout.readline() == b"\n"
        self.processes.append(made)
        return made

    def enter(self, where):
        return ["nsenter", "--net", "--mount", "--target", str(where.pid), "--"]

    def run(self, where, script):
        subprocess.run([*self.enter(where), "sh", "-ec", script], check=True)

    def serve(self, where, *addresses):
        made = subprocess.Popen([*self.enter(where), sys.executable, "-c", WORLD, *addresses],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.processes.append(made)
        assert made.stdout.readline() == b"ready\n"
        return made

    def end(self):
        for process in reversed(self.processes):
            process.stdin.close()
            process.wait(timeout=30)
            process.stdout.close()


class NetworkedHearthd(Hearthd):
    """A daemon in the host's namespace."""

    def __init__(self, network, image_dir, **flags):
        super().__init__(image_dir, driver="oci", listen="", **flags)
        self.network = network

    def command(self, **more):
        return self.network.enter(self.network.host) + super().command(**more)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    made = Network(tmp_path_factory.mktemp("network"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def hearthd(network, images):
    made = NetworkedHearthd(network, images, egress_allow="172.20.1.0/24")
    try:
        yield made.start()
    finally:
        made.destroy()


class Guest:
    def __init__(self, client, **arguments):
        self.client = client
        self.created = client.post("/v1/workspaces", {"environment": "debian:12", **arguments})
        self.path = f"/v1/workspaces/{self.created['workspace_id']}"

    def exec(self, command, **arguments):
        return self.client.post(f"{self.path}/exec", {"command": command, **arguments})

    def output(self, command):
        done = self.exec(command)
        assert done["exit_code"] == 0, done
        return done["stdout"]

    def reaches(self, *addresses):
        done = self.exec(f"python3 - {' '.join(addresses)} <<'EOF'\n{PROBE}\nEOF",
                         timeout_seconds=120)
        assert done["exit_code"] == 0, done
        return {key for key, value in json.loads(done["stdout"]).items() if value}


@pytest.fixture(scope="module")
def guest(hearthd):
    return Guest(hearthd.unix_client(), network_policy="egress")


def test_the_servers_are_there(network):
    """Whoever may go anywhere does: what the guest does not reach is denied, not absent."""
    done = subprocess.run([*network.enter(network.host), sys.executable, "-c", PROBE, GATEWAY, HOST,
                           PUBLIC, PRIVATE, METADATA, OTHER_PRIVATE], capture_output=True,
                          text=True, check=True)
    assert all(json.loads(done.stdout).values())


def test_the_internet_is_reached(guest):
    assert guest.reaches(PUBLIC) == {f"tcp {PUBLIC}", f"udp {PUBLIC}"}


DENIED = (HOST, GATEWAY, PRIVATE, METADATA, "10.0.2.2", "10.0.3.1", "10.0.2.3", "127.0.0.1",
          "0.0.0.0")


def test_neither_host_nor_private_networks_nor_metadata_are(guest):
    assert guest.reaches(*DENIED) == set()


def test_the_denial_is_not_the_guests_own(guest, hearthd):
    """The guest has routes that say at once what is denied. Without them it is denied still."""
    pid, = hearthd.guest_pids()
    enter = ["nsenter", "--net", "--target", str(pid), "--", "ip", "route"]
    subprocess.run([*enter, "flush", "type", "unreachable"], check=True)
    assert "unreachable" not in subprocess.run([*enter, "show"], capture_output=True, text=True,
                                               check=True).stdout
    assert guest.reaches(*DENIED, PUBLIC) == {f"tcp {PUBLIC}", f"udp {PUBLIC}"}


def test_what_the_operator_allows_is_reached(guest):
    assert guest.reaches(OTHER_PRIVATE) == {f"tcp {OTHER_PRIVATE}", f"udp {OTHER_PRIVATE}"}


def test_names_are_found(guest):
    assert guest.output("getent ahostsv4 anything.example").startswith(PUBLIC)


def test_large_transfers_are_whole(guest, network):
    """Bytes both ways through both halves."""
    server = textwrap.dedent("""
        import hashlib, socket
        server = socket.create_server(("8.8.4.100", 7000))
        print("ready", flush=True)
        connection, _ = server.accept()
        digest = hashlib.sha256()
        left = 8 << 20
        while left:
            piece = connection.recv(1 << 16)
            left -= len(piece)
            digest.update(piece)
        connection.sendall(digest.hexdigest().encode())
    """)
    client = textwrap.dedent("""
        import hashlib, os, socket
        data = os.urandom(8 << 20)
        with socket.create_connection(("8.8.4.100", 7000), timeout=60) as made:
            made.sendall(data)
            told = made.recv(100).decode()
            print(told == hashlib.sha256(data).hexdigest())
    """)
    with subprocess.Popen([*network.enter(network.world), sys.executable, "-c", server],
                          stdout=subprocess.PIPE) as serving:
        assert serving.stdout.readline() == b"ready\n"
        assert guest.output(f"python3 - <<'EOF'\n{client}\nEOF") == "True\n"


def test_the_status_tells_of_it(guest, hearthd):
    status = guest.client.get(guest.path)
    assert (status["network_policy"], status["network_enabled"], status["guest_ip"],
            status["tap_name"]) == ("egress", True, "10.0.2.15", "eth0")
    assert "10.0.2.15/24" in guest.output("cat /proc/net/fib_trie; echo 10.0.2.15/24")


def test_the_guest_cannot_change_what_it_is_given(guest):
    """Its root has no power over its own network, in a namespace of its own no way out."""
    for attempt in ("ip route add 10.9.9.9 dev eth0", "ip link set eth0 down",
                    "unshare --user --map-root-user --net ip route add default dev lo"):
        assert guest.exec(attempt)["exit_code"] != 0
    assert guest.reaches(PRIVATE, METADATA) == set()


def test_two_guests_do_not_see_each_other(guest, hearthd):
    other = Guest(hearthd.unix_client(), network_policy="egress")
    server = ("python3 -c 'import socket; s = socket.create_server((\"0.0.0.0\", 7777)); "
              "print(1, flush=True); s.accept()[0].send(b\"x\")'")
    started = other.exec(server, detach=True)
    assert started["exec_id"]
    assert guest.reaches("10.0.2.15", "10.0.3.2") == set()
    other.client.request("DELETE", other.path)


def test_off_is_no_interface_but_lo(hearthd):
    off = Guest(hearthd.unix_client())
    assert (off.created["network_enabled"], off.created["guest_ip"], off.created["tap_name"]) == (
        False, None, None)
    assert off.output("ls /sys/class/net 2>/dev/null || cut -d: -f1 /proc/net/dev | tail -n +3"
                      ).split() == ["lo"]
    assert off.reaches(PUBLIC) == set()
    off.client.request("DELETE", off.path)


def test_it_is_there_again_after_a_stop_and_after_a_killed_daemon(guest, hearthd):
    client = guest.client
    client.post(f"{guest.path}/stop", {})
    assert client.get(guest.path)["guest_ip"] is None
    client.post(f"{guest.path}/start", {})
    assert guest.reaches(PUBLIC, PRIVATE) == {f"tcp {PUBLIC}", f"udp {PUBLIC}"}
    hearthd.kill9()
    hearthd.start()
    guest.client = hearthd.unix_client()
    assert guest.reaches(PUBLIC, PRIVATE) == {f"tcp {PUBLIC}", f"udp {PUBLIC}"}


def helpers(hearthd):
    """PIDs of what carries the guests' connections."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            name = (path.parent / "comm").read_text().strip()
            if (name in ("hearth-net", "pasta", "pasta.avx2") and
                    f"HEARTH_GUEST_ID=gu_{hearthd.node_tag}".encode() in path.read_bytes()):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def test_nothing_of_it_stays_behind(hearthd):
    before = set(helpers(hearthd))
    made = Guest(hearthd.unix_client(), network_policy="egress")
    assert len(set(helpers(hearthd)) - before) >= 1
    made.client.request("DELETE", made.path)
    deadline = time.monotonic() + 30
    while set(helpers(hearthd)) - before:
        assert time.monotonic() < deadline


def test_a_host_that_cannot_is_told_so(hearthd, images):
    """Here: without a network of its own."""
    class Alone(Hearthd):
        def command(self, **more):
            return ["unshare", "--net", "--", *super().command(**more)]

    alone = Alone(images, driver="oci", listen="")
    try:
        client = alone.start().unix_client()
        reply = client.request("POST", "/v1/workspaces", {"environment": "debian:12",
                                                          "network_policy": "egress"})
        assert (reply.status, reply.json()["code"]) == (422, "network_unavailable")
        assert "passt" in reply.json()["hint"]
        reply = client.request("POST", "/v1/workspaces", {
            "environment": "debian:12", "network_policy": "egress+published-ports"})
        assert (reply.status, reply.json()["code"]) == (422, "network_unavailable")
        assert client.get("/v1/workspaces")["workspaces"] == []
    finally:
        alone.destroy()


def test_a_setting_that_is_no_network_is_refused(images):
    refused = Hearthd(images, egress_allow="10.0.0.0/8,nonsense")
    done = subprocess.run(refused.command(), capture_output=True, text=True)
    assert done.returncode != 0 and "egress_allow" in done.stderr
    refused.destroy()
