"""The Python client where something goes wrong: connections that break, calls that are given up, many threads and
descriptors."""

import contextlib
import gc
import os
import resource
import signal
import socket
import threading
import time

import pytest

import hearth
from harness.waiting import until

LINE = b'{"type":"stdout","data":"x"}\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def sdk(daemon):
    with hearth.Hearth(f"unix://{daemon.socket_path}") as made:
        yield made


@pytest.fixture(scope="module")
def shared(daemon):
    with hearth.Hearth(f"unix://{daemon.socket_path}") as made:
        with made.workspace("debian:12", name="sdk-troubles") as workspace:
            yield workspace


def take_request(client):
    """All of it: where some is not read, the end of the connection takes along what was sent."""
    request, length = client.makefile("rb"), 0
    while (line := request.readline()).strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    request.read(length)


@pytest.fixture
def served():
    """served(answer) gives the URL of a server that gives every connection to answer."""
    with contextlib.ExitStack() as stack:
        def make(answer):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        client = listener.accept()[0]
                        with client:
                            take_request(client)
                            answer(client)
            threading.Thread(target=serve, daemon=True).start()
            return "http://127.0.0.1:%d" % listener.getsockname()[1]
        yield make


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("rest", [b"", b"20\r\n{", b"0\r\n\r\n"])
def test_a_stream_that_is_cut_is_an_error(served, rest):
    url = served(lambda client: client.sendall(HEAD + chunk(LINE) + rest))
    with hearth.Hearth(url, token="t").stream_exec_workspace("ws", command="x") as events:
        assert next(events)["data"] == "x"
        with pytest.raises(hearth.HearthError):
            next(events)


def test_a_reader_sees_the_end_where_another_thread_closes(served):
    def answer(client):
        client.sendall(HEAD + chunk(LINE))
        client.recv(1)
    events = hearth.Hearth(served(answer), token="t").stream_exec_workspace("ws", command="x")
    assert next(events)["data"] == "x"
    closer = threading.Timer(0.2, events.close)
    closer.start()
    assert list(events) == []
    closer.join()


def test_a_call_that_is_interrupted_is_given_up(sdk, shared):
    """As by Ctrl-C in an interactive session: the command ends, and the next call has its own answer."""
    def interrupt(*_):
        raise KeyboardInterrupt
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1)
        with pytest.raises(KeyboardInterrupt):
            sdk.exec_workspace(shared.id, command="echo $$ >began; exec sleep 600", timeout_seconds=600)
    finally:
        signal.signal(signal.SIGALRM, before)
    after = sdk.exec_workspace(shared.id, timeout_seconds=60,
                               command="while [ -e /proc/$(cat began) ]; do sleep 0.05; done; echo gone")
    assert (after["stdout"], after["exit_code"]) == ("gone\n", 0)


def test_descriptors_may_be_many(sdk):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = []
    try:
        while not held or held[-1] < 1100:
            held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(2):  # The second is over a connection that was kept.
            assert sdk.list_workspaces(limit=1)["workspaces"] is not None
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_threads_that_end_leave_no_connection(sdk):
    def sockets():
        gc.collect()
        return sum(os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
                   for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}"))
    sdk.list_workspaces(limit=1)
    before = sockets()
    for _ in range(20):
        thread = threading.Thread(target=sdk.list_workspaces)
        thread.start()
        thread.join()
    until(lambda: sockets() <= before)


def test_a_command_may_take_longer_than_silence_may(served):
    """What it is given to end in counts, where nobody has said how long the daemon may be silent."""
    def answer(client):
        client.settimeout(30)
        with contextlib.suppress(OSError):
            client.recv(1)
    url = served(answer)
    with hearth.Hearth(url, token="t") as patient:
        assert patient.connection._patience(7200) > 7200
        assert patient.connection._patience(30) == patient.connection._patience(None) == 600
    with hearth.Hearth(url, token="t", timeout=0.5) as told:
        began = time.monotonic()
        with pytest.raises(hearth.HearthError):
            told.exec_workspace("ws", command="x", timeout_seconds=7200)
        assert time.monotonic() - began < 20
