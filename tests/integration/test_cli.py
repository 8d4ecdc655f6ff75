"""hearth, the program: what it prints, what it exits with, whom it talks to."""

import json
import os
import pty
import re
import signal
import subprocess

import pytest

from harness.images import ENVIRONMENT
from harness.waiting import until

WORKSPACE_ID = re.compile(r"ws_[a-z2-7]{16}")


class Cli:
    """hearth with an environment of its own; a call gives the finished process."""

    def __init__(self, bin_dir, **environment):
        kept = {key: value for key, value in os.environ.items()
                if not key.startswith(("HEARTH_", "HEARTHD_", "XDG_"))}
        self.program = str(bin_dir / "hearth")
        self.environment = {**kept, **environment}

    def __call__(self, *words, stdin=subprocess.DEVNULL, **options):
        if isinstance(stdin, str):
            options["input"] = stdin
        else:
            options["stdin"] = stdin
        return subprocess.run([self.program, *map(str, words)], capture_output=True, text=True,
                              timeout=120, env=self.environment, **options)

    def ok(self, *words, **options):
        done = self(*words, **options)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def json(self, *words, **options):
        return json.loads(self.ok(*words, "--json", **options).stdout)


@pytest.fixture
def hearth(bin_dir, daemon):
    return Cli(bin_dir, HEARTH_URL=f"unix://{daemon.socket_path}")


# Words

def test_it_names_its_version(bin_dir):
    hearth, hearthd = (subprocess.run([bin_dir / name, "--version"], capture_output=True, text=True)
                       for name in ("hearth", "hearthd"))
    assert re.fullmatch(r"hearth \d+\.\d+\.\d+\n", hearth.stdout)
    assert hearth.stdout.split()[1] in hearthd.stdout


def test_help_names_every_command_and_each_has_its_own(bin_dir):
    cli = Cli(bin_dir)
    listed = re.findall(r"^  ([a-z -]+?)  +\S", cli.ok("--help").stdout, re.M)
    assert listed == [line.split("\t")[0] for line in
                      cli.ok("--list-commands").stdout.splitlines()]
    assert {"run", "workspace create", "workspace file read", "env pull", "tenant create",
            "doctor"} <= set(listed)
    for command in listed:
        assert f"usage: hearth {command}" in cli.ok(*command.split(), "--help").stdout


def test_help_lists_commands_noun_by_noun(bin_dir):
    cli = Cli(bin_dir)
    listed = [line.split("\t")[0] for line in cli.ok("--list-commands").stdout.splitlines()]
    nouns = [" ".join(command.split()[:-1]) or command for command in listed]
    order = list(dict.fromkeys(nouns))
    assert len(order) == sum(a != b for a, b in zip(nouns, [None, *nouns])), "each noun stands together"
    assert order == ["run", "workspace", "workspace exec", "workspace file", "workspace sync",
                     "workspace patch", "workspace snapshot", "workspace shell",
                     "workspace service", "workspace disk", "env", "vm", "tenant", "secret",
                     "store", "events", "mcp", "doctor"]
    shown = re.findall(r"^  (workspace [a-z -]+?)  +\S", cli.ok("workspace", "--help").stdout, re.M)
    assert shown == [command for command in listed if command.startswith("workspace ")]
    widths = {len(re.match(r"  [a-z -]+?  +", line)[0]) for line in
              cli.ok("--help").stdout.splitlines() if line.startswith("  ")}
    assert len(widths) == 1


@pytest.mark.parametrize("words", [[], ["nosuch"], ["workspace"], ["workspace", "nosuch"],
                                   ["workspace", "status"], ["workspace", "status", "a", "b"],
                                   ["workspace", "create", "x", "--nosuch"],
                                   ["workspace", "create", "x", "--mem-mib", "much"],
                                   ["workspace", "create", "x", "--label", "no-equals-sign"],
                                   ["workspace", "exec", "ws_x"],
                                   ["workspace", "exec", "ws_x", "--detach", "--wait-ms", "1", "ls"],
                                   ["workspace", "exec", "ws_x", "--wait-ms", "soon", "ls"],
                                   ["workspace", "exec", "status", "ws_x"],
                                   ["workspace", "exec", "cancel", "ws_x", "ex_x", "more"],
                                   ["workspace", "file", "read", "ws_x", "f", "--max-bytes", "0"],
                                   ["workspace", "file", "read", "ws_x", "f", "--offset", "-1"],
                                   ["workspace", "file", "read", "ws_x", "f", "--offset", "9" * 18],
                                   ["workspace", "file", "read", "ws_x", "f", "--encoding", "base64"],
                                   ["vm"], ["vm", "start"], ["vm", "exec", "vm_x"],
                                   ["vm", "create", "x", "--mem-mib", "much"],
                                   ["vm", "status", "vm_x", "vm_y"], ["vm", "reap-expired", "x"],
                                   ["run", "debian:12", "--"]])
def test_wrong_words_are_told_and_exit_2(bin_dir, words):
    done = Cli(bin_dir, HEARTH_URL="unix:///nonexistent")(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "hearth" in done.stderr


# Errors

def test_an_error_is_one_line_with_its_hint_and_exit_1(hearth):
    done = hearth("workspace", "status", "ws_aaaaaaaaaaaaaaaa")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"hearth: [^\n]+\n", done.stderr)


def test_with_json_an_error_is_the_problem_object(hearth):
    done = hearth("workspace", "create", "nosuch:1", "--json")
    assert done.returncode == 1
    problem = json.loads(done.stdout)
    assert problem["code"] == "unknown_environment"
    assert problem["status"] in (404, 422)


def test_no_daemon_where_one_is_said_to_be(bin_dir):
    done = Cli(bin_dir, HEARTH_URL="unix:///nonexistent/socket")("workspace", "list", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "daemon_unreachable"
    assert "HEARTH_URL" in done.stderr


def test_a_url_that_is_none_is_refused(bin_dir):
    done = Cli(bin_dir, HEARTH_URL="ftp://localhost")("workspace", "list")
    assert done.returncode == 1
    assert "HEARTH_URL" in done.stderr


# Whom it talks to

@pytest.mark.parametrize("how", ["HEARTH_TOKEN", "HEARTH_TOKEN_FILE"])
def test_over_tcp_it_shows_its_token(bin_dir, daemon, how):
    value = daemon.token if how == "HEARTH_TOKEN" else str(daemon.token_path)
    cli = Cli(bin_dir, HEARTH_URL=daemon.url, **{how: value})
    assert "workspaces" in cli.json("workspace", "list")


def test_over_tcp_without_a_token_it_is_turned_away(bin_dir, daemon):
    done = Cli(bin_dir, HEARTH_URL=daemon.url)("workspace", "list")
    assert done.returncode == 1
    assert "token" in done.stderr


# A workspace's life

def test_create_prints_the_id_and_no_more_and_it_stops_and_starts(hearth):
    done = hearth.ok("workspace", "create", ENVIRONMENT, "--id-only", "--name", "from-cli",
                     "--label", "a=1", "--label", "b=x=y")
    workspace_id = done.stdout.strip()
    try:
        assert WORKSPACE_ID.fullmatch(workspace_id)
        status = hearth.json("workspace", "status", workspace_id)
        assert status["name"] == "from-cli"
        assert status["labels"] == {"a": "1", "b": "x=y"}
        listed = hearth.json("workspace", "list", "--label", "b=x=y")
        assert [row["workspace_id"] for row in listed["workspaces"]] == [workspace_id]
        assert hearth.json("workspace", "stop", workspace_id)["state"] == "stopped"
        started = hearth.ok("workspace", "start", workspace_id)
        assert f"[workspace-start] workspace_id={workspace_id} " in started.stderr
    finally:
        deleted = hearth.ok("workspace", "delete", workspace_id)
    assert f"workspace_id={workspace_id}" in deleted.stderr


def test_update_changes_what_is_said(hearth, workspace):
    hearth.ok("workspace", "update", workspace.id, "--name", "new", "--label", "k=v")
    status = hearth.json("workspace", "update", workspace.id, "--clear-name", "--clear-label", "k")
    assert (status["name"], status["labels"]) == (None, {})
    assert hearth("workspace", "update", workspace.id).returncode == 1


def test_the_table_of_workspaces_has_all_pages(hearth, workspace_factory):
    ids = {workspace_factory().id for _ in range(3)}
    done = hearth.ok("workspace", "list", "--limit", "1")
    assert ids <= set(WORKSPACE_ID.findall(done.stdout))


@pytest.fixture
def tree(tmp_path):
    """A directory with what a copy can get wrong."""
    root = tmp_path / "tree"
    (root / "sub/deep").mkdir(parents=True)
    (root / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (root / "run.sh").chmod(0o755)
    (root / "sub/data.bin").write_bytes(bytes(range(256)) * 1000)
    os.link(root / "sub/data.bin", root / "sub/deep/same.bin")
    (root / "link").symlink_to("/etc/hostname")
    (root / ("long" * 40)).write_text("x")
    (root / "skip.o").write_text("x")
    (root / ".cache").mkdir()
    (root / ".cache/y").write_text("x")
    os.mkfifo(root / "pipe")
    return root


def test_a_directory_seeds_a_workspace_as_it_is(hearth, tree):
    done = hearth.ok("workspace", "create", ENVIRONMENT, "--id-only", "--seed-path", tree,
                     "--exclude", "*.o", "--exclude", ".cache")
    workspace_id = done.stdout.strip()
    try:
        assert "left out 1" in done.stderr
        found = hearth.ok("workspace", "exec", workspace_id, "--",
                          "./run.sh; stat -c '%a %h' run.sh sub/data.bin; readlink link; "
                          "md5sum < sub/data.bin; find . | sort | head -c 1000").stdout.splitlines()
        md5 = subprocess.run(["md5sum"], stdin=open(tree / "sub/data.bin"), capture_output=True,
                             text=True).stdout.strip()
        assert found[:5] == ["ran", "755 1", "644 2", "/etc/hostname", md5]
        assert found[5:] == [".", "./link", "./" + "long" * 40, "./run.sh", "./sub",
                             "./sub/data.bin", "./sub/deep", "./sub/deep/same.bin"]
    finally:
        hearth.ok("workspace", "delete", workspace_id)


def test_a_tar_seeds_a_workspace_too(hearth, tree, tmp_path):
    subprocess.run(["tar", "-C", tree, "-czf", tmp_path / "seed.tar.gz", "run.sh", "link"],
                   check=True)
    done = hearth.ok("workspace", "create", ENVIRONMENT, "--id-only", "--seed-path",
                     tmp_path / "seed.tar.gz")
    workspace_id = done.stdout.strip()
    try:
        assert hearth.ok("workspace", "exec", workspace_id, "./run.sh").stdout == "ran\n"
    finally:
        hearth.ok("workspace", "delete", workspace_id)


def test_a_directory_that_is_not_there_makes_no_workspace(hearth, client):
    before = client.get("/v1/workspaces")["count"]
    done = hearth("workspace", "create", ENVIRONMENT, "--seed-path", "/nonexistent")
    assert done.returncode == 1
    assert "/nonexistent" in done.stderr
    assert client.get("/v1/workspaces")["count"] == before


# Commands

def test_exec_passes_output_and_status_on(hearth, workspace):
    done = hearth("workspace", "exec", workspace.id, "--", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.splitlines()[0] == "err"
    assert re.match(r"\[workspace-exec\] .*exit_code=7", done.stderr.splitlines()[1])


def test_exec_of_several_words_keeps_their_borders(hearth, workspace):
    done = hearth.ok("workspace", "exec", workspace.id, "printf", "%s|", "a b", "", "$HOME", "it's")
    assert done.stdout == "a b||$HOME|it's|"


def test_exec_takes_directory_variables_and_stdin(hearth, workspace):
    done = hearth.ok("workspace", "exec", workspace.id, "--cwd", "/tmp", "--env", "A=1=2",
                     "--", "pwd; echo $A; cat", stdin="piped in\n")
    assert done.stdout == "/tmp\n1=2\npiped in\n"


def test_exec_ends_at_its_timeout_with_124(hearth, workspace):
    done = hearth("workspace", "exec", workspace.id, "--timeout-seconds", "3", "--", "echo first; sleep 60")
    assert (done.returncode, done.stdout) == (124, "first\n")
    assert "timed_out=yes" in done.stderr


def test_exec_shows_output_as_it_comes(hearth, workspace):
    """The command goes on only after what it wrote has been read here."""
    process = subprocess.Popen(
        [hearth.program, "workspace", "exec", workspace.id, "--no-stdin", "--",
         "echo ready; while [ ! -e go ]; do sleep 0.05; done; echo gone"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=hearth.environment)
    assert process.stdout.readline() == "ready\n"
    workspace.write("go", "")
    assert process.stdout.read() == "gone\n"
    assert process.wait(timeout=60) == 0


def test_exec_keeps_bytes_that_are_no_text(hearth, workspace):
    done = subprocess.run([hearth.program, "workspace", "exec", workspace.id, "--",
                           r"printf '\377\000\303'"], env=hearth.environment, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True)
    assert done.stdout == b"\xff\x00\xc3"


@pytest.mark.parametrize("words", ["workspace exec {id}", "workspace exec {id} --wait-ms 60000", f"run {ENVIRONMENT}"],
                         ids=["exec", "waited", "run"])
def test_no_byte_of_the_output_is_lost(hearth, workspace, words):
    """Neither a NUL, at which a string of C ends, nor what is behind it."""
    data = b"a\0b\n" + bytes(200000) + bytes(range(256))
    printed = "".join(f"\\{byte:03o}" for byte in range(256))
    command = f"printf 'a\\0b\\n'; head -c 200000 /dev/zero; printf '{printed}'"
    done = subprocess.run([hearth.program, *words.format(id=workspace.id).split(), "--", f"{command}; ({command}) >&2"],
                          env=hearth.environment, capture_output=True, check=True)
    assert done.stdout == data
    assert done.stderr.startswith(data)


def test_a_command_that_cannot_start_says_why(hearth, workspace):
    done = hearth("workspace", "exec", workspace.id, "--cwd", "/nowhere", "--", "ls")
    assert (done.returncode, done.stdout) == (126, "")
    assert "cannot change to the directory /nowhere: No such file or directory" in done.stderr


def test_that_a_container_is_fine_can_be_said(hearth):
    workspace_id = hearth.ok("workspace", "create", ENVIRONMENT, "--allow-host-compat", "--id-only").stdout.strip()
    assert hearth.json("workspace", "status", workspace_id)["allow_host_compat"]
    hearth.ok("workspace", "delete", workspace_id)
    assert hearth.ok("run", ENVIRONMENT, "--allow-host-compat", "--", "echo fine").stdout == "fine\n"


def test_interrupting_exec_ends_the_command(hearth, workspace):
    process = subprocess.Popen(
        [hearth.program, "workspace", "exec", workspace.id, "--no-stdin", "--timeout", "600", "--",
         "echo $$; exec sleep 600"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=hearth.environment)
    pid = process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    ended = workspace.exec(f"for i in $(seq 1200); do [ -e /proc/{pid} ] || exit 0; sleep 0.05; "
                           "done; exit 1", timeout_seconds=120)
    assert ended["exit_code"] == 0


@pytest.mark.parametrize("words, told", [
    (["workspace"], None), (["workspace", "file"], None), (["workspace", "shell"], None), (["vm"], None),
    (["workspace", "nosuch"], "hearth: workspace has no verb 'nosuch'"),
    (["workspace", "file", "nosuch", "x"], "hearth: workspace file has no verb 'nosuch'"),
    (["tenant", "nosuch"], "hearth: tenant has no verb 'nosuch'")])
def test_a_noun_without_a_verb_of_its_lists_those_it_has(bin_dir, words, told):
    noun = " ".join(words[:-1 if told else None][:2]).removesuffix(" nosuch")
    done = Cli(bin_dir, HEARTH_URL="unix:///nonexistent")(*words)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert lines[:2 if told else 1] == [*([told] if told else []), f"usage: hearth {noun} VERB [WORDS] [--json] [--help]"]
    assert all(line.startswith(f"  {noun} ") for line in lines[3 if told else 2:]) and len(lines) > 4
    helped = Cli(bin_dir, HEARTH_URL="unix:///nonexistent").ok(*noun.split(), "--help")
    assert helped.stdout.splitlines() == lines[1 if told else 0:]


def test_exec_with_json_is_the_whole_result(hearth, workspace):
    done = hearth("workspace", "exec", workspace.id, "--json", "--", "echo x; exit 3")
    result = json.loads(done.stdout)
    assert done.returncode == 3
    assert (result["stdout"], result["exit_code"]) == ("x\n", 3)


def test_a_detached_command_is_looked_at_and_waited_for(hearth, workspace):
    """It ends only after it was seen to run."""
    started = hearth.ok("workspace", "exec", workspace.id, "--detach", "--",
                        r"printf 'one\377\n'; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 3")
    exec_id = started.stdout.strip()
    assert re.fullmatch(r"ex_[a-z2-7]{16}", exec_id)
    assert f"exec_id={exec_id} running=yes" in started.stderr
    status = ("workspace", "exec", "status", workspace.id, exec_id)
    assert hearth.json(*status)["running"]
    workspace.write("go", "")
    ended = subprocess.run([hearth.program, *status, "--wait-ms", "60000"], capture_output=True,
                           env=hearth.environment, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, b"one\xff\ntwo\n")
    assert re.match(rb"\[workspace-exec-status\] .*running=no exit_code=3 ", ended.stderr)
    cursor = hearth.json(*status)["cursor"]
    assert hearth.ok(*status, "--cursor", cursor).stdout == ""
    made = hearth.ok("workspace", "exec", workspace.id, "--detach", "--json", "--", "exit 7")
    assert json.loads(made.stdout)["exec_id"] != exec_id


def test_a_wait_is_bounded_and_the_command_goes_on_until_it_is_cancelled(hearth, workspace):
    done = hearth("workspace", "exec", workspace.id, "--wait-ms", "60000", "--",
                  "echo out; echo err >&2; exit 4")
    assert (done.returncode, done.stdout) == (4, "out\n")
    assert done.stderr.startswith("err\n[workspace-exec] ")
    past = hearth.ok("workspace", "exec", workspace.id, "--wait-ms", "1", "--timeout", "600", "--",
                     "sleep 600")
    assert "running=yes" in past.stderr
    exec_id = re.search(r"exec_id=(\w+)", past.stderr)[1]
    cancelled = hearth.ok("workspace", "exec", "cancel", workspace.id, exec_id)
    assert re.match(r"\[workspace-exec-cancel\] .*running=no .*cancelled=yes", cancelled.stderr)
    past = hearth.ok("workspace", "exec", workspace.id, "--wait-ms", "1", "--json", "sleep", "9")
    assert json.loads(past.stdout)["exit_code"] is None


@pytest.mark.parametrize("verb", ["status", "cancel"])
def test_a_command_that_is_not_there_is_one_line_and_exit_1(hearth, workspace, verb):
    words = ("workspace", "exec", verb, workspace.id, "ex_aaaaaaaaaaaaaaaa")
    done = hearth(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"hearth: [^\n]+\n", done.stderr)
    assert json.loads(hearth(*words, "--json").stdout)["code"] == "exec_not_found"


def test_logs_show_what_ran(hearth, workspace):
    hearth.ok("workspace", "exec", workspace.id, "--", "echo first-command")
    assert "first-command" in hearth.ok("workspace", "logs", workspace.id).stdout


def test_what_comes_after_a_nul_is_shown_too(hearth, workspace):
    command = r"printf 'a\0b\\u0000\n'; printf 'e\0f\n' >&2"
    hearth.ok("workspace", "exec", workspace.id, "--", command + "; printf 'g\\0h' >file")
    assert "a\ufffdb\\u0000\ne\ufffdf\n" in hearth.ok("workspace", "logs", workspace.id).stdout
    hearth.ok("workspace", "service", "start", workspace.id, "web", "--", command + "; sleep 60")
    until(lambda: "e\ufffdf\n" in hearth.ok("workspace", "service", "logs", workspace.id, "web").stderr)
    assert hearth.ok("workspace", "service", "logs", workspace.id, "web").stdout == "a\ufffdb\\u0000\n"
    hearth.ok("workspace", "stop", workspace.id)
    assert hearth.ok("workspace", "disk", "read", workspace.id, "file").stdout == "g\ufffdh"


def test_logs_say_how_to_go_on_where_there_are_more(hearth, workspace):
    for name in ("first", "second"):
        hearth.ok("workspace", "exec", workspace.id, "--", f"echo {name}-command")
    page = hearth.ok("workspace", "logs", workspace.id, "--limit", "1")
    cursor = re.search(r"\(there are more: --cursor (\S+)\)", page.stderr)[1]
    rest = hearth.ok("workspace", "logs", workspace.id, "--cursor", cursor)
    assert "second-command" in rest.stdout and "first-command" not in rest.stdout
    assert "there are more" not in rest.stderr


def test_run_runs_one_command_and_leaves_nothing(hearth, client):
    before = client.get("/v1/workspaces")["count"]
    done = hearth("run", ENVIRONMENT, "--", "uname -s; exit 5")
    assert (done.returncode, done.stdout) == (5, "Linux\n")
    assert "exit_code=5" in done.stderr
    assert client.get("/v1/workspaces")["count"] == before


# Machines, step by step

def test_a_machine_is_made_started_used_once_and_gone(hearth):
    vm_id = hearth.ok("vm", "create", ENVIRONMENT, "--id-only", "--ttl-seconds", "300", "--mem-mib",
                      "512").stdout.strip()
    assert re.fullmatch(r"vm_[a-z2-7]{16}", vm_id)
    early = hearth("vm", "exec", vm_id, "--", "true")
    assert (early.returncode, early.stdout) == (1, "")
    assert re.fullmatch(r"hearth: [^\n]+\n", early.stderr)
    for verb, state in (("start", "started"), ("stop", "stopped"), ("start", "started"), ("status", "started")):
        done = hearth.ok("vm", verb, vm_id)
        assert done.stderr == f"[vm-{verb}] vm_id={vm_id} state={state}\n"
        assert f"vm_id: {vm_id}\n" in done.stdout and "mem_mib: 512\n" in done.stdout
    info = hearth.ok("vm", "network-info", vm_id)
    assert "network_enabled: no\n" in info.stdout and "guest_ip: -\n" in info.stdout
    done = hearth("vm", "exec", vm_id, "--timeout", "20", "--", "echo out; echo err >&2; exit 6")
    assert (done.returncode, done.stdout) == (6, "out\n")
    assert re.match(rf"err\n\[vm-exec\] vm_id={vm_id} exit_code=6 .*deleted=yes", done.stderr)
    gone = hearth("vm", "status", vm_id, "--json")
    assert (gone.returncode, json.loads(gone.stdout)["code"]) == (1, "vm_not_found")


def test_machines_are_deleted_at_ones_word(hearth):
    made = hearth.json("vm", "create", ENVIRONMENT)
    assert made["state"] == "created"
    deleted = hearth.ok("vm", "delete", made["vm_id"])
    assert deleted.stderr == f"[vm-delete] vm_id={made['vm_id']} deleted=yes reason=explicit_delete\n"
    reaped = hearth.ok("vm", "reap-expired")
    assert re.fullmatch(r"\[vm-reap-expired\] count=\d+\n", reaped.stderr)
    assert isinstance(hearth.json("vm", "reap-expired")["removed_vm_ids"], list)


# Files

def test_files_go_there_and_back_byte_for_byte(hearth, workspace, tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "there").write_bytes(data)
    hearth.ok("workspace", "file", "write", workspace.id, "a/b.bin", "--from", tmp_path / "there",
              "--mode", "0755")
    hearth.ok("workspace", "file", "read", workspace.id, "a/b.bin", "--output", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert workspace.exec("stat -c %a a/b.bin")["stdout"] == "755\n"


def test_a_file_that_cannot_be_read_leaves_none_here(hearth, workspace, tmp_path):
    done = hearth("workspace", "file", "read", workspace.id, "nosuch", "--output", tmp_path / "f")
    assert done.returncode == 1
    assert not (tmp_path / "f").exists()


def test_a_part_of_a_file_is_read(hearth, workspace):
    hearth.ok("workspace", "file", "write", workspace.id, "f", "--text", "0123456789")
    hearth.ok("workspace", "file", "write", workspace.id, "empty", "--text", "")
    read = ("workspace", "file", "read", workspace.id)
    for options, wanted in {"--offset 4": "456789", "--max-bytes 3": "012",
                            "--offset 4 --max-bytes 2": "45", "--offset 8 --max-bytes 99": "89",
                            f"--max-bytes {2**62}": "0123456789"}.items():
        assert hearth.ok(*read, "f", *options.split()).stdout == wanted
    assert hearth.ok(*read, "empty", "--max-bytes", "5").stdout == ""
    part = hearth.json(*read, "f", "--offset", "4", "--max-bytes", "2", "--encoding", "base64")
    assert (part["content"], part["offset"], part["truncated"]) == ("NDU=", 4, True)
    for past in (["--offset", "11"], ["--json", "--encoding", "rot13"]):
        done = hearth(*read, "f", *past)
        assert done.returncode == 1
        assert re.fullmatch(r"hearth: [^\n]+\n", done.stderr)


def test_file_write_takes_text_or_stdin(hearth, workspace):
    hearth.ok("workspace", "file", "write", workspace.id, "t", "--text", "from words")
    assert hearth.ok("workspace", "file", "read", workspace.id, "t").stdout == "from words"
    hearth.ok("workspace", "file", "write", workspace.id, "t", stdin="from stdin")
    assert hearth.json("workspace", "file", "read", workspace.id, "t")["content"] == "from stdin"


def test_file_list_is_a_table(hearth, workspace):
    workspace.write("dir/file", "12345")
    lines = hearth.ok("workspace", "file", "list", workspace.id, "--recursive").stdout.splitlines()
    assert lines[0].split() == ["TYPE", "SIZE", "MODE", "PATH", "TARGET"]
    assert any(re.match(r"file +5 .*dir/file", line) for line in lines)


def test_names_cannot_move_the_cursor(hearth, workspace):
    workspace.exec(r"touch \"$(printf 'a\033[2Jb')\"".replace('\\"', '"'))
    assert "\033" not in hearth.ok("workspace", "file", "list", workspace.id).stdout


# Environments, tenants, doctor

def test_environments_are_listed_pulled_and_inspected(hearth):
    assert ENVIRONMENT in hearth.ok("env", "list").stdout
    pulled = hearth.json("env", "pull", ENVIRONMENT)
    inspected = hearth.json("env", "inspect", ENVIRONMENT)
    assert pulled["version"] == inspected["version"]
    assert re.fullmatch(r"[0-9a-f]{64}", inspected["version"])


def test_a_tenants_token_works_until_it_is_revoked(hearth, bin_dir, daemon):
    name = f"t-{os.getpid()}"
    hearth.ok("tenant", "create", name)
    made = hearth.json("tenant", "token", name, "--rights", "operate", "--note", "for a test")
    tenant = Cli(bin_dir, HEARTH_URL=daemon.url, HEARTH_TOKEN=made["token"])
    assert tenant.json("workspace", "list")["count"] == 0
    assert tenant("tenant", "list").returncode == 1
    assert made["token"] not in hearth.ok("tenant", "tokens", name).stdout
    hearth.ok("tenant", "revoke", name, made["token_id"])
    assert tenant("workspace", "list").returncode == 1


def test_a_tenants_lists_are_replaced_by_none_too(hearth):
    name = f"l-{os.getpid()}"
    hearth.ok("tenant", "create", name, "--host-root", "/srv")
    assert hearth.json("tenant", "update", name, "--host-root", "/opt")["host_roots"] == ["/opt"]
    assert hearth.json("tenant", "update", name)["host_roots"] == []
    allowed = hearth.json("tenant", "network", name, "listed", "--allow", "packages.example")
    assert (allowed["network_mode"], allowed["network_allow"]) == ("listed", ["packages.example"])
    assert hearth.json("tenant", "network", name, "listed")["network_allow"] == []


def test_doctor_says_what_this_host_can_do(hearth):
    said = hearth.ok("doctor").stdout
    assert re.search(r"driver oci", said)
    assert re.search(r"driver qemu", said)
    assert "(chosen)" in said
    assert re.search(r"driver \w+ .*, found out in \d+ ms", said)


# A terminal

def test_progress_is_drawn_only_for_a_terminal(hearth, tree):
    """The same upload with stderr as a pipe says nothing of its progress."""
    created = []
    words = [hearth.program, "workspace", "create", ENVIRONMENT, "--id-only", "--seed-path",
             str(tree)]
    try:
        main, side = pty.openpty()
        process = subprocess.Popen(words, env=hearth.environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=side, text=True)
        os.close(side)
        created.append(process.communicate(timeout=60)[0].strip())
        drawn = os.read(main, 65536)
        os.close(main)
        done = subprocess.run(words, env=hearth.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        created.append(done.stdout.strip())
        assert b"uploading" in drawn and b"\r" in drawn
        assert "uploading" not in done.stderr
    finally:
        for workspace_id in filter(None, created):
            hearth("workspace", "delete", workspace_id)


# What every command prints

def told(done, verb):
    """The one line on stderr."""
    assert re.fullmatch(rf"\[{verb}\]( \S+=.*|  ?\d+ workspaces?)?\n", done.stderr), done.stderr
    return done.stdout


def test_every_list_and_every_status_is_plain_lines_and_one_summary(hearth, workspace):
    workspace = workspace.id
    hearth.ok("workspace", "exec", workspace, "--", "echo hi >f")
    hearth.ok("workspace", "snapshot", "create", workspace, "one")
    shell = told(hearth.ok("workspace", "shell", "open", workspace), "workspace-shell-open")
    assert re.fullmatch(r"sh_[a-z2-7]{16}\n", shell)
    hearth.ok("workspace", "service", "start", workspace, "web", "--", "sleep 600")
    rows = {"workspace list": "ID", "workspace file list": "TYPE", "workspace changes": "STATUS",
            "workspace snapshot list": "NAME", "workspace shell list": "ID",
            "workspace service list": "NAME", "workspace network-log": "DECISION",
            "env list": "NAME", "tenant list": "NAME", "tenant tokens": "ID"}
    fields = {"workspace status": "workspace_id: ", "workspace summary": "workspace_id: ",
              "workspace service status": "workspace_id: ", "env inspect": "name: "}
    for command, begins in {**rows, **fields}.items():
        words = {"workspace service status": [workspace, "web"], "env inspect": [ENVIRONMENT],
                 "tenant tokens": ["admin"]}.get(
            command, [workspace] if command.startswith("workspace ") and command != "workspace list"
            else [])
        printed = told(hearth.ok(*command.split(), *words), command.replace(" ", "-"))
        assert printed.startswith(begins) and "{" not in printed, printed
        assert isinstance(hearth.json(*command.split(), *words), dict)


def test_a_summary_s_members_are_indented_lines(hearth, workspace):
    workspace = workspace.id
    hearth.ok("workspace", "exec", workspace, "--", "echo hi >f")
    printed = hearth.ok("workspace", "summary", workspace).stdout
    assert re.search(r"^commands:\n  entries:\n    - sequence=1  exec_id=ex_\w+  command=echo hi >f  "
                     r"exit_code=0", printed, re.M)
    assert re.search(r"^changes:\n  total: 1\n  added: 1\n", printed, re.M)
    assert re.search(r"^  entries:\n    - path=f  status=added$", printed, re.M)
    assert re.search(r"^exports: -$", printed, re.M)


def test_a_shell_takes_text_without_enter(hearth, workspace):
    shell = hearth.ok("workspace", "shell", "open", workspace.id).stdout.strip()
    hearth.ok("workspace", "shell", "write", workspace.id, shell, "echo one-", "--no-newline")
    hearth.ok("workspace", "shell", "write", workspace.id, shell, "line")
    printed = ""
    while "\none-line\n" not in printed:
        printed = hearth.ok("workspace", "shell", "read", workspace.id, shell, "--plain",
                            "--wait-for-idle-ms", "200").stdout


def test_what_goes_wrong_here_is_told_as_the_daemon_tells_what_goes_wrong_there(hearth, workspace, tmp_path):
    ours = hearth("workspace", "sync", "push", workspace.id, str(tmp_path / "absent"), "--json")
    theirs = hearth("workspace", "file", "read", workspace.id, "absent", "--json")
    assert json.loads(ours.stdout).keys() == json.loads(theirs.stdout).keys()
    problem = json.loads(ours.stdout)
    assert problem["code"] == "cannot_read" and problem["hint"] and problem["hint"] in ours.stderr


def test_a_word_that_is_missing_is_named(hearth):
    assert "WORKSPACE_ID is missing" in hearth("workspace", "status").stderr
    assert "PATH is missing" in hearth("workspace", "file", "read", "x").stderr
