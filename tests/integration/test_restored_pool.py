"""Machines that wait restored and paused: taken whole and as their own, of no cost to the processor, and gone where
nobody will come for them."""

import os
import pathlib
import shutil
import signal
import time

import pytest

from conftest import Workspace
from harness import daemon as harness_daemon
from harness.living import matching
from harness.waiting import until
from test_machine_faults import guest_name
from test_machine_pool import ShortOfMemory, make_template
from test_shells import Shell
from test_templates import assert_apart

POOL = 2
WAIT_S = 6


def wait_for_paused(hearthd, client, count=POOL):
    until(lambda: client.metric("guests_pooled") == client.metric("guests_paused") == count
          and client.metric("guests_pool_making") == 0, lambda: f"not {count} guests wait: {hearthd.log()[-3000:]}", 120)


def ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def shares(pid):
    """What its group may have of the processor beside others; None where there is no such controller."""
    files = [*matching("/sys/fs/cgroup", f"cpu/hearth-*/{guest_name(pid)}/cpu.shares"),
             *matching("/sys/fs/cgroup", f"**/hearth-*/{guest_name(pid)}/cpu.weight")]
    return int(files[0].read_text(encoding="utf-8")) if files else None


@pytest.fixture
def restoring(images, tmp_path_factory):
    """Its kernel is a file of the test's, and so is, as root, what tells it of the host's memory. Each test has one of
    its own: there wait POOL of each kind that was asked for, and another tenant's are another kind."""
    short = os.geteuid() == 0
    digest = (pathlib.Path(images) / "kernels/current").read_text(encoding="utf-8").split()[0]
    tree = pathlib.Path(images) / "kernels" / digest / "tree"
    kernel = shutil.copy(tree / "vmlinuz", tmp_path_factory.mktemp("kernel") / "vmlinuz")
    hearthd = (ShortOfMemory if short else harness_daemon.Hearthd)(
        images, driver="qemu", pool=POOL, pool_restored="on", pool_reserve_mib=1000 if short else 0,
        kernel=kernel, kernel_modules=tree / "modules")
    if short:
        hearthd.tell(16384)
    try:
        with hearthd.start().client(timeout=300) as client:
            make_template(hearthd, client)
        yield hearthd
    finally:
        hearthd.destroy()


@pytest.fixture
def client(restoring):
    with restoring.client(timeout=300) as made:
        wait_for_paused(restoring, made)
        yield made


def test_one_that_was_paused_is_whole_its_own_and_knows_the_time(restoring, client):
    """Nobody else takes any while they wait: both were paused for longer than what is let pass for their clocks."""
    waiting, claims = restoring.guest_pids(), client.metric("pool_claims_total")
    low = [shares(pid) for pid in waiting]
    machine = Workspace(client, mem_mib=256)
    used = {pid: ticks(pid) for pid in waiting if guest_name(pid) != restoring.guest_of(machine.id)}
    assert len(used) == POOL - 1
    assert machine.exec(f"sleep {WAIT_S}")["exit_code"] == 0
    assert used == {pid: ticks(pid) for pid in used}  # a paused one has not run at all
    second = Workspace(client, mem_mib=256, secrets=[{"name": "TOKEN", "value": "for-the-second"}])
    assert client.metric("pool_claims_total") == claims + 2
    before, now, after = time.time(), float(second.exec("date +%s.%N")["stdout"]), time.time()
    assert before - WAIT_S / 2 < now < after + WAIT_S / 2
    assert set(waiting) <= set(restoring.guest_pids())  # they are the machines now
    if None not in low:
        assert [10 * share for share in low] <= [shares(pid) for pid in waiting]
    for made in (machine, second):
        made.write("note", f"{made.id}\n")
        assert made.exec("cat note")["stdout"] == made.read("note")["content"] == f"{made.id}\n"
        assert made.exec("hostname; cat /etc/hostname")["stdout"].split() == [made.id[3:19]] * 2
    assert [made.exec("cat /run/hearth/secrets/TOKEN")["exit_code"] for made in (machine, second)] == [1, 0]
    shell = Shell(machine)
    shell.type("echo $((6 * 7))")
    shell.until("42")
    assert client.post(f"{second.path}/stop")["state"] == "stopped"
    assert client.post(f"{second.path}/start")["state"] == "started"
    assert second.exec("cat note; dmesg | grep -c 'EXT4-fs error'")["stdout"] == f"{second.id}\n0\n"
    for made in (machine, second):
        made.delete()


def check_claims(hearthd, client, count):
    claims = client.metric("pool_claims_total")
    assert_apart(client, count, lambda number: number % POOL or wait_for_paused(hearthd, client))
    assert client.metric("pool_claims_total") == claims + count


def test_none_of_many_shares_anything_random(restoring, client):
    check_claims(restoring, client, 10)


@pytest.mark.stress
def test_none_of_fifty_shares_anything_random(restoring, client):
    check_claims(restoring, client, 50)


def test_a_reset_takes_one_and_another_tenant_none(restoring, client):
    machine = Workspace(client, mem_mib=256)
    machine.write("note", "gone\n")
    wait_for_paused(restoring, client)
    claims = client.metric("pool_claims_total")
    client.post(f"{machine.path}/reset", {})
    assert machine.exec("ls")["stdout"] == ""
    assert client.metric("pool_claims_total") == claims + 1
    wait_for_paused(restoring, client)
    token = client.new_tenant("another")
    with restoring.client(token=token, timeout=300) as others:
        Workspace(others, mem_mib=256).delete()
    assert client.metric("pool_claims_total") == claims + 1
    machine.delete()


def test_one_that_ends_while_it_is_paused_is_replaced(restoring, client):
    victim = restoring.guest_pids()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in restoring.guest_pids() and client.metric("guests_paused") == POOL, "none in its place", 120)
    machine = Workspace(client, mem_mib=256)
    assert machine.exec("echo up")["stdout"] == "up\n"
    machine.delete()


def test_where_one_has_come_to_harm_the_create_and_the_reset_make_another(restoring, client):
    for pid in restoring.guest_pids():
        os.kill(pid, signal.SIGSTOP)
    machine = Workspace(client, mem_mib=256)
    assert machine.exec("echo up; touch mine")["stdout"] == "up\n"
    assert restoring.log().count("pool_claim_failed") == 1
    client.post(f"{machine.path}/reset", {})
    assert machine.exec("ls; echo up")["stdout"] == "up\n"
    assert restoring.log().count("pool_claim_failed") == 2
    machine.delete()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts over /proc/meminfo")
def test_where_memory_is_short_they_go_first(restoring, client):
    machine, evictions = Workspace(client, mem_mib=256), client.metric("pool_evictions_total")
    wait_for_paused(restoring, client)
    restoring.tell(999)
    wait_for_paused(restoring, client, 0)
    assert client.metric("pool_evictions_total") == evictions + POOL
    until(lambda: len(restoring.guest_pids()) == 1, "what waited is left")
    assert machine.exec("echo on")["stdout"] == "on\n"
    restoring.tell(1000 + 256 + 100)  # for one, not for what a second may come to
    wait_for_paused(restoring, client, 1)
    restoring.tell(16384)
    machine.delete()


def test_what_was_made_from_another_kernel_goes(restoring, client):
    old, claims = set(restoring.guest_pids()), client.metric("pool_claims_total")
    os.utime(restoring.flags["kernel"], (1, 1))
    until(lambda: not old & set(restoring.guest_pids()), "what was made from it waits on")
    Workspace(client, mem_mib=256).delete()
    assert client.metric("pool_claims_total") == claims
    wait_for_paused(restoring, client)
    Workspace(client, mem_mib=256).delete()
    assert client.metric("pool_claims_total") == claims + 1


def test_none_outlives_its_daemon_and_machines_do(restoring, client):
    """The last one here: its daemon is killed, and then ended."""
    machine = Workspace(client, mem_mib=256)
    wait_for_paused(restoring, client)
    own = [pid for pid in restoring.guest_pids() if guest_name(pid) == restoring.guest_of(machine.id)]
    assert len(own) == 1 and len(restoring.guest_pids()) == 1 + POOL
    restoring.kill9()
    restoring.start()
    until(lambda: restoring.guest_pids() == own, "what waited is left")
    with restoring.client(timeout=300) as again:
        machine.client = again
        assert again.metric("guests_adopted_total") == 1
        assert machine.exec("echo on")["stdout"] == "on\n"
        Workspace(again, mem_mib=256).delete()
        wait_for_paused(restoring, again)
    restoring.stop()
    assert restoring.guest_pids() == own


def test_without_a_pool_one_waits_for_as_long_as_its_kind_is_in_use(images):
    with harness_daemon.running(images, driver="qemu", pool_spare_seconds=3600) as hearthd:
        with hearthd.client(timeout=300) as client:
            make_template(hearthd, client)
            for claims in range(2):
                wait_for_paused(hearthd, client, 1)
                spare, = until(lambda: len(pids := hearthd.guest_pids()) == 1 and pids, "what was deleted is left")
                machine = Workspace(client, mem_mib=256)
                assert machine.exec("echo up")["stdout"] == "up\n"
                assert client.metric("pool_claims_total") == claims + 1 and spare in hearthd.guest_pids()
                machine.delete()
        hearthd.restart(pool_spare_seconds=15)  # in which it is made, however slowly
        with hearthd.client(timeout=300) as client:
            Workspace(client, mem_mib=256).delete()
            wait_for_paused(hearthd, client, 1)
            wait_for_paused(hearthd, client, 0)  # Nobody asked again.
            until(lambda: not hearthd.guest_pids(), "the spare is left")
            Workspace(client, mem_mib=256).delete()
            wait_for_paused(hearthd, client, 1)  # Now somebody did.


def test_a_spare_that_takes_longer_than_its_kind_is_kept_is_not_left(images):
    kept_s = 3
    with harness_daemon.running(images, driver="qemu", pool_spare_seconds=kept_s) as hearthd, \
            hearthd.client(timeout=300) as client:
        make_template(hearthd, client)
        machine = Workspace(client, mem_mib=256)
        own = set(hearthd.guest_pids())
        machine.delete()
        pid, = until(lambda: set(hearthd.guest_pids()) - own, "none is made")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(kept_s + 2)  # Not a wait for anything: how long it takes.
        os.kill(pid, signal.SIGCONT)
        until(lambda: not hearthd.guest_pids(), "the spare is left", 120)
        until(lambda: client.metric("guests_pooled") == client.metric("guests_pool_making") == 0, "it is counted still")
