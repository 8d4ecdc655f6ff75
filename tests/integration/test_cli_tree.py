"""hearth workspace diff, changes and snapshot, hearth store verify."""

import json
import os
import subprocess

import pytest

from harness.daemon import BIN


@pytest.fixture
def hearth(daemon):
    def run(*words, status=0):
        done = subprocess.run([BIN / "hearth", *words], text=True, capture_output=True, timeout=120,
                              env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}"})
        assert done.returncode == status, done.stdout + done.stderr
        return done
    return run


def test_what_changed_is_printed_as_git_does(hearth, workspace):
    workspace.write("a.txt", "one\ntwo\n")
    shown = hearth("workspace", "diff", workspace.id)
    assert "diff --git a/a.txt b/a.txt" in shown.stdout.splitlines() and shown.stdout.endswith("+one\n+two\n")
    assert shown.stderr.startswith("[workspace-diff] changed=yes")
    listed = hearth("workspace", "changes", workspace.id)
    assert listed.stdout.splitlines()[1].split() == ["added", "file", "a.txt"]
    only = hearth("workspace", "diff", workspace.id, "--path", "elsewhere", "--json")
    assert json.loads(only.stdout)["entries"] == []


def test_a_snapshot_is_kept_and_deleted(hearth, workspace):
    workspace.write("a.txt", "first\n")
    hearth("workspace", "snapshot", "create", workspace.id, "first")
    workspace.write("a.txt", "second\n")
    names = [line.split()[0] for line in
             hearth("workspace", "snapshot", "list", workspace.id).stdout.splitlines()]
    assert names == ["NAME", "baseline", "first"]
    hearth("workspace", "snapshot", "delete", workspace.id, "first")
    refused = hearth("workspace", "snapshot", "delete", workspace.id, "baseline", status=1)
    assert refused.stderr.startswith("hearth: ") and "(" in refused.stderr


def test_a_reset_goes_back_to_a_snapshot(hearth, workspace):
    workspace.write("a.txt", "first\n")
    hearth("workspace", "snapshot", "create", workspace.id, "first")
    workspace.write("a.txt", "second\n")
    assert "first" in hearth("workspace", "reset", workspace.id, "--snapshot", "first").stderr
    assert workspace.read("a.txt")["content"] == "first\n"
    hearth("workspace", "reset", workspace.id)
    assert workspace.client.get(f"{workspace.path}/diff")["changed"] is False
    assert "no snapshot" in hearth("workspace", "reset", workspace.id, "--snapshot", "x", status=1).stderr


def test_the_store_is_whole(hearth):
    assert json.loads(hearth("store", "verify", "--json").stdout)["whole"] is True
    assert "whole: yes" in hearth("store", "verify").stdout


def test_wrong_words_are_told_with_the_usage(hearth):
    assert "usage: hearth workspace snapshot create" in hearth("workspace", "snapshot", "create", status=2).stderr
    assert "no such option" in hearth("workspace", "diff", "x", "--nothing", status=2).stderr
