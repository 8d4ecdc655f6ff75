"""What is asked of trees and commands in containers, asked of a machine: the same tests, on one guest that all of
them share. And what a container cannot have: a disk that is really full."""

import pytest

from conftest import Workspace
from harness import guest_trees
# The same tests, collected here with this module's fixtures.
from test_diff import (SEED, diff, test_a_part_of_the_tree_and_the_list_alone, test_every_kind_of_change_is_told,  # noqa: F401
                       test_the_patch_makes_the_tree_again)
from test_exec_troubles import (test_a_command_that_ignores_term_is_killed, test_a_daemon_that_has_left_its_session_holds_nothing_up,  # noqa: F401
                                test_a_timeout_ends_the_whole_process_group_and_keeps_the_output,
                                test_bytes_that_are_no_text_are_told_as_such, test_the_end_is_told_in_fields)
from test_patch import (PREPARE, applied, test_a_git_patch_does_all_that_it_says,  # noqa: F401
                        test_apply_patch_adds_updates_moves_and_deletes, test_files_and_directories_take_each_others_place)
from test_sync import (REFUSED, export, odd, odd_tar, push, pushed, tar_of,  # noqa: F401
                       test_a_file_a_link_and_a_directory_are_exported, test_a_push_adds_and_replaces,
                       test_a_tree_goes_in_and_out_as_it_is, test_what_cannot_be_exported_is_told)

MEM_MIB, DISK_MIB = 256, 2048


@pytest.fixture(scope="module")
def client(machine_daemon):
    with machine_daemon.client(timeout=300) as made:
        yield made


@pytest.fixture(scope="module")
def machine(client):
    made = Workspace(client, mem_mib=MEM_MIB, disk_mib=DISK_MIB, seed_upload=guest_trees.upload(client, SEED))
    yield made
    made.delete()


@pytest.fixture
def workspace(machine, request):
    """Empty, or what the tests of patches begin with."""
    machine.exec(PREPARE if request.function.__module__ == "test_patch" else "find . -mindepth 1 -delete")
    return machine


@pytest.fixture
def seeded(machine):
    """As it was made."""
    if diff(machine, stat_only="true")["changed"]:
        machine.client.post(f"{machine.path}/reset", {})
    return machine


@pytest.mark.parametrize("name", ["parent", "through", "device", "cut"])
def test_what_is_refused_changes_nothing(workspace, name):
    body, code, said = REFUSED[name]
    workspace.write("mine", "mine")
    problem = push(workspace, body).json()
    assert (problem["status"], problem["code"]) == (422, code) and said in problem["detail"]
    assert workspace.exec("find . -type f")["stdout"].split() == ["./mine"]


def test_a_snapshot_is_gone_back_to_exactly(workspace):
    done = workspace.exec(r"""set -e; umask 0; echo outside > /outside
        mkdir a a/b; printf 'x\0y' > a/b/f; chmod 4751 a/b/f; chmod 1777 a/b; ln a/b/f a/hard; ln -s ../.. a/up
        touch -d '2001-02-03 04:05:06.789012345' a/b/f a/b; chown 12:34 a/hard; mkdir 'sp ace'; touch $'\xff'""")
    assert done["exit_code"] == 0, done
    before, count = guest_trees.look(workspace), workspace.status()["reset_count"]
    made = workspace.client.post(f"{workspace.path}/snapshots", {"snapshot_name": "odd"})["snapshot"]
    assert made["entry_count"] == len(before)
    workspace.exec("find . -mindepth 1 -delete; echo gone > all")
    result = workspace.client.post(f"{workspace.path}/reset", {"snapshot": "odd"})
    assert (result["workspace_reset"]["kind"], result["reset_count"], result["command_count"]) == ("named", count + 1, 0)
    assert guest_trees.look(workspace) == before
    assert workspace.exec("ls /outside")["exit_code"] != 0
    listed = workspace.client.get(f"{workspace.path}/snapshots")["snapshots"]
    assert [row["snapshot_name"] for row in listed] == ["baseline", "odd"]
    workspace.client.delete(f"{workspace.path}/snapshots/odd")


# A full disk

FREE = "sync; df --output=avail -k / | tail -1"
FILL = f"fallocate -l $(( ($({FREE}) - 3072) * 1024 )) /fill; {FREE}"


@pytest.fixture
def full(workspace):
    """Three MiB are left."""
    workspace.write("mine", "mine")
    assert int(workspace.exec(FILL)["stdout"]) < 4096
    yield workspace
    workspace.exec("rm /fill")


def left_kib(workspace):
    return int(workspace.exec(FREE)["stdout"])


def test_what_does_not_fit_changes_nothing(full):
    """And what there is room for still goes in, and all can be read."""
    before, left = guest_trees.look(full), left_kib(full)
    lines = "".join(f"+{'x' * 1000}\n" for _ in range(5000))
    patch = f"--- /dev/null\n+++ b/new\n@@ -0,0 +1,5000 @@\n{lines}"
    for reply in (full.client.request("POST", f"{full.path}/patch", {"patch": "--- a/mine\n+++ b/mine\n@@ -1 +1 @@\n-mine\n"
                                                                     "\\ No newline at end of file\n+yours\n" + patch}),
                  push(full, tar_of(("mine", "yours"), ("big", "x" * 5_000_000))),
                  full.client.request("PUT", f"{full.path}/files/content", body=b"x" * 5_000_000, query={"path": "mine"},
                                      headers={"Content-Type": "application/octet-stream"})):
        problem = reply.json()
        assert (reply.status, problem["code"]) == (507, "guest_full") and problem["hint"], problem
        assert guest_trees.look(full) == before
        assert left - left_kib(full) < 64
    full.write("small", "fits")
    applied(full, "--- a/mine\n+++ b/mine\n@@ -1 +1 @@\n-mine\n\\ No newline at end of file\n+yours\n")
    pushed(full, tar_of(("pushed", "fits")))
    assert full.exec("cat small mine pushed")["stdout"] == "fitsyours\nfits"
    assert export(full, "small").status == 200
    assert diff(full, paths=["small"])["summary"]["added"] == 1


def test_a_command_that_fills_the_disk_ends_by_itself(full):
    result = full.exec("head -c 50000000 /dev/zero > hog; echo $?; ls -l hog", timeout_seconds=120)
    assert result["exit_code"] == 0 and result["stdout"].startswith("1\n") and "No space left" in result["stderr"]
    assert full.exec("echo on; rm hog")["stdout"] == "on\n"
