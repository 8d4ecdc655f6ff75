"""The agent's shells, as any gRPC client sees them."""

import os
import pathlib
import signal
import time

import grpc
import pytest

from harness import agent as harness_agent
from harness.waiting import until

ENVIRONMENT = [{"name": "PATH", "value": "/usr/bin:/bin"}, {"name": "TERM", "value": "dumb"},
               {"name": "PS1", "value": "hearth$ "}, {"name": "LANG", "value": "C.UTF-8"}]


@pytest.fixture
def agent(tmp_path):
    made = harness_agent.Agent(tmp_path).start()
    yield made
    made.stop()


class Shell:
    def __init__(self, agent, shell_id="sh", cols=80, rows=24, **fields):
        self.agent, self.id = agent, shell_id
        self.opened = agent.ShellOpen(shell_id=shell_id, cols=cols, rows=rows, environment=ENVIRONMENT, **fields)

    def type(self, text):
        return self.agent.ShellInput(shell_id=self.id, data=text.encode())

    def read(self, **fields):
        return self.agent.ShellRead(shell_id=self.id, **fields)

    def until(self, text):
        """What it wrote, once text is in it."""
        said, cursor = "", 0
        while text not in said:
            state = self.read(cursor=cursor, wait_ms=60000)
            said += state.data.decode()
            cursor = state.next_cursor
            assert state.running or text in said, said
        return said


def refused(call, status):
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert error.value.code() is status, error.value.details()
    return error.value.details()


def test_a_shell_is_a_terminal(agent):
    shell = Shell(agent, cwd=str(agent.workspace), cols=97, rows=31)
    assert shell.opened.running and (shell.opened.cols, shell.opened.rows) == (97, 31)
    shell.until("hearth$ ")
    shell.type("tty; stty size; pwd; echo $-$((1 + 1))\n")
    said = shell.until("2\r\n")
    assert said.startswith("hearth$ tty")
    assert "/dev/pts/" in said and "31 97\r\n" in said and f"{agent.workspace}\r\n" in said
    state = agent.ShellResize(shell_id="sh", cols=40, rows=10)
    assert (state.cols, state.rows) == (40, 10)
    shell.type("stty size\n")
    shell.until("10 40\r\n")


def test_what_runs_in_the_foreground_is_told_of_a_resize(agent):
    shell = Shell(agent, argv=["/bin/sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"])
    shell.until("up\r\n")
    agent.ShellResize(shell_id="sh", cols=41, rows=10)
    shell.until("10 41\r\n")


def test_readers_consume_nothing(agent):
    shell = Shell(agent)
    shell.until("hearth$ ")
    assert shell.read().data == shell.read().data == b"hearth$ "
    assert shell.read(cursor=4, max_characters=2).data == b"th"
    past = shell.read(cursor=10**9)
    assert (past.cursor, past.next_cursor, past.data) == (8, 8, b"")


def test_cursors_count_characters_and_split_none(agent):
    shell = Shell(agent, argv=["/bin/sh", "-c", "stty -opost; printf 'a\\303\\251\\360\\237\\230\\200z'; printf '\\303'; "
                               "sleep 0.3; printf '\\251\\377\\355\\240\\200.'; read x"])
    said = shell.until(".")
    assert said == "aé😀zé\ufffd\ufffd\ufffd\ufffd."
    for start in range(len(said)):
        for count in range(1, len(said) - start + 1):
            state = shell.read(cursor=start, max_characters=count)
            assert state.data.decode() == said[start:start + count]
            assert (state.cursor, state.next_cursor, state.total) == (start, start + count, len(said))


def test_a_cursor_that_fell_off_says_how_much_is_gone(agent):
    """The ring wraps at every place within a character."""
    lines = 120000
    shell = Shell(agent, argv=["/bin/sh", "-c", f"stty -opost; seq -f 'é😀%06.0f' {lines}; echo end; read x"])
    shell.until("end\n")
    whole = "".join(f"é😀{i:06}\n" for i in range(1, lines + 1)) + "end\n"
    state = shell.read(cursor=3, max_characters=2**20)
    assert state.total == len(whole)
    assert state.lost == state.cursor - 3 and 900000 < len(state.data) <= 2**20
    assert state.data.decode() == whole[state.cursor:]
    middle = state.cursor + 1000
    for length in (1, 7, 5000, 70000):
        assert shell.read(cursor=middle, max_characters=length).data.decode() == whole[middle:middle + length]


def test_idle_is_told_when_it_is(agent):
    shell = Shell(agent)
    shell.until("hearth$ ")
    shell.type("for i in 1 2 3 4; do echo $i; sleep 0.1; done; sleep 100\n")
    state = until(lambda: "4" in (state := shell.read(idle_ms=300)).data.decode().split("\r\n") and state)
    assert state.idle and state.running
    assert 300000 <= state.idle_us
    assert shell.read(idle_ms=10).idle  # it is already


def test_a_shell_that_is_never_idle_is_answered_in_time(agent):
    shell = Shell(agent)
    shell.type("while :; do echo x; sleep 0.02; done\n")
    shell.until("\nx\r\n")
    state = shell.read(idle_ms=60000, wait_ms=300)
    assert not state.idle and state.running and state.data


def test_waiting_for_output(agent):
    shell = Shell(agent)
    shell.until("hearth$ ")
    waiting = agent.begin.ShellRead(shell_id="sh", cursor=8, wait_ms=60000)
    shell.type("x")
    assert waiting.result().data == b"x"


def test_a_signal_goes_to_the_foreground(agent):
    shell = Shell(agent)
    shell.type("sleep 1000\n")
    shell.until("sleep 1000\r\n")
    until(lambda: children_named(shell.opened.pid, "sleep"))
    agent.ShellSignal(shell_id="sh", signal=signal.SIGINT)
    shell.type("echo ended-$?\n")
    shell.until("ended-130\r\n")
    refused(lambda: agent.ShellSignal(shell_id="sh", signal=signal.SIGSTOP), grpc.StatusCode.INVALID_ARGUMENT)
    agent.ShellSignal(shell_id="sh", signal=signal.SIGKILL)
    state = shell.read(cursor=10**9, wait_ms=60000)
    assert not state.running and state.signal == 9 and state.exit_code == 137


def test_the_end_of_a_shell_is_told_with_its_exit_code(agent):
    shell = Shell(agent)
    shell.type("echo last words; exit 7\n")
    shell.until("last words\r\n")
    state = shell.read(cursor=10**9, wait_ms=60000)
    assert not state.running and state.exit_code == 7 and state.ended_at_us >= state.started_at_us
    assert "last words" in shell.read().data.decode()
    for call in (lambda: shell.type("x"), lambda: agent.ShellSignal(shell_id="sh", signal=2),
                 lambda: agent.ShellResize(shell_id="sh", cols=9, rows=9)):
        refused(call, grpc.StatusCode.FAILED_PRECONDITION)
    assert agent.ShellClose(shell_id="sh").exit_code == 7
    refused(shell.read, grpc.StatusCode.NOT_FOUND)


def test_close_hangs_up_and_then_kills_all_of_the_session(agent):
    shell = Shell(agent)
    shell.type("(trap '' HUP; sleep 1000) & set +m; nohup sleep 1000 & trap '' HUP; echo pids $(jobs -p)\n")
    shell.until("pids ")
    until(lambda: len(processes_of_session(shell.opened.pid)) >= 3)
    state = agent.ShellClose(shell_id="sh", kill_grace_ms=200)
    assert not state.running
    until(lambda: not processes_of_session(shell.opened.pid))
    refused(shell.read, grpc.StatusCode.NOT_FOUND)


def test_close_of_one_that_obeys_needs_no_grace(agent):
    shell = Shell(agent)
    shell.until("hearth$ ")
    state = agent.ShellClose(shell_id="sh", kill_grace_ms=100000)
    assert not state.running and state.signal in (0, signal.SIGHUP)


def test_many_shells_and_no_more(agent):
    shells = [Shell(agent, shell_id=str(i), argv=["/bin/cat"]) for i in range(64)]
    assert "64 shells" in refused(lambda: Shell(agent, shell_id="x"), grpc.StatusCode.RESOURCE_EXHAUSTED)
    refused(lambda: Shell(agent, shell_id="0"), grpc.StatusCode.ALREADY_EXISTS)
    for i, shell in enumerate(shells):
        shell.type(f"{i}\n")
    for i, shell in enumerate(shells):
        shell.until(f"{i}\r\n{i}\r\n")
    assert {state.shell_id for state in agent.ShellList().shells} == {str(i) for i in range(64)}


def test_bad_requests(agent):
    for size in ((0, 24), (80, 0), (1001, 24), (80, 2**32 - 1)):
        refused(lambda: Shell(agent, cols=size[0], rows=size[1]), grpc.StatusCode.INVALID_ARGUMENT)
    assert "/no/such" in refused(lambda: Shell(agent, cwd="/no/such"), grpc.StatusCode.FAILED_PRECONDITION)
    refused(lambda: Shell(agent, argv=["no-such-program"]), grpc.StatusCode.NOT_FOUND)
    refused(lambda: agent.ShellRead(shell_id="x"), grpc.StatusCode.NOT_FOUND)
    assert not agent.ShellList().shells
    shell = Shell(agent, argv=["/bin/sh", "-c", "stty raw; echo up; sleep 1000"])
    shell.until("up")
    with pytest.raises(grpc.RpcError) as error:
        for _ in range(40):
            shell.type("x" * 100000)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_marks_tell_when_and_in_what_size(agent):
    go = agent.workspace / "go"
    shell = Shell(agent, argv=["/bin/sh", "-c", f"echo one; while [ ! -e {go} ]; do sleep 0.02; done; echo two; read x"])
    shell.until("one\r\n")
    time.sleep(0.3)  # Not a wait for anything: what lies between the two.
    go.touch()
    shell.until("two")
    agent.ShellResize(shell_id="sh", cols=100, rows=30)
    shell.type("x")
    shell.until("x")
    marks = shell.read(marks=True).marks
    assert [mark.character for mark in marks] == sorted(mark.character for mark in marks)
    two = next(mark for mark in marks if mark.character == 5)
    assert two.time_us - marks[0].time_us > 200000
    assert (marks[0].cols, marks[-1].cols, marks[-1].rows) == (80, 100, 30)


def test_a_stop_hangs_shells_up(agent):
    shell = Shell(agent)
    shell.until("hearth$ ")
    agent.Shutdown()
    assert agent.process.wait(60) == 0
    until(lambda: not pathlib.Path(f"/proc/{shell.opened.pid}").exists())


def stats():
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                head, rest = pathlib.Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)
            except OSError:
                continue
            fields = rest.split()
            yield int(entry), head.split("(", 1)[1], fields[0], int(fields[1]), int(fields[3])


def children_named(pid, name):
    return [child for child, called, _, parent, _ in stats() if parent == pid and called == name]


def processes_of_session(pid):
    return [child for child, _, state, _, session in stats() if session == pid and state != "Z"]
