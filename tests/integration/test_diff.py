"""workspace_diff on real guests: what it tells, what it costs, and that its patch makes the tree
again."""

import os
import shutil
import subprocess

import pytest

from harness import guest_trees as trees
from harness.random_trees import Generator, apply, has_leaf, look

SEED = {
    "d": None, "d/keep": b"same\n", "text": b"one\ntwo\nthree\n", "gone": b"will go\n",
    "mode": b"#!/bin/sh\n", "bin": bytes(range(256)), "link": "-> text",
    "old name": b"".join(b"line %d\n" % i for i in range(40)), "turns": b"into a link\n",
    "moved": b"moved as it is\n" * 9,
}


def diff(workspace, **query):
    return workspace.client.get(f"{workspace.path}/diff", **query)


def entries(result):
    return {entry["path"]: entry for entry in result["entries"]}


@pytest.fixture
def seeded(client, workspace_factory):
    return workspace_factory(seed_upload=trees.upload(client, SEED))


def test_an_unchanged_workspace_has_no_difference(seeded, workspace):
    nothing = {"total": 0, "added": 0, "modified": 0, "deleted": 0, "type_changed": 0,
               "text_patched": 0, "non_text": 0}
    for each in (seeded, workspace):
        before = each.status()["last_activity_at"]
        for _ in range(2):
            result = diff(each)
            assert (result["changed"], result["summary"], result["entries"], result["patch"]) == (
                False, nothing, [], "")
        assert each.status()["last_activity_at"] == before
    seeded.exec("touch d/keep text; chmod 644 text")
    assert not diff(seeded)["changed"]


def change_all(workspace):
    done = workspace.exec(r"""set -e
        printf 'one\nTWO\nthree' > text; rm gone; chmod +x mode; printf '\0x' >> bin
        ln -sfn d link; sed -i 's/line 7$/line seven/' 'old name'; mv 'old name' 'new name'
        rm turns; ln -s text turns; mkdir -p new/dir; echo fresh > new/file; mkfifo pipe
        mv moved new/moved""")
    assert done["exit_code"] == 0, done


def test_every_kind_of_change_is_told(seeded):
    change_all(seeded)
    result = diff(seeded)
    told = entries(result)
    assert {path: entry["status"] for path, entry in told.items()} == {
        "text": "modified", "gone": "deleted", "mode": "modified", "bin": "modified",
        "link": "modified", "old name": "deleted", "new name": "added", "turns": "type_changed",
        "new": "added", "new/dir": "added", "new/file": "added", "moved": "deleted",
        "new/moved": "added"}
    assert result["changed"] and result["summary"] == {
        "total": 13, "added": 5, "modified": 4, "deleted": 3, "type_changed": 1,
        "text_patched": 8, "non_text": 1}
    assert told["text"]["text_patch"] == (
        "diff --git a/text b/text\nindex 4cb29ea..2aeee1e 100644\n--- a/text\n+++ b/text\n"
        "@@ -1,3 +1,3 @@\n one\n-two\n-three\n+TWO\n+three\n\\ No newline at end of file\n"
    ) or "\\ No newline at end of file" in told["text"]["text_patch"]
    assert (told["mode"]["old_mode"], told["mode"]["new_mode"]) == ("0644", "0755")
    assert "old mode 100644\nnew mode 100755\n" in told["mode"]["text_patch"]
    assert told["bin"]["text_patch"] is None and told["bin"]["no_patch_reason"] == "non_text"
    assert "Binary files a/bin and b/bin differ\n" in result["patch"]
    assert (told["link"]["artifact_type"], told["new/dir"]["artifact_type"]) == (
        "symlink", "directory")
    assert told["new name"]["renamed_from"] == "old name" and told["new name"]["similarity"] >= 50
    assert told["old name"]["renamed_to"] == "new name"
    assert (told["new/moved"]["renamed_from"], told["new/moved"]["similarity"]) == ("moved", 100)
    assert "rename from old name\nrename to new name\n" in result["patch"]
    # The second look says the same.
    assert diff(seeded) == result


def test_a_large_file_that_was_moved_is_a_rename(client, workspace_factory):
    size = 5 << 20
    workspace = workspace_factory(seed_upload=trees.upload(client, {"data": b"x" * size}))
    workspace.exec(f"mkdir d; mv data d/data; truncate -s {size} other; truncate -s {size + 1} more")
    told = entries(diff(workspace))
    assert (told["d/data"]["renamed_from"], told["d/data"]["similarity"]) == ("data", 100)
    assert told["data"]["renamed_to"] == "d/data"
    assert told["other"]["no_patch_reason"] == told["more"]["no_patch_reason"] == "too_large"


def test_the_patch_makes_the_tree_again(seeded, tmp_path):
    change_all(seeded)
    base = tmp_path / "base"
    base.mkdir()
    subprocess.run(["tar", "xf", "-"], input=trees.tar(SEED), cwd=base, check=True)
    done = apply(diff(seeded, binary="true")["patch"].encode(), base)
    assert done.returncode == 0, done.stderr
    assert (base / "text").read_bytes() == b"one\nTWO\nthree"
    assert (base / "bin").read_bytes() == bytes(range(256)) + b"\0x"
    assert os.readlink(base / "turns") == "text" and os.readlink(base / "link") == "d"
    assert not (base / "gone").exists() and (base / "new/file").read_text() == "fresh\n"
    # Without the binary parts it still applies: the marker is passed over.
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["tar", "xf", "-"], input=trees.tar(SEED), cwd=other, check=True)
    assert apply(diff(seeded)["patch"].encode(), other).returncode == 0


def test_a_patch_with_binary_changes_applies_by_git_and_by_our_tool(client, workspace_factory, tmp_path):
    seed = trees.upload(client, {"a-mode": b"1\n", "b-bin": bytes(range(256)), "c-text": b"one\n"})
    workspace = workspace_factory(seed_upload=seed)
    workspace.exec("chmod +x a-mode; printf x >>b-bin; echo two >>c-text; touch d-empty; head -c 9 /dev/zero >e-new")
    result = diff(workspace)
    assert result["summary"]["non_text"] == 2 and result["summary"]["text_patched"] == 3
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a-mode").write_text("1\n")
    (tree / "c-text").write_text("one\n")
    done = apply(result["patch"].encode(), tree)  # a marker after a header alone is not of that file
    assert done.returncode == 0, done.stderr
    assert os.access(tree / "a-mode", os.X_OK) and (tree / "d-empty").read_text() == ""
    client.post(f"{workspace.path}/reset", {})
    applied = client.post(f"{workspace.path}/patch", {"patch": result["patch"]})
    assert applied["summary"]["total"] == 3 and applied["binary_skipped"] == 2
    again = entries(diff(workspace))
    assert set(again) == {"a-mode", "c-text", "d-empty"}


def test_a_part_of_the_tree_and_the_list_alone(seeded):
    change_all(seeded)
    result = diff(seeded, paths=["new", "/workspace/text"])
    assert set(entries(result)) == {"new", "new/dir", "new/file", "new/moved", "text"}
    listed = diff(seeded, stat_only="true")
    assert listed["patch"] == "" and listed["summary"]["total"] == 13
    assert all(entry["text_patch"] is None for entry in listed["entries"])
    assert diff(seeded, paths=["no/such"])["changed"] is False
    wide = diff(seeded, paths=["text"], context="0")["patch"]
    assert "\n one\n" not in wide


def test_what_is_left_out_is_said(seeded):
    seeded.exec("for i in $(seq 1 50); do seq 1 200 > f$i; done; head -c 6000000 /dev/zero > huge")
    result = diff(seeded, max_entries=10, max_patch_bytes=5000)
    assert result["truncated"] and result["entries_omitted"] == 51 - 10
    assert result["patches_omitted"] > 40 and 0 < len(result["patch"]) <= 5000
    reasons = {entry["no_patch_reason"] for entry in result["entries"]}
    assert reasons == {None, "left_out"}
    whole = diff(seeded)
    assert not whole["truncated"] and whole["patches_omitted"] == 0
    assert entries(whole)["huge"]["no_patch_reason"] == "too_large"
    assert diff(seeded, max_patch_bytes=0)["patch"] == ""


def test_unchanged_files_cost_no_contents(hearthd_factory, workspace_factory):
    """Counted by the kernel: what the agent reads of 400 files, two of which changed."""
    hearthd = hearthd_factory()
    client = hearthd.client()
    workspace = workspace_factory(on=client, seed_upload=trees.upload(client, trees.many(400, 8000)))
    if os.geteuid() != 0 or workspace.created["isolation"] != "container":
        pytest.skip("counting what an agent reads needs root and a container")
    (agent,) = hearthd.guest_pids()
    diff(workspace)
    workspace.exec("sleep 0.1; echo x >> d1/f60; echo y > new")

    def read():
        with open(f"/proc/{agent}/io", encoding="ascii") as file:
            return int(file.readline().split()[1])

    before = read()
    assert set(entries(diff(workspace))) == {"d1/f60", "new"}
    assert read() - before < 100_000


def test_bad_arguments_are_refused(client, seeded):
    for query, code, field in (
            ({"paths": ["../x"]}, "path_outside_workspace", "/paths"),
            ({"paths": ["/etc"]}, "path_outside_workspace", "/paths"),
            ({"context": "101"}, "out_of_range", "/context"),
            ({"stat_only": "maybe"}, "bad_type", "/stat_only"),
            ({"max_entries": "0"}, "out_of_range", "/max_entries")):
        reply = client.request("GET", f"{seeded.path}/diff", query=query)
        assert (reply.status, reply.json()["code"], reply.json()["field"]) == (422, code, field)
    client.post(f"{seeded.path}/stop")
    reply = client.request("GET", f"{seeded.path}/diff")
    assert (reply.status, reply.json()["code"]) == (409, "workspace_not_started")
    client.post(f"{seeded.path}/start")
    assert diff(seeded)["changed"] is False


def test_what_is_known_survives_a_kill(hearthd_factory, workspace_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    workspace = workspace_factory(on=client, seed_upload=trees.upload(client, SEED))
    workspace.write("text", "other\n")
    first = diff(workspace)
    hearthd.kill9()
    hearthd.start()
    workspace.client = hearthd.client()
    assert diff(workspace) == first


def script(tree, root="."):
    """Shell words that make a generated tree."""
    lines = []
    for name, node in tree.items():
        path = f"{root}/{name}"
        quoted = "'" + path.replace("'", "'\\''") + "'"
        if isinstance(node, dict):
            if has_leaf(node):
                lines += [f"mkdir -p -- {quoted}", *script(node, path)]
        elif node[0] == "l":
            lines.append(f"ln -s -- '{node[1]}' {quoted}")
        else:
            octal = "".join(f"\\{byte:03o}" for byte in node[2])
            lines += [f"printf '{octal}' > {quoted}", f"chmod {node[1]:o} -- {quoted}"]
    return lines


def members(tree, root=""):
    found = {}
    for name, node in tree.items():
        path = root + name
        if isinstance(node, dict):
            if has_leaf(node):
                found |= {path: None} | members(node, path + "/")
        elif node[0] == "l":
            found[path] = f"-> {node[1]}"
        else:
            found[path] = (node[1], node[2])
    return found


@pytest.mark.parametrize("seed", range(6))
def test_generated_trees_in_a_guest(client, workspace_factory, tmp_path, seed):
    """Several generated changes to one guest, each told in full against the baseline."""
    generator = Generator(1000 + seed)
    old = generator.tree()
    workspace = workspace_factory(seed_upload=trees.upload(client, members(old)))
    base = tmp_path / "base"
    base.mkdir()
    subprocess.run(["tar", "xf", "-"], input=trees.tar(members(old)), cwd=base, check=True)
    for step in range(5):
        new = generator.mutate(old)
        done = workspace.exec("\n".join(["find . -mindepth 1 -delete", *script(new)]))
        assert done["exit_code"] == 0, done["stderr"]
        copy = tmp_path / f"copy{step}"
        shutil.copytree(base, copy, symlinks=True)
        result = diff(workspace, binary="true")
        if result["patch"]:
            applied = apply(result["patch"].encode(), copy)
            assert applied.returncode == 0, applied.stderr
        expected = {path.encode(): ("l", node[3:].encode()) if isinstance(node, str) else
                    ("f", bool(node[0] & 0o100), node[1])
                    for path, node in members(new).items() if node is not None}
        assert look(copy) == expected
