"""Files made, moved, deleted and searched; lists and reads of what is no plain file."""

import io
import tarfile

import pytest

from test_cli import Cli


def post(workspace, what, **arguments):
    return workspace.client.request("POST", f"{workspace.path}/files/{what}", arguments)


def done(workspace, what, **arguments):
    reply = post(workspace, what, **arguments)
    assert reply.status == 200, reply
    return reply.json()


def delete(workspace, **query):
    return workspace.client.request("DELETE", f"{workspace.path}/files", query=query)


def test_directories_are_made_and_things_moved_and_deleted(workspace):
    before = workspace.status()["last_activity_at"]
    made = done(workspace, "directories", path="a/b")
    assert made["path"] == "/workspace/a/b" and made["artifact_type"] == "directory" and made["execution_mode"]
    assert done(workspace, "directories", path="/workspace/a/b")["path"] == "/workspace/a/b"
    assert post(workspace, "directories", path="a/b", parents=False).json()["code"] == "already_exists"
    workspace.write("one", "1")
    workspace.write("two", "2")
    assert post(workspace, "move", path="one", to="two").json()["code"] == "already_exists"
    assert done(workspace, "move", path="one", to="two", replace=True)["path"] == "/workspace/two"
    assert done(workspace, "move", path="two", to="new/deep/name")["artifact_type"] == "file"
    assert workspace.read("new/deep/name")["content"] == "1"
    reply = delete(workspace, path="new")
    assert (reply.status, reply.json()["code"]) == (409, "wrong_file_type")
    assert delete(workspace, path="new", recursive="true").json()["deleted"] is True
    workspace.exec("ln -s a link")
    assert delete(workspace, path="link").status == 200
    assert workspace.exec("find . | sort")["stdout"].split() == [".", "./a", "./a/b"]
    assert workspace.status()["last_activity_at"] > before


@pytest.mark.parametrize("what, arguments, code, field", [
    ("directories", {"path": "../x"}, "path_outside_workspace", "/path"),
    ("directories", {"path": "/workspace"}, "bad_path", "/path"),
    ("directories", {"path": "out/x"}, "path_outside_workspace", "/path"),
    ("move", {"path": "absent", "to": "x"}, "file_not_found", "/path"),
    ("move", {"path": "dir", "to": "dir/below"}, "bad_path", "/path"),
    ("move", {"path": "dir", "to": "/etc/x"}, "path_outside_workspace", "/to"),
    ("move", {"path": "dir"}, "missing_argument", "/to"),
    ("search", {"pattern": "(", "regex": True}, "bad_pattern", "/pattern"),
    ("search", {"pattern": "a\nb"}, "bad_pattern", "/pattern"),
    ("search", {"pattern": "x", "path": "absent"}, "file_not_found", "/path"),
    ("search", {"pattern": "x", "path": "../.."}, "path_outside_workspace", "/path"),
    ("search", {"pattern": ""}, "blank_argument", "/pattern"),
])
def test_what_cannot_be_done_is_told(workspace, what, arguments, code, field):
    workspace.exec("mkdir dir; ln -s /etc out")
    reply = post(workspace, what, **arguments)
    assert (reply.json()["code"], reply.json()["field"]) == (code, field), reply
    assert workspace.exec("find . | sort")["stdout"].split() == [".", "./dir", "./out"]


def test_deleting_what_is_not_there_or_not_inside(workspace):
    assert delete(workspace, path="absent").json()["code"] == "file_not_found"
    assert delete(workspace, path="..").json()["code"] == "path_outside_workspace"
    assert delete(workspace, path=".", recursive="true").json()["code"] == "bad_path"


def test_search_tells_file_line_and_column(workspace):
    workspace.write("src/a.py", "import os\n\ndef find_me():\n    pass\n")
    workspace.write("src/b.txt", "FIND_ME\n")
    workspace.exec("mkdir .git; echo find_me > .git/x; printf 'find_me\\0' > binary")
    before = workspace.status()["last_activity_at"]
    found = done(workspace, "search", pattern="find_me")
    assert found["matches"] == [{"path": "/workspace/src/a.py", "line": 3, "column": 5,
                                 "text": "def find_me():", "text_column": 1}]
    assert (found["count"], found["truncated"], found["files_searched"], found["files_binary"]) == (1, False, 2, 1)
    assert [match["path"] for match in done(workspace, "search", pattern="^(def )?find_me", regex=True,
                                            ignore_case=True)["matches"]] == ["/workspace/src/a.py", "/workspace/src/b.txt"]
    assert done(workspace, "search", pattern="find", include=["*.txt"], ignore_case=True)["count"] == 1
    cut = done(workspace, "search", pattern="find", exclude=["*.md"], limit=1)
    assert cut["count"] == 1 and cut["truncated"]
    assert workspace.status()["last_activity_at"] == before


def test_what_is_no_plain_file_is_listed_and_not_read(workspace):
    workspace.exec("mkfifo pipe; ln -s pipe to-pipe; truncate -s 5G sparse; printf end >> sparse; ln -s /dev/zero zero")
    kinds = {entry["path"]: entry for entry in workspace.client.get(f"{workspace.path}/files")["entries"]}
    assert {path[11:]: entry["artifact_type"] for path, entry in kinds.items()} == {
        "pipe": "other", "sparse": "file", "to-pipe": "symlink", "zero": "symlink"}
    assert kinds["/workspace/sparse"]["size_bytes"] == (5 << 30) + 3
    assert workspace.read("sparse", offset=(5 << 30))["content"] == "end"
    for path, code in {"pipe": "wrong_file_type", "to-pipe": "wrong_file_type",
                       "zero": "path_outside_workspace"}.items():
        reply = workspace.client.request("GET", f"{workspace.path}/files/content", query={"path": path})
        assert reply.json()["code"] == code, reply


def test_a_file_that_grows_is_read_in_the_size_it_had(workspace):
    workspace.exec("while :; do head -c 100000 /dev/zero >> log; [ $(stat -c %s log) -gt 50000000 ] && : > new && mv new log; done",
                   detach=True)
    for _ in range(10):
        reply = workspace.client.request("GET", f"{workspace.path}/files/content", query={"path": "log"},
                                         headers={"Accept": "application/octet-stream"})
        assert reply.status in (200, 404)


def test_the_command_line_does_the_same(bin_dir, daemon, workspace):
    hearth = Cli(bin_dir, HEARTH_URL=f"unix://{daemon.socket_path}")
    patch = "--- /dev/null\n+++ b/made\n@@ -0,0 +1 @@\n+some text\n"
    assert "made" in hearth.ok("workspace", "patch", "apply", workspace.id, stdin=patch).stdout
    failed = hearth("workspace", "patch", "apply", workspace.id, stdin=patch)
    assert failed.returncode == 1 and "made" in failed.stderr
    assert "made" in hearth.ok("workspace", "file", "search", workspace.id, "s.me", "--regex").stdout
    hearth.ok("workspace", "file", "mkdir", workspace.id, "d")
    hearth.ok("workspace", "file", "move", workspace.id, "made", "d/moved")
    hearth.ok("workspace", "file", "delete", workspace.id, "d", "--recursive")
    assert workspace.exec("ls")["stdout"] == ""


# The directory itself

def seen(workspace):
    """What each way of looking at the files tells of: their names."""
    whole = workspace.client.request("GET", f"{workspace.path}/export", query={"path": "."}).body
    return [sorted(names) for names in (
        [entry["path"].removeprefix("/workspace/") for entry in workspace.client.get(f"{workspace.path}/files")["entries"]],
        [entry["path"] for entry in workspace.client.get(f"{workspace.path}/diff")["entries"]],
        [name for name in tarfile.open(fileobj=io.BytesIO(whole)).getnames() if name != "."])]


def test_a_directory_made_anew_is_the_workspace(workspace):
    workspace.write("old", "1")
    workspace.exec("cd / && rm -rf /workspace && mkdir /workspace && echo new >/workspace/new")
    assert seen(workspace) == [["new"]] * 3 and workspace.read("new")["content"] == "new\n"
    workspace.write("written", "2")
    assert workspace.exec("pwd; ls")["stdout"] == "/workspace\nnew\nwritten\n"
    assert workspace.client.post(f"{workspace.path}/snapshots", {"snapshot_name": "kept"})["entry_count"] == 2
    workspace.exec("rm -rf /workspace")
    assert workspace.exec("pwd; ls")["stdout"] == "/workspace\n" and seen(workspace) == [[]] * 3
    workspace.client.post(f"{workspace.path}/reset", {"snapshot": "kept"})
    assert seen(workspace) == [["new", "written"]] * 3


def test_a_symlink_in_its_place_leads_nowhere(workspace):
    workspace.exec("cd / && rm -rf /workspace && ln -s /etc /workspace")
    reply = workspace.client.request("GET", f"{workspace.path}/files/content", query={"path": "passwd"})
    assert (reply.status, reply.json()["code"]) == (404, "file_not_found")
    assert seen(workspace) == [[]] * 3
    workspace.exec("rm /workspace", cwd="/")
    workspace.write("mine", "1")
    assert seen(workspace) == [["mine"]] * 3
