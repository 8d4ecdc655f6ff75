"""Machines over vsock where the host's kernel has none: by way of vhost-device-vsock."""

import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from conftest import Workspace
from harness import daemon as harness_daemon
from harness.waiting import until

PLACES = ["/usr/local/bin", "/usr/bin", str(pathlib.Path.home() / ".cache/hearth/bin")]

pytestmark = [
    pytest.mark.skipif(os.path.exists("/dev/vhost-vsock"), reason="this host's kernel has vsock"),
    pytest.mark.skipif(not shutil.which("vhost-device-vsock", path=":".join(PLACES)),
                       reason="vhost-device-vsock is not installed (make deps, with cargo)")]


@pytest.fixture(scope="module")
def vsock_daemon(images):
    with harness_daemon.running(images, driver="qemu", transport="vsock") as hearthd:
        yield hearthd


@pytest.fixture(scope="module")
def machine(vsock_daemon):
    return Workspace(vsock_daemon.client(timeout=300), mem_mib=256)


def helpers(hearthd):
    """PIDs of this daemon's vhost-device-vsock."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if (path.read_bytes().startswith(b"/program\0--guest-cid") and
                    f"HEARTH_GUEST_ID=gu_{hearthd.node_tag}".encode() in
                    (path.parent / "environ").read_bytes()):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def test_commands_and_files_go_over_vsock(machine):
    status = machine.status()
    assert (status["isolation"], status["execution_mode"]) == ("vm", "guest_vsock")
    assert machine.exec("echo hi; ls /dev/vport* 2>/dev/null | wc -l")["stdout"] == "hi\n0\n"
    text = "0123456789abcdef" * (4 << 16)
    machine.write("large", text)
    assert machine.exec("wc -c <large; md5sum large | cut -c1-8")["stdout"].split()[0] == str(len(text))
    reply = machine.client.request("GET", f"{machine.path}/files/content", query={"path": "large"},
                                   headers={"Accept": "application/octet-stream"})
    assert reply.body.decode() == text


def test_it_is_in_a_jail_of_its_own(machine, vsock_daemon):
    pid, = helpers(vsock_daemon)
    process = pathlib.Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == 0
    assert {path.name for path in (process / "root").iterdir()} <= {
        "usr", "lib", "lib64", "bin", "etc", "dev", "proc", "program", "vsock"}
    for name in ("mnt", "pid", "net", "ipc", "uts"):
        assert os.readlink(process / "ns" / name) != os.readlink(f"/proc/self/ns/{name}")
    if os.geteuid() == 0:
        uids = {pathlib.Path(f"/proc/{one}").stat().st_uid for one in
                [pid, *vsock_daemon.guest_pids()]}
        assert 0 not in uids and len(uids) == len(vsock_daemon.guest_pids()) + 1


def test_a_killed_daemon_takes_it_back(machine, vsock_daemon):
    before = helpers(vsock_daemon), vsock_daemon.guest_pids()
    vsock_daemon.kill9()
    vsock_daemon.start()
    machine.client = vsock_daemon.client(timeout=300)
    assert (helpers(vsock_daemon), vsock_daemon.guest_pids()) == before
    assert machine.status()["execution_mode"] == "guest_vsock"
    assert machine.exec("wc -c <large")["exit_code"] == 0


def test_it_cannot_be_saved_to_the_disk_and_says_so(machine):
    reply = machine.client.request("POST", f"{machine.path}/suspend")
    assert (reply.status, reply.json()["code"]) == (422, "suspend_unsupported"), reply
    assert "virtio-serial" in reply.json()["detail"]
    assert machine.exec("echo on")["stdout"] == "on\n"


def test_a_stop_ends_it_and_a_start_has_a_new_one(machine, vsock_daemon):
    before = helpers(vsock_daemon)
    machine.client.post(f"{machine.path}/stop", {})
    assert helpers(vsock_daemon) == []
    machine.client.post(f"{machine.path}/start", {})
    assert len(helpers(vsock_daemon)) == 1 and helpers(vsock_daemon) != before
    assert machine.exec("wc -c <large")["exit_code"] == 0


def waiting_for(pid):
    """How many connections wait to be accepted by the socket behind which the machine is; None: there is none."""
    line = subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ss", "-xlH", "src", "/vsock/guest"],
                          capture_output=True, text=True, check=False).stdout.split()
    return int(line[2]) if line else None


def test_nobody_connects_before_the_machines_agent_is_there(machine, vsock_daemon):
    """A connection that comes while the machine's kernel sets up its queues would end what serves them."""
    machine.client.post(f"{machine.path}/stop", {})
    with concurrent.futures.ThreadPoolExecutor(1) as threads, vsock_daemon.client() as other:
        start = threads.submit(machine.client.post, f"{machine.path}/start", {})
        pid, = until(lambda: helpers(vsock_daemon), "it does not start")
        until(lambda: waiting_for(pid) is not None, "it does not listen")
        os.kill(pid, signal.SIGSTOP)  # it accepts none, and the machine does not boot without it
        until(lambda: vsock_daemon.guest_pids(), "QEMU does not start")
        for _ in range(2):
            other.get("/v1/workspaces")
        assert waiting_for(pid) == 0
        os.kill(pid, signal.SIGCONT)
        assert start.result()["state"] == "started"
    assert machine.exec("echo up")["stdout"] == "up\n"


def test_one_that_dies_under_its_machine_is_told(machine, vsock_daemon):
    pid, = helpers(vsock_daemon)
    os.kill(pid, signal.SIGKILL)
    assert "vhost-device-vsock ended" in machine.wait_for("failed", patience_s=60)["metadata"]["failure_detail"]
    assert machine.client.post(f"{machine.path}/start", {})["state"] == "started"
    assert machine.exec("echo again")["stdout"] == "again\n"
