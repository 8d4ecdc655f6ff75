"""Two network namespaces that a test makes: the daemon's host, and a world with servers of every kind
of address beyond it. Nothing leaves this machine."""

import json
import subprocess
import sys

from harness.daemon import Hearthd

HOST, GATEWAY = "11.0.0.2", "11.0.0.1"  # the host's network; it is a public one, and denied still
PUBLIC, OTHER_PUBLIC = "8.8.4.100", "8.8.4.200"
PRIVATE, METADATA, OTHER_PRIVATE = "10.9.9.9", "169.254.169.254", "172.20.1.1"
ADDRESSES = (PUBLIC, OTHER_PUBLIC, PRIVATE, METADATA, OTHER_PRIVATE)
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
    # Names that begin with other or private have such addresses; with mixed, one of each.
    first = query[13:13 + query[12]].decode().lower()
    found = [address for word, address in (("other", "8.8.4.200"), ("private", "10.9.9.9"),
                                           ("mixed", "10.9.9.9"), ("mixed", "8.8.4.100"))
             if first.startswith(word)] or ["8.8.4.100"]
    return (query[:2] + b"\x81\x80\0\1\0" + bytes([len(found)]) + b"\0\0\0\0" +
            query[12:query.index(b"\0", 12) + 5] +
            b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address)
                     for address in found))

for address in sys.argv[1:]:
    tcp(address, 7777)
    udp(address, 7777, lambda data, address=address: f"udp {address}".encode())
    if address == "11.0.0.1":
        udp(address, 53, name)
print("ready", flush=True)
sys.stdin.read()
"""

# In the guest: what each address comes to, all at the same time. What is denied by UDP is denied in silence: where TCP
# was denied too that is not waited for as long as an answer is.
PROBE = r"""
import concurrent.futures, json, socket, sys

def tcp(address, patience):
    with socket.create_connection((address, 7777), timeout=patience) as made:
        made.settimeout(patience)
        return made.recv(100).decode()

def udp(address, patience):
    # Another guest may have the port that the kernel chose: who wants an answer asks again, from another.
    for wait in ([patience] if patience < 3 else [patience / 5, patience]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.settimeout(wait)
            made.connect((address, 7777))
            made.send(b"x")
            try:
                return made.recv(100).decode()
            except TimeoutError:
                continue
    return ""

def attempt(way, address, patience):
    try:
        return way(address, patience)
    except OSError:
        return ""

def look(address):
    reached = attempt(tcp, address, 10)
    return {f"tcp {address}": reached, f"udp {address}": attempt(udp, address, 10 if reached else 1)}

with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps({way: told for one in pool.map(look, sys.argv[1:]) for way, told in one.items()}))
"""


def both(*addresses):
    """What reaches() gives of addresses that are reached."""
    return {f"{protocol} {address}" for protocol in ("tcp", "udp") for address in addresses}


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
                           for address in ADDRESSES))
        self.run(self.host, f"ip addr add {HOST}/24 dev out; ip link set out up; "
                            f"ip link set lo up; ip route add default via {GATEWAY}")
        resolver = directory / "resolv.conf"
        resolver.write_text(f"nameserver {NAME_SERVER}\n")
        self.run(self.host, f"mount --bind {resolver} /etc/resolv.conf")
        self.servers = [self.serve(self.world, GATEWAY, *ADDRESSES),
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

    def serve_slowly(self):
        """One connection to PUBLIC, port 7001: a word at once, another after a line on stdin."""
        script = ("import socket, sys\n"
                  f"server = socket.create_server(('{PUBLIC}', 7001))\n"
                  "print('listening', flush=True)\n"
                  "connection, _ = server.accept()\n"
                  "connection.sendall(b'first')\n"
                  "print('accepted', flush=True)\n"
                  "sys.stdin.readline()\n"
                  "connection.sendall(b'later')\n")
        made = subprocess.Popen([*self.enter(self.world), sys.executable, "-c", script],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.processes.append(made)
        assert made.stdout.readline() == b"listening\n"
        return made

    def end(self):
        for process in reversed(self.processes):
            process.stdin.close()
            process.wait(timeout=30)
            process.stdout.close()


class NetworkedHearthd(Hearthd):
    """A daemon in the host's namespace."""

    def __init__(self, network, image_dir, **flags):
        super().__init__(image_dir, **{"driver": "oci", "listen": "", **flags})
        self.network = network

    def command(self, **more):
        return self.network.enter(self.network.host) + super().command(**more)


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
