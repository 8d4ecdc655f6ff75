"""The Python client against a real daemon: names and signatures, directories both ways, streams,
problems, retries, asyncio."""

import asyncio
import inspect
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.parse

import pytest

import hearth
from harness.daemon import ROOT
from hearth.pack import Unpacker, copy_sparse
from hearth.responses import answer

METHODS = """apply_workspace_patch close_shell create_server create_snapshot create_vm create_workspace
delete_snapshot delete_vm delete_workspace diff_workspace exec_vm exec_workspace export_workspace
export_workspace_disk inspect_environment list_environments list_services list_snapshots
list_workspace_disk list_workspace_files list_workspaces logs_service logs_workspace network_info_vm
open_shell prune_environments pull_environment push_workspace_sync read_shell read_workspace_disk
read_workspace_file reap_expired reset_workspace run_in_vm signal_shell start_service start_vm
start_workspace status_service status_vm status_workspace stop_service stop_vm stop_workspace
update_workspace write_shell write_workspace_file""".split()


@pytest.fixture
def sdk(daemon):
    with hearth.Hearth(f"unix://{daemon.socket_path}") as made:
        yield made


@pytest.fixture(scope="module")
def shared(daemon):
    with hearth.Hearth(f"unix://{daemon.socket_path}") as made:
        with made.workspace("debian:12", name="sdk") as workspace:
            yield workspace


def test_the_methods_and_their_asynchronous_twins_are_there():
    assert len(METHODS) == 47
    for name in METHODS:
        method = getattr(hearth.Hearth, name)
        assert inspect.signature(getattr(hearth.AsyncHearth, name)) == inspect.signature(method)


@pytest.mark.parametrize("name", METHODS)
def test_ids_are_positional_and_the_rest_has_names(name):
    parameters = list(inspect.signature(getattr(hearth.Hearth, name)).parameters.values())[1:]
    positional = [parameter.name for parameter in parameters
                  if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert positional == positional[:2] and all(
        parameter.default is inspect.Parameter.empty for parameter in parameters[:len(positional)]
    ) or name in ("create_server", "push_workspace_sync")
    if name.endswith("_workspace") and name not in ("create_workspace",):
        assert positional[0] == "workspace_id"


def test_it_type_checks():
    subprocess.run([sys.executable, "-m", "mypy", "--no-incremental", "clients/python/hearth"], cwd=ROOT,
                   check=True)


def test_it_needs_the_standard_library_alone():
    code = ("import sys; sys.path.insert(0, 'clients/python'); import hearth, hearth.responses;"
            "print(sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))")
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True, text=True,
                          capture_output=True)
    assert done.stdout.strip() in ("['__main__', 'hearth']", "['hearth']")


# Workspaces

def test_a_directory_seeds_a_workspace_as_it_is(sdk, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/run").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "bin/run").chmod(0o755)
    (tmp_path / "link").symlink_to("bin/run")
    (tmp_path / "left-out.pyc").write_text("x")
    with sdk.workspace("debian:12", seed_path=tmp_path, exclude=["*.pyc"], labels={"k": "v"}) as workspace:
        status = workspace.status()
        assert status["workspace_seed"]["seed_path"] == str(tmp_path) and status["labels"] == {"k": "v"}
        assert workspace.exec("./link && ls")["stdout"] == "ran\nbin\nlink\n"
        entries = sdk.list_workspace_files(workspace.id, recursive=True)["entries"]
        assert [(entry["path"], entry["mode"]) for entry in entries if entry["artifact_type"] == "file"] \
            == [("/workspace/bin/run", "0755")]
    with pytest.raises(hearth.NotFound):
        sdk.status_workspace(workspace.id)


def test_a_workspace_that_failed_inside_is_deleted_too(sdk):
    with pytest.raises(ZeroDivisionError):
        with sdk.workspace("debian:12") as workspace:
            1 / 0
    with pytest.raises(hearth.NotFound):
        sdk.status_workspace(workspace.id)


def test_files_and_commands(sdk, shared):
    assert sdk.write_workspace_file(shared.id, "a/b.txt", text="häll\n")["bytes_written"] == 6
    assert sdk.read_workspace_file(shared.id, "a/b.txt")["content"] == "häll\n"
    assert shared.read("a/b.txt") == "häll\n".encode()
    done = sdk.exec_workspace(shared.id, argv=["cat"], stdin="in\n", env={"X": "1"})
    assert (done["stdout"], done["exit_code"]) == ("in\n", 0)
    assert sdk.exec_workspace(shared.id, command="exit 7")["exit_code"] == 7
    entries = sdk.logs_workspace(shared.id, limit=1000)["entries"]
    assert [entry["exit_code"] for entry in entries][-2:] == [0, 7]


def test_a_detached_command_is_read_and_cancelled(sdk, shared):
    started = sdk.exec_workspace(shared.id, command="echo here; sleep 600", timeout_seconds=600, detach=True)
    read = sdk.read_exec(shared.id, started["exec_id"], wait_ms=0)
    assert read["running"]
    sdk.cancel_exec(shared.id, started["exec_id"])
    assert sdk.read_exec(shared.id, started["exec_id"], wait_ms=30000)["cancelled"]


def test_a_stream_brings_events_until_the_exit(shared):
    events = list(shared.stream("echo one; echo two >&2; exit 3"))
    assert {event["type"] for event in events} >= {"stdout", "stderr", "exit"}
    assert events[-1]["type"] == "exit" and events[-1]["exit_code"] == 3


def test_leaving_a_stream_ends_the_command(sdk, shared):
    with shared.stream("echo $$; exec sleep 600", timeout_seconds=600) as events:
        pid = next(event["data"] for event in events if event["type"] == "stdout").strip()
    gone = sdk.exec_workspace(shared.id, timeout_seconds=60,
                              command=f"while [ -e /proc/{pid} ]; do sleep 0.05; done; echo gone")
    assert gone["stdout"] == "gone\n"


def test_run_in_vm_leaves_nothing(sdk):
    done = sdk.run_in_vm(environment="debian:12", command="echo $((6 * 7))")
    assert (done["stdout"], done["exit_code"], done["cleanup"]["deleted"]) == ("42\n", 0, True)


def test_environments_are_listed_and_inspected(sdk):
    names = [row["name"] for row in sdk.list_environments()["environments"]]
    assert "debian:12" in names and sdk.inspect_environment("debian:12")["built"]


# Problems

@pytest.mark.parametrize("kind, call", [
    (hearth.InvalidArgument, lambda sdk, id: sdk.exec_workspace(id, command="x", timeout_seconds=-1)),
    (hearth.NotFound, lambda sdk, id: sdk.status_workspace("ws_" + "a" * 16)),
    (hearth.NotFound, lambda sdk, id: sdk.status_workspace("../../etc")),
    (hearth.NotFound, lambda sdk, id: sdk.read_workspace_bytes(id, "nothing-here")),
])
def test_problems_are_typed_and_say_what_to_do(sdk, shared, kind, call):
    with pytest.raises(kind) as caught:
        call(sdk, shared.id)
    problem = caught.value
    assert problem.code and problem.detail and problem.hint and problem.request_id
    if kind is hearth.InvalidArgument:
        assert problem.field == "/timeout_seconds" and problem.status == 422


def test_no_token_is_not_allowed(daemon):
    with hearth.Hearth(daemon.url, token="hth_none_none") as stranger:
        with pytest.raises(hearth.NotAllowed):
            stranger.list_workspaces()


def test_no_daemon_is_no_problem_but_an_error(tmp_path):
    with hearth.Hearth(f"unix://{tmp_path}/nothing.sock") as lost:
        with pytest.raises(hearth.HearthError) as caught:
            lost.list_workspaces()
    assert not isinstance(caught.value, hearth.Problem) and "nothing.sock" in str(caught.value)


# Retries

class Cutter:
    """A proxy that hands requests on and cuts the first answers off: done there, unknown here."""

    def __init__(self, target, cuts):
        self.target, self.cuts, self.seen = target, cuts, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        host, port = self.target
        with client, socket.create_connection((host, port)) as server:
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(65536)
            head, _, body = request.partition(b"\r\n\r\n")
            length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n")
                           if line.lower().startswith(b"content-length:")), 0)
            while len(body) < length:
                body += client.recv(65536)
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"host:")]
            lines.insert(1, b"Host: 127.0.0.1:%d" % port)
            lines.insert(2, b"Connection: close")
            server.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            answered = b"".join(iter(lambda: server.recv(65536), b""))
            self.seen += 1
            if self.seen > self.cuts:
                client.sendall(answered)


@pytest.fixture
def cutter(daemon):
    made = []

    def make(cuts):
        parts = urllib.parse.urlsplit(daemon.url)
        made.append(Cutter((parts.hostname, parts.port), cuts))
        return made[-1]

    yield make
    for proxy in made:
        proxy.listener.close()


def test_a_create_whose_answer_was_lost_is_done_once(daemon, sdk, cutter):
    proxy = cutter(2)
    token = daemon.token_path.read_text().strip()
    with hearth.Hearth(proxy.url, token=token) as flaky:
        created = flaky.create_workspace("debian:12", labels={"lost": "answer"})
    rows = sdk.list_workspaces(labels=["lost=answer"])["workspaces"]
    sdk.delete_workspace(created["workspace_id"])
    assert proxy.seen == 3 and [row["workspace_id"] for row in rows] == [created["workspace_id"]]


def test_a_command_is_never_sent_twice(daemon, sdk, shared, cutter):
    proxy = cutter(1)
    with hearth.Hearth(proxy.url, token=daemon.token_path.read_text().strip()) as flaky:
        with pytest.raises(hearth.HearthError):
            flaky.exec_workspace(shared.id, command="echo ran >>once")
    assert proxy.seen == 1 and shared.read("once") == b"ran\n"


# asyncio

def test_calls_that_are_awaited_together_run_side_by_side(daemon, shared):
    async def main():
        async with hearth.AsyncHearth(f"unix://{daemon.socket_path}") as client:
            # Each waits for the file that the next one makes: one after the other they would never end.
            commands = [f"touch mark{i}; while [ ! -e mark{(i + 1) % 5} ]; do sleep 0.02; done; echo {i}"
                        for i in range(5)]
            done = await asyncio.gather(*[client.exec_workspace(shared.id, command=command,
                                                                timeout_seconds=60)
                                          for command in commands])
            assert [result["stdout"] for result in done] == [f"{i}\n" for i in range(5)]
            seen = [event["type"] async for event in
                    client.stream_exec_workspace(shared.id, command="echo x")]
            assert seen[-1] == "exit" and "stdout" in seen
            with pytest.raises(hearth.NotFound):
                await client.status_workspace("ws_" + "a" * 16)
    asyncio.run(main())


# What a guest exports

def packed(*members):
    """A tar of (name, type, content or link target)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o640
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content
            archive.addfile(member, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    file.seek(0)
    return file


DIRECTORY, FILE, SYMLINK, HARDLINK = (tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)


def test_a_tree_is_unpacked_as_it_is(tmp_path):
    unpacker = Unpacker(tmp_path / "out")
    kind = unpacker.unpack(packed((".", DIRECTORY, ""), ("d", DIRECTORY, ""), ("d/f", FILE, b"text"),
                                  ("s", SYMLINK, "/etc/passwd"), ("h", HARDLINK, "d/f")))
    assert (kind, unpacker.entry_count, unpacker.bytes_written) == ("directory", 5, 4)
    assert (tmp_path / "out/h").read_bytes() == b"text"
    assert os.readlink(tmp_path / "out/s") == "/etc/passwd"
    assert (tmp_path / "out/d/f").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("members", [
    [(".", DIRECTORY, ""), ("../evil", FILE, b"x")],
    [(".", DIRECTORY, ""), ("/evil", FILE, b"x")],
    [("d", SYMLINK, "/"), ("d/evil", FILE, b"x")],
    [(".", DIRECTORY, ""), ("d", SYMLINK, "/"), ("d/evil", FILE, b"x")],
    [("d", DIRECTORY, ""), ("d/up", SYMLINK, "../.."), ("d/up/evil", FILE, b"x")],
    [(".", DIRECTORY, ""), ("h", HARDLINK, "../../etc/passwd")],
    [(".", DIRECTORY, ""), ("d", SYMLINK, ".."), ("d", DIRECTORY, "")],
    [("one", FILE, b"x"), ("two", FILE, b"x")],
    [("pipe", tarfile.FIFOTYPE, "")],
    [],
])
def test_what_would_be_written_outside_is_refused(tmp_path, members):
    with pytest.raises(hearth.HearthError):
        Unpacker(tmp_path / "in/out").unpack(packed(*members))
    assert os.listdir(tmp_path) == ["in"] and os.listdir(tmp_path / "in") == []


def test_a_file_that_was_asked_for_is_the_output(tmp_path):
    assert Unpacker(tmp_path / "out").unpack(packed(("name", FILE, b"text"))) == "file"
    assert (tmp_path / "out").read_bytes() == b"text"
    assert Unpacker(tmp_path / "link").unpack(packed(("name", SYMLINK, "/etc"))) == "symlink"
    assert os.readlink(tmp_path / "link") == "/etc"


def test_what_a_guest_has_comes_out_whole(sdk, shared, tmp_path):
    shared.exec("mkdir -p tree/empty; printf x >tree/f; chmod 700 tree/f; ln -s /nowhere tree/l")
    out = sdk.export_workspace(shared.id, "tree", output_path=tmp_path / "tree")
    assert (out["artifact_type"], out["entry_count"], out["bytes_written"]) == ("directory", 4, 1)
    assert os.access(tmp_path / "tree/f", os.X_OK) and (tmp_path / "tree/empty").is_dir()
    assert os.readlink(tmp_path / "tree/l") == "/nowhere"
    out = sdk.export_workspace(shared.id, "tree/f", output_path=tmp_path / "f")
    assert out["artifact_type"] == "file" and (tmp_path / "f").read_bytes() == b"x"
    with pytest.raises(FileExistsError):
        sdk.export_workspace(shared.id, "tree", output_path=tmp_path / "f")


def test_a_push_adds_to_what_is_there(sdk, shared, tmp_path):
    (tmp_path / "new.txt").write_text("pushed\n")
    pushed = sdk.push_workspace_sync(shared.id, tmp_path, dest="/workspace/pushed")["workspace_sync"]
    assert (pushed["mode"], pushed["source_path"], pushed["destination"]) == (
        "directory", str(tmp_path), "/workspace/pushed")
    assert shared.read("pushed/new.txt") == b"pushed\n"
    changed = {entry["path"] for entry in sdk.diff_workspace(shared.id)["entries"]}
    assert "pushed/new.txt" in changed


@pytest.mark.parametrize("name", ["seed.tar", "seed.tar.gz", "seed.tgz"])
def test_what_is_made_of_an_archive_is_told_as_such(sdk, shared, tmp_path, name):
    with tarfile.open(tmp_path / name, "w" if name.endswith("tar") else "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    pushed = sdk.push_workspace_sync(shared.id, tmp_path / name, dest="archive")["workspace_sync"]
    assert (pushed["mode"], pushed["source_path"]) == ("tar_archive", str(tmp_path / name))
    with sdk.workspace("debian:12", seed_path=tmp_path / name) as made:
        seed = sdk.status_workspace(made.id)["workspace_seed"]
        assert (seed["mode"], seed["seed_path"], seed["entry_count"]) == ("tar_archive", str(tmp_path / name), 1)


def test_an_upload_is_pushed_and_a_service_is_ready_by_the_operation_s_own_names(sdk, shared, tmp_path):
    (tmp_path / "again.txt").write_text("twice\n")
    upload = sdk.upload_directory(tmp_path)["upload_id"]
    for dest in ("one", "two"):
        pushed = sdk.push_workspace_sync(shared.id, upload_id=upload, dest=dest)["workspace_sync"]
        assert pushed["entry_count"] == 1 and shared.read(f"{dest}/again.txt") == b"twice\n"
    with pytest.raises(ValueError):
        sdk.push_workspace_sync(shared.id)
    started = sdk.start_service(shared.id, "named", command="touch up; sleep 600", ready_file="up")
    assert (started["state"], started["readiness"]["type"]) == ("running", "file")
    assert sdk.stop_service(shared.id, "named")["state"] == "stopped"


def test_workspaces_are_found_by_what_is_asked_for(sdk):
    with sdk.workspace("debian:12", labels={"found": "yes"}) as one, \
            sdk.workspace("debian:12", labels={"found": "no"}) as two:
        def found(**arguments):
            return {row["workspace_id"] for row in sdk.list_workspaces(**arguments)["workspaces"]}

        assert found(labels={"found": "yes"}) == found(label="found=yes") == found(label=["found", "found=yes"]) \
            == found(labels=["found=yes"]) == {one.id}
        assert found(label="found") == {one.id, two.id}


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        Unpacker(tmp_path / "out")


def test_zeros_become_holes(tmp_path):
    data = b"a" * 4096 + bytes(4 << 20) + b"b"
    with open(tmp_path / "disk", "xb") as file:
        assert copy_sparse(io.BytesIO(data), file) == len(data)
    assert (tmp_path / "disk").read_bytes() == data
    assert (tmp_path / "disk").stat().st_blocks * 512 < 1 << 20


# OpenAI's built-in shell tool

class Call:
    def __init__(self, **members):
        self.__dict__.update(members)


def test_a_shell_call_runs_each_command_in_the_workspace(sdk, shared):
    call = Call(type="shell_call", call_id="c1",
                action={"commands": ["echo out; echo err >&2; exit 3", "seq 1 100000"],
                        "timeout_ms": 30000, "max_output_length": 1000})
    output = answer(sdk, call, shared.id)
    assert (output["type"], output["call_id"], output["max_output_length"]) == ("shell_call_output", "c1", 1000)
    first, second = output["output"]
    assert first == {"stdout": "out\n", "stderr": "err\n", "outcome": {"type": "exit", "exit_code": 3}}
    assert second["stdout"].startswith("1\n2\n") and second["stdout"].endswith("100000\n")
    assert "left out" in second["stdout"] and len(second["stdout"]) < 1100


def test_a_shell_call_that_hangs_is_a_timeout(sdk, shared):
    call = Call(type="shell_call", call_id="c2", action={"commands": ["sleep 600"], "timeout_ms": 1})
    assert answer(sdk, call, shared.id)["output"][0]["outcome"] == {"type": "timeout"}
