"""Outbound network without a list, of containers and of machines (harness/network.py)."""

import copy
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import time

import pytest

from harness.daemon import BIN, Hearthd
from harness.network import (GATEWAY, HOST, METADATA, NAME_SERVER, OTHER_PRIVATE, OTHER_PUBLIC, PRIVATE, PROBE,
                             PUBLIC, Guest, NetworkedHearthd, both)
from harness.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("pasta"),
                                reason="makes network namespaces, and needs pasta")


@pytest.fixture(scope="module", params=["oci", "qemu"])
def hearthd(request, network, images):
    made = NetworkedHearthd(network, images, driver=request.param, egress_allow="172.20.1.0/24")
    made.machines = request.param == "qemu"
    try:
        yield made.start()
    finally:
        made.destroy()


@pytest.fixture(scope="module")
def guest(hearthd):
    return Guest(hearthd.unix_client(), network_policy="egress", mem_mib=512)


def count_denied(guest, protocol, address):
    entries = guest.client.get(f"{guest.path}/network-log")["entries"]
    return sum(entry["count"] for entry in entries
               if (entry["protocol"], entry["destination"]) == (protocol, address))


def test_the_servers_are_there(network):
    """Whoever may go anywhere does: what the guest does not reach is denied, not absent."""
    done = subprocess.run([*network.enter(network.host), sys.executable, "-c", PROBE, GATEWAY, HOST,
                           PUBLIC, PRIVATE, METADATA, OTHER_PRIVATE], capture_output=True,
                          text=True, check=True)
    assert all(json.loads(done.stdout).values())


def test_no_port_that_a_guests_program_may_have_is_taken_by_its_resolver(guest, network):
    """What it sends from there would be dropped: passt sends it from the same port of the host's."""
    listed = subprocess.run([*network.enter(network.host), "ss", "-Huan", "dst", f"{NAME_SERVER}:53"],
                            capture_output=True, text=True, check=True).stdout
    ports = [int(line.split()[3].rsplit(":", 1)[1]) for line in listed.splitlines()]
    assert len(ports) >= 32 and max(ports) < 32768


def test_the_internet_is_reached(guest):
    assert guest.reaches(PUBLIC) == both(PUBLIC)


DENIED = (HOST, GATEWAY, PRIVATE, METADATA, "10.0.2.2", "10.0.3.1", "10.0.2.3", "127.0.0.1",
          "0.0.0.0")


def test_neither_host_nor_private_networks_nor_metadata_are(guest):
    assert guest.reaches(*DENIED) == set()
    for address in (HOST, GATEWAY, PRIVATE, METADATA):
        assert count_denied(guest, "tcp", address) and count_denied(guest, "udp", address)


def test_a_denied_connection_is_refused_at_once(guest):
    """Once, by a reset: nobody has to wait for a time-out, and nothing is tried again."""
    before = count_denied(guest, "tcp", METADATA)
    ended = guest.output("python3 -c 'import socket\n"
                         "try: socket.create_connection((\"169.254.169.254\", 80), 600)\n"
                         "except OSError as error: print(error.strerror)'")
    assert ended == "Connection refused\n"
    assert count_denied(guest, "tcp", METADATA) == before + 1


def test_the_denial_is_not_the_guests_own(guest, hearthd):
    """In its own namespace everything is routed outwards: the guest has nothing to take away."""
    if hearthd.machines:
        pytest.skip("a machine has no namespace")
    pid, = hearthd.guest_pids()
    routes = subprocess.run(["nsenter", "--net", "--target", str(pid), "--", "ip", "route"],
                            capture_output=True, text=True, check=True).stdout
    assert "default" in routes and "unreachable" not in routes


def test_what_the_operator_allows_is_reached(guest):
    assert guest.reaches(OTHER_PRIVATE) == both(OTHER_PRIVATE)


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


def test_a_machine_has_an_interface_and_no_ipv6(guest, hearthd):
    if not hearthd.machines:
        pytest.skip("a container is told of by the namespace")
    assert guest.output("cat /etc/resolv.conf; cat /sys/class/net/eth0/mtu; "
                        "grep -v ' lo$' /proc/net/if_inet6; ls /sys/class/net").split() == [
                            "nameserver", "10.0.2.3", "65520", "eth0", "lo"]


def test_whatever_a_machines_root_sends_is_denied(guest, hearthd):
    """It writes packets as it likes, from an address that is not its own."""
    if not hearthd.machines:
        pytest.skip("a container's root may not")
    before = count_denied(guest, "udp", PRIVATE)
    packet = textwrap.dedent(f"""
        import socket, struct
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 29, 1, 0, 64, 17, 0,
                           socket.inet_aton("10.0.2.77"), socket.inet_aton("{PRIVATE}"))
        raw.sendto(head + struct.pack("!HHHH", 20000, 7777, 9, 0) + b"x", ("{PRIVATE}", 0))
    """)
    guest.output(f"python3 - <<'EOF'\n{packet}\nEOF")
    until(lambda: count_denied(guest, "udp", PRIVATE) != before, patience_s=30)
    assert guest.reaches(PUBLIC, PRIVATE) == both(PUBLIC)


def test_a_containers_root_cannot_change_what_it_is_given(guest, hearthd):
    """It has no power over its own network, in a namespace of its own no way out."""
    if hearthd.machines:
        pytest.skip("a machine's root may")
    for attempt in ("ip route add 10.9.9.9 dev eth0", "ip link set eth0 down",
                    "unshare --user --map-root-user --net ip route add default dev lo"):
        assert guest.exec(attempt)["exit_code"] != 0
    assert guest.reaches(PRIVATE, METADATA) == set()


def test_two_guests_do_not_see_each_other(guest, hearthd):
    other = Guest(hearthd.unix_client(), network_policy="egress", mem_mib=512)
    server = ("python3 -c 'import socket; s = socket.create_server((\"0.0.0.0\", 7777)); "
              "print(1, flush=True); s.accept()[0].send(b\"x\")'")
    started = other.exec(server, detach=True)
    assert started["exec_id"]
    assert guest.reaches("10.0.2.15", "10.0.3.2") == set()
    other.client.request("DELETE", other.path)


def test_off_is_no_interface_but_lo(hearthd):
    off = Guest(hearthd.unix_client(), mem_mib=512)
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
    assert guest.reaches(PUBLIC, PRIVATE) == both(PUBLIC)
    hearthd.kill9()
    hearthd.start()
    guest.client = hearthd.unix_client()
    assert guest.reaches(PUBLIC, PRIVATE) == both(PUBLIC)


def helpers(guest_ids):
    """PIDs of what carries the connections of guests whose IDs begin so."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            name = (path.parent / "comm").read_text().strip()
            if (name in ("hearth-net", "pasta", "pasta.avx2", "passt", "passt.avx2") and
                    f"HEARTH_GUEST_ID={guest_ids}".encode() in path.read_bytes()):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def test_nothing_of_it_stays_behind(hearthd):
    ours = f"gu_{hearthd.node_tag}"
    before = set(helpers(ours))
    made = Guest(hearthd.unix_client(), network_policy="egress", mem_mib=512)
    assert len(set(helpers(ours)) - before) >= 1
    made.client.request("DELETE", made.path)
    until(lambda: not set(helpers(ours)) - before, patience_s=30)


def test_a_clone_has_a_network_of_its_own(guest, hearthd):
    if not hearthd.machines:
        pytest.skip("containers are not cloned")
    client = hearthd.unix_client()
    before, deadline = client.metric("machine_template_clones_total"), time.monotonic() + 120
    while True:  # what is booted meanwhile has a template made
        clone = Guest(client, network_policy="egress", mem_mib=512)
        if client.metric("machine_template_clones_total") > before:
            break
        client.request("DELETE", clone.path)
        assert time.monotonic() < deadline
    assert clone.reaches(PUBLIC, PRIVATE) == both(PUBLIC)
    assert count_denied(clone, "tcp", PRIVATE) == 1
    client.request("DELETE", clone.path)


def test_a_copy_of_a_running_machine_has_a_network_of_its_own(guest, hearthd):
    if not hearthd.machines:
        pytest.skip("a container's memory is not copied")
    guest.client = hearthd.unix_client()
    (row,) = guest.client.post(f"{guest.path}/fork", {"memory": True})["workspaces"]
    forked = copy.copy(guest)
    forked.path = f"/v1/workspaces/{row['workspace_id']}"
    assert forked.reaches(PUBLIC, PRIVATE) == both(PUBLIC)
    assert count_denied(forked, "tcp", PRIVATE) == 1
    guest.client.request("DELETE", forked.path)
    assert guest.reaches(PUBLIC, PRIVATE) == both(PUBLIC)


HOLDS_A_CONNECTION = f"""
import socket
connection = socket.create_connection(("{PUBLIC}", 7001))
open("first", "wb").write(connection.recv(100))
while True:
    try:
        connection.settimeout(1)
        connection.send(b"x")
        connection.recv(100)
    except TimeoutError:
        pass
    except OSError as error:
        open("later", "w").write(error.strerror)
        break
"""


def test_a_machine_that_was_suspended_has_its_network_again(hearthd, network):
    """Names, TCP and UDP by what carries them anew; what was open is reset, and what is denied now is denied at once."""
    if not hearthd.machines:
        pytest.skip("containers are not suspended")
    client = hearthd.unix_client()
    network.serve_slowly()
    guest = Guest(client, network_policy="egress", mem_mib=512)
    client.put(f"{guest.path}/files/content", {"path": "holds.py", "text": HOLDS_A_CONNECTION})
    guest.exec("setsid python3 holds.py >/dev/null 2>&1 </dev/null &")
    until(lambda: guest.exec("cat first")["stdout"] == "first", "it does not connect", 120)
    (tenant,) = {row["name"] for row in client.get("/v1/tenants")["tenants"]}
    try:
        assert client.post(f"{guest.path}/suspend")["state"] == "suspended"
        assert client.request("PUT", f"/v1/tenants/{tenant}/network",
                              {"mode": "listed", "allow": ["other.example"]}).status == 200
        assert guest.exec("getent ahostsv4 other.example | cut -d' ' -f1 | sort -u", timeout_seconds=120)[
            "stdout"] == f"{OTHER_PUBLIC}\n"
        assert guest.reaches(PUBLIC, OTHER_PUBLIC, METADATA) == both(OTHER_PUBLIC)
    finally:
        client.request("PUT", f"/v1/tenants/{tenant}/network", {"mode": "open", "allow": []})
    until(lambda: guest.reaches(PUBLIC, METADATA) == both(PUBLIC), "the list is kept", 60)
    assert until(lambda: guest.exec("cat later")["stdout"], "it is not reset", 60) == "Connection reset by peer"
    client.request("DELETE", guest.path)


def test_machines_by_the_vm_tools_have_it(hearthd):
    client = hearthd.unix_client()
    say = f"exec 3<>/dev/tcp/{PUBLIC}/7777; cat <&3"
    ran = client.post("/v1/vm-runs", {"environment": "debian:12", "mem_mib": 512, "network": True,
                                      "command": f"bash -c '{say}'", "timeout_seconds": 60})
    assert (ran["exit_code"], ran["stdout"]) == (0, f"tcp {PUBLIC}")
    made = client.post("/v1/vms", {"environment": "debian:12", "mem_mib": 512, "network": True})
    client.post(f"/v1/vms/{made['vm_id']}/start", {})
    told = client.get(f"/v1/vms/{made['vm_id']}/network")
    assert (told["network_enabled"], told["guest_ip"], told["tap_name"]) == (True, "10.0.2.15", "eth0")
    ran = client.post(f"/v1/vms/{made['vm_id']}/exec", {"command": f"bash -c '{say}'"})
    assert (ran["exit_code"], ran["stdout"]) == (0, f"tcp {PUBLIC}")


def test_a_list_holds_for_names_too(guest, hearthd):
    """As test_network_policy.py has it for containers."""
    admin = hearthd.unix_client()
    admin.request("PUT", "/v1/tenants/admin/network", {"mode": "listed", "allow": ["good.example"]})
    until(lambda: guest.exec("getent ahostsv4 bad.example")["exit_code"] != 0)
    assert guest.reaches(PUBLIC) == set()
    assert guest.output("getent ahostsv4 good.example").startswith(PUBLIC)
    assert guest.reaches(PUBLIC, OTHER_PUBLIC) == both(PUBLIC)
    assert count_denied(guest, "tcp", OTHER_PUBLIC)
    entries = guest.client.get(f"{guest.path}/network-log?limit=1000")["entries"]
    assert ("denied_name", "bad.example") in {(one["decision"], one["name"]) for one in entries}


@pytest.mark.parametrize("driver", ["oci", "qemu"])
def test_a_host_that_cannot_is_told_so(driver, images):
    """Here: without a network of its own."""
    class Alone(Hearthd):
        def command(self, **more):
            return ["unshare", "--net", "--", *super().command(**more)]

    alone = Alone(images, driver=driver, listen="")
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


def test_a_plain_users_machine_has_it_too(network, tmp_path):
    """hearth-net itself, as nobody: denials are answered, and the machine's end is everything's."""
    tmp_path.chmod(0o777)
    (tmp_path / "policy").write_text("open\n.\n")
    (tmp_path / "policy").chmod(0o666)
    machine, stream = socket.socketpair()
    guest_id = f"gu_{os.urandom(8).hex()}"
    with machine:
        with stream:
            done = subprocess.run([*network.enter(network.host), "unshare", "--mount", "bash", "-ec", (
                "mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200; "
                f"mount --bind {tmp_path} /mnt; exec setpriv --reuid 65534 --regid 65534 "
                f"--clear-groups {BIN}/hearth-net --policy=/mnt/policy --log=/mnt/log --machine "
                f"3<&{stream.fileno()}")], pass_fds=[stream.fileno()], capture_output=True, text=True,
                env={**os.environ, "HEARTH_GUEST_ID": guest_id}, timeout=60)
        assert (done.stdout, done.stderr) == ("ready\n", "")
        until(lambda: len(helpers(guest_id)) == 3, lambda: helpers(guest_id))  # which had others that are about to end
        head = bytes.fromhex("525400000202 52540000020f 0800")
        syn = (bytes.fromhex("450000280000000040060000") + socket.inet_aton("10.0.2.15") +
               socket.inet_aton(PRIVATE) + bytes.fromhex("4e201e61 00000005 00000000 50020000 00000000"))
        machine.settimeout(30)
        machine.sendall(struct.pack("!I", len(head + syn)) + head + syn)
        reset = machine.recv(100)
        assert reset[4 + 14 + 12:][:4] == socket.inet_aton(PRIVATE) and reset[4 + 14 + 20 + 13] & 4
    until(lambda: not helpers(guest_id), patience_s=30)


def test_a_setting_that_is_no_network_is_refused(images):
    refused = Hearthd(images, egress_allow="10.0.0.0/8,nonsense")
    done = subprocess.run(refused.command(), capture_output=True, text=True)
    assert done.returncode != 0 and "egress_allow" in done.stderr
    refused.destroy()
