"""workspace_fork: copies of a workspace's files, each a workspace of its own; all of them or none."""

import json
import os
import subprocess

import pytest

from harness import guest_trees as trees
from harness.daemon import BIN

SEED = {
    "d": None, "d/sub": None, "d/sub/f": b"deep\n", "run": (0o755, b"#!/bin/sh\n"), "empty": None,
    "big": bytes(range(256)) * 12000, "link": "-> d/sub", "dangling": "-> /no/such", "hard": "run",
}


@pytest.fixture
def forks(client):
    """forks(workspace, **arguments) makes copies and deletes them in the end."""
    made = []

    def make(workspace, **arguments):
        result = client.post(f"{workspace.path}/fork", arguments)
        made.extend(row["workspace_id"] for row in result["workspaces"])
        return result

    yield make
    for workspace_id in made:
        client.request("DELETE", f"/v1/workspaces/{workspace_id}")


class Copy:
    """A copy as the harness knows workspaces."""

    def __init__(self, client, row):
        self.client, self.created, self.id = client, row, row["workspace_id"]
        self.path = f"/v1/workspaces/{self.id}"

    def exec(self, command, **arguments):
        return self.client.post(f"{self.path}/exec", {"command": command, **arguments})


def names(client):
    return sorted(row["workspace_id"] for row in client.get("/v1/workspaces", limit=1000)["workspaces"])


def test_copies_begin_with_the_files_of_now_and_go_their_own_ways(client, workspace_factory, forks):
    origin = workspace_factory(seed_upload=trees.upload(client, SEED), mem_mib=512, ttl_seconds=777)
    origin.exec("echo prepared > state; chmod 4711 run; touch -d 2001-02-03 state; echo outside > /elsewhere")
    before = trees.look(origin)
    activity = client.get(origin.path)["last_activity_at"]
    result = forks(origin, count=3, names=["a", "b", "c"], labels={"try": "1"})
    assert (result["workspace_id"], result["count"]) == (origin.id, 3)
    copies = [Copy(client, row) for row in result["workspaces"]]
    assert [copy.created["name"] for copy in copies] == ["a", "b", "c"]
    assert client.get(origin.path)["last_activity_at"] == activity
    for copy in copies:
        status = copy.created
        assert (status["state"], status["mem_mib"], status["ttl_seconds"], status["labels"]) == (
            "started", 512, 777, {"try": "1"})
        assert status["environment_version"] == origin.created["environment_version"]
        assert (status["workspace_seed"]["mode"], status["workspace_seed"]["seed_path"]) == ("fork", origin.id)
        assert trees.look(copy) == before
        assert copy.exec("hostname; ls /elsewhere")["stdout"] == copy.id[3:19] + "\n"
        # What it did itself is what differs: its baseline is the fork.
        assert client.get(f"{copy.path}/diff")["changed"] is False
    copies[0].exec("echo mine > state")
    assert [entry["path"] for entry in client.get(f"{copies[0].path}/diff")["entries"]] == ["state"]
    assert copies[1].exec("cat state")["stdout"] == "prepared\n"
    assert trees.look(origin) == before
    client.post(f"{copies[0].path}/reset")
    assert trees.look(copies[0]) == before


def test_a_copy_of_a_snapshot_outlives_it_and_its_origin(client, workspace_factory, forks):
    origin = workspace_factory()
    origin.exec("head -c 300000 /dev/urandom > then")
    client.post(f"{origin.path}/snapshots", {"snapshot_name": "then"})
    before = trees.look(origin)
    origin.exec("rm then; echo > now")
    client.post(f"{origin.path}/stop")
    result = forks(origin, snapshot="then")
    copy = Copy(client, result["workspaces"][0])
    assert copy.created["workspace_seed"]["seed_path"] == f"{origin.id}@then"
    assert trees.look(copy) == before
    client.delete(f"{origin.path}/snapshots/then")
    client.delete(origin.path)
    copy.exec("rm then")
    client.post(f"{copy.path}/reset")
    assert trees.look(copy) == before
    assert client.post("/v1/store/verify")["whole"]


def test_an_empty_tree_is_copied_too(client, workspace_factory, forks):
    origin = workspace_factory()
    for arguments in ({}, {"snapshot": "baseline"}):
        copy = Copy(client, forks(origin, **arguments)["workspaces"][0])
        assert trees.look(copy) == {}


def test_copies_are_copied(client, workspace_factory, forks):
    origin = workspace_factory(seed_upload=trees.upload(client, SEED))
    first = Copy(client, forks(origin)["workspaces"][0])
    second = Copy(client, forks(first)["workspaces"][0])
    assert trees.look(second) == trees.look(origin)
    assert second.created["workspace_seed"]["seed_path"] == first.id


def test_a_bad_fork_makes_nothing(client, workspace_factory, hearthd_factory):
    origin = workspace_factory()
    before = names(client)

    def refusal(arguments, path=f"{origin.path}/fork"):
        problem = client.request("POST", path, arguments).json()
        assert problem["hint"]
        return problem["status"], problem["code"], problem["field"]

    assert refusal({"count": 0})[::2] == (422, "/count")
    assert refusal({"count": 65})[::2] == (422, "/count")
    assert refusal({"count": 2, "names": ["a"]}) == (422, "bad_names", "/names")
    assert refusal({"count": 2, "names": ["a", " a"]}) == (422, "bad_name", "/names/1")
    assert refusal({"snapshot": "none"}) == (404, "snapshot_not_found", "/snapshot")
    assert refusal({"labels": {"": "x"}})[0] == 422
    assert refusal({}, "/v1/workspaces/ws_aaaaaaaaaaaaaaaa/fork")[:2] == (404, "workspace_not_found")
    client.post(f"{origin.path}/stop")
    assert refusal({})[:2] == (409, "workspace_not_started")
    assert names(client) == before


def test_a_quota_is_for_all_of_them(hearthd_factory):
    hearthd = hearthd_factory(max_workspaces=3)
    client = hearthd.client()
    path = f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': 'debian:12'})['workspace_id']}"
    reply = client.request("POST", f"{path}/fork", {"count": 3})
    assert (reply.status, reply.json()["code"]) == (429, "quota_workspaces")
    assert reply.json()["detail"] == "the tenant has 1 of 3 workspaces; 3 more would be too many"
    assert client.get("/v1/workspaces")["count"] == 1
    assert client.post(f"{path}/fork", {"count": 2})["count"] == 2


@pytest.mark.parametrize("point", ["create:boot", "create:seed", "create:published"])
def test_a_daemon_killed_in_a_fork_leaves_whole_copies_or_none(hearthd_factory, point):
    hearthd = hearthd_factory()
    client = hearthd.client()
    path = f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': 'debian:12'})['workspace_id']}"
    client.put(f"{path}/files/content", {"path": "f", "text": "x"})
    hearthd.stop()
    hearthd.start_with_environment(HEARTHD_CRASH_AT=point)
    with pytest.raises(OSError):
        hearthd.client(timeout=60).request("POST", f"{path}/fork", {"count": 3})
    hearthd.wait()
    hearthd.start()
    client = hearthd.client()
    rows = client.get("/v1/workspaces")["workspaces"]
    for row in rows:
        assert row["state"] == "started"
        read = client.get(f"/v1/workspaces/{row['workspace_id']}/files/content", path="f")
        assert read["content"] == "x"
    assert client.post("/v1/store/verify")["whole"]


def test_a_machine_is_forked_to_machines(client, workspace_factory, forks):
    origin = workspace_factory(isolation="vm", mem_mib=256)
    origin.exec("echo here > f")
    for row in forks(origin, count=2)["workspaces"]:
        assert row["isolation"] == "vm"
        copy = Copy(client, row)
        assert copy.exec("cat f; cat /etc/machine-id")["stdout"].split()[0] == "here"


def test_on_the_command_line(daemon, client, workspace_factory):
    origin = workspace_factory()
    origin.exec("echo here > f")

    def hearth(*words, status=0):
        done = subprocess.run([BIN / "hearth", *words], text=True, capture_output=True, timeout=120,
                              env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}"})
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    made = hearth("workspace", "fork", origin.id, "--count", "2", "--name", "x", "--name", "y",
                  "--label", "k=v", "--id-only").split()
    assert len(made) == 2
    for workspace_id, name in zip(made, ("x", "y")):
        status = client.get(f"/v1/workspaces/{workspace_id}")
        assert (status["name"], status["labels"]) == (name, {"k": "v"})
        client.delete(f"/v1/workspaces/{workspace_id}")
    copy = json.loads(hearth("workspace", "fork", origin.id, "--json"))["workspaces"][0]["workspace_id"]
    client.delete(f"/v1/workspaces/{copy}")
    hearth("workspace", "fork", origin.id, "--label", "novalue", status=2)


def test_a_containers_memory_is_not_copied(client, workspace_factory):
    origin = workspace_factory(isolation="container", allow_host_compat=True)
    before = names(client)
    reply = client.request("POST", f"{origin.path}/fork", {"memory": True})
    problem = reply.json()
    assert (reply.status, problem["code"], problem["field"]) == (422, "fork_memory_unsupported", "/memory")
    assert "Leave memory out" in problem["hint"]
    assert names(client) == before
    assert origin.exec("echo here")["stdout"] == "here\n"
