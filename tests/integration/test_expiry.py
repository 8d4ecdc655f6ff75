"""Expiry: what is idle for its ttl is stopped, and deleted after its tenant's retention; neither a
restart nor a clock that is set makes it sooner or later."""

import concurrent.futures
import pathlib
import sqlite3
import struct
import time

import pytest

from harness import guest_trees
from harness.daemon import ROOT
from harness.waiting import until

ENVIRONMENT = "debian:12"
DAY_US = 24 * 3600 * 10 ** 6
SHIM = ROOT / "build/tests/unit/clock_shim.so"


def made(client, **arguments):
    """Its path, and what the answer says of it: a second later it may be stopped."""
    status = client.post("/v1/workspaces", {"environment": ENVIRONMENT, **arguments})
    return f"/v1/workspaces/{status['workspace_id']}", status


def create(client, **arguments):
    return made(client, **arguments)[0]


def event(client, kind, path):
    """The first such event of the workspace, once there is one."""
    after = 0
    while True:
        page = client.get("/v1/events", kind=kind, workspace_id=path.split("/")[-1], after=after, wait_ms=60000)
        if page["events"]:
            return page["events"][0]
        assert page["gaps"], f"no {kind} of {path}"  # By another clock they are too old to be kept.
        after = page["next_after"]


def content(client, path, name):
    """The reply to who reads a file of it once it is started: between the two its time may be over again."""
    def read():
        client.request("POST", f"{path}/start", {})
        reply = client.request("GET", f"{path}/files/content", query={"path": name})
        return reply if reply.status in (200, 404) else None
    return until(read)


def audited(hearthd, path, operation):
    """Who is said to have asked for it, and how it ended."""
    return hearthd.rows("SELECT token_id, outcome FROM audit WHERE operation = ? AND subject_id = ? AND outcome <> 'begun'",
                        operation, path.split("/")[-1])


@pytest.fixture
def hearthd(hearthd_factory):
    return hearthd_factory()


def test_what_is_idle_is_stopped_and_then_deleted(hearthd_factory):
    hearthd = hearthd_factory(retention_seconds=1)
    client = hearthd.client()
    path, before = made(client, ttl_seconds=1)
    stopped = event(client, "workspace.stopped", path)
    assert stopped["data"]["reason"] == "expired"
    assert stopped["at"] >= before["expires_at"], "not before its time"
    deleted = event(client, "workspace.deleted", path)
    assert deleted["data"]["reason"] == "expired"
    assert deleted["at"] >= before["expires_at"] + 1
    assert client.request("GET", path).status == 404
    assert until(lambda: audited(hearthd, path, "workspace_stop")) == [("expiry", "ok")]
    until(lambda: audited(hearthd, path, "workspace_delete"))  # Its guest goes after that.
    assert audited(hearthd, path, "workspace_delete") == [("expiry", "ok")]


def test_a_stop_by_expiry_is_no_activity_and_loses_nothing(hearthd):
    client = hearthd.client()
    path, before = made(client, ttl_seconds=1, seed_upload=guest_trees.upload(client, {"kept": b"here"}))
    event(client, "workspace.stopped", path)
    after = client.get(path)
    assert (after["state"], after["last_activity_at"], after["expires_at"]) == (
        "stopped", before["last_activity_at"], before["expires_at"])
    refused = client.request("POST", f"{path}/exec", {"command": "true"})
    assert (refused.status, refused.json()["code"]) == (409, "workspace_not_started")
    assert content(client, path, "kept").json()["content"] == "here"


def test_activity_and_running_commands_keep_it(hearthd):
    client = hearthd.client()
    path = create(client, ttl_seconds=3)
    running = client.post(f"{path}/exec", {"command": "until [ -e go ]; do sleep 0.05; done; echo end",
                                           "detach": True, "timeout_seconds": 60})
    event(client, "workspace.stopped", create(client, ttl_seconds=1))
    time.sleep(2)  # Past its ttl: nothing may happen, and there is nothing to wait for.
    assert client.get(path)["state"] == "started"
    client.put(f"{path}/files/content", {"path": "go", "text": ""})
    ended = client.get(f"{path}/execs/{running['exec_id']}", wait_ms=60000)
    assert ended["stdout"] == "end\n"
    assert event(client, "workspace.stopped", path)["data"]["reason"] == "expired"


def test_the_ttl_begins_again_at_a_commands_end_over_a_restart_too(hearthd):
    client = hearthd.client()
    path = create(client, ttl_seconds=5)
    client.post(f"{path}/exec", {"command": "sleep 6"})
    ended = client.get(path)
    assert ended["state"] == "started" and ended["expires_at"] > time.time()
    hearthd.restart()
    client = hearthd.client()
    stopped = event(client, "workspace.stopped", path)
    assert stopped["data"]["reason"] == "expired" and stopped["at"] >= ended["expires_at"]


def test_a_call_that_is_under_way_keeps_it(hearthd):
    """A service that is waited for, and a file that comes slowly: the ttl begins again at their end."""
    client = hearthd.client()
    written = create(client, ttl_seconds=2)

    def in_time():
        """The body's pieces, the last one long after the ttl."""
        yield b"begin"
        event(client.another(), "workspace.stopped", create(client.another(), ttl_seconds=3))
        yield b"end"

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        writes = pool.submit(client.another().request, "PUT", f"{written}/files/content?path=slow", body=in_time(),
                             headers={"Content-Type": "application/octet-stream"})
        waited_for = create(client, ttl_seconds=2)
        service = client.put(f"{waited_for}/services/slow", {"command": "sleep 4; touch up; exec sleep 1000",
                                                             "ready_file": "up", "ready_timeout_seconds": 60})
        assert service["state"] == "running", "it was stopped meanwhile"
        assert (writes.result().status, writes.result().json()["size_bytes"]) == (200, 8)
    for path in (waited_for, written):
        assert event(client, "workspace.stopped", path)["data"]["reason"] == "expired"


def test_a_one_shot_command_is_ended_by_its_machines_ttl(hearthd):
    client = hearthd.client()
    ran = client.post("/v1/vm-runs", {"environment": ENVIRONMENT, "command": "echo so far; sleep 600",
                                      "timeout_seconds": 600, "ttl_seconds": 3})
    assert (ran["exit_code"], ran["timed_out"], ran["stdout"]) == (124, True, "so far\n")
    assert ran["cleanup"] == {"vm_id": ran["vm_id"], "deleted": True, "reason": "post_exec_cleanup"}


def test_a_machine_that_is_deleted_at_its_ttl_ends_the_command_in_it(hearthd):
    client = hearthd.client()
    made = client.post("/v1/vms", {"environment": ENVIRONMENT, "ttl_seconds": 3})
    client.post(f"/v1/vms/{made['vm_id']}/start")
    reply = client.request("POST", f"/v1/vms/{made['vm_id']}/exec",
                           {"command": "sleep 600", "timeout_seconds": 600})
    assert reply.status == 404 and reply.json()["code"] == "vm_not_found" and reply.json()["hint"]
    page = client.get("/v1/events", kind="vm.deleted", wait_ms=60000)
    assert "expired" in [event["data"]["reason"] for event in page["events"]]


def test_what_came_due_while_the_daemon_was_away_is_done_at_its_start(hearthd):
    client = hearthd.client()
    due, other = create(client, ttl_seconds=1), create(client, ttl_seconds=3600)
    hearthd.kill9()
    time.sleep(1.1)  # It is about time that passes while nobody is there.
    hearthd.start()
    client = hearthd.client()
    assert event(client, "workspace.stopped", due)["data"]["reason"] == "expired"
    assert client.get(other)["state"] == "started"


def test_many_that_come_due_at_once_are_all_stopped(hearthd):
    client = hearthd.client()
    paths = [create(client, ttl_seconds=3600, mem_mib=256) for _ in range(12)]
    hearthd.kill9()
    with sqlite3.connect(hearthd.state_dir / "state.db") as database:
        database.execute("UPDATE workspace SET last_activity_at = last_activity_at - ?", (DAY_US,))
    hearthd.start()
    client = hearthd.client()
    for path in paths:
        event(client, "workspace.stopped", path)


class Clock:
    """The wall clock of a daemon that is started with it."""

    def __init__(self, path):
        self.path = path
        self.set(0)

    def set(self, shift_us):
        with open(self.path, "r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("q", shift_us))

    @property
    def environment(self):
        return {"LD_PRELOAD": str(SHIM), "CLOCK_SHIM": str(self.path)}


@pytest.fixture
def clock(tmp_path):
    if not SHIM.exists():
        pytest.skip("clock_shim.so is not built")
    return Clock(pathlib.Path(tmp_path / "clock"))


@pytest.mark.parametrize("running, away", [(3650 * DAY_US, -3650 * DAY_US), (-3650 * DAY_US, 3650 * DAY_US)])
def test_a_clock_that_is_set_expires_neither_all_nor_none(hearthd_factory, clock, running, away):
    hearthd = hearthd_factory(start=False)
    hearthd.start_with_environment(**clock.environment)
    client = hearthd.client()
    stays = create(client, ttl_seconds=3600)
    before = client.get(stays)["last_activity_at"]
    shift = 0
    for step, while_away in ((running, False), (away, True)):
        goes = create(client, ttl_seconds=1)
        if while_away:
            hearthd.kill9()
        shift += step
        clock.set(shift)
        if while_away:
            hearthd.start_with_environment(**clock.environment)
            client = hearthd.client()
        assert event(client, "workspace.stopped", goes)["data"]["reason"] == "expired"
        after = client.get(stays)
        assert after["state"] == "started"
        assert after["last_activity_at"] - before == pytest.approx(shift / 1e6, abs=60), "moved with the clock"


def test_activity_that_races_with_expiry_is_kept_or_refused(hearthd):
    client = hearthd.client()
    paths = [create(client, ttl_seconds=1, mem_mib=256) for _ in range(12)]

    def write_late(numbered):
        number, path = numbered
        with client.another() as own:
            time.sleep(max(0, own.get(path)["expires_at"] - time.time() + (number - 8) * 0.01))
            return own.request("PUT", f"{path}/files/content", {"path": "late", "text": "here"}).status

    with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        statuses = list(pool.map(write_late, enumerate(paths)))
    assert set(statuses) <= {200, 409}
    for path, status in zip(paths, statuses):
        event(client, "workspace.stopped", path)
        assert content(client, path, "late").status == (200 if status == 200 else 404), "what was taken is there, what was refused is not"
