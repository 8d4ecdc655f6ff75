"""workspace_reset: the tree of a snapshot exactly, in a fresh guest, or the workspace as it was."""

import os
import subprocess
import threading

import pytest

from harness import guest_trees as trees
from harness.daemon import BIN
from harness.waiting import until

SEED = {
    "d": None, "d/sub": None, "d/sub/f": b"deep\n", "run": (0o755, b"#!/bin/sh\n"), "empty": None,
    "big": bytes(range(256)) * 12000, "link": "-> d/sub", "dangling": "-> /no/such", "hard": "run",
    "none": b"",
}


@pytest.fixture
def seeded(client, workspace_factory):
    return workspace_factory(seed_upload=trees.upload(client, SEED), name="kept", labels={"a": "b"})


def reset(workspace, **arguments):
    return workspace.client.post(f"{workspace.path}/reset", arguments)




def test_everything_is_as_it_was(seeded):
    before = trees.look(seeded)
    seeded.exec("echo x > /outside; rm -rf d big; echo more >> run; chmod 600 none; ln -sf y link;"
                "mkdir new; touch new/file")
    result = reset(seeded)
    assert result["workspace_reset"] == {
        "snapshot_name": "baseline", "kind": "baseline", "destination": "/workspace",
        "entry_count": len(SEED), "bytes_written": 5 + 10 + 256 * 12000}
    assert (result["workspace_id"], result["name"], result["labels"], result["state"]) == (
        seeded.id, "kept", {"a": "b"}, "started")
    assert (result["command_count"], result["reset_count"], result["last_command"]) == (0, 1, None)
    assert result["last_reset_at"] > seeded.created["created_at"]
    assert seeded.client.get(f"{seeded.path}/logs")["entries"] == []
    assert trees.look(seeded) == before
    assert seeded.exec("ls /outside; hostname")["stdout"] == seeded.id[3:19] + "\n"
    assert seeded.client.get(f"{seeded.path}/diff")["changed"] is False
    assert [row["sequence"] for row in
            seeded.client.get(f"{seeded.path}/logs")["entries"]] == [1, 2]


def test_a_named_snapshot_with_odd_modes_and_times(client, workspace):
    done = workspace.exec(r"""set -e; umask 0
        mkdir a a/b; printf 'x\0y' > a/b/f; chmod 4751 a/b/f; chmod 1777 a/b
        ln a/b/f a/hard; ln -s ../.. a/up; touch -d '2001-02-03 04:05:06.789012345' a/b/f a/b
        touch -h -d '1999-01-01' a/up; chown 12:34 a/hard; mkdir 'sp ace'; touch $'n\nl' $'\xff'
        head -c 3000000 /dev/urandom > random; mkdir locked; touch locked/in; chmod 0 locked""")
    assert done["exit_code"] == 0, done
    before = trees.look(workspace)
    made = client.post(f"{workspace.path}/snapshots", {"snapshot_name": "odd"})["snapshot"]
    assert made["entry_count"] == len(before)
    workspace.exec("chmod 700 locked; find . -mindepth 1 -delete; echo gone > all")
    for count in (1, 2):
        result = reset(workspace, snapshot="odd")
        assert (result["workspace_reset"]["kind"], result["reset_count"]) == ("named", count)
        assert trees.look(workspace) == before
    # The baseline did not move: it was empty.
    assert client.get(f"{workspace.path}/diff")["summary"]["total"] == len(before)
    reset(workspace)
    assert trees.look(workspace) == {}
    names = [row["snapshot_name"] for row in client.get(f"{workspace.path}/snapshots")["snapshots"]]
    assert names == ["baseline", "odd"]


def test_what_runs_ends_with_a_clear_answer(client, seeded):
    replies = []

    def run():
        with client.another() as own:
            replies.append(own.request("POST", f"{seeded.path}/exec",
                                       {"command": "touch /tmp/on; sleep 600",
                                        "timeout_seconds": 900}))

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: seeded.exec("ls /tmp/on")["exit_code"] == 0)
    reset(seeded)
    thread.join(timeout=60)
    assert (replies[0].status, replies[0].json()["code"]) == (409, "workspace_reset")
    assert seeded.exec("echo on")["stdout"] == "on\n"


def test_refusals_leave_the_workspace_as_it_is(client, seeded):
    seeded.write("mine", "x")
    reply = client.request("POST", f"{seeded.path}/reset", {"snapshot": "none"})
    assert (reply.status, reply.json()["code"], reply.json()["field"]) == (
        404, "snapshot_not_found", "/snapshot")
    reply = client.request("POST", "/v1/workspaces/ws_aaaaaaaaaaaaaaaa/reset", {})
    assert (reply.status, reply.json()["code"]) == (404, "workspace_not_found")
    assert seeded.read("mine")["content"] == "x"
    assert seeded.status()["reset_count"] == 0


def test_a_stopped_workspace_comes_back_started(client, seeded):
    before = trees.look(seeded)
    seeded.exec("rm -rf d")
    client.post(f"{seeded.path}/stop")
    assert reset(seeded)["state"] == "started"
    assert trees.look(seeded) == before


def test_a_failing_reset_leaves_the_workspace_as_it_was(hearthd_factory, workspace_factory):
    """The store loses the snapshot's content: the fresh guest is given up, the old one runs on."""
    hearthd = hearthd_factory()
    client = hearthd.client()
    workspace = workspace_factory(on=client, seed_upload=trees.upload(client, SEED))
    workspace.exec("echo mine > mine; sleep 600 & echo $! > pid")
    (pack,) = (hearthd.state_dir / "store").glob("*/pack-*")
    data = bytearray(pack.read_bytes())
    for at in range(60, len(data), 97):
        data[at] ^= 0x55
    pack.write_bytes(data)
    before = hearthd.guest_pids()
    reply = client.request("POST", f"{workspace.path}/reset", {})
    assert (reply.status, reply.json()["code"]) == (500, "store_damaged")
    assert workspace.read("mine")["content"] == "mine\n"
    assert workspace.exec("kill -0 $(cat pid) && echo alive")["stdout"] == "alive\n"
    status = workspace.status()
    assert (status["reset_count"], status["state"], status["command_count"]) == (0, "started", 2)
    until(lambda: hearthd.guest_pids() == before)
    assert client.post("/v1/store/verify")["whole"] is False
    told = subprocess.run([BIN / "hearth", "store", "verify"], env={"HEARTH_URL": f"unix://{hearthd.socket_path}", "PATH": "/usr/bin"},
                          capture_output=True, text=True)
    assert told.returncode == 1 and "whole: no" in told.stdout


@pytest.mark.parametrize("point", ["reset:boot", "reset:restore", "reset:end", "reset:swapped"])
def test_a_kill_at_any_point_leaves_one_or_the_other(hearthd_factory, workspace_factory, point):
    hearthd = hearthd_factory()
    client = hearthd.client()
    workspace = workspace_factory(on=client, seed_upload=trees.upload(client, SEED))
    workspace.exec("rm -rf d; echo mine > mine")
    changed = trees.look(workspace)
    hearthd.stop()
    hearthd.start_with_environment(HEARTHD_CRASH_AT=point)
    workspace.client = hearthd.client()
    with pytest.raises(Exception):
        reset(workspace)
    assert hearthd.wait() == 137
    hearthd.start()
    client = workspace.client = hearthd.client()
    status = workspace.status()
    assert status["state"] == "started"
    if point == "reset:swapped":
        assert (status["reset_count"], status["command_count"]) == (1, 0)
        assert client.get(f"{workspace.path}/diff")["changed"] is False
    else:
        assert (status["reset_count"], status["command_count"]) == (0, 2)
        assert trees.look(workspace) == changed
    until(lambda: len(hearthd.guest_pids()) == 1)
    assert reset(workspace)["reset_count"] == status["reset_count"] + 1
    assert client.post("/v1/store/verify")["whole"]


def test_from_the_pool(hearthd_factory, workspace_factory):
    hearthd = hearthd_factory(pool=1)
    client = hearthd.client()
    workspace = workspace_factory(on=client, seed_upload=trees.upload(client, SEED))
    before = trees.look(workspace)
    for count in (1, 2, 3):
        workspace.exec("rm -rf d run")
        assert reset(workspace)["reset_count"] == count
        assert trees.look(workspace) == before


def test_an_environment_that_brings_files_of_its_own(hearthd_factory, workspace_factory, tmp_path):
    """They are part of the baseline, and gone where the snapshot does not have them."""
    rootfs = tmp_path / "rootfs.tar"
    rootfs.write_bytes(trees.tar({
        **trees.least_root("sh", "ls", "rm", "cat", "find", "sort"), "workspace": None,
        "workspace/readme": b"from the image\n", "workspace/d": None, "workspace/d/f": b"deep\n"}))
    hearthd = hearthd_factory(image_dir=tmp_path / "images", driver="oci")
    subprocess.run([BIN / "hearth", "env", "import", "brings:1", rootfs], check=True,
                   env={**os.environ, "HEARTH_URL": f"unix://{hearthd.socket_path}"})
    client = hearthd.client()
    workspace = workspace_factory(on=client, environment="brings:1")
    names = "find . | sort"
    assert workspace.exec(names)["stdout"].split() == [".", "./d", "./d/f", "./readme"]
    listed = client.get(f"{workspace.path}/snapshots")["snapshots"]
    assert listed[0]["entry_count"] == 3
    assert client.get(f"{workspace.path}/diff")["changed"] is False
    workspace.exec("rm -r d")
    workspace.write("mine", "x")
    client.post(f"{workspace.path}/snapshots", {"snapshot_name": "mine"})
    reset(workspace)
    assert workspace.exec(names)["stdout"].split() == [".", "./d", "./d/f", "./readme"]
    reset(workspace, snapshot="mine")
    assert workspace.exec(names)["stdout"].split() == [".", "./mine", "./readme"]
    assert {entry["path"]: entry["status"] for entry in
            client.get(f"{workspace.path}/diff")["entries"]} == {
                "d": "deleted", "d/f": "deleted", "mine": "added"}


def test_shells_end_with_the_guest(client, workspace):
    shell = client.post(f"{workspace.path}/shells", {})["shell_id"]
    assert client.get(f"{workspace.path}/shells/{shell}")["state"] == "running"
    reset(workspace)
    assert client.request("GET", f"{workspace.path}/shells/{shell}").status == 404
    assert client.get(f"{workspace.path}/shells")["count"] == 0
    again = client.post(f"{workspace.path}/shells", {})["shell_id"]
    assert client.get(f"{workspace.path}/shells/{again}")["state"] == "running"
