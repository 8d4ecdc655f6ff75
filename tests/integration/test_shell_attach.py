"""A terminal on a shell: the real command on a real pty, the frames as they are, and recordings."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest

from conftest import Workspace
from harness.daemon import BIN
from harness.waiting import until
from test_ports import memory
from test_shells import Shell, module_workspace, problem, shell  # noqa: F401 - two are fixtures

# What it attaches to is the guest's shell, which test_shells asks in machines too; one test here is of a machine.
pytestmark = pytest.mark.in_a_container


class Terminal:
    """`hearth workspace shell attach` on a pty of its own."""

    def __init__(self, daemon, shell, *options, cols=100, rows=40):
        self.master, slave = pty.openpty()
        self.resize(cols, rows)
        self.before = termios.tcgetattr(slave)
        self.slave, self.seen = slave, b""
        self.process = subprocess.Popen(
            [BIN / "hearth", "workspace", "shell", "attach", shell.workspace.id, shell.id, *options],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={"HEARTH_URL": daemon.url, "HEARTH_TOKEN": daemon.token})

    def resize(self, cols, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, text):
        deadline = time.monotonic() + 60
        while text.encode() not in self.seen:
            assert select.select([self.master], [], [], deadline - time.monotonic())[0], self.seen
            self.seen += os.read(self.master, 65536)
        return self.seen.decode()

    def ended(self, word=None):
        """The exit status, once word is shown too: the kernel hands on what was written last a moment after it was.
        The terminal must be as it was."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        if word:
            self.until(word)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is not as it was"
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def attach(daemon):
    made = []

    def make(shell, *options, on=daemon, **more):
        made.append(Terminal(on, shell, *options, **more))
        return made[-1]
    yield make
    for terminal in made:
        terminal.close()


def test_typed_shown_sized_and_left(attach, shell):
    terminal = attach(shell)
    terminal.until("hearth$ ")
    terminal.type("stty size; echo sum=$((40+2))\r")
    assert "40 100" in terminal.until("sum=42")
    terminal.resize(77, 33)
    terminal.type("\r")
    deadline = time.monotonic() + 60
    while shell.read()["cols"] != 77:
        assert time.monotonic() < deadline
    terminal.type("stty size; echo two=$((1+1))\r")
    assert "33 77" in terminal.until("two=2")
    terminal.type("\x10\x11")
    assert terminal.ended("[detached]") == 0
    assert shell.read()["state"] == "running"


def test_keys_go_through_but_those_that_detach(attach, shell):
    terminal = attach(shell, "--detach-keys", "ctrl-a,ctrl-a,d")
    terminal.until("hearth$ ")
    terminal.type("cat -v\r")
    terminal.type("\x10x\x01y\x01\x01z\x1bq\t\x03")
    terminal.until("^C")
    terminal.type("cat -v\r\x16\x01\x16\x10one\x04\x04")
    assert "^P" in terminal.until("one")
    terminal.type("\x01\x01d")
    assert terminal.ended() == 0


def test_the_shells_end_is_the_commands(attach, module_workspace):
    shell = Shell(module_workspace)
    terminal = attach(shell)
    terminal.until("hearth$ ")
    terminal.type("exit 7\r")
    assert terminal.ended("the shell has ended") == 7
    shell.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_puts_the_terminal_back(attach, shell, number):
    terminal = attach(shell)
    terminal.until("hearth$ ")
    terminal.process.send_signal(number)
    assert terminal.ended() == 128 + number
    assert shell.read()["state"] == "running"


def test_stopped_and_continued(attach, shell):
    terminal = attach(shell)
    terminal.until("hearth$ ")
    terminal.process.send_signal(signal.SIGTSTP)
    os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED)
    assert termios.tcgetattr(terminal.slave) == terminal.before
    terminal.process.send_signal(signal.SIGCONT)
    terminal.type("echo back=$((2+3))\r")
    terminal.until("back=5")
    terminal.type("\x10\x11")
    assert terminal.ended() == 0


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_the_daemons_end_is_told_and_the_shell_goes_on(attach, hearthd_factory, end):
    hearthd = hearthd_factory()
    workspace = Workspace(hearthd.client())
    shell = Shell(workspace)
    shell.until("hearth$ ")
    terminal = attach(shell, on=hearthd)
    terminal.type("echo first=$((1+2))\r")
    terminal.until("first=3")
    getattr(hearthd, end)()
    assert terminal.ended("ended the connection") == 1
    hearthd.start()
    again = attach(shell, on=hearthd)
    again.until("first=3")
    again.type("echo second=$((2+2))\r")
    again.until("second=4")
    again.type("\x10\x11")
    assert again.ended() == 0


@pytest.mark.parametrize("act, word", [("stop", "the shell has ended"), ("reset", "[workspace_reset]"),
                                       ("delete", "[workspace_not_found]")])
def test_the_workspaces_end_is_told(attach, workspace_factory, act, word):
    workspace = workspace_factory()
    shell = Shell(workspace)
    terminal = attach(shell)
    terminal.until("hearth$ ")
    if act == "delete":
        workspace.delete()
    else:
        workspace.client.post(f"{workspace.path}/{act}")
    assert terminal.ended(word) != 0


def test_two_terminals_on_one_shell(attach, shell):
    one, two = attach(shell), attach(shell)
    one.until("hearth$ "), two.until("hearth$ ")
    one.type("echo both=$((3+3))\r")
    one.until("both=6"), two.until("both=6")
    for terminal in (one, two):
        terminal.type("\x10\x11")
        assert terminal.ended() == 0


def test_much_output_comes_whole(attach, shell):
    terminal = attach(shell)
    terminal.until("hearth$ ")
    terminal.type("seq 1 60000; echo do''ne\r")
    said = terminal.until("done")
    assert [int(number) for number in re.findall(r"^(\d+)\r$", said, re.M)] == list(range(2, 60001))
    terminal.type("\x10\x11")
    assert terminal.ended() == 0


def test_bad_words(daemon, shell):
    def run(*words):
        return subprocess.run([BIN / "hearth", "workspace", "shell", "attach", *words], stdin=subprocess.DEVNULL,
                              env={"HEARTH_URL": daemon.url, "HEARTH_TOKEN": daemon.token}, capture_output=True,
                              text=True, timeout=60)
    done = run(shell.workspace.id, shell.id)
    assert done.returncode == 1 and "terminal" in done.stderr
    assert run(shell.workspace.id, shell.id, "--detach-keys", "ctrl-nonsense").returncode == 2


def test_an_unknown_shell_is_told_at_once(attach, module_workspace):
    class Unknown:
        id = "sh_" + "a" * 16
    Unknown.workspace = module_workspace
    terminal = attach(Unknown)
    assert terminal.ended("no such shell") == 1


# The frames themselves

def upgrade(client, path, upgrade="hearth-shell", timeout=60):
    host, port = client.url.removeprefix("http://").rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=timeout)
    connection.sendall(f"GET {path}/attach HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {client.token}\r\n"
                       f"Connection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    return connection, head


def frame(kind, data):
    return kind.encode() + struct.pack(">I", len(data)) + data


@pytest.mark.parametrize("sent", [
    frame("X", b"x"), frame("R", b"123"), b"I" + struct.pack(">I", 1 << 20), b"I\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n"])
def test_what_is_no_frame_ends_the_connection(shell, sent):
    connection, head = upgrade(shell.client, shell.path)
    with connection, contextlib.suppress(ConnectionResetError):
        assert head.startswith(b"HTTP/1.1 101")
        connection.sendall(sent)
        while connection.recv(65536):
            pass
    assert shell.read()["state"] == "running"


def test_sizes_are_kept_within_bounds(shell):
    connection, _ = upgrade(shell.client, shell.path)
    with connection:
        for cols, rows, wanted in ((1, 1, (10, 2)), (65535, 65535, (500, 200))):
            connection.sendall(frame("R", struct.pack(">HH", cols, rows)))
            deadline = time.monotonic() + 60
            while (shell.read()["cols"], shell.read()["rows"]) != wanted:
                assert time.monotonic() < deadline


def test_who_takes_nothing_holds_up_nobody(shell, daemon):
    before = memory(daemon.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(upgrade(shell.client, shell.path)[0])
        shell.type("seq 1 300000; echo al''l")
        shell.until("all", max_chars=1 << 20)
        assert memory(daemon.pid) - before < 64 << 20


def test_refusals(shell, daemon, client):
    problem(client.request("GET", f"{shell.path}/attach"), 426, "upgrade_required")
    for path, code in ((f"{shell.workspace.path}/shells/sh_{'a' * 16}", b"shell_not_found"),
                       (f"{shell.workspace.path}/shells/nonsense", b"shell_not_found"),
                       (f"/v1/workspaces/ws_{'a' * 16}/shells/{shell.id}", b"workspace_not_found")):
        connection, head = upgrade(client, path)
        with connection:
            assert b" 404 " in head and code in connection.recv(65536)
    tenant = client.post("/v1/tenants", {"name": "attach-other"})["tenant_id"]
    for rights, status in (("operate", b" 404 "), ("read-only", b" 403 ")):
        token = client.post(f"/v1/tenants/{tenant}/tokens", {"rights": rights})["token"]
        with daemon.client(token) as other:
            connection, head = upgrade(other, shell.path)
            connection.close()
            assert status in head


# Recordings

def recording(client, shell):
    reply = client.request("GET", f"{shell.path}/recording")
    assert reply.status == 200 and reply.headers["Content-Type"] == "application/x-asciicast"
    header, *events = [json.loads(line) for line in reply.body.decode().splitlines()]
    return header, events


def test_a_recording_is_an_asciicast(shell, daemon):
    client = shell.client
    shell.type("echo \u00e4\u4e2d$((1+1))")
    shell.until("\u00e4\u4e2d2")
    client.post(f"{shell.path}/resize", {"cols": 90, "rows": 20})
    shell.type("echo later")
    shell.until("later\r\n")
    shell.settled()
    header, events = recording(client, shell)
    assert (header["version"], header["width"], header["height"]) == (2, 120, 30)
    assert header["timestamp"] == int(shell.opened["started_at"]) and header["hearth_lost_characters"] == 0
    times = [event[0] for event in events]
    assert times == sorted(times) and times[0] >= 0
    whole = "".join(event[2] for event in events if event[1] == "o")
    assert whole == shell.read(max_chars=1 << 20)["output"]
    resized = next(number for number, event in enumerate(events) if event[1] == "r")
    assert events[resized][2] == "90x20"
    assert "later" in "".join(event[2] for event in events[resized:])
    done = subprocess.run([BIN / "hearth", "workspace", "shell", "record", shell.workspace.id, shell.id],
                          env={"HEARTH_URL": daemon.url, "HEARTH_TOKEN": daemon.token}, capture_output=True, text=True)
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stdout.splitlines()][1:] == events


def test_a_recording_is_played_by_a_stock_player(shell, tmp_path):
    shell.type("printf '\\033[31mr\u00e9d\\033[0m \u4e2d\\n'; echo \u00e4$((1+1))")
    shell.until("\u00e42")
    shell.client.post(f"{shell.path}/resize", {"cols": 90, "rows": 20})
    cast = tmp_path / "shell.cast"
    cast.write_bytes(shell.client.request("GET", f"{shell.path}/recording").body)
    played = subprocess.run([sys.executable, "-m", "asciinema", "cat", str(cast)], capture_output=True, timeout=60,
                            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
    assert played.returncode == 0, played
    events = [json.loads(line) for line in cast.read_text().splitlines()[1:]]
    assert played.stdout.decode() == "".join(event[2] for event in events if event[1] == "o")


def test_a_recording_is_bounded_and_says_what_is_lost(shell):
    shell.type("seq 1 400000; echo do''ne")
    shell.until("done\r\n", max_chars=1 << 20)
    shell.settled(max_chars=1 << 20)
    header, events = recording(shell.client, shell)
    assert header["hearth_lost_characters"] > 0
    assert sum(len(event[2]) for event in events) <= 1 << 20
    assert events[-1][2].endswith("hearth$ ")


def test_a_recording_of_what_is_not_there(shell):
    problem(shell.client.request("GET", f"{shell.workspace.path}/shells/sh_{'a' * 16}/recording"), 404,
            "shell_not_found", "/shell_id")


def test_in_a_microvm(attach, machine_daemon, machine_client):
    workspace = Workspace(machine_client)
    shell = Shell(workspace)
    terminal = attach(shell, on=machine_daemon)
    terminal.until("hearth$ ")
    terminal.resize(77, 33)
    until(lambda: shell.read()["cols"] == 77)
    terminal.type("stty size; echo sum=$((40+2))\r")
    assert "33 77" in terminal.until("sum=42")
    terminal.type("\x10\x11")
    assert terminal.ended() == 0
    assert "sum=42" in "".join(event[2] for event in recording(machine_client, shell)[1])
    workspace.delete()
