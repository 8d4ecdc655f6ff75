"""Idle machines on the disk: saved with all that runs in them, and back with the next operation, over restarts too."""

import functools
import os
import time

import pytest

from conftest import Workspace
from harness import daemon as harness_daemon
from harness import waiting

until = functools.partial(waiting.until, patience_s=120)


def wait_for(machine, state):
    return until(lambda: (status := machine.status())["state"] == state and status, (state, machine.status()))


@pytest.fixture(scope="module")
def suspending(images):
    with harness_daemon.running(images, driver="qemu", idle_suspend_seconds=1) as hearthd:
        yield hearthd


@pytest.fixture
def client(suspending):
    with suspending.client(timeout=300) as made:
        yield made


@pytest.fixture(scope="module")
def machine(suspending):
    """The first is booted cold; it has something in its memory alone."""
    with suspending.client(timeout=300) as client:
        machine = Workspace(client, mem_mib=256)
        machine.write("note", "on the disk\n")
        machine.exec("echo in memory > /dev/shm/note; nohup sh -c 'i=0; while :; do i=$((i+1)); "
                     "echo $i > /dev/shm/count; sleep 0.1; done' >/dev/null 2>&1 &")
        yield machine
        machine.delete()


def saved(hearthd):
    return list(hearthd.state_dir.glob("machines/gu_*/suspended*"))


def states(client, machine):
    events = client.get("/v1/events", workspace_id=machine.id, limit=1000)["events"]
    return [event["kind"] for event in events if event["kind"] in ("workspace.suspended", "workspace.started")]


def test_an_idle_machine_is_saved_and_goes_on_with_the_next_operation(suspending, client, machine):
    before = wait_for(machine, "suspended")
    assert len(saved(suspending)) == 1
    until(lambda: suspending.guest_pids() == [], "a process is left")
    assert machine.status()["state"] == "suspended"  # looking does not wake it
    assert client.get("/v1/workspaces", state="suspended")["count"] == 1
    first = machine.exec("cat /dev/shm/note note; cat /dev/shm/count", timeout_seconds=120)["stdout"].split("\n")
    assert first[:2] == ["in memory", "on the disk"]
    assert machine.status()["state"] == "started" and saved(suspending) == []
    second = machine.exec("sleep 1; cat /dev/shm/count")["stdout"]
    assert int(second) > int(first[2]) > 0
    now = float(machine.exec("date +%s")["stdout"])
    assert abs(now - time.time()) < 30
    assert machine.exec("dmesg | grep -c 'EXT4-fs error'")["stdout"] == "0\n"
    assert states(client, machine)[-2:] == ["workspace.suspended", "workspace.started"]
    assert before["expires_at"] < machine.status()["expires_at"]  # exec is activity


def test_a_read_brings_it_back_and_is_no_activity(client, machine):
    before = wait_for(machine, "suspended")
    assert machine.read("note")["content"] == "on the disk\n"
    after = machine.status()
    assert (after["state"], after["last_activity_at"]) == ("started", before["last_activity_at"])


def test_a_shell_goes_on(client, machine):
    shell = client.post(f"{machine.path}/shells", {})["shell_id"]
    client.post(f"{machine.path}/shells/{shell}/input", {"input": "word=kept"})
    wait_for(machine, "suspended")
    client.post(f"{machine.path}/shells/{shell}/input", {"input": "echo still-$word"})
    assert until(lambda: "still-kept" in client.get(f"{machine.path}/shells/{shell}", wait_for_idle_ms=200)["output"],
                 "the shell does not answer")
    client.request("DELETE", f"{machine.path}/shells/{shell}")


def test_a_command_that_runs_keeps_it_up(client, machine):
    done = machine.exec("sleep 4; echo done", timeout_seconds=60)
    assert done["stdout"] == "done\n"
    assert states(client, machine)[-1] == "workspace.started"


def test_a_clone_is_saved_too_and_several_come_back_at_once(suspending, client):
    until(lambda: "template_made" in suspending.log(), "no template")
    clones = [Workspace(client, mem_mib=256, name=f"clone{number}") for number in range(3)]
    for number, clone in enumerate(clones):
        clone.exec(f"echo {number} > /dev/shm/number")
    for clone in clones:
        wait_for(clone, "suspended")
    execs = [clone.exec("cat /dev/shm/number; hostname", wait_ms=1, timeout_seconds=120) for clone in clones]
    for number, (clone, started) in enumerate(zip(clones, execs)):
        final = until(lambda clone=clone, started=started: not (
            answer := client.get(f"{clone.path}/execs/{started['exec_id']}", wait_ms=5000))["running"] and answer, "it runs on")
        assert final["stdout"] == f"{number}\n{clone.id[3:]}\n"
    wait_for(clones[0], "suspended")  # stop, start and delete of one
    assert client.post(f"{clones[0].path}/stop")["state"] == "stopped"
    assert client.post(f"{clones[0].path}/start")["state"] == "started"
    assert clones[0].exec("ls /dev/shm")["stdout"] == ""
    wait_for(clones[1], "suspended")
    client.post(f"{clones[1].path}/reset", {})
    assert clones[1].exec("ls /dev/shm")["stdout"] == ""
    wait_for(clones[2], "suspended")
    for clone in clones:
        assert clone.delete().status == 200
    until(lambda: len(list(suspending.state_dir.glob("machines/gu_*"))) <= 1, "a directory is left")


def test_it_outlives_the_daemon_and_one_that_is_spoilt_says_so(suspending, machine):
    wait_for(machine, "suspended")
    suspending.kill9()
    suspending.start()
    with suspending.client(timeout=300) as client:
        machine.client = client
        assert machine.status()["state"] == "suspended"
        assert machine.exec("cat /dev/shm/note", timeout_seconds=120)["stdout"] == "in memory\n"
        wait_for(machine, "suspended")
        (file,) = saved(suspending)
        with open(file, "r+b") as stream:
            stream.write(os.urandom(4096))
        reply = client.request("POST", f"{machine.path}/exec", {"command": "true"})
        assert (reply.status, reply.json()["code"]) == (409, "workspace_failed"), reply.json()
        assert machine.status()["state"] == "failed" and saved(suspending) == []
        assert client.post(f"{machine.path}/start")["state"] == "started"
        assert machine.exec("cat note; ls /dev/shm")["stdout"] == "on the disk\n"


def test_kills_while_it_is_saved_or_comes_back_lose_nothing_on_the_disk(hearthd_factory):
    hearthd = hearthd_factory(driver="qemu", template="off", idle_suspend_seconds=1)
    with hearthd.client(timeout=300) as client:
        machine = Workspace(client, mem_mib=256)
        machine.exec("echo in memory > /dev/shm/note; echo kept > note; sync")
    for delay in (0.0, 0.05, 0.15, 0.3):
        until(lambda: saved(hearthd), "it is not saved")
        time.sleep(delay)  # Not a wait for anything: where the kill falls.
        hearthd.kill9()
        hearthd.start()
        with hearthd.client(timeout=300) as client:
            machine.client = client
            assert machine.exec("cat /dev/shm/note note", timeout_seconds=120)["stdout"] == "in memory\nkept\n"


def test_it_expires_all_the_same(hearthd_factory):
    hearthd = hearthd_factory(driver="qemu", template="off", idle_suspend_seconds=1)
    with hearthd.client(timeout=300) as client:
        machine = Workspace(client, mem_mib=256, ttl_seconds=60)
        machine.write("note", "kept\n")
        assert client.request("PATCH", machine.path, {"labels": {"a": "b"}}).status == 200
        wait_for(machine, "suspended")
        wait_for(machine, "stopped")
        assert client.post(f"{machine.path}/start")["state"] == "started"
        assert machine.read("note")["content"] == "kept\n"


def test_what_cannot_be_saved_runs_on(suspending, client):
    others = [Workspace(client, isolation="container"),
              Workspace(client, mem_mib=256, secrets=[{"name": "TOKEN", "value": "never in clear"}])]
    ordinary = Workspace(client, mem_mib=256)
    wait_for(ordinary, "suspended")  # the last to be idle
    assert [other.status()["state"] for other in others] == ["started", "started"]
    for other in (*others, ordinary):
        assert other.delete().status == 200
