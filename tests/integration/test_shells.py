"""Shells of a workspace: opened, typed into, read as they are and as a person sees them, signalled, closed."""

import json
import os
import subprocess
import time

import pytest

from harness.daemon import BIN

SIGNALS = ["HUP", "INT", "QUIT", "TERM", "KILL"]
SHELL = {"workspace_id", "shell_id", "cwd", "cols", "rows", "state", "started_at", "ended_at", "exit_code",
         "execution_mode"}


class Shell:
    def __init__(self, workspace, client=None, **arguments):
        self.workspace, self.client = workspace, client or workspace.client
        self.opened = self.client.post(f"{workspace.path}/shells", arguments)
        self.id = self.opened["shell_id"]
        self.path = f"{workspace.path}/shells/{self.id}"

    def type(self, text, **arguments):
        return self.client.post(f"{self.path}/input", {"input": text, **arguments})

    def read(self, **query):
        return self.client.get(self.path, **query)

    def plain(self, idle=300, **query):
        return self.read(plain="true", wait_for_idle_ms=idle, **query)["output"]

    def until(self, text, **query):
        deadline = time.monotonic() + 60
        while text not in (said := self.read(**query)["output"]):
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        return said

    def signal(self, name):
        return self.client.post(f"{self.path}/signal", {"signal_name": name})

    def close(self):
        return self.client.request("DELETE", self.path)


@pytest.fixture(scope="module")
def module_workspace(either_daemon):
    from conftest import Workspace
    with either_daemon.client(timeout=300) as client:
        made = Workspace(client, mem_mib=256)
        yield made
        made.delete()


@pytest.fixture
def shell(module_workspace):
    made = Shell(module_workspace)
    made.until("hearth$ ")
    yield made
    made.client.request("DELETE", made.path)


def problem(reply, status, code, field=None):
    body = reply.json()
    assert (reply.status, body["code"], body["field"]) == (status, code, field), body
    return body


def test_a_shell_has_the_contracts_fields(module_workspace):
    shell = Shell(module_workspace, cwd="/tmp", cols=99, rows=33)
    assert SHELL <= set(shell.opened)
    assert (shell.opened["cwd"], shell.opened["cols"], shell.opened["rows"]) == ("/tmp", 99, 33)
    assert shell.opened["state"] == "running" and shell.opened["exit_code"] is shell.opened["ended_at"] is None
    assert shell.opened["execution_mode"] == module_workspace.status()["execution_mode"]
    shell.type("tty; stty size; pwd; echo $TERM")
    said = shell.until("xterm-256color\r\n")
    assert "/dev/pts/" in said and "33 99\r\n" in said and "/tmp\r\n" in said
    read = shell.read(max_chars=5)
    assert SHELL | {"cursor", "next_cursor", "output", "truncated"} <= set(read)
    assert read["truncated"] and read["next_cursor"] == 5 and read["cursor"] == 0
    closed = shell.close().json()
    assert closed["closed"] is True and closed["state"] == "stopped" and SHELL <= set(closed)
    problem(module_workspace.client.request("GET", shell.path), 404, "shell_not_found", "/shell_id")


def test_an_open_answers_once_the_shell_has_written(module_workspace):
    for _ in range(5):  # what is typed before that would be echoed by the terminal and by the shell
        shell = Shell(module_workspace)
        assert shell.read()["next_cursor"] > 0
        shell.close()


def test_state_is_kept_between_commands_and_reads_consume_nothing(shell):
    written = shell.type("cd /; X=kept")
    assert written["input_length"] == len("cd /; X=kept\n") and written["append_newline"] is True
    shell.type("ec", append_newline=False)
    shell.type("ho $PWD-$X")
    first = shell.until("/-kept\r\n")
    again = shell.read()
    assert again["output"].startswith(first) and again["next_cursor"] == len(again["output"])
    rest = shell.read(cursor=again["next_cursor"])
    assert rest["output"] == "" and rest["next_cursor"] == again["next_cursor"] and not rest["truncated"]


def test_plain_is_what_a_person_sees(shell):
    shell.type("printf 'a\\rb\\033[31mc\\033[0m\\n10%%\\r 55%%\\r100%%\\n'; printf '\\344\\270\\255\\n'; clear; echo seen")
    shell.until("Jseen\r\n")  # not the command's echo
    assert shell.plain() == "seen\nhearth$ "
    shell.type("printf '10%%\\r 55%%\\r100%%\\n'; printf 'x\\bcafe\\314\\201\\n'")
    shell.until("cafe\u0301\r\n")
    plain = shell.plain()
    assert "\n100%\n" in plain and "cafe\u0301\n" in plain and plain.endswith("hearth$ ")
    assert not [c for c in plain if ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160]


def test_a_pager_is_seen_as_its_screen(shell):
    shell.type("seq -f 'line %03.0f' 1 200 | less")
    shell.until("line 029")
    seen = shell.plain()
    lines = seen.splitlines()
    assert lines[-30:-1] == [f"line {i:03}" for i in range(1, 30)] and lines[-1].startswith(":")
    shell.type(" ", append_newline=False)
    shell.until("line 058")
    lines = shell.plain().splitlines()
    assert "line 030" in lines and "line 058" in lines and "line 010" not in lines[-30:]
    shell.type("q", append_newline=False)
    shell.until("?1049l")
    assert shell.plain().endswith("hearth$ ") and "line 030" not in shell.plain()


def test_idle_is_waited_for_and_no_longer(shell):
    shell.type("for i in 1 2 3; do echo tick-$i; sleep 0.1; done; sleep 100")
    state = shell.read(wait_for_idle_ms=2000)  # an emulated guest is slow to start a sleep
    assert state["idle"] and "tick-3" in state["output"]
    shell.signal("INT")


def test_a_signal_goes_to_what_runs_in_the_foreground(shell):
    shell.type("sh -c 'echo up; sleep 1000'")
    shell.until("up\r\n")
    sent = shell.signal("INT")
    assert sent["signal"] == "INT" and sent["state"] == "running"
    shell.type("echo status-$?")
    shell.until("status-130\r\n")


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_is_sent(module_workspace, name):
    shell = Shell(module_workspace)
    shell.type("sh -c 'trap \"echo got-it\" INT QUIT TERM HUP; echo up; while :; do sleep 0.05; done'")
    shell.until("up\r\n")
    assert shell.signal(name)["signal"] == name
    shell.until("Killed" if name == "KILL" else "got-it")
    shell.close()


def test_a_shell_that_ended_tells_how(module_workspace):
    shell = Shell(module_workspace)
    shell.type("exit 7")
    deadline = time.monotonic() + 60
    while (state := shell.read())["state"] != "stopped":
        assert time.monotonic() < deadline
    assert state["exit_code"] == 7 and state["ended_at"] >= state["started_at"] - 1 and "exit 7" in state["output"]
    client = module_workspace.client
    problem(client.request("POST", f"{shell.path}/input", {"input": "x"}), 409, "shell_ended")
    problem(client.request("POST", f"{shell.path}/signal", {}), 409, "shell_ended")
    problem(client.request("POST", f"{shell.path}/resize", {"cols": 80, "rows": 24}), 409, "shell_ended")
    assert shell.close().json()["exit_code"] == 7


def test_close_ends_all_that_runs_in_it(module_workspace):
    shell = Shell(module_workspace)
    shell.type("sleep 4321 & trap '' HUP; sh -c \"trap '' HUP; echo up; sleep 4321\"")
    shell.until("up\r\n")
    assert shell.close().json()["closed"] is True
    gone = module_workspace.exec("for i in $(seq 100); do pgrep -f 'sleep 4321' | grep -v $$ || exit 0; sleep 0.05; "
                                 "done; exit 1")
    assert gone["exit_code"] == 0


def test_the_list_tells_all_of_them(workspace_factory):
    workspace = workspace_factory()
    assert workspace.client.get(f"{workspace.path}/shells") == {"workspace_id": workspace.id, "count": 0, "shells": []}
    shells = [Shell(workspace) for _ in range(3)]
    listed = workspace.client.get(f"{workspace.path}/shells")
    assert [shell["shell_id"] for shell in listed["shells"]] == [shell.id for shell in shells]
    assert listed["count"] == 3 and all(SHELL <= set(shell) for shell in listed["shells"])
    shells[1].close()
    listed = workspace.client.get(f"{workspace.path}/shells")
    assert [shell["shell_id"] for shell in listed["shells"]] == [shells[0].id, shells[2].id]


def test_a_resize_is_seen_inside(shell):
    resized = shell.client.post(f"{shell.path}/resize", {"cols": 44, "rows": 11})
    assert (resized["cols"], resized["rows"]) == (44, 11)
    shell.type("stty size")
    shell.until("11 44\r\n")


def test_a_stop_ends_shells_and_they_are_told_of_as_ended(workspace_factory):
    workspace = workspace_factory()
    shell = Shell(workspace)
    shell.until("hearth$ ")
    workspace.client.post(f"{workspace.path}/stop")
    for _ in range(2):
        state = shell.read()
        assert state["state"] == "stopped" and state["exit_code"] is None and state["ended_at"] and not state["output"]
        assert [s["state"] for s in workspace.client.get(f"{workspace.path}/shells")["shells"]] == ["stopped"]
        problem(workspace.client.request("POST", f"{shell.path}/input", {"input": "x"}), 409, "shell_ended")
        if workspace.status()["state"] == "stopped":
            problem(workspace.client.request("POST", f"{workspace.path}/shells", {}), 409, "workspace_not_started")
            workspace.client.post(f"{workspace.path}/start")
    assert shell.close().json()["closed"] is True
    problem(workspace.client.request("GET", shell.path), 404, "shell_not_found", "/shell_id")


def test_shells_outlive_the_daemon(hearthd_factory):
    from conftest import Workspace
    hearthd = hearthd_factory()
    workspace = Workspace(hearthd.client())
    shell = Shell(workspace)
    shell.type("n=0; while :; do echo count-$n; n=$((n+1)); sleep 0.05; done")
    before = shell.until("count-3")
    hearthd.kill9()
    hearthd.start()
    shell.client = hearthd.client()
    assert [s["state"] for s in shell.client.get(f"{workspace.path}/shells")["shells"]] == ["running"]
    after = shell.read(max_chars=2 ** 20)["output"]
    assert after.startswith(before)
    shell.signal("INT")
    numbers = [int(line[6:]) for line in shell.plain(max_chars=2 ** 20).splitlines() if line.startswith("count-")]
    assert numbers == list(range(len(numbers))) and len(numbers) > 3
    shell.type("echo $n")
    assert str(len(numbers)) in shell.plain(max_chars=2 ** 20)
    shell.close()


BUMPS = {"open": lambda shell: Shell(shell.workspace).close(), "write": lambda shell: shell.type("true"),
         "signal": lambda shell: shell.signal("INT")}
KEEPS = {"read": lambda shell: shell.read(), "plain": lambda shell: shell.plain(),
         "list": lambda shell: shell.client.get(f"{shell.workspace.path}/shells")}


@pytest.mark.parametrize("name", BUMPS)
def test_activity_moves_with(shell, name):
    before = shell.workspace.status()["last_activity_at"]
    BUMPS[name](shell)
    assert shell.workspace.status()["last_activity_at"] > before


@pytest.mark.parametrize("name", KEEPS)
def test_activity_stays_with(shell, name):
    before = shell.workspace.status()["last_activity_at"]
    KEEPS[name](shell)
    assert shell.workspace.status()["last_activity_at"] == before


BAD = {
    "few columns": ("POST", "", {"cols": 9}, 422, "out_of_range", "/cols"),
    "too many rows": ("POST", "", {"rows": 100000}, 422, "out_of_range", "/rows"),
    "no such directory": ("POST", "", {"cwd": "/no/such"}, 422, "bad_cwd", "/cwd"),
    "no such secret": ("POST", "", {"secret_env": {"KEY": "KEY"}}, 422, "unknown_secret", "/secret_env/KEY"),
    "strange terminal": ("POST", "", {"term": "a b"}, 422, "bad_term", "/term"),
    "unknown signal": ("POST", "/{id}/signal", {"signal_name": "STOP"}, 422, "bad_choice", "/signal_name"),
    "no input": ("POST", "/{id}/input", {}, 422, "missing_argument", "/input"),
    "too much input": ("POST", "/{id}/input", {"input": "x" * 300000}, 422, "bad_length", "/input"),
    "size without rows": ("POST", "/{id}/resize", {"cols": 80}, 422, "missing_argument", "/rows"),
    "unknown shell": ("POST", "/sh_aaaaaaaaaaaaaaaa/input", {"input": "x"}, 404, "shell_not_found", "/shell_id"),
    "idle for too long": ("GET", "/{id}?wait_for_idle_ms=10001", None, 422, "out_of_range", "/wait_for_idle_ms"),
    "nothing to read": ("GET", "/{id}?max_chars=0", None, 422, "out_of_range", "/max_chars"),
    "a cursor before the start": ("GET", "/{id}?cursor=-1", None, 422, "out_of_range", "/cursor"),
}


@pytest.mark.in_a_container
@pytest.mark.parametrize("name", BAD)
def test_bad_input_changes_nothing(shell, name):
    method, path, body, status, code, field = BAD[name]
    path, _, query = path.format(id=shell.id).partition("?")
    reply = shell.client.request(method, f"{shell.workspace.path}/shells{path}", body,
                                 query=dict([query.split("=")]) if query else None)
    problem(reply, status, code, field)
    listed = shell.client.get(f"{shell.workspace.path}/shells")["shells"]
    assert [s["shell_id"] for s in listed if s["state"] == "running"] == [shell.id]
    assert shell.read()["total_characters"] == len("hearth$ ") or "hearth$ " in shell.read()["output"]


def test_another_tenants_shell_is_none(shell, either_daemon):
    name = f"other-{shell.id[3:]}"
    shell.client.request("POST", "/v1/tenants", {"name": name})
    issued = shell.client.post(f"/v1/tenants/{name}/tokens", {"rights": "operate"})
    with either_daemon.client(token=issued["token"]) as other:
        for method, path, body in (("GET", "", None), ("POST", "/input", {"input": "x"}), ("DELETE", "", None)):
            problem(other.request(method, shell.path + path, body), 404, "workspace_not_found", "/workspace_id")
    assert shell.read()["state"] == "running"


@pytest.mark.in_a_container
def test_a_ring_that_overflowed_says_how_much_is_gone(shell):
    shell.type("stty -opost; seq -f 'é%010.0f' 1 200000; echo the-end")
    deadline = time.monotonic() + 60
    while "the-end\n" not in shell.read(cursor=max(0, shell.read(max_chars=1)["total_characters"] - 200))["output"]:
        assert time.monotonic() < deadline
    state = shell.read(cursor=100, max_chars=2 ** 20)
    assert state["truncated"] and state["lost_characters"] == state["cursor"] - 100 > 1000000
    assert len(state["output"]) == state["next_cursor"] - state["cursor"]
    lines = state["output"].split("\n")[1:-2]
    numbers = [int(line[1:]) for line in lines if line.startswith("é")]
    assert numbers == list(range(numbers[0], 200001))


def test_a_model_can_use_it_as_tools(module_workspace):
    client = module_workspace.client

    def tool(name, **arguments):
        reply = client.request("POST", f"/v1/tools/{name}/call",
                               {"workspace_id": module_workspace.id, **arguments})
        assert reply.status < 300, reply.json()
        return reply.json()

    opened = tool("shell_open", cwd=None, cols=None, rows=None)
    shell_id = opened["shell_id"]

    def seen(text):
        deadline = time.monotonic() + 60
        while text not in (said := tool("shell_read", shell_id=shell_id, plain=True, wait_for_idle_ms=200)["output"]):
            assert time.monotonic() < deadline, said

    tool("shell_write", shell_id=shell_id, input="python3 -q")
    seen("\n>>> ")
    tool("shell_write", shell_id=shell_id, input="6 * 7")
    seen(">>> 6 * 7\n42\n")
    tool("shell_signal", shell_id=shell_id, signal_name="KILL")
    assert tool("shell_close", shell_id=shell_id)["closed"]


def test_only_the_full_profile_has_them(client):
    def names(profile):
        return json.dumps(client.get("/v1/tools", profile=profile, format="json-schema"))

    for name in ("shell_open", "shell_read", "shell_write", "shell_signal", "shell_close"):
        assert f'"{name}"' in names("workspace-full") and f'"{name}"' not in names("workspace-core")


@pytest.mark.in_a_container
def test_by_the_command_line(either_daemon, module_workspace):
    def hearth(*words, status=0):
        done = subprocess.run([BIN / "hearth", "workspace", "shell", *words], text=True, capture_output=True, timeout=120,
                              env={**os.environ, "HEARTH_URL": f"unix://{either_daemon.socket_path}"})
        assert done.returncode == status, done.stdout + done.stderr
        return done

    opened = json.loads(hearth("open", module_workspace.id, "--cwd", "/tmp", "--cols", "50", "--json").stdout)
    assert (opened["cwd"], opened["cols"]) == ("/tmp", 50)
    words = (module_workspace.id, opened["shell_id"])
    hearth("read", *words, "--wait-for-idle-ms", "300")
    hearth("write", *words, "echo $((6 * 7))")
    read = hearth("read", *words, "--plain", "--wait-for-idle-ms", "300")
    assert read.stdout.startswith("hearth$ echo $((6 * 7))\n42\nhearth$ ")
    assert read.stderr.startswith("[workspace-shell-read] state=running")
    hearth("write", *words, "sleep 1000")
    hearth("signal", *words, "--signal", "INT")
    assert opened["shell_id"] in hearth("list", module_workspace.id).stdout
    hearth("close", *words)
    assert "shell_not_found" in hearth("read", *words, "--json", status=1).stdout
