"""Every refusal that the contract has about a workspace: what is said, and that nothing was changed by it, in a
container and in a machine. An attempt counts as activity: who tries is there."""

import tarfile

import pytest

from conftest import Workspace
from harness import guest_trees
from test_sync import LINK, TAR, tar_of

SEED = {"file": b"1\n2\n3\n", "dir": None, "dir/run": (0o755, b"#!/bin/sh\n"), "out": "-> /etc", "up": "-> ..",
        "inside": "-> dir", "loop": "-> loop", "bytes": b"\xff\xfe\0"}
ZSTD = {"Content-Type": "application/zstd"}
ABSENT = "up_aaaaaaaaaaaaaaaa"


@pytest.fixture(scope="module")
def workspace(either_daemon):
    """Changed since it was made, with a snapshot and a command in its history."""
    with either_daemon.client(timeout=300) as client:
        made = Workspace(client, mem_mib=256, name="mine", labels={"a": "b"}, seed_upload=guest_trees.upload(client, SEED))
        assert made.exec("mkfifo pipe; echo new > new; sed -i s/2/two/ file; ln -s /etc/passwd secret; chmod 600 bytes")["exit_code"] == 0
        client.post(f"{made.path}/snapshots", {"snapshot_name": "kept"})
        yield made
        made.delete()


def told(workspace):
    """All that is told of it."""
    get, path = workspace.client.get, workspace.path
    status = {key: value for key, value in workspace.status().items() if key not in ("last_activity_at", "expires_at")}
    return (status, get(f"{path}/diff", binary="true"), get(f"{path}/snapshots"), get(f"{path}/logs"),
            get(f"{path}/files", recursive="true"))


def patch(old="2", new="x", name="file"):
    return f"--- a/{name}\n+++ b/{name}\n@@ -2 +2 @@\n-{old}\n+{new}\n"


# What is sent below the workspace's path, and what is said: status, code, field.
REFUSED = {
    # arguments
    "unknown argument": ("POST", "exec", {"command": "touch x", "shell": "zsh"}, 422, "unknown_argument", "/shell"),
    "ill-typed": ("POST", "exec", {"command": ["touch", "x"]}, 422, "bad_type", "/command"),
    "out of range": ("POST", "exec", {"command": "touch x", "timeout_seconds": 0}, 422, "out_of_range", "/timeout_seconds"),
    "no command": ("POST", "exec", {}, 422, "conflicting_arguments", "/command"),
    "two commands": ("POST", "exec", {"command": "touch x", "argv": ["touch", "x"]}, 422, "conflicting_arguments", "/command"),
    "empty argv": ("POST", "exec", {"argv": []}, 422, "conflicting_arguments", "/command"),
    "unknown secret": ("POST", "exec", {"command": "touch x", "secret_env": {"NONE": "X"}}, 422, "unknown_secret", "/secret_env/NONE"),
    "bad variable": ("POST", "exec", {"command": "touch x", "env": {"a=b": "c"}}, 422, "bad_variable", "/env"),
    "no JSON": ("POST", "exec", b"{", 400, "malformed_json", None),
    "another type": ("POST", "exec", (b"command=x", {"Content-Type": "application/x-www-form-urlencoded"}), 415, "unsupported_media_type", None),
    "absent exec": ("GET", "execs/ex_aaaaaaaaaaaaaaaa", None, 404, "exec_not_found", "/exec_id"),
    "cancel of an absent one": ("DELETE", "execs/ex_aaaaaaaaaaaaaaaa", None, 404, "exec_not_found", "/exec_id"),
    "input to an absent one": ("POST", "execs/ex_aaaaaaaaaaaaaaaa/input", {"data": "x"}, 404, "exec_not_found", "/exec_id"),
    # name and labels
    "empty update": ("PATCH", "", {}, 422, "empty_update", None),
    "name given and cleared": ("PATCH", "", {"name": "x", "clear_name": True}, 422, "conflicting_arguments", "/clear_name"),
    "bad name": ("PATCH", "", {"name": "a\nb"}, 422, "bad_name", "/name"),
    "bad label": ("PATCH", "", {"labels": {"a b": "c"}}, 422, "bad_label", "/labels/a b"),
    "bad label with a slash": ("PATCH", "", {"labels": {"/a~b": "c"}}, 422, "bad_label", "/labels/~1a~0b"),
    # files
    "read outside": ("GET", "files/content?path=../etc/passwd", None, 422, "path_outside_workspace", "/path"),
    "read an absolute path outside": ("GET", "files/content?path=/etc/passwd", None, 422, "path_outside_workspace", "/path"),
    "read through a symlink": ("GET", "files/content?path=out/passwd", None, 422, "path_outside_workspace", "/path"),
    "read by a symlink": ("GET", "files/content?path=secret", None, 422, "path_outside_workspace", "/path"),
    "read through the symlink up": ("GET", "files/content?path=up/etc/passwd", None, 422, "path_outside_workspace", "/path"),
    "read a loop": ("GET", "files/content?path=loop", None, 422, "path_outside_workspace", "/path"),
    "read a directory": ("GET", "files/content?path=dir", None, 409, "wrong_file_type", "/path"),
    "read a pipe": ("GET", "files/content?path=pipe", None, 409, "wrong_file_type", "/path"),
    "read what is absent": ("GET", "files/content?path=none", None, 404, "file_not_found", "/path"),
    "read too much": ("GET", "files/content?path=file&max_bytes=99999999", None, 422, "out_of_range", "/max_bytes"),
    "read from below zero": ("GET", "files/content?path=file&offset=-1", None, 422, "out_of_range", "/offset"),
    "read in another encoding": ("GET", "files/content?path=file&encoding=latin-1", None, 422, "bad_choice", "/encoding"),
    "write outside": ("PUT", "files/content", {"path": "../x", "text": "x"}, 422, "path_outside_workspace", "/path"),
    "write through a symlink": ("PUT", "files/content", {"path": "out/x", "text": "x"}, 422, "path_outside_workspace", "/path"),
    "write over a directory": ("PUT", "files/content", {"path": "dir", "text": "x"}, 409, "wrong_file_type", "/path"),
    "write below a file": ("PUT", "files/content", {"path": "file/x", "text": "x"}, 409, "wrong_file_type", "/path"),
    "write without parents": ("PUT", "files/content", {"path": "no/x", "text": "x", "create_parents": False}, 404, "file_not_found", "/path"),
    "write with a bad mode": ("PUT", "files/content", {"path": "x", "text": "x", "mode": "rwx"}, 422, "bad_mode", "/mode"),
    "write nothing": ("PUT", "files/content", {"path": "x"}, 422, "missing_argument", "/text"),
    "write the workspace": ("PUT", "files/content", {"path": "/workspace", "text": "x"}, 409, "wrong_file_type", "/path"),
    "list outside": ("GET", "files?path=../etc", None, 422, "path_outside_workspace", "/path"),
    "list through a symlink": ("GET", "files?path=out", None, 422, "path_outside_workspace", "/path"),
    "list a file": ("GET", "files?path=file", None, 409, "wrong_file_type", "/path"),
    "list by a bad cursor": ("GET", "files?cursor=nonsense", None, 422, "bad_cursor", "/cursor"),
    "list too many": ("GET", "files?limit=1001", None, 422, "out_of_range", "/limit"),
    "make a directory outside": ("POST", "files/directories", {"path": "out/x"}, 422, "path_outside_workspace", "/path"),
    "make a directory over a file": ("POST", "files/directories", {"path": "file"}, 409, "already_exists", "/path"),
    "move outside": ("POST", "files/move", {"path": "file", "to": "../x"}, 422, "path_outside_workspace", "/to"),
    "move through a symlink": ("POST", "files/move", {"path": "file", "to": "out/x"}, 422, "path_outside_workspace", "/to"),
    "move from outside": ("POST", "files/move", {"path": "out/passwd", "to": "x"}, 422, "path_outside_workspace", "/path"),
    "move over a file": ("POST", "files/move", {"path": "new", "to": "file"}, 409, "already_exists", "/to"),
    "move what is absent": ("POST", "files/move", {"path": "none", "to": "made/x"}, 404, "file_not_found", "/path"),
    "move over a full directory": ("POST", "files/move", {"path": "inside", "to": "dir", "replace": True}, 409, "wrong_file_type", "/to"),
    "move below itself": ("POST", "files/move", {"path": "dir", "to": "dir/x"}, 422, "bad_path", "/path"),
    "delete outside": ("DELETE", "files?path=out/passwd", None, 422, "path_outside_workspace", "/path"),
    "delete the workspace": ("DELETE", "files?path=.&recursive=true", None, 422, "bad_path", "/path"),
    "delete a full directory": ("DELETE", "files?path=dir", None, 409, "wrong_file_type", "/path"),
    "delete what is absent": ("DELETE", "files?path=none", None, 404, "file_not_found", "/path"),
    "search outside": ("POST", "files/search", {"pattern": "root", "path": "out"}, 422, "path_outside_workspace", "/path"),
    "search by a bad expression": ("POST", "files/search", {"pattern": "(", "regex": True}, 422, "bad_pattern", "/pattern"),
    # sync
    "push what is absolute": ("POST", "sync", (tar_of(("new", "x"), ("/etc/x", "x")), TAR), 422, "archive_refused", None),
    "push what has ..": ("POST", "sync", (tar_of(("new", "x"), ("a/../../x", "x")), TAR), 422, "archive_refused", None),
    "push through its own symlink": ("POST", "sync", (tar_of(("l", LINK), ("l/x", "x")), TAR), 422, "archive_refused", None),
    "push through the guest's symlink": ("POST", "sync", (tar_of(("new", "x"), ("out/x", "x")), TAR), 422, "archive_refused", None),
    "push a device": ("POST", "sync", (tar_of(("new", "x"), ("n", {"type": tarfile.CHRTYPE})), TAR), 422, "archive_refused", None),
    "push a link to outside": ("POST", "sync", (tar_of(("h", {"type": tarfile.LNKTYPE, "linkname": "../etc/x"})), TAR), 422,
                               "archive_refused", None),
    "push over a directory": ("POST", "sync", (tar_of(("new", "x"), ("dir", "x")), TAR), 422, "archive_refused", None),
    "push what is cut": ("POST", "sync", (tar_of(("new", "x" * 5000))[:3000], TAR), 422, "archive_truncated", None),
    "push what is no zstd": ("POST", "sync", (b"no zstd at all", ZSTD), 422, "archive_refused", None),
    "push nowhere": ("POST", "sync", {}, 422, "missing_argument", "/upload_id"),
    "push from the host": ("POST", "sync", {"source_path": "/etc"}, 422, "host_path_forbidden", "/source_path"),
    "push an absent upload": ("POST", "sync", {"upload_id": ABSENT}, 404, "upload_not_found", "/upload_id"),
    "push to outside": ("POST", "sync?dest=../x", (tar_of(("x", "x")), TAR), 422, "path_outside_workspace", "/dest"),
    "push through a symlink": ("POST", "sync?dest=out", (tar_of(("x", "x")), TAR), 422, "archive_refused", None),
    # diff, patch
    "diff outside": ("GET", "diff?paths=../x", None, 422, "path_outside_workspace", "/paths"),
    "diff with a wide context": ("GET", "diff?context=101", None, 422, "out_of_range", "/context"),
    "patch that does not apply": ("POST", "patch", {"patch": patch()}, 409, "patch_does_not_apply", "/patch"),
    "patch whose second file does not apply": ("POST", "patch", {"patch": patch("two") + patch("x", name="new")}, 409,
                                               "patch_does_not_apply", "/patch"),
    "patch of what is absent": ("POST", "patch", {"patch": patch(name="none")}, 404, "file_not_found", "/patch"),
    "patch outside": ("POST", "patch", {"patch": patch(name="../x")}, 422, "path_outside_workspace", "/patch"),
    "patch through a symlink": ("POST", "patch", {"patch": patch(name="out/passwd")}, 422, "path_outside_workspace", "/patch"),
    "patch that is none": ("POST", "patch", {"patch": "just prose"}, 422, "patch_malformed", "/patch"),
    # export, snapshots, reset
    "export outside": ("GET", "export?path=../etc", None, 422, "path_outside_workspace", "/path"),
    "export through a symlink": ("GET", "export?path=out/passwd", None, 422, "path_outside_workspace", "/path"),
    "export a pipe": ("GET", "export?path=pipe", None, 409, "wrong_file_type", "/path"),
    "export to the host": ("GET", "export?path=.&output_path=/etc/x", None, 422, "host_path_forbidden", "/output_path"),
    "snapshot named as one": ("POST", "snapshots", {"snapshot_name": "kept"}, 409, "snapshot_exists", "/snapshot_name"),
    "snapshot named baseline": ("POST", "snapshots", {"snapshot_name": "baseline"}, 422, "snapshot_name_reserved", "/snapshot_name"),
    "snapshot with a path": ("POST", "snapshots", {"snapshot_name": "../x"}, 422, "bad_snapshot_name", "/snapshot_name"),
    "delete the baseline": ("DELETE", "snapshots/baseline", None, 409, "snapshot_protected", "/snapshot_name"),
    "delete an absent snapshot": ("DELETE", "snapshots/none", None, 404, "snapshot_not_found", "/snapshot_name"),
    "reset to an absent snapshot": ("POST", "reset", {"snapshot": "none"}, 404, "snapshot_not_found", "/snapshot"),
    # its disk, while it runs
    "disk while it runs": ("GET", "disk", None, 409, "workspace_not_stopped", None),
    "list the disk while it runs": ("GET", "disk/list", None, 409, "workspace_not_stopped", None),
    "read the disk while it runs": ("GET", "disk/read?path=x", None, 409, "workspace_not_stopped", None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_and_changes_nothing(workspace, name):
    method, below, body, status, code, field = REFUSED[name]
    body, headers = body if isinstance(body, tuple) else (body, {"Content-Type": "application/json"} if isinstance(body, bytes) else {})
    before = told(workspace)
    path = f"{workspace.path}/{below}" if below else workspace.path
    raw = {"body": body} if isinstance(body, bytes) else {"json_body": body}
    reply = workspace.client.request(method, path, headers=headers, **raw)
    problem = reply.json()
    assert told(workspace) == before
    assert (reply.status, problem["code"], problem["field"]) == (status, code, field), problem
    assert reply.headers["Content-Type"].split(";")[0] == "application/problem+json" and problem["detail"] and problem["hint"]
