"""workspace_summary: what was done in a workspace, at one glance."""

import json
import os
import subprocess

from conftest import Workspace
from harness import guest_trees as trees
from harness import waiting
from harness.daemon import BIN
from harness.waiting import until


def summary(workspace, **query):
    return workspace.client.get(f"{workspace.path}/summary", **query)


def test_a_new_workspace_has_nothing_to_tell(workspace):
    told = summary(workspace)
    assert (told["workspace_id"], told["state"], told["reset_count"]) == (workspace.id, "started", 0)
    assert told["commands"] == {"ended": 0, "succeeded": 0, "failed": 0, "timed_out": 0, "cancelled": 0,
                                "lost": 0, "duration_ms": 0, "entries": []}
    assert told["changes"] == {"total": 0, "added": 0, "modified": 0, "deleted": 0, "type_changed": 0,
                               "entries": []}
    assert (told["services"], told["exports"], told["changes_unknown"]) == ([], [], None)
    assert [row["snapshot_name"] for row in told["snapshots"]] == ["baseline"]


def test_what_was_done_is_told(client, workspace_factory):
    workspace = workspace_factory(seed_upload=trees.upload(client, {"a": b"1\n", "b": b"2\n"}))
    before = client.get(workspace.path)["last_activity_at"]
    workspace.exec("echo more >> a; rm b; echo new > c")
    workspace.exec("exit 3")
    workspace.exec("sleep 60", timeout_seconds=1)
    workspace.exec("true " + "é" * 500)
    client.post(f"{workspace.path}/snapshots", {"snapshot_name": "s"})
    client.put(f"{workspace.path}/services/web", {"command": "sleep 600"})
    after = client.get(workspace.path)["last_activity_at"]
    for path in (".", "a"):
        assert client.request("GET", f"{workspace.path}/export?path={path}").status == 200
    told = summary(workspace)
    commands = told["commands"]
    assert (commands["ended"], commands["succeeded"], commands["failed"], commands["timed_out"]) == (4, 2, 2, 1)
    assert commands["duration_ms"] >= 1000
    assert [(row["sequence"], row["exit_code"], row["timed_out"]) for row in commands["entries"]] == [
        (4, 0, False), (3, 124, True), (2, 3, False), (1, 0, False)]
    assert commands["entries"][0]["command"] == "true " + "é" * 197
    changes = told["changes"]
    assert (changes["total"], changes["added"], changes["modified"], changes["deleted"]) == (3, 1, 1, 1)
    assert [(row["path"], row["status"]) for row in changes["entries"]] == [
        ("a", "modified"), ("b", "deleted"), ("c", "added")]
    assert [(row["service_name"], row["state"]) for row in told["services"]] == [("web", "running")]
    assert [row["snapshot_name"] for row in told["snapshots"]] == ["baseline", "s"]
    assert [(row["kind"], row["path"], row["entry_count"], row["bytes"]) for row in told["exports"]] == [
        ("files", "a", 1, 7), ("files", "", 3, 11)]
    # Looking is no activity, and neither was the export.
    assert before < after == client.get(workspace.path)["last_activity_at"]
    fewer = summary(workspace, commands=1, changes=0, exports=1)
    assert (fewer["commands"]["ended"], len(fewer["commands"]["entries"])) == (4, 1)
    assert (fewer["changes"]["total"], fewer["changes"]["entries"], len(fewer["exports"])) == (3, [], 1)


def test_a_stopped_one_tells_all_but_its_changes(client, workspace_factory):
    workspace = workspace_factory()
    workspace.exec("echo x > f")
    client.post(f"{workspace.path}/stop")
    told = summary(workspace)
    assert (told["state"], told["commands"]["ended"]) == ("stopped", 1)
    assert (told["changes"], told["changes_unknown"]) == (None, "workspace_not_started")
    assert client.request("GET", f"{workspace.path}/disk").status == 200
    exports = until(lambda: summary(workspace)["exports"])  # Its last byte may arrive before the note of it is written.
    assert [(row["kind"], row["path"]) for row in exports] == [("disk", "")]


def test_a_reset_forgets_commands_and_not_exports(client, workspace_factory):
    workspace = workspace_factory()
    workspace.exec("echo x > f")
    client.request("GET", f"{workspace.path}/export?path=f")
    client.post(f"{workspace.path}/reset")
    told = summary(workspace)
    assert (told["commands"]["ended"], told["reset_count"], len(told["exports"])) == (0, 1, 1)


def test_it_is_told_over_a_restart_and_gone_with_the_workspace(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    path = f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': 'debian:12'})['workspace_id']}"
    client.post(f"{path}/exec", {"command": "echo x > f"})
    client.request("GET", f"{path}/export?path=f")
    hearthd.kill9()
    hearthd.start()
    client = hearthd.client()
    told = client.get(f"{path}/summary")
    assert (told["commands"]["ended"], len(told["exports"])) == (1, 1)
    client.delete(path)
    assert client.request("GET", f"{path}/summary").json()["code"] == "workspace_not_found"


def test_a_microvms(machine_client):
    workspace = Workspace(machine_client, mem_mib=256)
    workspace.exec("echo new > c", timeout_seconds=120)
    workspace.exec("exit 3", timeout_seconds=120)
    machine_client.post(f"{workspace.path}/snapshots", {"snapshot_name": "s"})
    machine_client.put(f"{workspace.path}/services/web", {"command": "exit 4"})
    assert machine_client.request("GET", f"{workspace.path}/export?path=c").status == 200
    told = waiting.until(lambda: (seen := summary(workspace))["services"][0]["state"] == "exited" and seen["exports"] and seen)
    assert (told["commands"]["succeeded"], told["commands"]["failed"]) == (1, 1)
    assert [(row["path"], row["status"]) for row in told["changes"]["entries"]] == [("c", "added")]
    assert [(row["service_name"], row["exit_code"]) for row in told["services"]] == [("web", 4)]
    assert [row["snapshot_name"] for row in told["snapshots"]] == ["baseline", "s"]
    assert [(row["kind"], row["path"]) for row in told["exports"]] == [("files", "c")]
    workspace.delete()


def test_bad_input(client, workspace):
    for query, field in (("commands=-1", "/commands"), ("changes=1001", "/changes"), ("exports=x", "/exports")):
        problem = client.request("GET", f"{workspace.path}/summary?{query}").json()
        assert problem["field"] == field and problem["status"] == 422, problem


def test_on_the_command_line(daemon, workspace):
    workspace.exec("false")
    done = subprocess.run([BIN / "hearth", "workspace", "summary", workspace.id, "--json"], text=True,
                          capture_output=True, timeout=120,
                          env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["commands"]["failed"] == 1
