"""Machines on the disk, idle or asked for: saved with all that runs in them, sealed, and back with the next operation,
over restarts too."""

import contextlib
import functools
import hashlib
import http.client
import os
import random
import re
import threading
import time

import pytest

from conftest import Workspace
from harness import daemon as harness_daemon
from harness import disks, monitor, waiting
from harness.living import matching, open_files
from test_ports import Published, connect
from test_secret_canaries import FORMS, RAW, SECRETS, is_hidden_in_file
from test_secret_rotation import ROTATE, keys
from test_shell_attach import frame, upgrade

until = functools.partial(waiting.until, patience_s=120)


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
        machine.exec("sync; echo in memory > /dev/shm/note; nohup sh -c 'i=0; while :; do i=$((i+1)); "
                     "echo $i > /dev/shm/count; sleep 0.1; done' >/dev/null 2>&1 &")
        yield machine
        machine.delete()


# Of the secret, made in the machine and never shown.
DERIVED = hashlib.sha256(RAW.encode()).hexdigest().encode()


def is_sealed(hearthd):
    """Nothing that a machine with SECRETS has in its memory is in any file of the daemon's."""
    for path, file in open_files(hearthd.state_dir, hearthd.runtime_dir):
        is_hidden_in_file(path, file, [*FORMS, DERIVED])


def saved(hearthd):
    return matching(hearthd.state_dir, "machines/gu_*/suspended*")


def states(client, machine, at_end_of=None):
    """Those it came to, in order; all, or those until that command's end."""
    events = client.get("/v1/events", workspace_id=machine.id, limit=1000)["events"]
    if at_end_of:
        ends = [event["id"] for event in events if event["kind"] == "exec.ended" and event["data"]["exec_id"] == at_end_of]
        events = [event for event in events if ends and event["id"] < ends[0]]
    return [event["kind"] for event in events if event["kind"] in ("workspace.suspended", "workspace.started")]


@contextlib.contextmanager
def kept_up(machine):
    """It is not idle meanwhile, however slow the test is."""
    running = machine.exec("sleep 1000", detach=True, timeout_seconds=900)["exec_id"]
    yield
    machine.client.request("DELETE", f"{machine.path}/execs/{running}")


def test_an_idle_machine_is_saved_and_goes_on_with_the_next_operation(suspending, client, machine):
    before = machine.wait_for("suspended")
    assert len(saved(suspending)) == 1
    until(lambda: suspending.guest_pids() == [], "a process is left")
    assert machine.status()["state"] == "suspended"  # looking does not wake it
    assert client.get("/v1/workspaces", state="suspended")["count"] == 1
    first = machine.exec("cat /dev/shm/note note; cat /dev/shm/count", timeout_seconds=120)["stdout"].split("\n")
    assert first[:2] == ["in memory", "on the disk"]
    with kept_up(machine):
        assert machine.status()["state"] == "started" and saved(suspending) == []
        second = machine.exec("sleep 1; cat /dev/shm/count")["stdout"]
        assert int(second) > int(first[2]) > 0
        now = float(machine.exec("date +%s")["stdout"])
        assert abs(now - time.time()) < 30
        assert machine.exec("dmesg | grep -c 'EXT4-fs error'")["stdout"] == "0\n"
        assert states(client, machine)[-2:] == ["workspace.suspended", "workspace.started"]
    assert before["expires_at"] < machine.status()["expires_at"]  # exec is activity


def test_a_read_brings_it_back_and_is_no_activity(client, machine):
    before, known = machine.wait_for("suspended"), len(states(client, machine))
    assert machine.read("note")["content"] == "on the disk\n"
    assert "workspace.started" in states(client, machine)[known:]
    assert machine.status()["last_activity_at"] == before["last_activity_at"]


def test_a_fork_with_memory_brings_it_back_first(client, machine):
    machine.wait_for("suspended")
    (row,) = client.post(f"{machine.path}/fork", {"memory": True})["workspaces"]
    path = f"/v1/workspaces/{row['workspace_id']}"
    told = client.post(f"{path}/exec", {"command": "cat /dev/shm/note note", "timeout_seconds": 120})
    assert told["stdout"] == "in memory\non the disk\n"
    client.request("DELETE", path)


def test_a_shell_goes_on(client, machine):
    shell = client.post(f"{machine.path}/shells", {})["shell_id"]
    client.post(f"{machine.path}/shells/{shell}/input", {"input": "word=kept"})
    machine.wait_for("suspended")
    client.post(f"{machine.path}/shells/{shell}/input", {"input": "echo still-$word"})
    assert until(lambda: "still-kept" in client.get(f"{machine.path}/shells/{shell}", wait_for_idle_ms=200)["output"],
                 "the shell does not answer")
    client.request("DELETE", f"{machine.path}/shells/{shell}")


def test_a_command_that_runs_keeps_it_up(client, machine):
    done = machine.exec("sleep 4; echo done", timeout_seconds=60)
    assert done["stdout"] == "done\n"
    assert until(lambda: states(client, machine, at_end_of=done["exec_id"]))[-1] == "workspace.started"


def test_a_clone_is_saved_too_and_several_come_back_at_once(suspending, client):
    until(lambda: "template_made" in suspending.log(), "no template")
    clones = [Workspace(client, mem_mib=256, name=f"clone{number}") for number in range(3)]
    for number, clone in enumerate(clones):
        clone.exec(f"echo {number} > /dev/shm/number")
    for clone in clones:
        clone.wait_for("suspended")
    execs = [clone.exec("cat /dev/shm/number; hostname", wait_ms=1, timeout_seconds=120) for clone in clones]
    for number, (clone, started) in enumerate(zip(clones, execs)):
        final = until(lambda clone=clone, started=started: not (
            answer := client.get(f"{clone.path}/execs/{started['exec_id']}", wait_ms=5000))["running"] and answer, "it runs on")
        assert final["stdout"] == f"{number}\n{clone.id[3:]}\n"
    clones[0].wait_for("suspended")  # stop, start and delete of one
    assert client.post(f"{clones[0].path}/stop")["state"] == "stopped"
    assert client.post(f"{clones[0].path}/start")["state"] == "started"
    assert clones[0].exec("ls /dev/shm")["stdout"] == ""
    clones[1].wait_for("suspended")
    client.post(f"{clones[1].path}/reset", {})
    assert clones[1].exec("ls /dev/shm")["stdout"] == ""
    clones[2].wait_for("suspended")
    for clone in clones:
        assert clone.delete().status == 200
    until(lambda: len(list(suspending.state_dir.glob("machines/gu_*"))) <= 1, "a directory is left")


def spoil(path):
    with open(path, "r+b") as stream:
        stream.write(os.urandom(4096))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    """One bit, near the end: all before it has been loaded by then."""
    with open(path, "r+b") as stream:
        stream.seek(-100, os.SEEK_END)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 4]))


def is_refused(client, machine):
    """As one that cannot be opened, for good: its disk is booted by a start alone."""
    reply = client.request("POST", f"{machine.path}/exec", {"command": "true"})
    assert (reply.status, reply.json()["code"]) == (409, "workspace_failed"), reply.json()
    status = machine.status()
    assert (status["state"], status["metadata"]["failure_code"]) == ("failed", "suspend_unreadable")
    assert client.post(f"{machine.path}/start")["state"] == "started"


def test_it_outlives_the_daemon_and_one_that_is_damaged_says_so(suspending, machine):
    machine.exec("echo in memory > /dev/shm/note", timeout_seconds=120)
    machine.wait_for("suspended")
    suspending.kill9()
    suspending.start()
    with suspending.client(timeout=300) as client:
        machine.client = client
        assert machine.status()["state"] == "suspended"
        for damage in (spoil, cut, flip):
            assert machine.exec("cat /dev/shm/note", timeout_seconds=120)["stdout"] == "in memory\n"
            machine.wait_for("suspended")
            (file,) = saved(suspending)
            damage(file)
            is_refused(client, machine)
            with kept_up(machine):
                assert saved(suspending) == []
            assert machine.exec("cat note; ls /dev/shm; echo in memory > /dev/shm/note")["stdout"] == "on the disk\n"


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
        machine.wait_for("suspended")
        machine.wait_for("stopped")
        assert client.post(f"{machine.path}/start")["state"] == "started"
        assert machine.read("note")["content"] == "kept\n"


def test_what_cannot_be_saved_runs_on_and_what_has_secrets_is(suspending, client):
    container = Workspace(client, isolation="container")
    secret = Workspace(client, mem_mib=256, secrets=SECRETS)
    secret.wait_for("suspended")  # the last to be idle
    is_sealed(suspending)
    assert container.status()["state"] == "started"
    for other in (container, secret):
        assert other.delete().status == 200


# Asked for

@pytest.fixture(scope="module")
def asked_daemon(images):
    with harness_daemon.running(images, driver="qemu", template="off") as hearthd:
        yield hearthd


def fill(published):
    published.port = published.start(secret_env={"TOKEN": "TOKEN"})
    published.workspace.exec("echo in memory > /dev/shm/note; printf %s \"$T\" | sha256sum >/dev/shm/derived",
                             secret_env={"TOKEN": "T"})


@pytest.fixture(scope="module")
def published(asked_daemon):
    """A machine with secrets, a service that has one, behind a published port, and words in its memory."""
    with asked_daemon.client(timeout=300) as client:
        made = Published(client, mem_mib=256, secrets=SECRETS)
        fill(made)
        yield made
        made.workspace.delete()


def refused_for(client, machine, rest, body=None):
    reply = client.request("POST", f"{machine.path}/{rest}", body)
    return reply.status, reply.json()["code"]


def refused(client, machine):
    return refused_for(client, machine, "suspend")


def suspend(machine):
    """Once what was asked of it before is over: that a connection has ended is known there a moment later."""
    reply = until(lambda: (told := machine.client.request("POST", f"{machine.path}/suspend")).status != 409 and told)
    assert (reply.status, reply.json()["state"]) == (200, "suspended"), reply
    return reply.json()


def test_one_that_is_asked_for_is_saved_and_is_the_same_machine_after(asked_daemon, published):
    machine, client = published.workspace, published.client
    names = "cat /etc/machine-id; hostname; cat /proc/sys/kernel/random/boot_id; pidof python3"
    machine.exec("hostname of-its-own")
    before = machine.exec(names)["stdout"]
    drawn = set()
    for _ in range(2):
        activity = suspend(machine)["last_activity_at"]
        assert activity == suspend(machine)["last_activity_at"]  # once more changes nothing
        assert asked_daemon.guest_pids() == [] and len(saved(asked_daemon)) == 1
        drawn.add(machine.exec("cat /proc/sys/kernel/random/uuid", timeout_seconds=120)["stdout"])
        assert machine.exec(names)["stdout"] == before and "of-its-own" in before
    assert len(drawn) == 2 and published.status()["state"] == "running"
    event = [event for event in client.get("/v1/events", workspace_id=machine.id, limit=1000)["events"]
             if event["kind"] == "workspace.suspended"][0]
    assert event["data"]["reason"] == "requested"
    machine_id = machine.exec("cat /etc/machine-id")["stdout"]
    client.post(f"{machine.path}/stop")
    client.post(f"{machine.path}/start")
    assert machine.exec("cat /etc/machine-id")["stdout"] == machine_id and len(machine_id) == 33
    fill(published)


def test_what_is_in_its_memory_is_nowhere_on_the_disk_and_comes_back(asked_daemon, published):
    machine, client = published.workspace, published.client
    told = """pid=$(pidof python3)
        tr '\\0' '\\n' </proc/$pid/environ | sed -n 's/^TOKEN=//p' | head -c -1 | sha256sum | cmp - /dev/shm/derived && echo $pid"""
    before = machine.exec(told)["stdout"]
    assert re.fullmatch(r"\d+\n", before)
    suspend(machine)
    is_sealed(asked_daemon)
    (file,) = saved(asked_daemon)
    assert file.stat().st_size > 16 << 20
    (old,) = keys(asked_daemon)
    assert client.post(ROTATE)["secret_count"] == len(SECRETS)
    assert keys(asked_daemon) != [old]
    asked_daemon.kill9()
    asked_daemon.start()
    client.url = asked_daemon.url
    assert machine.exec(told, timeout_seconds=120)["stdout"] == before
    assert published.status()["state"] == "running" and saved(asked_daemon) == []
    assert asked_daemon.rows("SELECT count(*) FROM guest WHERE state_key IS NOT NULL") == [(0,)]


def test_a_connection_to_a_published_port_resumes_it(asked_daemon, published):
    machine = published.workspace
    for restart in (False, True):
        suspend(machine)
        if restart:
            asked_daemon.kill9()
            asked_daemon.start()
            machine.client.url = asked_daemon.url
            assert machine.status()["state"] == "suspended"
        with connect(published.port) as connection:
            connection.sendall(b"back\n")
            assert b"back" in connection.recv(100)
            assert machine.status()["state"] == "started"
            assert refused(machine.client, machine) == (409, "workspace_in_use")
        assert machine.exec("cat /dev/shm/note")["stdout"] == "in memory\n"


def test_the_proxy_of_a_port_resumes_it(published):
    machine = published.workspace
    machine.client.put(f"{machine.path}/services/http", {
        "command": "exec python3 -m http.server 8200", "ready_tcp": "8200"})
    suspend(machine)
    assert machine.client.request("GET", f"{machine.path}/ports/8200/server.py").status == 200
    assert machine.status()["state"] == "started"
    suspend(machine)
    assert machine.client.request("GET", f"{machine.path}/ports/8201/").json()["code"] == "port_not_listening"
    machine.client.post(f"{machine.path}/services/http/stop")


def test_attaching_to_a_shell_resumes_it(published):
    machine = published.workspace
    shell = machine.client.post(f"{machine.path}/shells", {})["shell_id"]
    machine.client.post(f"{machine.path}/shells/{shell}/input", {"input": "word=kept"})
    until(lambda: "word=kept" in machine.client.get(f"{machine.path}/shells/{shell}")["output"], "no echo")
    suspend(machine)
    connection, head = upgrade(machine.client, f"{machine.path}/shells/{shell}", timeout=120)
    with connection:
        assert head.startswith(b"HTTP/1.1 101 ")
        connection.sendall(frame("I", b"echo still-$word\n"))
        seen = b""
        while b"still-kept" not in seen:
            seen += connection.recv(4096)
    machine.client.request("DELETE", f"{machine.path}/shells/{shell}")


def test_what_cannot_be_saved_says_why_and_nothing_changes(published):
    machine, client = published.workspace, published.client
    running = machine.exec("sleep 60", detach=True)
    assert refused(client, machine) == (409, "workspace_in_use")
    client.request("DELETE", f"{machine.path}/execs/{running['exec_id']}")
    container = Workspace(client, isolation="container")
    assert refused(client, container) == (422, "suspend_unsupported")
    assert container.status()["state"] == "started" and container.exec("echo on")["stdout"] == "on\n"
    client.post(f"{container.path}/stop")
    assert refused(client, container) == (409, "workspace_not_started")
    assert container.delete().status == 200
    assert machine.status()["state"] == "started"
    assert client.request("POST", "/v1/workspaces/ws_aaaaaaaaaaaaaaaa/suspend").status == 404


def crash_at(hearthd, client, machine, point):
    """Suspends and resumes; the daemon ends at this point of it."""
    hearthd.stop()
    hearthd.start_with_environment(HEARTHD_CRASH_AT=point)
    client.url = hearthd.url
    with contextlib.suppress(OSError, http.client.HTTPException):
        suspend(machine)
        client.request("POST", f"{machine.path}/exec", {"command": "true"})
    assert hearthd.wait() == 137


def run_state(hearthd):
    """What QEMU's own monitor says, where no daemon asks it; None: there is no QEMU."""
    if not hearthd.guest_pids():
        return None
    (path,) = hearthd.runtime_dir.glob("machines/gu_*/qmp")
    with contextlib.suppress(ConnectionError, AssertionError):  # It ends by itself where its state came from the daemon.
        return monitor.ask(hearthd, path.parent.name, "query-status")["status"]
    return None


HELD = ("inmigrate", "paused")
# At each: has what it was saved to still to be there, what may QEMU be doing, and is it the same one after.
POINTS = {
    "suspend:save": (False, ("running",), True),
    "suspend:end": (True, (None,), False),
    "resume:resume": (True, (None,), False),
    "resume:launched": (True, (None, *HELD), False),  # its state came from the daemon
    "resume:held": (True, HELD, False),
    "resume:noted": (True, HELD, True),
    "resume:unsaved": (False, HELD, True),
    "guest-started": (False, ("running",), True),
    "resume:end": (False, ("running",), True),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_daemon_that_ends_anywhere_in_it_loses_nothing(asked_daemon, published, point):
    """Nothing has run on the disk while what it was saved to is there, and it is gone once something may have."""
    machine, client = published.workspace, published.client
    note = machine.exec("cat /dev/shm/note; echo kept > kept; sync", timeout_seconds=120)["stdout"]
    crash_at(asked_daemon, client, machine, point)
    is_sealed(asked_daemon)
    before, (is_saved, doing, same) = asked_daemon.guest_pids(), POINTS[point]
    assert (len(saved(asked_daemon)) == 1) == is_saved and run_state(asked_daemon) in doing
    asked_daemon.start()
    client.url = asked_daemon.url
    assert machine.status()["state"] in ("started", "suspended")
    assert machine.exec("cat /dev/shm/note kept", timeout_seconds=120)["stdout"] == note + "kept\n"
    assert len(after := asked_daemon.guest_pids()) == 1 and saved(asked_daemon) == []
    assert (after == before) == same


def test_one_that_dies_before_it_runs_is_resumed_once_more(asked_daemon, published):
    """Its process was noted, and has never run."""
    machine, client = published.workspace, published.client
    note = machine.exec("cat /dev/shm/note", timeout_seconds=120)["stdout"]
    crash_at(asked_daemon, client, machine, "resume:noted")
    asked_daemon.kill_guests()
    until(lambda: asked_daemon.guest_pids() == [], "a process is left")
    asked_daemon.start()
    client.url = asked_daemon.url
    assert machine.exec("cat /dev/shm/note", timeout_seconds=120)["stdout"] == note
    assert saved(asked_daemon) == []


def test_one_that_dies_once_it_may_have_run_is_not(asked_daemon, published):
    """Its disk is what is left of it, and none of what was saved."""
    machine, client = published.workspace, published.client
    crash_at(asked_daemon, client, machine, "resume:unsaved")
    asked_daemon.kill_guests()
    until(lambda: asked_daemon.guest_pids() == [], "a process is left")
    asked_daemon.start()
    client.url = asked_daemon.url
    status = until(lambda: (told := machine.status())["state"] == "failed" and told, "it has not failed")
    assert status["metadata"]["failure_code"] == "suspend_lost" and asked_daemon.guest_pids() == []
    assert client.post(f"{machine.path}/start")["state"] == "started"
    assert machine.exec("cat kept; ls /dev/shm")["stdout"] == "kept\n"
    machine.exec("echo in memory > /dev/shm/note")


@pytest.mark.stress
def test_kills_at_any_moment_of_a_resume_lose_nothing(asked_daemon, published):
    machine, pick = published.workspace, random.Random(4)
    machine.exec("echo in memory > /dev/shm/note", timeout_seconds=120)

    def wake():
        with contextlib.suppress(OSError, http.client.HTTPException):
            machine.client.another().request("POST", f"{machine.path}/exec", {"command": "true"})

    for turn in range(40):
        suspend(machine)
        asked = threading.Thread(target=wake)
        asked.start()
        time.sleep(pick.uniform(0.0, 0.6))  # Not a wait for anything: where the kill falls.
        asked_daemon.kill9()
        asked.join()
        asked_daemon.start()
        machine.client.url = asked_daemon.url
        assert machine.exec("cat /dev/shm/note", timeout_seconds=120)["stdout"] == "in memory\n", turn
        assert len(asked_daemon.guest_pids()) == 1 and saved(asked_daemon) == []


@contextlib.contextmanager
def another_key(hearthd, *clients):
    """The daemon's meanwhile."""
    path = hearthd.state_dir / "secret.keys"
    (key,) = keys(hearthd)
    for now in ("ab" * 32, key):
        hearthd.stop()
        path.write_text(now + "\n")
        hearthd.start()
        for client in clients:
            client.url = hearthd.url
        if now != key:
            yield


def test_one_whose_key_is_not_there_waits_for_it(asked_daemon, published):
    machine, client = published.workspace, published.client
    other = Workspace(client, mem_mib=256)
    other.exec("echo on the disk > note; sync; echo in memory > /dev/shm/note")
    note = machine.exec("echo in memory > /dev/shm/note; cat /dev/shm/note", timeout_seconds=120)["stdout"]
    suspend(machine)
    suspend(other)
    with another_key(asked_daemon, client):
        assert refused_for(client, machine, "exec", {"command": "true"}) == (503, "secret_unreadable")
        for rest, body in (("exec", {"command": "true"}), ("start", {}), ("exec", {"command": "true"})):
            assert refused_for(client, other, rest, body) == (500, "suspend_unreadable")
        status = other.status()
        assert (status["state"], status["metadata"]["failure_code"]) == ("suspended", "suspend_unreadable")
        assert len(saved(asked_daemon)) == 2 and asked_daemon.guest_pids() == []
    for workspace in (machine, other):
        assert workspace.exec("cat /dev/shm/note", timeout_seconds=120)["stdout"] == note
    assert other.status()["metadata"]["failure_code"] is None
    suspend(other)
    with another_key(asked_daemon, client):
        assert client.post(f"{other.path}/stop")["state"] == "stopped"
        assert client.post(f"{other.path}/start")["state"] == "started"
        assert other.exec("cat note; ls /dev/shm")["stdout"] == "on the disk\n" and saved(asked_daemon) == []
        assert other.delete().status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_is_full_lets_it_run_on(anyones_path, hearthd_factory):
    hearthd = hearthd_factory(driver="qemu", template="off", start=False)
    hearthd.state_dir = anyones_path / "state"
    hearthd.state_dir.mkdir(mode=0o711)
    with disks.small(hearthd.state_dir, "mode=0711,size=1g"):
        try:
            with hearthd.start().client(timeout=300) as client:
                machine = Workspace(client, mem_mib=256)
                machine.exec("echo in memory > /dev/shm/note")
                filler = hearthd.state_dir / "filler"
                disks.fill(filler, 16 << 20)
                assert refused(client, machine) == (503, "suspend_failed")
                assert machine.status()["state"] == "started" and saved(hearthd) == []
                assert machine.exec("cat /dev/shm/note")["stdout"] == "in memory\n"
                filler.unlink()
                suspend(machine)
                assert machine.exec("cat /dev/shm/note", timeout_seconds=120)["stdout"] == "in memory\n"
                assert machine.delete().status == 200
                until(lambda: not list(hearthd.state_dir.glob("machines/gu_*")), "a directory is left")
        finally:
            if hearthd.running:
                hearthd.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_host_that_is_short_of_something_lets_it_wait_as_it_is(anyones_path, hearthd_factory):
    hearthd = hearthd_factory(driver="qemu", template="off", start=False)
    hearthd.runtime_dir = anyones_path / "run"
    hearthd.runtime_dir.mkdir(mode=0o755)
    with disks.small(hearthd.runtime_dir, "mode=0755,size=16m,nr_inodes=200"):
        try:
            with hearthd.start().client(timeout=300) as client:
                machine = Workspace(client, mem_mib=256)
                machine.exec("echo in memory > /dev/shm/note")
                suspend(machine)
                fillers = []
                with contextlib.suppress(OSError):
                    while True:
                        filler = hearthd.runtime_dir / f"filler{len(fillers)}"
                        filler.touch()
                        fillers.append(filler)
                assert refused_for(client, machine, "exec", {"command": "true"}) == (503, "start_failed")
                status = machine.status()
                assert (status["state"], status["metadata"]["failure_code"]) == ("suspended", "start_failed")
                for filler in fillers:
                    filler.unlink()
                assert machine.exec("cat /dev/shm/note", timeout_seconds=120)["stdout"] == "in memory\n"
                assert machine.status()["metadata"]["failure_code"] is None
                assert machine.delete().status == 200
        finally:
            if hearthd.running:
                hearthd.stop()
