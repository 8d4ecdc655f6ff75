"""QEMU processes that wait for creates: taken, made anew, ended where nobody will come for them or memory is short."""

import os
import signal

import pytest

from conftest import Workspace
from harness import daemon as harness_daemon
from harness.waiting import until
from test_machine_faults import guest_name
from test_templates import wait_for_log

POOL = 2


def wait_for_pool(hearthd, client, count=POOL):
    until(lambda: client.metric("guests_pooled") == count and client.metric("guests_pool_making") == 0,
          lambda: f"not {count} guests wait: {hearthd.log()[-3000:]}", 120)


def make_template(hearthd, client):
    Workspace(client, mem_mib=256).delete()
    assert "template_made" in wait_for_log(hearthd, "template_made", "template_failed")


@pytest.fixture(scope="module")
def pooling(images):
    with harness_daemon.running(images, driver="qemu", pool=POOL) as hearthd:
        with hearthd.client(timeout=300) as client:
            make_template(hearthd, client)
            wait_for_pool(hearthd, client)
        yield hearthd


@pytest.fixture
def client(pooling):
    with pooling.client(timeout=300) as made:
        yield made


def test_creates_take_what_waits_and_it_is_made_anew(pooling, client):
    wait_for_pool(pooling, client)
    claims, clones = client.metric("pool_claims_total"), client.metric("machine_template_clones_total")
    waiting, seen, machines = set(pooling.guest_pids()), set(), []
    for _ in range(POOL):
        machines.append(Workspace(client, mem_mib=256))
        drawn = machines[-1].exec("hostname; cat /etc/machine-id /proc/sys/kernel/random/uuid; "
                                  "head -c 8 /dev/urandom | od -An -tx1 | tr -d ' '", timeout_seconds=120)["stdout"].split()
        assert len(drawn) == 4 and not seen & set(drawn)
        seen |= set(drawn)
    assert client.metric("pool_claims_total") == claims + POOL
    assert client.metric("machine_template_clones_total") == clones + POOL
    assert waiting <= set(pooling.guest_pids())  # they are the machines now
    wait_for_pool(pooling, client)
    assert len(pooling.guest_pids()) == 2 * POOL
    now = float(machines[0].exec("date +%s")["stdout"])
    assert abs(now - machines[0].status()["last_activity_at"]) < 60
    machines[0].write("note", "mine\n")
    assert client.post(f"{machines[0].path}/stop")["state"] == "stopped"
    assert client.post(f"{machines[0].path}/start")["state"] == "started"
    assert machines[0].exec("cat note; dmesg | grep -c 'EXT4-fs error'")["stdout"] == "mine\n0\n"
    for machine in machines:
        machine.delete()


def test_a_reset_takes_one_too(pooling, client):
    machine = Workspace(client, mem_mib=256)
    machine.write("note", "gone\n")
    wait_for_pool(pooling, client)
    claims = client.metric("pool_claims_total")
    client.post(f"{machine.path}/reset", {})
    assert machine.exec("ls")["stdout"] == ""
    assert client.metric("pool_claims_total") == claims + 1
    machine.delete()


def test_one_that_ends_while_it_waits_is_replaced(pooling, client):
    wait_for_pool(pooling, client)
    victims = pooling.guest_pids()
    os.kill(victims[0], signal.SIGKILL)
    until(lambda: victims[0] not in pooling.guest_pids() and len(pooling.guest_pids()) == POOL, "none in its place", 120)
    wait_for_pool(pooling, client)
    machine = Workspace(client, mem_mib=256)
    assert machine.exec("echo up")["stdout"] == "up\n"
    machine.delete()


def test_another_size_has_its_own_and_without_a_template_nothing_waits(pooling, client):
    wait_for_pool(pooling, client)
    claims = client.metric("pool_claims_total")
    machine = Workspace(client, mem_mib=256, disk_mib=5000)  # the same template, another disk
    assert client.metric("pool_claims_total") == claims
    wait_for_pool(pooling, client, 2 * POOL)
    again = Workspace(client, mem_mib=256, disk_mib=5000)
    assert client.metric("pool_claims_total") == claims + 1
    assert again.exec("df -m / | awk 'NR==2 {print ($2 > 4500)}'")["stdout"] == "1\n"
    machine.delete()
    again.delete()


def test_after_a_kill_nothing_that_waited_is_left_and_machines_stay(hearthd_factory):
    hearthd = hearthd_factory(driver="qemu", pool=POOL)
    with hearthd.client(timeout=300) as client:
        make_template(hearthd, client)
        machine = Workspace(client, mem_mib=256)
        wait_for_pool(hearthd, client)
        own = [pid for pid in hearthd.guest_pids() if guest_name(pid) == hearthd.guest_of(machine.id)]
        waiting = set(hearthd.guest_pids()) - set(own)
        assert len(own) == 1 and len(waiting) == POOL
    hearthd.kill9()
    hearthd.start(pool=0)
    until(lambda: hearthd.guest_pids() == own, "what waited is left")
    with hearthd.client(timeout=300) as client:
        machine.client = client
        assert machine.exec("echo on")["stdout"] == "on\n"
        machine.delete()
    until(lambda: not list(hearthd.state_dir.glob("machines/gu_*")), "a directory is left")


class ShortOfMemory(harness_daemon.Hearthd):
    """Its kernel tells it of as much memory as the test says."""

    def tell(self, available_mib):
        path = self.base / "meminfo"
        with open(path, "a" if not path.exists() else "r+", encoding="utf-8") as file:
            file.write(f"MemTotal: 33554432 kB\nMemAvailable: {available_mib << 10:12} kB\n")

    def command(self, **more):
        return ["unshare", "-m", "sh", "-c", f'mount --bind {self.base}/meminfo /proc/meminfo && exec "$@"', "sh",
                *super().command(**more)]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts over /proc/meminfo")
def test_where_memory_is_short_what_waits_goes_first(images):
    hearthd = ShortOfMemory(images, driver="qemu", pool=POOL, pool_reserve_mib=1000)
    hearthd.tell(16384)
    try:
        with hearthd.start().client(timeout=300) as client:
            make_template(hearthd, client)
            machine = Workspace(client, mem_mib=256)
            wait_for_pool(hearthd, client)
            hearthd.tell(999)
            wait_for_pool(hearthd, client, 0)
            assert client.metric("pool_evictions_total") == POOL
            until(lambda: len(hearthd.guest_pids()) == 1, "what waited is left")
            assert machine.exec("echo on")["stdout"] == "on\n"
            hearthd.tell(1000 + 256 + 100)  # for one that waits, not for two
            wait_for_pool(hearthd, client, 1)
            hearthd.tell(16384)
            wait_for_pool(hearthd, client)
            machine.delete()
    finally:
        hearthd.destroy()
