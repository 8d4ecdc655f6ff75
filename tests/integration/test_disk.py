"""The disk of a stopped workspace: listed, read and exported without booting it."""

import base64
import contextlib
import http.client
import json
import os
import shutil
import subprocess

import pytest

from harness.daemon import BIN
from harness.http import Problem
from harness.waiting import until

TOOLS = {**os.environ, "PATH": "/usr/sbin:/sbin:" + os.environ["PATH"]}

# What the guest leaves behind: changes of every kind to what its environment had.
CHANGES = r"""
set -e
echo changed >/etc/issue
rm /etc/issue.net
rm -r /usr/share/doc/git && mkdir /usr/share/doc/git && echo only >/usr/share/doc/git/this
rm -r /usr/share/lintian
mkdir -p 'deep/a b' && printf 'one\ntwo\n' >'deep/a b/text'
printf '\000\377\001' >bytes
ln -s ../etc/shadow inside
ln -s /nowhere/at/all dangling
ln -s loop loop
ln 'deep/a b/text' hard
mkfifo pipe
touch private && chmod 0600 private && chown 1000:1000 private
chmod 4755 hard
mkdir closed && echo hidden >closed/file && chmod 0 closed && chown 12:34 closed
touch "$(printf 'line\nend "quoted" \\ ; cat')"
for i in $(seq 30); do echo $i >/srv/$i; done
truncate -s 1G sparse
"""


@pytest.fixture(scope="module")
def stopped(daemon):
    """A stopped workspace, shared: none of these calls changes it."""
    client = daemon.client()
    created = client.post("/v1/workspaces", {"environment": "debian:12"})
    path = f"/v1/workspaces/{created['workspace_id']}"
    done = client.post(f"{path}/exec", {"command": CHANGES})
    assert done["exit_code"] == 0, done["stderr"]
    client.post(f"{path}/stop", {})
    yield Stopped(client, created["workspace_id"])
    client.request("DELETE", path)


class Stopped:
    def __init__(self, client, workspace_id):
        self.client, self.id = client, workspace_id
        self.path = f"/v1/workspaces/{workspace_id}"

    def list(self, path="/workspace", **query):
        return self.client.get(f"{self.path}/disk/list", path=path, **query)

    def names(self, path="/workspace", **query):
        return {entry["path"]: entry for entry in self.list(path, **query)["entries"]}

    def read(self, path, /, **query):
        return self.client.get(f"{self.path}/disk/read", path=path, **query)


def refused(code, status, call, *arguments, **named):
    with pytest.raises(Problem) as caught:
        call(*arguments, **named)
    problem = caught.value.reply.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["hint"] and "workspace_file_list" not in problem["hint"]  # of a started one
    return problem


# Listing

def test_a_directory_is_listed_as_the_guest_left_it(stopped):
    listed = stopped.list()
    assert (listed["workspace_id"], listed["path"], listed["truncated"]) == (
        stopped.id, "/workspace", False)
    entries = {entry["path"].removeprefix("/workspace/"): entry for entry in listed["entries"]}
    assert list(entries) == sorted(entries)
    assert {name: (entry["artifact_type"], entry["mode"]) for name, entry in entries.items()} == {
        "bytes": ("file", "0644"), "closed": ("directory", "0000"),
        "dangling": ("symlink", "0777"), "deep": ("directory", "0755"), "hard": ("file", "4755"),
        "inside": ("symlink", "0777"), 'line\nend "quoted" \\ ; cat': ("file", "0644"),
        "loop": ("symlink", "0777"), "pipe": ("other", "0644"), "private": ("file", "0600"),
        "sparse": ("file", "0644")}
    assert entries["inside"]["link_target"] == "../etc/shadow"
    assert entries["hard"]["size_bytes"] == 8 and entries["hard"]["link_target"] is None
    assert entries["sparse"]["size_bytes"] == 1 << 30
    assert entries["hard"]["mtime"] > 1.7e9


def test_the_whole_root_is_there_with_what_was_deleted_gone(stopped):
    etc = stopped.names("/etc")
    assert "/etc/issue" in etc and "/etc/passwd" in etc and "/etc/issue.net" not in etc
    assert list(stopped.names("/usr/share/doc/git")) == ["/usr/share/doc/git/this"]
    assert "/usr/share/lintian" not in stopped.names("/usr/share")
    assert "/workspace" in stopped.names("/")


def test_below_a_directory_all_is_listed_and_no_more_than_asked(stopped):
    assert list(stopped.names("deep", recursive="true")) == ["/workspace/deep/a b",
                                                             "/workspace/deep/a b/text"]
    assert "/workspace/closed/file" in stopped.names(recursive="true")
    part = stopped.list("/srv", limit=7)
    assert (len(part["entries"]), part["truncated"]) == (7, True)
    whole = stopped.list("/usr", recursive="true", limit=10000)
    assert (len(whole["entries"]), whole["truncated"]) == (10000, True)


# Reading

def test_files_are_read_wherever_they_are(stopped):
    assert stopped.read("/etc/issue")["content"] == "changed\n"
    assert stopped.read("deep/a b/text") == {
        "workspace_id": stopped.id, "path": "/workspace/deep/a b/text", "size_bytes": 8,
        "max_bytes": 65536, "offset": 0, "content": "one\ntwo\n", "truncated": False}
    part = stopped.read("/workspace/hard", max_bytes=3, offset=4)
    assert (part["content"], part["truncated"]) == ("two", True)
    assert stopped.read("hard", offset=100)["content"] == ""
    assert base64.b64decode(stopped.read("bytes", encoding="base64")["content"]) == b"\0\xff\1"
    assert stopped.read('line\nend "quoted" \\ ; cat')["content"] == ""


def test_permissions_do_not_matter_and_symlinks_stay_in_the_root(stopped):
    assert stopped.read("closed/file")["content"] == "hidden\n"
    # The guest's own shadow, by a path that goes up from /workspace.
    assert stopped.read("inside")["content"].startswith("root:")
    assert stopped.read("/proc/../etc/issue".replace("/proc/..", ""))["content"] == "changed\n"
    assert stopped.names("/proc") == {}


@pytest.mark.parametrize("path, code, status", [
    ("nothing", "file_not_found", 404), ("dangling", "file_not_found", 404),
    ("loop", "file_not_found", 404), ("deep", "wrong_file_type", 409),
    ("pipe", "wrong_file_type", 409), ("../etc/issue", "bad_path", 422),
    ("/workspace/../etc/issue", "bad_path", 422), ("x" * 256, "bad_path", 422),
    ("hard/x", "wrong_file_type", 409)])
def test_what_cannot_be_read_is_told(stopped, path, code, status):
    assert refused(code, status, stopped.read, path)["field"] == "/path"


def test_what_cannot_be_listed_is_told(stopped):
    refused("wrong_file_type", 409, stopped.list, "hard")
    refused("file_not_found", 404, stopped.list, "nothing")


# Export

def fsck(image):
    done = subprocess.run(["e2fsck", "-fn", image], env=TOOLS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def debugfs(image, request):
    return subprocess.run(["debugfs", "-R", request, image], env=TOOLS, capture_output=True,
                          text=True, check=True).stdout


@pytest.fixture(scope="module")
def image(stopped, daemon, tmp_path_factory):
    """By way of the command line."""
    path = tmp_path_factory.mktemp("export") / "disk.ext4"
    done = subprocess.run([BIN / "hearth", "--json", "workspace", "disk", "export", stopped.id,
                           "--output", path], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}"})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {"workspace_id": stopped.id, "output_path": str(path.resolve()),
                    "disk_format": "ext4", "bytes_written": path.stat().st_size}
    return path


def test_an_export_overwrites_nothing(stopped, daemon, image):
    before = image.stat()
    done = subprocess.run([BIN / "hearth", "workspace", "disk", "export", stopped.id, "--output", image], capture_output=True,
                          text=True, env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}"})
    assert done.returncode == 1 and "is there already" in done.stderr
    assert image.stat() == before


def test_an_export_is_a_sound_file_system_with_all_that_was_left(image):
    fsck(image)
    assert debugfs(image, "cat /etc/issue") == "changed\n"
    assert debugfs(image, "cat /usr/share/doc/git/this") == "only\n"
    assert "File not found" in subprocess.run(
        ["debugfs", "-R", "stat /etc/issue.net", image], env=TOOLS, capture_output=True,
        text=True).stderr
    assert debugfs(image, 'cat "/workspace/deep/a b/text"') == "one\ntwo\n"


def test_an_exports_owners_are_the_guests(image):
    if os.geteuid() == 0:
        status = debugfs(image, "stat /workspace/private")
        assert "User:  1000   Group:  1000" in status and "Mode:  0600" in status
        assert "User:    12   Group:    34" in debugfs(image, "stat /workspace/closed")
    assert "User:     0   Group:     0" in debugfs(image, "stat /etc/passwd")
    assert "Links: 2" in debugfs(image, "stat /workspace/hard")


def test_an_export_is_sparse(image):
    assert image.stat().st_size < 900 << 20
    assert image.stat().st_blocks * 512 < image.stat().st_size


def test_over_rest_the_image_is_the_body(stopped, image):
    reply = stopped.client.request("GET", f"{stopped.path}/disk",
                                   headers={"Accept": "application/octet-stream"})
    assert reply.status == 200 and reply.headers["Content-Type"] == "application/octet-stream"
    assert len(reply.body) == int(reply.headers["Content-Length"]) == image.stat().st_size
    assert reply.body == image.read_bytes()


def test_a_tool_call_is_told_where_the_bytes_are(stopped):
    problem = refused("host_path_forbidden", 422, stopped.client.post,
                      "/v1/tools/workspace_disk_export/call",
                      {"workspace_id": stopped.id, "output_path": "/tmp/x"})
    assert problem["field"] == "/output_path"


# States

def test_a_running_workspace_is_refused_and_told_what_to_do(workspace):
    for operation in ("disk", "disk/list", "disk/read?path=x"):
        problem = refused("workspace_not_stopped", 409, workspace.client.get,
                          f"{workspace.path}/{operation}")
        assert "workspace_stop" in problem["hint"]


def test_it_starts_again_as_if_nothing_had_been(workspace):
    workspace.exec("echo kept >file; rm /etc/issue")
    workspace.client.post(f"{workspace.path}/stop", {})
    activity = workspace.status()["last_activity_at"]
    listed = workspace.client.get(f"{workspace.path}/disk/list")
    assert [entry["path"] for entry in listed["entries"]] == ["/workspace/file"]
    assert workspace.status()["last_activity_at"] == activity
    workspace.client.post(f"{workspace.path}/start", {})
    assert workspace.exec("cat file; ls /etc/issue").get("stdout") == "kept\n"


def test_an_export_under_way_keeps_a_start_off_and_ends_with_a_delete(workspace_factory, daemon):
    workspace = workspace_factory(on=daemon.client())
    workspace.client.post(f"{workspace.path}/stop", {})
    reading = workspace.client.connect()
    try:
        reading.request("GET", f"{workspace.path}/disk",
                        headers={"Authorization": f"Bearer {daemon.token}"})
        reply = reading.getresponse()
        assert reply.status == 200 and reply.read(10)
        problem = refused("workspace_busy", 409, workspace.client.post, f"{workspace.path}/start",
                          {})
        assert problem["retryable"]
        workspace.delete()
        size, got = int(reply.headers["Content-Length"]), 10
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            while piece := reply.read(1 << 20):
                got += len(piece)
        assert got < size
    finally:
        reading.close()


def test_a_reader_that_leaves_frees_the_disk(workspace_factory, daemon):
    workspace = workspace_factory()
    workspace.client.post(f"{workspace.path}/stop", {})
    reading = workspace.client.connect()
    reading.request("GET", f"{workspace.path}/disk",
                    headers={"Authorization": f"Bearer {daemon.token}"})
    assert reading.getresponse().read(10)
    reading.close()
    until(lambda: workspace.client.request("POST", f"{workspace.path}/start", {}).status == 200)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_plain_users_layers_are_the_guests_root(anyones_path):
    """Without a daemon: hearth-disk in the user's own namespaces."""
    program = anyones_path / "hearth-disk"
    shutil.copy(BIN / "hearth-disk", program)
    disk = "--tree tree --disk disk"
    script = f"""
set -e
mkdir -p tree/workspace tree/etc disk/upper/etc disk/work
echo below >tree/etc/both; echo only >tree/etc/below; echo above >disk/upper/etc/both
exec 3<>image
{program} list {disk} --recursive --limit 10 / | tr '\\0' '\\n' | sed -n 's,.* /,/,p'
{program} read {disk} --limit 10 /etc/both
{program} export {disk} --seed {"5a" * 32} | head -n 1
"""
    done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                           "sh", "-c", script], cwd=anyones_path, capture_output=True, text=True)
    if "namespace" in done.stderr:
        pytest.skip("plain users may make no namespaces here")
    size = (anyones_path / "image").stat().st_size
    assert done.stdout.split("\n") == ["/etc", "/etc/below", "/etc/both", "/workspace", "good 6 6",
                                       "above", f"good {size}", ""], done.stderr
    fsck(anyones_path / "image")
    assert debugfs(anyones_path / "image", "cat /etc/both") == "above\n"
    assert "User:     0   Group:     0" in debugfs(anyones_path / "image", "stat /etc/both")
