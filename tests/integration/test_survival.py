"""kill -9 at random points under load: what was acknowledged is there, what ran runs on, what was half made is gone.

The rounds are seeded: HEARTH_STRESS_SEED and HEARTH_STRESS_ROUNDS choose them (`make stress` runs many)."""

import functools
import os
import random
import threading
import zlib

import pytest

from harness.kills import CUT_OFF, kill_under
from harness.waiting import until

ROUNDS = int(os.environ.get("HEARTH_STRESS_ROUNDS", "50"))
SEED = int(os.environ.get("HEARTH_STRESS_SEED", "20"))
ENVIRONMENT = "debian:12"
CLIENTS = 3

CRASH_POINTS = ["create:boot", "guest-started", "create:seed", "create:end", "create:published", "delete:tell",
                "delete:remove", "delete:end", "stop:shutdown", "stop:end", "start:boot", "start:end"]


class Ledger:
    """What the daemon acknowledged, kept by the clients."""

    def __init__(self):
        self.lock = threading.Lock()
        self.created, self.deleted, self.unsure, self.files, self.names = set(), set(), set(), {}, {}

    def alive(self):
        return self.created - self.deleted - self.unsure


def load(hearthd, ledger, seed, index, stop):
    """One client that creates, writes, renames, runs and deletes until the daemon goes away. It writes and renames only
    workspaces of its own share: of two clients' changes to one, nobody could say which the daemon made last."""
    pick = random.Random(seed)
    client = hearthd.client(timeout=60)
    try:
        while not stop.is_set():
            with ledger.lock:
                alive = sorted(ledger.alive())
            share = [workspace_id for workspace_id in alive if zlib.crc32(workspace_id.encode()) % CLIENTS == index]
            act = pick.random()
            if act < 0.4 or len(alive) < 2 or not share:
                workspace_id = client.post("/v1/workspaces", {"environment": ENVIRONMENT})["workspace_id"]
                with ledger.lock:
                    ledger.created.add(workspace_id)
            elif act < 0.6:
                workspace_id, text = pick.choice(share), str(pick.random())
                with ledger.lock:
                    ledger.files[workspace_id] = None
                if client.request("PUT", f"/v1/workspaces/{workspace_id}/files/content",
                                  {"path": "note", "text": text}).status == 200:
                    with ledger.lock:
                        ledger.files[workspace_id] = text
            elif act < 0.75:
                workspace_id, name = pick.choice(share), f"n{pick.randrange(10 ** 9)}"
                with ledger.lock:
                    ledger.names[workspace_id] = None
                if client.request("PATCH", f"/v1/workspaces/{workspace_id}", {"name": name}).status == 200:
                    with ledger.lock:
                        ledger.names[workspace_id] = name
            elif act < 0.9:
                client.request("POST", f"/v1/workspaces/{pick.choice(alive)}/exec", {"command": "true"})
            else:
                workspace_id = pick.choice(alive)
                with ledger.lock:
                    ledger.unsure.add(workspace_id)
                if client.request("DELETE", f"/v1/workspaces/{workspace_id}").status == 200:
                    with ledger.lock:
                        ledger.deleted.add(workspace_id)
                        ledger.unsure.discard(workspace_id)
    except (*CUT_OFF, AssertionError):
        pass  # The daemon was killed: what was not answered was not promised.
    finally:
        client.close()


def check(client, ledger, long_exec):
    listed = {row["workspace_id"]: row for row in client.get("/v1/workspaces", limit=1000)["workspaces"]}
    missing = {workspace for workspace in ledger.alive() if workspace not in listed}
    assert not missing, f"acknowledged and gone: {missing}"
    risen = ledger.deleted & listed.keys()
    assert not risen, f"deleted and back: {risen}"
    for workspace_id in ledger.alive():
        assert listed[workspace_id]["state"] == "started"
        name = ledger.names.get(workspace_id)
        assert not name or listed[workspace_id]["name"] == name
        text = ledger.files.get(workspace_id)
        assert not text or client.get(f"/v1/workspaces/{workspace_id}/files/content", path="note")["content"] == text
    workspace_id, exec_id = long_exec
    state = client.get(f"/v1/workspaces/{workspace_id}/execs/{exec_id}")
    assert state["running"], state
    # Those made but never acknowledged are whole or gone; a new owner may have them.
    for workspace_id in listed.keys() - ledger.created:
        ledger.created.add(workspace_id)
    return listed


@pytest.mark.rounds
@pytest.mark.timeout(3600)
def test_fifty_kills_under_load(hearthd_factory):
    pick = random.Random(SEED)
    hearthd = hearthd_factory()
    client = hearthd.client()
    ledger = Ledger()
    keeper = client.post("/v1/workspaces", {"environment": ENVIRONMENT})["workspace_id"]
    ledger.created.add(keeper)
    ledger.unsure.add(keeper)  # Nobody deletes it.
    counting = client.post(f"/v1/workspaces/{keeper}/exec",
                           {"command": "i=0; while [ ! -e end ]; do i=$((i+1)); echo $i; sleep 0.05; done",
                            "detach": True, "timeout_seconds": 3600})["exec_id"]
    pids = None
    for turn in range(ROUNDS):
        loads = [functools.partial(load, hearthd, ledger, SEED * 1000 + turn * 10 + index, index) for index in range(CLIENTS)]
        kill_under(hearthd, loads, pick.uniform(0.0, 0.4))
        client = hearthd.client()
        ledger.unsure.discard(keeper)
        listed = check(client, ledger, (keeper, counting))
        ledger.unsure = {keeper} | {workspace for workspace in ledger.unsure if workspace in listed}
        ledger.created = set(listed)
        ledger.deleted.clear()
        ledger.unsure = {keeper}
        before, pids = pids, hearthd.guest_pids()
        assert before is None or set(before) & set(pids), "the keeper's guest was not taken back"
        for workspace_id in sorted(set(listed) - {keeper})[8:]:
            client.request("DELETE", f"/v1/workspaces/{workspace_id}")
            ledger.created.discard(workspace_id)
    client.put(f"/v1/workspaces/{keeper}/files/content", {"path": "end", "text": ""})
    final = client.get(f"/v1/workspaces/{keeper}/execs/{counting}", wait_ms=60000)
    assert final["exit_code"] == 0
    numbers = final["stdout"].split()
    assert numbers == [str(i) for i in range(1, len(numbers) + 1)], "output was lost or repeated"


def outcome(hearthd, request_id):
    """What the audit says of how a request ended, as soon as it does."""
    return until(lambda: hearthd.rows("SELECT outcome FROM audit WHERE request_id = ? AND outcome <> 'begun'", request_id),
                 "the audit does not say how it ended")[0][0]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_between_two_steps_leaves_nothing_half_done(hearthd_factory, monkeypatch, point):
    hearthd = hearthd_factory()
    client = hearthd.client()
    kept = client.post("/v1/workspaces", {"environment": ENVIRONMENT})["workspace_id"]
    if point.startswith("start:"):
        client.post(f"/v1/workspaces/{kept}/stop")
    hearthd.stop()
    hearthd.start_with_environment(HEARTHD_CRASH_AT=point)
    client = hearthd.client(timeout=60)
    kind = point.split(":")[0]
    request = {"create": ("POST", "/v1/workspaces", {"environment": ENVIRONMENT}),
               "guest-started": ("POST", "/v1/workspaces", {"environment": ENVIRONMENT}),
               "delete": ("DELETE", f"/v1/workspaces/{kept}", None),
               "stop": ("POST", f"/v1/workspaces/{kept}/stop", {}),
               "start": ("POST", f"/v1/workspaces/{kept}/start", {})}[kind]
    try:
        answered = client.request(*request, headers={"X-Request-Id": "the-crash"}).status < 300
    except OSError:
        answered = False
    assert hearthd.wait() == 137
    hearthd.start()
    client = hearthd.client()
    assert outcome(hearthd, "the-crash"), "the audit of its end names who had asked for it"
    listed = {row["workspace_id"]: row["state"] for row in client.get("/v1/workspaces")["workspaces"]}
    if kind == "delete":
        assert kept not in listed
    else:
        assert kept in listed
        assert client.ok("POST", f"/v1/workspaces/{kept}/start", {})["state"] == "started"
        assert client.post(f"/v1/workspaces/{kept}/exec", {"command": "echo on"})["stdout"] == "on\n"
    if point != "create:published":
        assert len(listed) == (0 if kind == "delete" else 1)
    assert not (answered and kind in ("create", "guest-started"))


@pytest.mark.parametrize("point", ["guest-started", "start:end"])
def test_a_guest_whose_start_was_cut_short_does_not_run_on(hearthd_factory, point):
    """Nobody has noted its process: it would go on beside the next one, on the same disk."""
    hearthd = hearthd_factory()
    client = hearthd.client(timeout=60)
    path = f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': ENVIRONMENT})['workspace_id']}"
    client.put(f"{path}/files/content", {"path": "kept", "text": "here"})
    client.post(f"{path}/stop")
    hearthd.stop()
    hearthd.start_with_environment(HEARTHD_CRASH_AT=point)
    with pytest.raises(OSError):
        hearthd.client(timeout=60).request("POST", f"{path}/start", {})
    assert hearthd.wait() == 137 and hearthd.guest_pids()
    hearthd.start()
    client = hearthd.client(timeout=60)
    until(lambda: not hearthd.guest_pids(), "the guest of the start that was cut short runs on")
    assert client.get(path)["state"] == "failed"
    assert client.post(f"{path}/start")["state"] == "started"
    assert len(hearthd.guest_pids()) == 1
    assert client.get(f"{path}/files/content", path="kept")["content"] == "here"


def test_two_daemons_on_one_state_directory_are_refused(hearthd_factory):
    hearthd = hearthd_factory()
    second = hearthd_factory(start=False)
    second.state_dir = hearthd.state_dir
    with pytest.raises(AssertionError, match="another hearthd"):
        second.start()
    second.state_dir = second.base / "state"
    assert hearthd.client().get("/v1/workspaces")["count"] == 0


def test_an_agent_that_stays_is_the_same_process(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    path = f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': ENVIRONMENT})['workspace_id']}"
    state = client.post(f"{path}/exec", {"command": "echo a; while [ ! -e go ]; do sleep 0.05; done; echo b",
                                         "detach": True})
    before = hearthd.guest_pids()
    hearthd.kill9()
    hearthd.start()
    client = hearthd.client()
    assert hearthd.guest_pids() == before and before
    client.put(f"{path}/files/content", {"path": "go", "text": ""})
    final = client.get(f"{path}/execs/{state['exec_id']}", wait_ms=60000)
    assert (final["exit_code"], final["stdout"], final["running"]) == (0, "a\nb\n", False)


def test_a_guest_that_died_meanwhile_is_failed_and_can_be_started(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    path = f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': ENVIRONMENT})['workspace_id']}"
    client.put(f"{path}/files/content", {"path": "kept", "text": "here"})
    hearthd.kill9()
    hearthd.kill_guests()
    hearthd.start()
    client = hearthd.client()
    until(lambda: client.get(path)["state"] == "failed")
    client.post(f"{path}/start")
    assert client.get(f"{path}/files/content", path="kept")["content"] == "here"
