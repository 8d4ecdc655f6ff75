"""Shells of a workspace: opened, typed into, read as they are and as a person sees them, signalled, closed."""

import json
import os
import re
import subprocess
import time

import pytest

from harness.daemon import BIN
from harness.waiting import until

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
        return until(lambda: text in (said := self.read(**query)["output"]) and said, lambda: self.read(**query)["output"])

    def settled(self, **query):
        """What it has written, once that ends in a prompt: nothing is to come."""
        return until(lambda: (said := self.read(**query)["output"]).endswith("hearth$ ") and said,
                     lambda: self.read(**query)["output"])

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
    shell = Shell(module_workspace, cwd="/tmp", cols=99, rows=33, term="vt100-nav")
    assert SHELL <= set(shell.opened)
    assert (shell.opened["cwd"], shell.opened["cols"], shell.opened["rows"]) == ("/tmp", 99, 33)
    assert shell.opened["state"] == "running" and shell.opened["exit_code"] is shell.opened["ended_at"] is None
    assert shell.opened["execution_mode"] == module_workspace.status()["execution_mode"]
    shell.type("tty; stty size; pwd; echo $TERM")
    said = shell.until("vt100-nav\r\n")
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
    assert written["input_length"] == len("cd /; X=kept") and written["append_newline"] is True
    shell.type("ec", append_newline=False)
    shell.type("ho $PWD-$X")
    first = shell.until("/-kept\r\n")
    while not (again := shell.read(wait_for_idle_ms=50))["output"].endswith("hearth$ "):
        pass  # a guest that is slow writes its prompt later
    assert again["output"].startswith(first) and again["next_cursor"] == len(again["output"])
    rest = shell.read(cursor=again["next_cursor"])
    assert rest["output"] == "" and rest["next_cursor"] == again["next_cursor"] and not rest["truncated"]


def test_plain_is_what_a_person_sees(shell):
    shell.type("printf 'a\\rb\\033[31mc\\033[0m\\n10%%\\r 55%%\\r100%%\\n'; printf '\\344\\270\\255\\n'; clear; echo seen")
    shell.until("Jseen\r\n")  # not the command's echo
    shell.settled()
    assert shell.plain() == "seen\nhearth$ "
    shell.type("printf '10%%\\r 55%%\\r100%%\\n'; printf 'x\\bcafe\\314\\201\\n'")
    shell.until("cafe\u0301\r\n")
    shell.settled()
    plain = shell.plain()
    assert "\n100%\n" in plain and "cafe\u0301\n" in plain and plain.endswith("hearth$ ")
    assert not [c for c in plain if ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160]


def test_a_pager_is_seen_as_its_screen(shell):
    shell.type("seq -f 'line %03.0f' 1 200 | less")
    lines = until(lambda: (lines := shell.plain().splitlines())[-1].startswith(":") and lines, shell.plain)
    assert lines[-30:-1] == [f"line {i:03}" for i in range(1, 30)]
    shell.type(" ", append_newline=False)
    lines = until(lambda: "line 058" in (lines := shell.plain().splitlines()) and lines, shell.plain)
    assert "line 030" in lines and "line 010" not in lines[-30:]
    shell.type("q", append_newline=False)
    shell.until("?1049l")
    shell.settled()
    assert shell.plain().endswith("hearth$ ") and "line 030" not in shell.plain()


def test_a_pager_is_seen_as_its_screen_by_pieces_too(shell):
    """Who reads on from where the last answer ended sees all that is on the pager's screen, and its end alone after it."""
    cursor, seen = 0, ""

    def until(last):
        nonlocal cursor, seen
        deadline = time.monotonic() + 60
        while last not in seen:
            read = shell.read(plain="true", wait_for_idle_ms=100, cursor=cursor)
            assert (read["cursor"], read["lost_characters"]) == (cursor, 0) and time.monotonic() < deadline, (read, seen)
            cursor, seen = read["next_cursor"], read["output"] or seen
        return seen.splitlines()

    shell.type("seq -f 'line %03.0f' 1 200 | less")
    until("line 029\n:")
    shell.type("j", append_newline=False)
    assert until("line 030\n:") == [f"line {i:03}" for i in range(2, 31)] + [":"]
    shell.type("q", append_newline=False)
    assert until("hearth$ ") == ["hearth$ "]
    assert shell.read(plain="true", cursor=cursor)["output"] == ""


def test_plain_by_pieces_holds_no_rest_of_a_sequence(shell):
    shell.type("printf 'a\\033\\13331mr\\303\\251d\\033\\1330mb\\033\\13338;5;208morange\\033\\133m\\n'; echo do''ne")
    shell.until("done\r\n")
    total = shell.read()["total_characters"]
    for size in (1, 7):
        pieces, cursor = [], 0
        while cursor < total:
            read = shell.read(plain="true", cursor=cursor, max_chars=size)
            assert read["cursor"] == cursor and read["next_cursor"] <= cursor + size
            pieces.append(read["output"])
            cursor = read["next_cursor"]
        text = "".join(pieces)
        assert "ar\u00e9dborange" in text and "[" not in text and "2004" not in text, text


def test_idle_is_waited_for_and_no_longer(shell):
    shell.type("for i in 1 2 3; do echo tick-$i; sleep 0.1; done; sleep 100")
    until(lambda: "\ntick-3" in (state := shell.read(wait_for_idle_ms=1000))["output"] and state["idle"])
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
    state = until(lambda: (state := shell.read())["state"] == "stopped" and state)
    assert state["exit_code"] == 7 and state["ended_at"] >= state["started_at"] - 1 and "exit 7" in state["output"]
    client = module_workspace.client
    problem(client.request("POST", f"{shell.path}/input", {"input": "x"}), 409, "shell_ended")
    problem(client.request("POST", f"{shell.path}/signal", {}), 409, "shell_ended")
    problem(client.request("POST", f"{shell.path}/resize", {"cols": 80, "rows": 24}), 409, "shell_ended")
    assert shell.close().json()["exit_code"] == 7


def test_what_is_typed_and_not_read_is_bounded(shell):
    shell.type("stty -icanon -echo; echo rea''dy; sleep 1000")
    shell.until("ready\r\n")
    typed = {"input": "x" * (256 << 10), "append_newline": False}
    full = until(lambda: (reply := shell.client.request("POST", f"{shell.path}/input", typed)).status != 200 and reply)
    told = problem(full, 409, "shell_input_full")
    assert told["retryable"] is True and "signal" in told["hint"]
    assert shell.read()["state"] == "running"


def test_close_ends_all_that_runs_in_it(module_workspace):
    shell = Shell(module_workspace)
    shell.type("sleep 4321 & trap '' HUP; sh -c \"trap '' HUP; echo up; sleep 4321\"")
    shell.until("up\r\n")
    assert shell.close().json()["closed"] is True
    gone = module_workspace.exec("for i in $(seq 1000); do pgrep -f 'sleep 4321' | grep -v $$ || exit 0; sleep 0.05; "
                                 "done; exit 1")
    assert gone["exit_code"] == 0


def test_the_list_tells_all_of_them(workspace_factory):
    workspace = workspace_factory()
    assert workspace.client.get(f"{workspace.path}/shells") == {"workspace_id": workspace.id, "count": 0, "shells": [],
                                                                "next_cursor": None}
    shells = [Shell(workspace) for _ in range(3)]
    listed = workspace.client.get(f"{workspace.path}/shells")
    assert [shell["shell_id"] for shell in listed["shells"]] == [shell.id for shell in shells]
    assert listed["count"] == 3 and all(SHELL <= set(shell) for shell in listed["shells"]) and listed["next_cursor"] is None

    def page(**query):
        told = workspace.client.get(f"{workspace.path}/shells", **query)
        assert told["count"] == len(told["shells"])
        return [shell["shell_id"] for shell in told["shells"]], told["next_cursor"]

    assert page(limit=3) == ([shell.id for shell in shells], None)
    first, cursor = page(limit=2)
    assert first == [shells[0].id, shells[1].id] and page(limit=2, cursor=cursor) == ([shells[2].id], None)
    shells[1].close()
    assert page(limit=2, cursor=cursor) == ([shells[2].id], None), "its last one is gone"
    assert page() == ([shells[0].id, shells[2].id], None)
    for bad in ("x", shells[0].id, "1." + shells[0].id[:-1], "-1." + shells[0].id, "." + shells[0].id):
        reply = workspace.client.request("GET", f"{workspace.path}/shells", query={"cursor": bad})
        problem(reply, 422, "bad_cursor", "/cursor")
    problem(workspace.client.request("GET", f"{workspace.path}/shells", query={"limit": 0}), 422, "out_of_range", "/limit")


def test_a_resize_is_seen_inside(shell):
    resized = shell.client.post(f"{shell.path}/resize", {"cols": 44, "rows": 11})
    assert (resized["cols"], resized["rows"]) == (44, 11)
    shell.type("stty size; echo $TERM")
    assert "11 44\r\n" in shell.until("xterm-256color\r\n")


def told_of_as_ended(shell):
    state = shell.read()
    assert state["state"] == "stopped" and state["exit_code"] is None and state["ended_at"] and not state["output"]
    listed = shell.client.get(f"{shell.workspace.path}/shells")["shells"]
    assert [s["state"] for s in listed if s["shell_id"] == shell.id] == ["stopped"]
    late = problem(shell.client.request("POST", f"{shell.path}/input", {"input": "x"}), 409, "shell_ended")
    assert "gone" in late["hint"], "nothing of it can be read any more"


def ended_with_its_guest(shell, why):
    told_of_as_ended(shell)
    problem(shell.client.request("POST", f"{shell.workspace.path}/shells", {}), 409, why)
    assert shell.close().json()["closed"] is True
    problem(shell.client.request("GET", shell.path), 409, why)


def test_a_stop_ends_shells_and_they_are_told_of_as_ended(workspace_factory):
    workspace = workspace_factory()
    shell, other = Shell(workspace), Shell(workspace)
    workspace.client.post(f"{workspace.path}/stop")
    told_of_as_ended(shell)
    ended_with_its_guest(other, "workspace_not_started")
    workspace.client.post(f"{workspace.path}/start")
    told_of_as_ended(shell)
    assert shell.close().json()["closed"] is True
    problem(workspace.client.request("GET", shell.path), 404, "shell_not_found", "/shell_id")


def test_shells_outlive_the_daemon(hearthd_factory):
    from conftest import Workspace
    hearthd = hearthd_factory()
    workspace = Workspace(hearthd.client())
    shell = Shell(workspace)
    shell.type("n=0; while :; do echo count-$n; n=$((n+1)); sleep 0.05; done")
    before = shell.until("count-3")
    over = Shell(workspace)
    over.type("exit 3")
    until(lambda: over.read()["state"] == "stopped")
    hearthd.kill9()
    hearthd.start()
    shell.client = hearthd.client()
    assert [(s["shell_id"], s["state"], s["exit_code"]) for s in
            shell.client.get(f"{workspace.path}/shells")["shells"]] == [
                (shell.id, "running", None), (over.id, "stopped", 3)], "in the order of their opening"
    after = shell.read(max_chars=2 ** 20)["output"]
    assert after.startswith(before)
    shell.signal("INT")
    shell.settled(max_chars=2 ** 20)
    numbers = [int(line[6:]) for line in shell.plain(max_chars=2 ** 20).splitlines() if line.startswith("count-")]
    assert numbers == list(range(len(numbers))) and len(numbers) > 3
    shell.type("echo last=$n")
    last = until(lambda: re.search(r"last=(\d+)\r\n", shell.read(max_chars=2 ** 20)["output"]))
    assert int(last[1]) in (len(numbers) - 1, len(numbers)), "the signal may come between the two commands"
    hearthd.kill_guests()
    until(lambda: shell.client.get(workspace.path)["state"] == "failed")
    ended_with_its_guest(shell, "workspace_failed")


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
    "too long a name of a directory": ("POST", "", {"cwd": "a" * 300}, 422, "bad_cwd", "/cwd"),
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


@pytest.mark.in_a_container  # The ring is the agent's in either; an emulated terminal takes half a minute to fill it.
def test_a_ring_that_overflowed_says_how_much_is_gone(shell):
    shell.type("stty -opost; seq -f 'é%010.0f' 1 110000; echo the-end")
    deadline = time.monotonic() + 150
    while "the-end\n" not in shell.read(cursor=max(0, shell.read(max_chars=1)["total_characters"] - 200))["output"]:
        assert time.monotonic() < deadline
    state = shell.read(cursor=100, max_chars=2 ** 20)
    assert state["truncated"] and state["lost_characters"] == state["cursor"] - 100 > 200000
    assert len(state["output"]) == state["next_cursor"] - state["cursor"]
    lines = state["output"].split("\n")[1:-2]
    numbers = [int(line[1:]) for line in lines if line.startswith("é")]
    assert numbers == list(range(numbers[0], 110001))


@pytest.mark.in_a_container  # as above
def test_an_answer_stays_under_two_mebibytes_and_is_read_on(shell):
    shell.type("stty -opost -echo; head -c 600000 /dev/zero | tr '\\0' '\\1'; echo the-e''nd")
    until(lambda: shell.read(max_chars=1)["total_characters"] > 600000)
    shell.read(max_chars=1, wait_for_idle_ms=300)
    said, cursor = "", 0
    while True:
        reply = shell.client.request("GET", shell.path, query={"cursor": cursor, "max_chars": 1048576})
        page = reply.json()
        assert len(reply.body) < 2 << 20 and page["next_cursor"] == cursor + len(page["output"])
        said, cursor = said + page["output"], page["next_cursor"]
        if not page["truncated"]:
            break
    assert said.count("\x01") == 600000 and "the-end" in said


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
        until(lambda: text in tool("shell_read", shell_id=shell_id, plain=True, wait_for_idle_ms=200)["output"])

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
    read = until(lambda: (read := hearth("read", *words, "--plain", "--wait-for-idle-ms", "300")).stdout.endswith("\nhearth$ ") and read)
    assert read.stdout == "hearth$ echo $((6 * 7))\n42\nhearth$ "
    assert read.stderr.startswith("[workspace-shell-read] state=running")
    hearth("write", *words, "sleep 1000")
    hearth("signal", *words, "--signal", "INT")
    assert opened["shell_id"] in hearth("list", module_workspace.id).stdout
    hearth("close", *words)
    assert "shell_not_found" in hearth("read", *words, "--json", status=1).stdout
