"""Services in the agent: ready by each kind of probe, ended as a group, restarted, watched, logged."""

import contextlib
import http.server
import pathlib
import socket
import threading
import time

import grpc
import pytest

from harness import agent as harness_agent
from harness import ports


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with harness_agent.running(tmp_path_factory.mktemp("agent")) as running:
        yield running


def start(agent, name, command, **more):
    messages = harness_agent.messages()
    request = messages.ServiceStartRequest(
        name=name, instance=f"{name}-{time.monotonic_ns()}", argv=["/bin/sh", "-c", command],
        cwd=str(agent.workspace), **more)
    request.environment.add(name="PATH", value="/usr/bin:/bin")
    return agent.call("ServiceStart", request)


def stop(agent, name, **more):
    return agent.call("ServiceStop", harness_agent.messages().ServiceStopRequest(name=name, **more))


def watch(agent, revision=0):
    return agent.call("ServiceWatch", harness_agent.messages().ServiceWatchRequest(revision=revision))


def state_of(agent, name, wanted):
    """Waits until the service is as wanted(state) says."""
    revision = 0
    while True:
        reply = watch(agent, revision)
        revision = reply.revision
        for state in reply.services:
            if state.name == name and wanted(state):
                return state


def logs(agent, name, **more):
    reply = agent.call("ServiceLogs",
                       harness_agent.messages().ServiceLogsRequest(name=name, **more))
    return (b"".join(part.data for part in reply.stdout.segments),
            b"".join(part.data for part in reply.stderr.segments), reply)


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


SERVER = ("import http.server, sys, time; time.sleep(0.3); "
          "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), "
          "http.server.SimpleHTTPRequestHandler).serve_forever()")


def test_without_a_probe_it_is_ready_once_it_runs(agent):
    state = start(agent, "plain", "exec sleep 1000")
    assert (state.state, state.ready, state.has_exit) == ("running", True, False)
    assert alive(state.pid)
    ended = stop(agent, "plain")
    assert (ended.state, ended.exit_code, ended.reason) == ("stopped", 143, "stop_requested")
    assert not alive(state.pid)


def test_a_file_makes_it_ready(agent):
    path = agent.workspace / "ready"
    state = start(agent, "file", f"sleep 0.2; touch {path}; exec sleep 1000", ready_file=str(path))
    assert state.state == "running" and state.ready and path.exists()
    stop(agent, "file")


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_a_port_and_a_url_make_it_ready(agent, kind):
    port = ports.free()
    probe = ({"ready_tcp": f"localhost:{port}"} if kind == "tcp"
             else {"ready_http": f"http://127.0.0.1:{port}/"})
    state = start(agent, kind, f"exec python3 -c \"{SERVER}\" {port}", **probe)
    assert state.state == "running" and state.ready, state
    socket.create_connection(("127.0.0.1", port)).close()
    stop(agent, kind)


class Absent(http.server.BaseHTTPRequestHandler):
    """Whatever it is asked for is not there."""

    def do_GET(self):
        self.send_error(404)
        self.server.asked.append(self.path)


def test_a_url_that_answers_with_an_error_is_not_ready(agent):
    """It is the test's own, which is there before the service has so little time."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Absent) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever).start()
        try:
            state = start(agent, "error", "exec sleep 1000", ready_timeout_ms=1500,
                          ready_http=f"http://127.0.0.1:{server.server_port}/nothing")
        finally:
            server.shutdown()
    assert (state.state, state.reason, state.ready) == ("failed", "readiness_timeout", False)
    assert state.exit_code == 137 and "/nothing" in server.asked


def test_a_command_makes_it_ready(agent):
    path = agent.workspace / "asked"
    state = start(agent, "command", "exec sleep 1000", ready_interval_ms=20,
                  ready_command=f"echo x >>{path}; [ $(wc -l <{path}) -ge 3 ]")
    assert state.ready and len(path.read_text()) == 6
    stop(agent, "command")


def test_one_that_dies_before_it_is_ready_answers_at_once(agent):
    begun = time.monotonic()
    state = start(agent, "dies", "echo why >&2; exit 7", ready_tcp="127.0.0.1:1",
                  ready_timeout_ms=600000)
    assert (state.state, state.reason, state.exit_code) == ("failed", "exited_before_ready", 7)
    assert time.monotonic() - begun < 60
    assert logs(agent, "dies")[1] == b"why\n"


def test_what_cannot_be_run_fails(agent):
    messages = harness_agent.messages()
    state = agent.call("ServiceStart", messages.ServiceStartRequest(
        name="nothing", instance="i", argv=["/no/such/program"], cwd="/"))
    assert (state.state, state.reason, state.exit_code) == ("failed", "cannot_start", 127)
    assert b"/no/such/program" in logs(agent, "nothing")[1]


def test_a_stop_ends_the_whole_group_also_what_ignores_term(agent):
    path = agent.workspace / "child"
    start(agent, "stubborn", f"trap '' TERM; (sleep 1000 & echo $! >{path}; wait) & "
                             f"while :; do sleep 1000; done", ready_file=str(path))
    while not (text := path.read_text().strip()):
        pass
    child = int(text)
    ended = stop(agent, "stubborn", grace_ms=100)
    assert (ended.state, ended.exit_code) == ("stopped", 137)
    deadline = time.monotonic() + 30
    while alive(child):
        assert time.monotonic() < deadline


def of_service(instance):
    """The processes that have begun with the service's mark, but for those that are about to be gone."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HEARTH_SERVICE={instance}".encode() in (process / "environ").read_bytes().split(bytes(1)):
                yield process.name


@pytest.mark.parametrize("ends", ["exec sleep 1000", "exit 0"])
def test_a_stop_is_answered_once_what_it_killed_is_gone(agent, ends):
    path = agent.workspace / f"deaf-{ends[:4]}"
    state = start(agent, "deaf", f"rm -f {path}; for i in $(seq 50); do setsid sh -c \"trap '' TERM; echo >>{path}; "
                                 f"while :; do sleep 1000; done\" >/dev/null 2>&1 & done; "
                                 f"while [ $(wc -l <{path}) -lt 50 ]; do sleep 0.02; done; touch {path}.up; {ends}",
                  ready_file=f"{path}.up")
    assert len(list(of_service(state.instance))) >= 50
    stop(agent, "deaf", grace_ms=1)
    assert list(of_service(state.instance)) == []


def test_an_exit_is_told_at_once_and_takes_its_group_along(agent):
    path, go = agent.workspace / "left", agent.workspace / "go"
    start(agent, "leaves", f"sleep 1000 & echo $! >{path}; touch {path}.ready; "
                           f"while [ ! -e {go} ]; do sleep 0.05; done; exit 3",
          ready_file=f"{path}.ready")
    child = int(path.read_text())
    assert alive(child)
    go.touch()
    ended = state_of(agent, "leaves", lambda state: state.state != "running")
    assert (ended.state, ended.reason, ended.exit_code) == ("exited", "exited", 3)
    deadline = time.monotonic() + 30
    while alive(child):
        assert time.monotonic() < deadline


def test_failures_are_restarted_later_and_later(agent):
    path = agent.workspace / "runs"
    start(agent, "again", f"echo run >>{path}; [ $(wc -l <{path}) -ge 3 ] || exit 1; "
                          "exec sleep 1000", restart_on_failure=True)
    state = state_of(agent, "again", lambda state: state.restarts == 2
                     and state.state == "running")
    assert state.ready
    deadline = time.monotonic() + 30  # it runs, and is about to say so
    while path.read_text() != "run\n" * 3:
        assert time.monotonic() < deadline
    assert stop(agent, "again").state == "stopped"


def test_a_stop_between_two_runs_ends_it(agent):
    start(agent, "between", "exit 1", restart_on_failure=True)
    state_of(agent, "between", lambda state: state.restarts >= 2 and state.reason == "restarting")
    state = stop(agent, "between")
    assert (state.state, state.reason, state.exit_code) == ("stopped", "stop_requested", 1)


def test_only_one_of_a_name_runs(agent):
    start(agent, "once", "exec sleep 1000")
    with pytest.raises(grpc.RpcError) as refused:
        start(agent, "once", "exec sleep 1000")
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    stop(agent, "once")
    assert start(agent, "once", "exit 0").name == "once"


def test_logs_keep_the_newest_and_are_followed(agent):
    start(agent, "flood", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; "
                          "echo last; exec sleep 1000", log_bytes=4096)
    offset, text = 0, b""
    while not text.endswith(b"last\n"):
        out, _, reply = logs(agent, "flood", stdout_offset=offset, wait_ms=60000)
        text += out
        offset = reply.stdout.next_offset
    kept, _, reply = logs(agent, "flood")
    assert len(kept) == 4096 and kept.endswith(b"line 19999\nlast\n")
    assert reply.stdout.total == offset > 4096 and reply.running
    stop(agent, "flood")
    kept, _, reply = logs(agent, "flood")
    assert kept.endswith(b"last\n") and not reply.running


def test_more_than_there_is_room_for_are_refused_until_one_ends(agent):
    names = [f"many{i}" for i in range(64)]
    for name in names:
        start(agent, name, "exec sleep 1000")
    with pytest.raises(grpc.RpcError) as refused:
        start(agent, "more", "exec sleep 1000")
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    stop(agent, names[0])
    assert start(agent, "more", "exec sleep 1000").state == "running"
    for name in [*names[1:], "more"]:
        stop(agent, name)
