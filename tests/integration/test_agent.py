"""hearth-agent by itself, as any gRPC client sees it: commands, files, trees, the orderly end."""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import grpc
import pytest

from harness.agent import Agent, message
from harness.waiting import until

FILE, DIRECTORY, SYMLINK = 1, 2, 3
TIME_TO_BEGIN_MS = 2000  # of a command that is to be ended by its time, and to have said something before


@pytest.fixture
def agent(tmp_path):
    made = Agent(tmp_path).start()
    yield made
    made.stop()


def refused(call, status):
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert error.value.code() is status, error.value.details()
    return error.value.details()


def text(output):
    return b"".join(segment.data for segment in output.segments)


def member(path, kind=FILE, data=None, **fields):
    entry = {"path": path.encode(), "type": kind, "mode": 0o644 if kind == FILE else 0o755}
    entry.update({key: fields.pop(key) for key in ("link_target", "mode") if key in fields})
    return message("TreeItem", entry=entry, data=data or b"", **fields)


def tree(root):
    """What lies below root: {path: content, target or None}."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = (os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_text())
    return found


# What it says of itself.

def test_hello(agent):
    hello = agent.Hello(protocol=1, generation=1)
    assert hello.protocol == 1 and hello.pid == agent.process.pid
    assert hello.workspace_root == str(agent.workspace) and len(hello.boot_id) == 32
    assert {"exec", "files", "tree"} <= set(hello.features)


def test_a_method_it_does_not_have(agent):
    call = agent.channel.unary_unary("/hearth.agent.v1.Agent/Nothing")
    refused(lambda: call(b"", timeout=60), grpc.StatusCode.UNIMPLEMENTED)


def test_bytes_that_are_no_message(agent):
    for method in ("ExecStart", "FileRead", "FileWrite", "TreeApply", "Hello"):
        call = agent.channel.unary_unary(f"/hearth.agent.v1.Agent/{method}")
        refused(lambda: call(b"\xff\xff\xff", timeout=60), grpc.StatusCode.INVALID_ARGUMENT)
    assert agent.Hello(protocol=1).protocol == 1


# Commands.

def test_a_command_and_its_end(agent):
    state = agent.run("echo out; echo err >&2; exit 7")
    assert (text(state.stdout), text(state.stderr)) == (b"out\n", b"err\n")
    assert not state.running and state.exit.started and state.exit.exit_code == 7 and state.exit.drained


def test_what_cannot_be_started_says_so(agent):
    for argv, code in ((["no-such-program"], 127), (["/"], 126)):
        state = agent.ExecStart(exec_id=argv[0], argv=argv)
        assert not state.exit.started and state.exit.exit_code == code and state.exit.problem
    state = agent.ExecStart(exec_id="cwd", argv=["/bin/true"], cwd="/no/such")
    assert state.exit.exit_code == 126 and "/no/such" in state.exit.problem


def test_a_time_out_ends_the_whole_group(agent):
    state = agent.run("sleep 1000 & echo $!; wait", timeout_ms=TIME_TO_BEGIN_MS, kill_grace_ms=100)
    assert state.exit.timed_out and state.exit.exit_code == 124
    until(lambda: not pathlib.Path(f"/proc/{int(text(state.stdout))}").exists())


def test_a_time_out_kills_what_ignores_term(agent):
    state = agent.run("trap '' TERM; echo up; while :; do sleep 0.05; done", timeout_ms=TIME_TO_BEGIN_MS, kill_grace_ms=100)
    assert state.exit.timed_out and state.exit.signal == 9 and text(state.stdout) == b"up\n"


def test_output_keeps_its_start_and_end(agent):
    state = agent.run("yes 123456789 | head -c 100000", head_bytes=1000, tail_bytes=2000)
    assert [(s.offset, len(s.data)) for s in state.stdout.segments if s.data][0] == (0, 1000)
    assert sum(len(s.data) for s in state.stdout.segments) == 3000
    assert state.stdout.total == state.stdout.next_offset == 100000


def test_readers_consume_nothing_and_cursors_go_on(agent):
    agent.ExecStart(exec_id="a", argv=["/bin/sh", "-c", "echo one; read x; echo $x"], stdin_open=True)
    for _ in range(2):
        assert text(agent.ExecRead(exec_id="a", wait_ms=60000).stdout) == b"one\n"
    waiting = agent.begin.ExecRead(exec_id="a", stdout_offset=4, wait_ms=60000)
    assert agent.ExecInput(exec_id="a", data=b"two\n").accepted == 4
    assert text(waiting.result().stdout) == b"two\n"
    assert not agent.ExecRead(exec_id="a", wait_ms=60000, until_end=True).running


def test_many_are_forgotten_at_once_but_none_that_runs(agent):
    for name in "abc":
        agent.run("true", exec_id=name)
    agent.ExecStart(exec_id="d", argv=["/bin/sleep", "1000"])
    refused(lambda: agent.ExecForget(exec_id="b", more=["nobody", "b", "d", "b"]), grpc.StatusCode.NOT_FOUND)
    agent.ExecForget(exec_id="a")
    assert sorted(state.exec_id for state in agent.ExecList().execs) == ["c", "d"]


def test_cancel_and_forget(agent):
    agent.ExecStart(exec_id="a", argv=["/bin/sleep", "1000"])
    refused(lambda: agent.ExecForget(exec_id="a"), grpc.StatusCode.FAILED_PRECONDITION)
    refused(lambda: agent.ExecStart(exec_id="a", argv=["/bin/true"]), grpc.StatusCode.ALREADY_EXISTS)
    waiting = agent.begin.ExecRead(exec_id="a", wait_ms=60000, until_end=True)
    agent.ExecCancel(exec_id="a")
    state = waiting.result()
    assert state.exit.cancelled and state.exit.signal == 15
    agent.ExecForget(exec_id="a")
    refused(lambda: agent.ExecRead(exec_id="a"), grpc.StatusCode.NOT_FOUND)
    refused(lambda: agent.ExecCancel(exec_id="a"), grpc.StatusCode.NOT_FOUND)


def test_a_caller_that_leaves_ends_no_command(agent):
    waiting = agent.begin.ExecStart(exec_id="a", argv=["/bin/sh", "-c", "read x; echo $x"], stdin_open=True,
                                    read={"wait_ms": 60000, "until_end": True})
    while not agent.ExecList().execs:
        pass
    waiting.cancel()
    agent.ExecInput(exec_id="a", data=b"still here\n", end=True)
    assert text(agent.ExecRead(exec_id="a", wait_ms=60000, until_end=True).stdout) == b"still here\n"


def test_a_thousand_commands_at_once(agent):
    """With the descriptors of a usual hard limit, and a usual soft one for the commands."""
    command = ["/bin/sh", "-c", "read x; ulimit -n; echo $x"]
    begun = [agent.begin.ExecStart(exec_id=str(i), argv=command, stdin_open=True) for i in range(1000)]
    assert all(future.result().running for future in begun)
    waits = [agent.begin.ExecRead(exec_id=str(i), wait_ms=60000, until_end=True) for i in range(1000)]
    inputs = [agent.begin.ExecInput(exec_id=str(i), data=b"%d\n" % i, end=True) for i in range(1000)]
    assert all(future.result().accepted for future in inputs)
    for i, future in enumerate(waits):
        assert text(future.result().stdout) == b"%d\n%d\n" % (resource.getrlimit(resource.RLIMIT_NOFILE)[0], i)


def test_more_commands_than_can_run_are_refused(tmp_path):
    few = Agent(tmp_path, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))).start()
    try:
        for i in range(64):
            assert few.ExecStart(exec_id=str(i), argv=["/bin/sleep", "1000"]).running
        said = refused(lambda: few.ExecStart(exec_id="x", argv=["/bin/true"]), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert "64 commands run" in said
        few.ExecCancel(exec_id="0")
        few.ExecRead(exec_id="0", wait_ms=60000, until_end=True)
        assert few.ExecStart(exec_id="x", argv=["/bin/true"]).exec_id == "x"
    finally:
        few.stop()


def test_the_limit_of_descriptors_is_raised_for_the_agent_alone(tmp_path):
    raised = Agent(tmp_path, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 4096))).start()
    try:
        limits = pathlib.Path(f"/proc/{raised.process.pid}/limits").read_text()
        assert [line.split()[3:5] for line in limits.splitlines() if "open files" in line] == [["4096", "4096"]]
        assert text(raised.run("ulimit -Sn; ulimit -Hn").stdout) == b"128\n4096\n"
    finally:
        raised.stop()


def test_the_filter_is_not_fooled_by_bits_that_the_kernel_ignores(tmp_path):
    filtered = Agent(tmp_path, "--seccomp", "--no-new-privs").start()
    script = ("import ctypes, os; c = ctypes.CDLL(None, use_errno=True); m, s = os.openpty(); "
              "b = ctypes.c_char(b'x')\nfor high in (0, 1 << 32):\n"
              " c.syscall(16, s, ctypes.c_ulong(0x5412 | high), ctypes.byref(b)); "
              "print(os.strerror(ctypes.get_errno()))")
    try:
        state = filtered.ExecStart(exec_id="a", argv=[sys.executable, "-c", script],
                                   read={"wait_ms": 60000, "until_end": True})
        assert text(state.stdout) == b"Operation not permitted\n" * 2, text(state.stderr)
    finally:
        filtered.stop()


# The orderly end.

def test_commands_have_time_to_end_by_themselves(agent):
    agent.ExecStart(exec_id="a", argv=["/bin/sh", "-c", f"trap 'sleep 0.3; echo saved > {agent.workspace}/saved; exit 0' "
                                       "TERM; echo up; while :; do sleep 0.05; done"])
    agent.ExecRead(exec_id="a", wait_ms=60000)
    waiting = agent.begin.ExecRead(exec_id="a", wait_ms=60000, until_end=True)
    agent.Shutdown()
    assert waiting.result().exit.exit_code == 0
    assert (agent.workspace / "saved").read_text() == "saved\n"
    assert agent.process.wait(60) == 0


def test_what_does_not_end_is_killed(agent):
    agent.ExecStart(exec_id="a", argv=["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"])
    agent.ExecRead(exec_id="a", wait_ms=60000)
    waiting = agent.begin.ExecRead(exec_id="a", wait_ms=60000, until_end=True)
    stopping = agent.begin.Shutdown()
    while True:
        try:
            agent.ExecStart(exec_id="b", argv=["/bin/true"], read={"wait_ms": 60000, "until_end": True})
            agent.ExecForget(exec_id="b")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE and "stopping" in error.details()
            break
    assert waiting.result().exit.signal == 9
    stopping.result()
    assert agent.process.wait(60) == 0


def test_a_signal_is_an_orderly_end_too(agent):
    agent.ExecStart(exec_id="a", argv=["/bin/sh", "-c", f"trap 'echo saved > {agent.workspace}/saved; exit 0' TERM; "
                                       "echo up; while :; do sleep 0.05; done"])
    agent.ExecRead(exec_id="a", wait_ms=60000)
    agent.process.terminate()
    assert agent.process.wait(60) == 0
    assert (agent.workspace / "saved").read_text() == "saved\n"


# Files.

def write(agent, path, data, **fields):
    return agent.FileWrite([message("FileWriteRequest", path=path, data=data, commit=True, **fields)])


def read(agent, path, **fields):
    return b"".join(reply.data for reply in agent.FileRead(path=path, **fields))


def test_write_and_read(agent):
    reply = write(agent, "a/b.txt", b"hello", create_parents=True)
    assert reply.created and reply.bytes_written == 5 and reply.entry.mode == 0o644
    assert read(agent, "a/b.txt") == b"hello"
    assert read(agent, "a/b.txt", offset=1, length=3) == b"ell"
    assert not write(agent, "a/b.txt", b"again", mode=0o755).created
    assert agent.FileStat(path="a/b.txt").mode == 0o755
    refused(lambda: write(agent, "no/such", b""), grpc.StatusCode.NOT_FOUND)


def test_a_write_that_is_not_committed_leaves_nothing(agent):
    refused(lambda: agent.FileWrite([message("FileWriteRequest", path="x", data=b"half")]),
            grpc.StatusCode.INVALID_ARGUMENT)
    assert tree(agent.workspace) == {}


def test_absolute_symlinks_into_the_workspace_are_followed(agent):
    root = agent.workspace
    (root / "real").mkdir()
    (root / "real/f").write_text("inside")
    (root / "dir").symlink_to(root / "real")
    (root / "chain").symlink_to("dir/f")
    (root / "abs").symlink_to(root / "chain")
    (root / "up").symlink_to(root / "real/../real/f")
    (root / "new").symlink_to(root / "real/made")
    for path in ("dir/f", "chain", "abs", "up"):
        assert read(agent, path) == b"inside", path
        assert agent.FileStat(path=path, follow=True).size == 6
    assert [entry.path for entry in agent.FileList(path="dir").entries] == [b"dir/f"]
    assert agent.FileStat(path="dir/f").type == FILE
    write(agent, "abs", b"through")
    write(agent, "new", b"made")
    write(agent, "dir/below/x", b"x", create_parents=True)
    assert (root / "abs").is_symlink() and (root / "real/f").read_text() == "through"
    assert (root / "real/made").read_text() == "made" and (root / "real/below/x").read_text() == "x"
    agent.FileDelete(path="dir/f")
    assert not (root / "real/f").exists() and (root / "dir").is_symlink()


def test_no_symlink_leads_out(agent, tmp_path):
    root = agent.workspace
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "workspace-not").mkdir()
    (tmp_path / "workspace-not/secret").write_text("outside")
    for name, target in {"abs": tmp_path / "secret", "rel": "../secret", "sly": root / "../secret",
                         "prefix": tmp_path / "workspace-not/secret", "dir": tmp_path, "up": root / "x/../../secret",
                         "proc": "/proc/self/cwd/secret"}.items():
        (root / name).symlink_to(target)
    for path in ("abs", "rel", "sly", "prefix", "dir/secret", "up", "proc", "dir/workspace/../secret"):
        refused(lambda: read(agent, path), grpc.StatusCode.PERMISSION_DENIED)
        refused(lambda: agent.FileStat(path=path, follow=True), grpc.StatusCode.PERMISSION_DENIED)
        refused(lambda: write(agent, path, b"x", create_parents=True), grpc.StatusCode.PERMISSION_DENIED)
    refused(lambda: agent.FileList(path="dir"), grpc.StatusCode.PERMISSION_DENIED)
    refused(lambda: agent.FileDelete(path="dir/secret"), grpc.StatusCode.PERMISSION_DENIED)
    (root / "loop").symlink_to(root / "loop")
    refused(lambda: read(agent, "loop"), grpc.StatusCode.PERMISSION_DENIED)
    assert (tmp_path / "secret").read_text() == "outside"


def test_special_files_hold_nobody(agent):
    os.mkfifo(agent.workspace / "fifo")
    refused(lambda: read(agent, "fifo"), grpc.StatusCode.FAILED_PRECONDITION)
    refused(lambda: write(agent, "fifo", b"x"), grpc.StatusCode.FAILED_PRECONDITION)
    refused(lambda: agent.FileList(path="fifo"), grpc.StatusCode.FAILED_PRECONDITION)


def test_pages_of_a_tree(agent):
    for name in ("b/2", "b/1", "a", "b.txt", "c/x/y"):
        (agent.workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (agent.workspace / name).write_text(name)
    seen, after = [], b""
    while True:
        page = agent.FileList(recursive=True, limit=2, after=after)
        seen += [entry.path.decode() for entry in page.entries]
        if not page.more:
            break
        after = page.entries[-1].path
    assert seen == ["a", "b", "b/1", "b/2", "b.txt", "c", "c/x", "c/x/y"]


@pytest.fixture
def huge():
    """200,000 names, in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        made = Agent(directory).start()
        (made.workspace / "huge").mkdir()
        for i in range(200000):
            os.mknod(made.workspace / f"huge/{i}")
        yield made
        made.stop()


def overtakes(agent, slow):
    """A command is answered before the last of what was asked for earlier."""
    order = []
    slow[-1].add_done_callback(lambda _: order.append("slow"))
    agent.run("true")
    order.append("exec")
    for each in slow:
        each.result()
    return order[0] == "exec"


def test_a_huge_directory_delays_nobody(huge):
    assert overtakes(huge, [huge.begin.FileList(path="huge", limit=10) for _ in range(5)])
    assert len(huge.FileList(path="huge", limit=10).entries) == 10
    huge.ExecForget(exec_id="ex")
    assert overtakes(huge, [huge.begin.FileDelete(path="huge", recursive=True)])
    assert tree(huge.workspace) == {}


# Trees.

def test_a_tree_is_put_below_a_destination(agent):
    (agent.workspace / "d").mkdir()
    (agent.workspace / "d/old").write_text("old")
    (agent.workspace / "d/same").write_text("before")
    reply = agent.TreeApply([message("TreeItem", destination="d"), member("sub", DIRECTORY, mode=0o750),
                             member("sub/f", data=b"one"), message("TreeItem", data=b"two"),
                             member("same", data=b"after"), member("l", SYMLINK, link_target=b"/anywhere"),
                             member("hard", hard_link=b"sub/f"), member("deep/er/x", data=b"x", mode=0o755)])
    assert reply.entry_count == 6 and reply.bytes_written == 12
    assert tree(agent.workspace / "d") == {"old": "old", "same": "after", "sub": None, "sub/f": "onetwo", "l": "/anywhere",
                                      "hard": "onetwo", "deep": None, "deep/er": None, "deep/er/x": "x"}
    assert (agent.workspace / "d/sub").stat().st_mode & 0o777 == 0o750
    assert (agent.workspace / "d/sub/f").stat().st_nlink == 2
    assert os.access(agent.workspace / "d/deep/er/x", os.X_OK)
    assert set(os.listdir(agent.workspace.parent)) == {"workspace", "agent.sock"}


CONFLICTS = {
    "symlink_on_the_way": ("link/f", FILE, grpc.StatusCode.PERMISSION_DENIED, "link would be written through a symlink"),
    "symlink_as_directory": ("link", DIRECTORY, grpc.StatusCode.PERMISSION_DENIED, "through a symlink"),
    "file_in_the_way": ("file/f", FILE, grpc.StatusCode.FAILED_PRECONDITION, "a file of the workspace has its name"),
    "directory_in_the_way": ("there", FILE, grpc.StatusCode.FAILED_PRECONDITION, "is no directory"),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_what_conflicts_with_the_workspace_changes_nothing(agent, name):
    path, kind, status, said = CONFLICTS[name]
    (agent.workspace / "there").mkdir()
    (agent.workspace / "kept").write_text("kept")
    (agent.workspace / "link").symlink_to("there")
    (agent.workspace / "file").write_text("file")
    before = tree(agent.workspace)
    details = refused(lambda: agent.TreeApply([member("aaa", data=b"new"), member("kept", data=b"other"),
                                               member(path, kind), member("zzz", data=b"new")]), status)
    assert said in details
    assert tree(agent.workspace) == before
    assert not [entry for entry in os.listdir(agent.workspace.parent) if entry.startswith(".hearth")]


@pytest.mark.parametrize("bad", ["/etc/x", "../x", "a/../../x", "s/x", "dev", "missing"])
def test_a_hostile_member_changes_nothing(agent, bad):
    kind = {"dev": 0}.get(bad, FILE)
    extra = {"hard_link": b"nothing"} if bad == "missing" else {}
    refused(lambda: agent.TreeApply([message("TreeItem", destination="new/place"), member("good", data=b"x"),
                                     member("s", SYMLINK, link_target=b".."), member(bad, kind, **extra)]),
            {"missing": grpc.StatusCode.NOT_FOUND, "dev": grpc.StatusCode.INVALID_ARGUMENT}.get(
                bad, grpc.StatusCode.PERMISSION_DENIED))
    assert tree(agent.workspace) == {}


def test_a_tree_that_breaks_off_changes_nothing(agent):
    def half():
        yield member("a", data=b"x" * 1000)
        raise RuntimeError("the archive is cut short")

    with pytest.raises(grpc.RpcError):
        agent.TreeApply(half())
    agent.Hello(protocol=1)
    until(lambda: not [name for name in os.listdir(agent.workspace.parent) if name.startswith(".hearth")])
    assert tree(agent.workspace) == {}


@pytest.fixture
def small_disk(tmp_path):
    """An agent whose workspace and its surroundings have 256 KiB and a few names."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=64", "none", disk], check=False)
    if mounted.returncode:
        pytest.skip("no right to mount")
    made = Agent(disk).start()
    yield made
    made.stop()
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_changes_nothing(small_disk):
    (small_disk.workspace / "kept").write_text("kept")
    refused(lambda: small_disk.TreeApply([member("kept", data=b"new"), member("big", data=b"x" * 200000),
                                          message("TreeItem", data=b"x" * 200000)]),
            grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert tree(small_disk.workspace) == {"kept": "kept"}


def test_a_failure_in_the_middle_is_undone(small_disk):
    """No name moves into another file system, and which directory is one is only found on the way."""
    root = small_disk.workspace
    for name in ("a", "m", "z"):
        (root / name).mkdir()
        (root / name / "old").write_text("old")
    subprocess.run(["mount", "-t", "tmpfs", "none", root / "m"], check=True)
    try:
        (root / "m/kept").write_text("kept")
        before = tree(root)
        said = refused(lambda: small_disk.TreeApply(
            [message("TreeItem", destination="")] +
            [member(f"{name}/{file}", data=b"new") for name in ("a", "m", "z") for file in ("old", "new", "sub/new")]),
            grpc.StatusCode.PERMISSION_DENIED)
        assert "the member m/" in said and "cannot be put in place" in said and "remain" not in said
        assert tree(root) == before
    finally:
        subprocess.run(["umount", root / "m"], check=True)


def test_a_stage_left_by_a_killed_agent_goes_at_the_next_start(agent, tmp_path):
    def endless():
        yield member("a", data=b"x")
        while True:
            time.sleep(0.05)
            yield message("TreeItem", data=b"x")

    call = agent.begin.TreeApply(endless())
    until(lambda: [name for name in os.listdir(tmp_path) if name.startswith(".hearth-stage-")])
    agent.process.kill()
    agent.process.wait()
    with pytest.raises(grpc.RpcError):
        call.result()
    again = Agent(tmp_path).start()
    try:
        again.Hello(protocol=1)
        assert not again.leftovers()
    finally:
        again.stop()
