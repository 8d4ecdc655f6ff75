"""Machines that start from a template: fast, each its own, and a cold boot where there is none."""

import concurrent.futures
import os
import pathlib
import signal

import pytest

from conftest import Workspace
from harness.waiting import until
from test_machine_faults import qemu_of

DRAW = ("head -c 16 /dev/urandom | od -An -tx1 | tr -d ' '; cat /proc/sys/kernel/random/uuid; "
        "cat /etc/machine-id; hostname; "
        "python3 -c 'import os, uuid, random; print(os.getrandom(16).hex()); print(uuid.uuid4()); "
        "print(random.getrandbits(128))'")


def wait_for_log(hearthd, *words):
    """The log, once one of the words is in it."""
    def there():
        assert hearthd.running
        return any(word in (log := hearthd.log()) for word in words) and log
    return until(there, hearthd.log, 300)


@pytest.fixture(scope="module")
def cloning_daemon(images):
    """A daemon that has a template of 256 MiB."""
    from harness import daemon as harness_daemon
    hearthd = harness_daemon.Hearthd(images, driver="qemu")
    try:
        hearthd.start()
        with hearthd.client(timeout=300) as client:
            Workspace(client, mem_mib=256).delete()
        assert "template_made" in wait_for_log(hearthd, "template_made", "template_failed")
        yield hearthd
    finally:
        hearthd.destroy()


@pytest.fixture(scope="module")
def cloning(cloning_daemon):
    with cloning_daemon.client(timeout=300) as client:
        yield client


def draw(machine):
    """What is random, or a machine's own, in seven words."""
    drawn = machine.exec(DRAW, timeout_seconds=120)["stdout"].split()
    assert len(drawn) == 7
    return drawn


def assert_apart(client, count, ready=lambda number: None):
    """So many machines, one after the other, of which no two have a word in common."""
    seen = set()
    for number in range(count):
        ready(number)
        machine = Workspace(client, mem_mib=256)
        drawn = draw(machine)
        assert not seen & set(drawn), (number, drawn)
        seen |= set(drawn)
        machine.delete()


@pytest.mark.timeout(1200)
def test_fifty_clones_share_nothing_that_is_random_or_theirs(cloning):
    before = cloning.metric("machine_template_clones_total")
    assert_apart(cloning, 50)
    assert cloning.metric("machine_template_clones_total") == before + 50
    assert cloning.metric("machine_template_failures_total") == cloning.metric("machine_clone_failures_total") == 0


def test_a_clone_is_whole(cloning):
    workspace = Workspace(cloning, mem_mib=256)
    workspace.write("note", "mine\n")
    assert workspace.exec("cat note; df -m / | awk 'NR==2 {print ($2 > 3500)}'")["stdout"] == "mine\n1\n"
    clock = workspace.exec("cat /sys/devices/system/clocksource/*/current_clocksource")["stdout"]
    assert clock.startswith(("tsc", "kvm-clock"))  # not the tick's: it would never rest, and be late
    if workspace.status()["vm_accelerator"] == "tcg":  # what it has translated is used again
        assert workspace.exec("cat /proc/sys/kernel/randomize_va_space")["stdout"] == "0\n"
    name = workspace.exec("hostname")["stdout"]
    names = workspace.exec("cat /etc/hostname; tail -n +2 /etc/machine-id; wc -c < /etc/machine-id; cat /etc/hosts")
    assert names["stdout"] == f"{name}33\n127.0.0.1 localhost {name}::1 ip6-localhost ip6-loopback\n"  # and nothing of the template's
    now = float(workspace.exec("date +%s")["stdout"])
    assert abs(now - workspace.status()["last_activity_at"]) < 60
    assert cloning.post(f"{workspace.path}/stop")["state"] == "stopped"
    assert cloning.post(f"{workspace.path}/start")["state"] == "started"
    assert workspace.exec("cat note; dmesg | grep -c 'EXT4-fs error'")["stdout"] == "mine\n0\n"
    workspace.delete()


def test_a_clone_with_a_larger_disk_is_grown_while_it_runs(cloning):
    before = cloning.metric("machine_template_clones_total")
    workspace = Workspace(cloning, mem_mib=256, disk_mib=7000)
    size = "df -m / | awk 'NR==2 {print ($2 > 6500 && $2 <= 7000)}'; dmesg | grep -c 'EXT4-fs error'"
    assert workspace.exec(size)["stdout"] == "1\n0\n"
    assert cloning.metric("machine_template_clones_total") == before + 1
    workspace.exec("fallocate -l 5G filled; dd if=/dev/urandom of=blob bs=64k count=16 2>/dev/null; md5sum blob > sum")
    cloning.post(f"{workspace.path}/stop")
    cloning.post(f"{workspace.path}/start")
    assert workspace.exec(f"{size}; wc -c < filled; md5sum -c sum")["stdout"] == f"1\n0\n{5 << 30}\nblob: OK\n"
    workspace.delete()


def shown_bytes(hearthd, workspace):
    """Of the kernel and the initramfs of its machine."""
    jail = pathlib.Path("/proc", str(qemu_of(hearthd, workspace)), "root")
    return [(jail / name).stat().st_size for name in ("kernel", "initrd")]


def test_a_clone_is_not_given_its_kernel_again(cloning_daemon, cloning):
    workspace = Workspace(cloning, mem_mib=256)
    assert max(shown_bytes(cloning_daemon, workspace)) < 1 << 18
    cloning.post(f"{workspace.path}/stop")
    cloning.post(f"{workspace.path}/start")
    assert min(shown_bytes(cloning_daemon, workspace)) > 1 << 20
    assert workspace.exec("echo up")["stdout"] == "up\n"
    workspace.delete()


def test_clones_of_one_template_do_not_see_each_other(cloning):
    first, second = Workspace(cloning, mem_mib=256), Workspace(cloning, mem_mib=256)
    first.write("secret", "only here\n")
    first.exec("dd if=/dev/zero of=/dev/shm/fill bs=1M count=60 2>/dev/null; sync")
    assert second.exec("ls /workspace /dev/shm")["stdout"].split() == ["/dev/shm:", "/workspace:"]
    assert second.exec("echo well")["stdout"] == "well\n"
    first.delete()
    second.delete()


def test_many_created_at_once_are_all_clones(cloning_daemon, cloning):
    """However many: each has its turn, and the time that it has begins with it."""
    before = [cloning.metric(f"machine_{name}_total") for name in ("template_clones", "clone_failures", "boots_retried")]

    def one(_):
        with cloning_daemon.client(timeout=300) as client:
            return Workspace(client, mem_mib=256).id

    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        made = list(threads.map(one, range(20)))
    assert [cloning.metric(f"machine_{name}_total") for name in ("template_clones", "clone_failures", "boots_retried")
            ] == [before[0] + 20, *before[1:]]
    for workspace_id in made:
        cloning.request("DELETE", f"/v1/workspaces/{workspace_id}")


def test_forty_idle_clones_each_answer(cloning_daemon, cloning):
    """So many idle clones beside each other: each answers, several at a time, and all by itself."""
    before = cloning.metric("machine_template_clones_total")
    machines = []
    for number in range(40):
        machines.append(Workspace(cloning, mem_mib=256))
        machines[-1].write("number", f"{number}\n")
        assert cloning.metric("machine_template_clones_total") == before + number + 1

    def ask(machine):
        with cloning_daemon.client(timeout=300) as own:
            return own.post(f"{machine.path}/exec", {"command": "cat number",
                                                     "timeout_seconds": 120})["stdout"]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, machines)) == [f"{number}\n" for number in range(40)]
    for machine in machines:
        assert machine.status()["state"] == "started"
        machine.delete()


def test_a_template_that_cannot_be_made_costs_a_cold_boot(hearthd_factory):
    hearthd = hearthd_factory(driver="qemu")
    with hearthd.client(timeout=300) as client:
        workspace = Workspace(client, mem_mib=256)
        def makers():
            assert "template_made" not in hearthd.log()
            return [pid for pid in hearthd.guest_pids() if b"share=on" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(until(makers)[0], signal.SIGKILL)
        wait_for_log(hearthd, "template_failed")
        assert client.metric("machine_template_failures_total") == 1
        again = Workspace(client, mem_mib=256)
        assert again.exec("echo up")["stdout"] == "up\n"
        assert workspace.exec("echo up")["stdout"] == "up\n"
        assert client.metric("machine_template_clones_total") == 0


def test_without_templates_there_are_none(hearthd_factory):
    hearthd = hearthd_factory(driver="qemu", template="off")
    with hearthd.client(timeout=300) as client:
        for _ in range(2):
            assert Workspace(client, mem_mib=256).exec("echo up")["stdout"] == "up\n"
        assert "template" not in hearthd.log()
        assert client.metric("machine_template_clones_total") == 0
