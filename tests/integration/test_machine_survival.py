"""Machines and a daemon that is killed: what ran runs on in the same QEMU, what was half made is gone; and what moves
a machine's last_activity_at. The essence of test_survival and test_activity, where it is another driver that does it."""

import random
import time

import pytest

import test_activity
import test_survival
from conftest import Workspace
from harness import daemon as harness_daemon
from test_machine_transports import TRANSPORTS, usable

ROUNDS = 3


@pytest.fixture(scope="module")
def surviving_daemon(images):
    with harness_daemon.running(images, driver="qemu", template="off") as hearthd:
        yield hearthd


@pytest.fixture(scope="module")
def machines(surviving_daemon):
    """One for each transport that is here."""
    client = surviving_daemon.client(timeout=300)
    yield [Workspace(client, mem_mib=256, transport=name) for name in TRANSPORTS if usable(name)]


def test_kills_under_load_lose_neither_machines_nor_output(machines, surviving_daemon):
    pick = random.Random(20)
    counting = "i=0; while [ ! -e end ]; do i=$((i+1)); echo $i; sleep 0.05; done"
    execs = [machine.exec(counting, detach=True, timeout_seconds=600)["exec_id"] for machine in machines]
    pids = surviving_daemon.guest_pids()
    assert len(pids) >= len(machines)  # and the processes of their vsock
    for turn in range(ROUNDS):
        for machine in machines:
            machine.exec(f"echo {turn} > acknowledged", timeout_seconds=60)
            machine.exec("sleep 0.1; seq 1 1000", detach=True)
        time.sleep(pick.uniform(0.0, 0.3))  # Not a wait for anything: where the kill falls.
        surviving_daemon.kill9()
        surviving_daemon.start()
        client = surviving_daemon.client(timeout=300)
        for machine, exec_id in zip(machines, execs):
            machine.client = client
            assert machine.status()["state"] == "started"
            assert machine.read("acknowledged")["content"] == f"{turn}\n"
            assert client.get(f"{machine.path}/execs/{exec_id}")["running"]
        assert surviving_daemon.guest_pids() == pids
    for machine, exec_id in zip(machines, execs):
        machine.write("end", "")
        while (final := machine.client.get(f"{machine.path}/execs/{exec_id}", wait_ms=60000))["running"]:
            pass
        numbers = final["stdout"].split()
        assert final["exit_code"] == 0 and numbers == [str(i + 1) for i in range(len(numbers))]


@pytest.fixture
def prepared(machines):
    machine = machines[0]
    machine.write("kept.txt", "kept")
    machine.known_exec = machine.exec("true")["exec_id"]
    return machine


test_it_moves_with = test_activity.test_it_moves_with
test_it_stays_with = test_activity.test_it_stays_with


@pytest.mark.parametrize("point", ["create:boot", "guest-started", "stop:shutdown"])
def test_a_crash_between_two_steps_leaves_nothing_half_done(hearthd_factory, point):
    test_survival.test_a_crash_between_two_steps_leaves_nothing_half_done(
        lambda: hearthd_factory(driver="qemu", template="off"), None, point)


def test_a_guest_whose_start_was_cut_short_does_not_run_on(hearthd_factory):
    test_survival.test_a_guest_whose_start_was_cut_short_does_not_run_on(
        lambda: hearthd_factory(driver="qemu", template="off"), "guest-started")
