"""Workspaces in microVMs: real QEMU, by TCG where there is no KVM. Everything but the boot is shared."""

import os
import pathlib
import signal
import time

import pytest

from conftest import Workspace
from harness.waiting import until

MEM_MIB = 256


@pytest.fixture(scope="module")
def machine_daemon(images):
    from harness import daemon as harness_daemon
    """Without a template: the machine that is booted for one would be among its processes for a while."""
    with harness_daemon.running(images, driver="qemu", template="off") as hearthd:
        yield hearthd


@pytest.fixture(scope="module")
def machine(machine_daemon):
    with machine_daemon.client(timeout=300) as client:
        yield Workspace(client, mem_mib=MEM_MIB, disk_mib=3000)


def qemu_of(hearthd, status):
    """The process of the one machine that runs."""
    pids = [pid for pid in hearthd.guest_pids()
            if b"qemu" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(pids) == 1, status
    return pids[0]


def wait_for_state(client, workspace, state):
    def told():
        status = client.get(workspace.path)
        assert status["state"] in ("started", "creating", state)
        return status["state"] == state and status
    return until(told, patience_s=120)


def test_a_machine_is_what_was_asked_for(machine):
    status = machine.status()
    assert (status["isolation"], status["execution_mode"]) == ("vm", "guest_serial")
    assert status["vm_accelerator"] in ("kvm", "tcg")
    seen = machine.exec("uname -r; id -u; cat /etc/hostname; hostname; free -m | awk 'NR==2 {print $2}'; "
                        "df -m / | awk 'NR==2 {print $2}'; cat /sys/class/net/*/address")["stdout"].split()
    assert "cloud" in seen[0] and seen[1] == "0" and seen[2] == seen[3]
    assert 128 < int(seen[4]) <= MEM_MIB
    assert 2500 < int(seen[5]) <= 3000  # grown to disk_mib
    assert seen[6:] == ["00:00:00:00:00:00"]  # lo alone


def test_a_machine_has_shells(machine):
    shells = f"{machine.path}/shells"
    shell = f"{shells}/{machine.client.post(shells, {})['shell_id']}"
    machine.client.post(f"{shell}/input", {"input": "tty; echo $((6 * 7)); sleep 1000"})
    seen, deadline = "", time.monotonic() + 120
    while "\n42\n" not in seen:
        assert time.monotonic() < deadline, seen
        seen = machine.client.get(shell, plain="true", wait_for_idle_ms=500)["output"]
    assert "/dev/pts/" in seen
    machine.client.post(f"{shell}/signal", {"signal_name": "INT"})
    while not seen.endswith("\nhearth$ "):
        assert time.monotonic() < deadline, seen
        seen = machine.client.get(shell, plain="true", wait_for_idle_ms=500)["output"]
    assert machine.client.request("DELETE", shell).json()["closed"] is True


def test_what_the_accelerator_is_was_found_out_and_is_told(machine_daemon, machine):
    ready = machine.client.request("GET", "/readyz", query={"verbose": "true"}).json()
    told = next(driver for driver in ready["drivers"] if driver["name"] == "qemu")
    accelerator = machine.status()["vm_accelerator"]
    assert told["chosen"] and told["usable"] and f"({accelerator}, " in told["version"]
    assert told["probe_ms"] > 0
    assert (accelerator == "kvm") == (not told["reason"])
    if accelerator == "tcg":  # which copies by bytes where a guest believes that to be fast
        assert machine.exec("grep -cw erms /proc/cpuinfo")["stdout"] == "0\n"


def test_a_kvm_that_does_not_boot_a_guest_is_not_taken_again(hearthd_factory, images, tmp_path):
    """What was found is kept; a kernel that never answers is given up and told."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm to try")
    hearthd = hearthd_factory(driver="qemu")
    with hearthd.client() as client:
        Workspace(client, mem_mib=MEM_MIB).delete()
    found = [path for path in (images / f"accelerator-{os.geteuid()}", hearthd.state_dir / "machines/accelerator")
             if path.exists()]
    assert found
    before = hearthd.log().count("accelerator_found")
    hearthd.restart()
    with hearthd.client() as client:
        Workspace(client, mem_mib=MEM_MIB).delete()
    assert hearthd.log().count("accelerator_found") == before


def test_files_go_in_and_out(machine):
    machine.write("dir/note", "from outside\n")
    assert machine.exec("cat dir/note; printf inside > back")["stdout"] == "from outside\n"
    assert machine.read("back")["content"] == "inside"
    big = os.urandom(3 << 20)
    reply = machine.client.request("PUT", f"{machine.path}/files/content", body=big,
                                   query={"path": "big"},
                                   headers={"Content-Type": "application/octet-stream"})
    assert reply.status == 200
    back = machine.client.request("GET", f"{machine.path}/files/content", query={"path": "big"},
                                  headers={"Accept": "application/octet-stream"})
    assert back.body == big


def test_qemu_is_in_a_jail(machine_daemon, machine):
    pid = qemu_of(machine_daemon, machine.status())
    process = pathlib.Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines()
                  if ":\t" in line)
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == 0 and status["NSpid"].split()[-1] == "1"
    if os.geteuid() == 0:
        assert int(status["Uid"].split()[0]) >= 65536
    assert {path.name for path in (process / "root").iterdir()} <= {
        "usr", "lib", "lib64", "bin", "etc", "dev", "proc", "kernel", "initrd", "base", "guest"}
    assert len((process / "net" / "dev").read_text().splitlines()) == 3  # two of heading, lo
    for name in ("mnt", "pid", "net", "ipc", "uts"):
        assert os.readlink(process / "ns" / name) != os.readlink(f"/proc/self/ns/{name}")


def test_a_killed_daemon_takes_its_machines_back(machine_daemon, machine):
    pid = qemu_of(machine_daemon, machine.status())
    state = machine.exec("while [ ! -e go ]; do sleep 0.2; done; echo lived", detach=True)
    machine_daemon.kill9()
    machine_daemon.start()
    with machine_daemon.client(timeout=300) as client:
        again = Workspace.__new__(Workspace)
        again.client, again.path = client, machine.path
        assert qemu_of(machine_daemon, again.status()) == pid
        assert again.status()["execution_mode"] == "guest_serial"
        again.write("go", "")
        while (final := client.get(f"{machine.path}/execs/{state['exec_id']}", wait_ms=60000))["running"]:
            pass
        assert (final["exit_code"], final["stdout"]) == (0, "lived\n")
    machine.client.url = machine_daemon.url


def test_stop_is_orderly_and_start_has_the_same_disk(machine_daemon, machine):
    machine.exec("echo kept > /var/kept; dd if=/dev/urandom of=blob bs=64k count=16 2>/dev/null; "
                 "md5sum blob > sum")
    assert machine.client.post(f"{machine.path}/stop")["state"] == "stopped"
    assert machine_daemon.guest_pids() == []
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    result = machine.exec("cat /var/kept; md5sum -c sum; dmesg | grep -c 'recovery complete'")
    assert result["stdout"] == "kept\nblob: OK\n0\n"


def test_a_machine_that_dies_is_failed_with_its_reason_and_starts_again(machine_daemon, machine):
    os.kill(qemu_of(machine_daemon, machine.status()), signal.SIGKILL)
    status = wait_for_state(machine.client, machine, "failed")
    assert status["metadata"]["failure_code"] == "guest_died"
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    assert machine.exec("echo up")["stdout"] == "up\n"


def test_a_panic_is_told_with_the_console(machine):
    machine.client.request("POST", f"{machine.path}/exec",
                           {"command": "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"})
    status = wait_for_state(machine.client, machine, "failed")
    assert "panicked" in status["metadata"]["failure_detail"]
    assert "sysrq" in status["metadata"]["failure_detail"]


def test_what_a_machine_does_to_itself_stays_there(machine):
    """It floods its console, fills its disk, takes all its memory: it answers after, and in between."""
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    flood = machine.exec("yes noise | head -c 300000 > /dev/kmsg; echo 1 > /proc/sys/kernel/printk", detach=True,
                         timeout_seconds=60)
    assert machine.exec("echo between")["stdout"] == "between\n"
    machine.client.request("DELETE", f"{machine.path}/execs/{flood['exec_id']}")
    filled = machine.exec("fallocate -l 20G fill; dd if=/dev/zero of=fill2 bs=1M count=64 2>&1 | tail -1; "
                          "fallocate -l $(($(df -k --output=avail / | tail -1) + 1))k full || echo full; "
                          "rm -f fill fill2 full; echo kept > after; cat after", timeout_seconds=120)
    assert filled["stdout"].splitlines()[-2:] == ["full", "kept"]
    hungry = machine.exec("python3 -c 'x = bytearray(1 << 30); print(len(x))'", timeout_seconds=120)
    assert hungry["exit_code"] != 0
    assert machine.exec("echo up")["stdout"] == "up\n"
    assert machine.status()["state"] == "started"


def test_a_broken_disk_fails_its_start_and_nothing_else(machine_daemon, machine):
    machine.client.post(f"{machine.path}/stop")
    disk, = machine_daemon.state_dir.glob("machines/gu_*/disk.qcow2")
    header = disk.read_bytes()[:65536]
    with open(disk, "r+b") as file:
        file.write(b"not a disk" * 100)
    reply = machine.client.request("POST", f"{machine.path}/start")
    assert reply.status == 500 and reply.json()["code"] == "guest_start_failed"
    assert "qcow2" in reply.json()["detail"]
    assert machine_daemon.guest_pids() == []
    with open(disk, "r+b") as file:
        file.write(header)
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    assert machine.exec("cat after")["stdout"] == "kept\n"


def test_without_a_kernel_or_qemu_it_says_what_to_do(hearthd_factory):
    with hearthd_factory(driver="qemu", kernel="/no/such/kernel").client() as client:
        reply = client.request("POST", "/v1/workspaces", {"environment": "debian:12"})
        assert reply.json()["code"] == "kernel_missing" and "env pull" in reply.json()["hint"]
        assert client.get("/v1/workspaces")["count"] == 0
    with hearthd_factory(qemu="/no/such/qemu").client() as client:
        reply = client.request("POST", "/v1/workspaces", {"environment": "debian:12", "isolation": "vm"})
        assert reply.json()["code"] == "isolation_unavailable" and "qemu-system-x86" in reply.json()["hint"]
        assert client.get("/v1/workspaces")["count"] == 0
