"""hearth workspace sync push and workspace export: trees from here into a workspace and back."""

import json
import os
import subprocess
import tarfile

import pytest

from harness.trees import describe, make_odd_tree
from test_cli import Cli


@pytest.fixture(scope="module")
def hearth(bin_dir, daemon):
    return Cli(bin_dir, HEARTH_URL=f"unix://{daemon.socket_path}")


def test_a_tree_goes_there_and_back_as_it_is(hearth, workspace, tmp_path):
    tree = make_odd_tree(tmp_path / "tree")
    tree.chmod(0o700)
    done = hearth.ok("workspace", "sync", "push", workspace.id, tree)
    assert f"entry_count={len(describe(tree))}" in done.stderr
    told = hearth.json("workspace", "export", workspace.id, ".", "--output", tmp_path / "out")
    assert told["artifact_type"] == "directory" and told["workspace_path"] == "/workspace"
    assert told["entry_count"] == len(describe(tree)) + 1 and told["execution_mode"]
    assert describe(tmp_path / "out") == describe(tree)


def test_push_puts_it_where_it_is_told_and_leaves_out_what_it_is_told(hearth, workspace, tmp_path):
    for name in ("keep.c", "drop.o", "sub/drop.o", "sub/keep.h", "build/out", "deep/build/out"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    told = hearth.json("workspace", "sync", "push", workspace.id, tmp_path, "--dest", "code",
                       "--exclude", "*.o", "--exclude", "/build")["workspace_sync"]
    assert told["mode"] == "directory" and told["source_path"] == str(tmp_path)
    assert told["destination"] == "/workspace/code"
    assert workspace.exec("cd code && find . -type f | sort")["stdout"].split() == [
        "./deep/build/out", "./keep.c", "./sub/keep.h"]


GITIGNORE = {
    ".gitignore": "*.log\n!kept.log\n/only-here\nbuild/\n# a remark\n\\#odd\ndocs/**/*.tmp\n",
    "sub/.gitignore": "!again.log\nlocal\n",
}
FILES = ["a.log", "kept.log", "only-here", "sub/only-here", "build/x", "sub/build/x", "#odd", "code.c",
         "docs/a.tmp", "docs/x/y/b.tmp", "other/a.tmp", "sub/again.log", "sub/other.log", "sub/local",
         "sub/deep/local", "local", "buildx"]


def test_gitignore_leaves_out_what_git_does(hearth, workspace, tmp_path):
    for name, text in {**GITIGNORE, **dict.fromkeys(FILES, "x")}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(["git", "init", "-q", tmp_path], check=True, env=git)
    kept = subprocess.run(["git", "-C", tmp_path, "ls-files", "-co", "--exclude-standard"], text=True,
                          stdout=subprocess.PIPE, check=True, env=git).stdout.split()
    hearth.ok("workspace", "sync", "push", workspace.id, tmp_path, "--gitignore", "--exclude", "/.git")
    there = workspace.exec("find . -type f | sed s,./,, | sort")["stdout"].split()
    assert there == sorted(kept) and "code.c" in there


def test_seeding_takes_the_same_choice(hearth, workspace_factory, client, tmp_path):
    (tmp_path / ".gitignore").write_text("out/\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").write_text("x")
    (tmp_path / "kept").write_text("x")
    identity = hearth.ok("workspace", "create", "debian:12", "--id-only", "--seed-path", tmp_path,
                         "--gitignore").stdout.strip()
    files = client.get(f"/v1/workspaces/{identity}/files")["entries"]
    client.request("DELETE", f"/v1/workspaces/{identity}")
    assert [entry["path"] for entry in files] == ["/workspace/.gitignore", "/workspace/kept"]


def test_a_tar_is_pushed_as_it_is(hearth, workspace, tmp_path):
    (tmp_path / "a").write_text("a")
    with tarfile.open(tmp_path / "some.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a", "inside")
    hearth.ok("workspace", "sync", "push", workspace.id, tmp_path / "some.tar.gz")
    assert workspace.read("inside")["content"] == "a"


def test_a_push_that_is_refused_is_told(hearth, workspace, tmp_path):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../out"))
    done = hearth("workspace", "sync", "push", workspace.id, tmp_path / "bad.tar")
    assert done.returncode == 1 and "../out" in done.stderr and done.stderr.count("\n") == 1
    done = hearth("workspace", "sync", "push", workspace.id, "/nonexistent")
    assert done.returncode == 1 and "/nonexistent" in done.stderr


def test_a_file_and_a_link_are_exported_alone(hearth, workspace, tmp_path):
    workspace.write("dir/run", "#!/bin/sh\n", mode="0755")
    workspace.exec("ln -s /etc/passwd dir/link")
    told = hearth.json("workspace", "export", workspace.id, "dir/run", "--output", tmp_path / "run")
    assert (told["artifact_type"], told["entry_count"], told["bytes_written"]) == ("file", 1, 10)
    assert told["workspace_path"] == "/workspace/dir/run" and told["output_path"] == str(tmp_path / "run")
    assert os.access(tmp_path / "run", os.X_OK)
    told = hearth.json("workspace", "export", workspace.id, "/workspace/dir/link", "--output", f"{tmp_path}/link/")
    assert told["output_path"] == str(tmp_path / "link")
    assert os.readlink(tmp_path / "link") == "/etc/passwd"


@pytest.mark.parametrize("taken", ["file", "directory", "dangling"])
def test_nothing_is_overwritten(hearth, workspace, tmp_path, taken):
    workspace.write("file", "new")
    output = tmp_path / "output"
    {"file": lambda: output.write_text("mine"), "directory": output.mkdir,
     "dangling": lambda: output.symlink_to(tmp_path / "elsewhere")}[taken]()
    before = describe(tmp_path)
    done = hearth("workspace", "export", workspace.id, "file", "--output", output)
    assert done.returncode == 1 and "there already" in done.stderr and describe(tmp_path) == before


def test_an_export_that_fails_leaves_nothing(hearth, workspace, tmp_path):
    for path in ("absent", "../etc"):
        assert hearth("workspace", "export", workspace.id, path, "--output", tmp_path / "o").returncode == 1
    assert hearth("workspace", "export", workspace.id, ".").returncode == 2
    assert os.listdir(tmp_path) == []


def test_paths_of_this_side_are_told_absolute(hearth, workspace, tmp_path):
    """Whoever reads them later has another directory."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_text("x")

    def told(*words):
        return json.loads(hearth(*words, "--json", cwd=tmp_path).stdout)

    made = told("workspace", "create", "debian:12", "--seed-path", "tree")
    assert made["workspace_seed"]["seed_path"] == str(tmp_path / "tree")
    hearth("workspace", "delete", made["workspace_id"])
    pushed = told("workspace", "sync", "push", workspace.id, "./tree/", "--dest", "in")
    assert pushed["workspace_sync"]["source_path"] == str(tmp_path / "tree")
    out = told("workspace", "export", workspace.id, "in", "--output", "out")
    assert out["output_path"] == str(tmp_path / "out") and (tmp_path / "out/f").read_text() == "x"
