"""hearth where no daemon runs: it starts one of the user's own."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from harness import leaks, node_tags
from harness.images import ENVIRONMENT
from harness.mcp import Stdio
from test_cli import Cli


@pytest.fixture
def private(bin_dir, images, tmp_path_factory):
    """hearth where no daemon runs, with directories of its own. What it starts is ended after."""
    base = pathlib.Path(tmp_path_factory.mktemp("p", numbered=True))
    node_tag, holder = node_tags.claim()
    runtime = pathlib.Path(f"/tmp/hearth-test-{os.getpid()}")
    runtime.mkdir(mode=0o700)
    cli = Cli(bin_dir, HOME=str(base), XDG_RUNTIME_DIR=str(runtime), HEARTHD_IMAGE_DIR=str(images),
              HEARTHD_NODE_TAG=node_tag)
    cli.base, cli.runtime = base, runtime
    yield cli
    for pid in private_daemons(base):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while list(private_daemons(base)) and time.monotonic() < deadline:
        time.sleep(0.05)
    leaks.assert_nothing_left(base, node_tag)
    holder.close()
    subprocess.run(["rm", "-rf", runtime])


def parent_of(pid):
    try:
        return int(re.search(r"^PPid:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])
    except OSError:  # It has ended.
        return None


def private_daemons(base):
    """A child of one has its words for a moment, before it becomes another program: it is no daemon."""
    found = [int(re.match(r"process (\d+)", process)[1]) for process in leaks.processes(base) if "hearthd" in process]
    parents = {pid: parent_of(pid) for pid in found}
    return [pid for pid, parent in parents.items() if parent is not None and parent not in found]


def test_run_starts_a_private_daemon_where_none_runs(private):
    done = private("run", ENVIRONMENT, "--", "echo from inside; exit 4")
    assert (done.returncode, done.stdout) == (4, "from inside\n")
    assert len(list(private_daemons(private.base))) == 1
    socket = private.runtime / "hearth/hearthd.sock"
    assert socket.is_socket()
    assert (private.runtime / "hearth").stat().st_mode & 0o777 == 0o700
    assert (private.base / ".local/state/hearth").stat().st_mode & 0o777 == 0o700


def test_a_private_daemon_where_the_home_is_a_symlink(private):
    (private.base / "disk").mkdir()
    (private.base / "home").symlink_to(private.base / "disk")
    private.environment["HOME"] = str(private.base / "home")
    private.ok("workspace", "list")
    assert (private.base / "disk/.local/state/hearth/lock").exists()


def test_mcp_serve_starts_a_private_daemon_where_none_runs(private, tmp_path):
    (tmp_path / "seeded").write_text("from the client")
    with Stdio(None, environment={**private.environment, "HEARTH_URL": ""}) as stdio:
        stdio.initialize()
        made = stdio.call("workspace_create", {"environment": ENVIRONMENT, "seed_path": str(tmp_path)})
        workspace_id = made["structuredContent"]["workspace_id"]
        read = stdio.call("workspace_file_read", {"workspace_id": workspace_id, "path": "seeded"})
        assert read["structuredContent"]["content"] == "from the client"
        stdio.call("workspace_delete", {"workspace_id": workspace_id})
        assert stdio.end()[0] == 0
    assert len(list(private_daemons(private.base))) == 1


def test_many_at_once_start_one(private):
    started = [subprocess.Popen([private.program, "workspace", "list", "--json"],
                                env=private.environment, stdout=subprocess.PIPE, text=True)
               for _ in range(6)]
    for process in started:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert json.loads(out)["count"] == 0
    assert len(list(private_daemons(private.base))) == 1


def test_a_private_daemon_is_in_a_session_of_its_own(private):
    private.ok("workspace", "list")
    (pid,) = private_daemons(private.base)
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_a_runtime_directory_that_others_may_enter_is_not_trusted(private):
    (private.runtime / "hearth").mkdir(mode=0o755)
    done = private("workspace", "list")
    assert done.returncode == 1
    assert "0700" in done.stderr


def test_a_daemon_that_cannot_start_is_told_with_its_reason(private):
    private.environment["HEARTHD_DRIVER"] = "nosuch"
    done = private("workspace", "list")
    assert done.returncode == 1
    assert "hearthd did not start" in done.stderr
    assert "driver" in done.stderr
