"""The nine troubles that exec has elsewhere, and our rule for each."""

import threading
import time

import pytest


def events_of(workspace, command, **arguments):
    return workspace.client.stream("POST", f"{workspace.path}/exec",
                                   {"command": command, "stream": True, **arguments})


def ended(workspace, exec_id, wait_ms=60000):
    """The exec's final state, however long that takes within the test's time."""
    while True:
        state = workspace.client.get(f"{workspace.path}/execs/{exec_id}", wait_ms=wait_ms)
        if not state["running"]:
            return state


# 1: wait, timeout and ttl are three limits.

def test_a_wait_that_passes_ends_the_answer_and_not_the_command(workspace):
    state = workspace.exec("read line < /dev/null; while [ ! -e go ]; do sleep 0.05; done; echo done",
                           wait_ms=50)
    assert state["running"] and state["exit_code"] is None
    workspace.write("go", "")
    final = ended(workspace, state["exec_id"])
    assert (final["exit_code"], final["stdout"]) == (0, "done\n")


def test_a_timeout_ends_the_whole_process_group_and_keeps_the_output(workspace):
    result = workspace.exec("echo before; sleep 1357 & sleep 1357", timeout_seconds=1)
    assert (result["exit_code"], result["timed_out"], result["stdout"]) == (124, True, "before\n")
    assert workspace.exec("pgrep -fx 'sleep 1357' | wc -l")["stdout"].strip() == "0"


def test_a_command_that_ignores_term_is_killed(workspace):
    result = workspace.exec("trap '' TERM; echo on; while :; do sleep 0.1; done", timeout_seconds=1)
    assert (result["exit_code"], result["timed_out"]) == (124, True)


def test_a_client_that_goes_away_cancels_its_command(workspace):
    events = events_of(workspace, "echo $$ > pid; echo up; sleep 1000", timeout_seconds=600)
    started = next(event for event in events if event.get("type") == "stdout")
    assert started
    events.close()
    gone = workspace.exec("for i in $(seq 600); do kill -0 $(cat pid) 2>/dev/null || exit 0; "
                          "sleep 0.05; done; exit 1", timeout_seconds=60)
    assert gone["exit_code"] == 0


def test_a_detached_command_outlives_its_client(workspace):
    state = workspace.exec("while [ ! -e go ]; do sleep 0.05; done; echo lived", detach=True)
    assert state["running"]
    workspace.client.close()
    workspace.write("go", "")
    assert ended(workspace, state["exec_id"])["stdout"] == "lived\n"


# 2: the exit is told after the last output.

def test_no_output_comes_after_the_exit(workspace):
    events = list(events_of(workspace, "seq 1 20000; seq 1 20000 >&2"))
    kinds = [event["type"] for event in events]
    assert kinds[-1] == "exit" and kinds.count("exit") == 1
    told = "".join(event["data"] for event in events if event["type"] == "stdout")
    assert told == "".join(f"{i}\n" for i in range(1, 20001))


# 3: a grandchild that holds the pipe holds nobody up.

def test_a_background_child_does_not_hold_the_answer(workspace):
    result = workspace.exec("sleep 1000 & echo away", timeout_seconds=600)
    assert (result["exit_code"], result["stdout"]) == (0, "away\n")
    assert result["duration_ms"] < 60000


# 4: a result is not lost after the end.

def test_a_result_can_be_read_long_after_and_after_a_restart(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    created = client.post("/v1/workspaces", {"environment": "debian:12"})
    path = f"/v1/workspaces/{created['workspace_id']}"
    first = client.post(f"{path}/exec", {"command": "echo kept; exit 3"})
    for turn in range(2):
        state = client.get(f"{path}/execs/{first['exec_id']}")
        assert (state["exit_code"], state["stdout"]) == (3, "kept\n")
        if turn == 0:
            hearthd.restart()
            client = hearthd.client()
    entries = client.get(f"{path}/logs")["entries"]
    assert [(entry["sequence"], entry["exit_code"]) for entry in entries] == [(1, 3)]


# 5: the end of the input can be said, and closes nothing else.

def test_input_ends_and_the_output_still_comes(workspace):
    assert workspace.exec("cat; echo end", stdin="a\nb\n")["stdout"] == "a\nb\nend\n"
    assert workspace.exec("cat; echo end")["stdout"] == "end\n"


# 6: exit code, signal, timed out and started are fields of their own.

@pytest.mark.parametrize("arguments, expected", [
    ({"command": "exit 7"}, {"exit_code": 7, "signal": None, "timed_out": False, "started": True}),
    ({"command": "kill -9 $$"}, {"exit_code": 137, "signal": 9, "started": True}),
    ({"argv": ["/no/such/program"]}, {"exit_code": 127, "started": False}),
    ({"argv": ["/etc/passwd"]}, {"exit_code": 126, "started": False}),
    ({"command": "true", "cwd": "/no/such/place"}, {"started": False}),
])
def test_the_end_is_told_in_fields(workspace, arguments, expected):
    result = workspace.client.post(f"{workspace.path}/exec", arguments)
    assert {key: result[key] for key in expected} == expected


# 7: every command can be cancelled, once.

def test_a_cancel_ends_the_command_and_says_so(workspace):
    state = workspace.exec("echo begun; sleep 1000", detach=True)
    reply = workspace.client.request("DELETE", f"{workspace.path}/execs/{state['exec_id']}")
    assert reply.status == 200
    final = ended(workspace, state["exec_id"])
    assert final["cancelled"] and not final["timed_out"] and final["exit_code"] != 0
    again = workspace.client.request("DELETE", f"{workspace.path}/execs/{state['exec_id']}")
    assert again.status in (404, 409)


# 8: an agent that is away is told as such.

def test_a_guest_that_died_is_a_state_with_a_reason(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    created = client.post("/v1/workspaces", {"environment": "debian:12"})
    path = f"/v1/workspaces/{created['workspace_id']}"
    held = threading.Thread(target=client.another().request, args=("POST", f"{path}/exec",
                                                                   {"command": "sleep 1000"}))
    held.start()
    while client.get(path)["command_count"] == 0:
        time.sleep(0.01)
    # PID 1 of the guest is the agent: without it the guest is gone.
    hearthd.kill_guests()
    held.join(60)
    assert not held.is_alive()
    deadline = time.monotonic() + 30
    while (status := client.get(path))["state"] != "failed" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert status["state"] == "failed"
    reply = client.request("POST", f"{path}/exec", {"command": "true"})
    assert reply.status == 409 and reply.json()["code"] == "workspace_failed"
    assert reply.json()["hint"]


# 9: a reader that is slow or gone blocks neither the process nor others.

def test_a_flood_is_bounded_counted_and_blocks_nobody(workspace):
    result = workspace.exec("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo tail", timeout_seconds=120)
    assert result["exit_code"] == 0 and result["truncated"]
    assert result["stdout_bytes"] == 50000006
    assert result["stdout"].startswith("xxx") and result["stdout"].endswith("\ntail\n")
    assert len(result["stdout"]) < 2 << 20


def test_a_stream_that_nobody_reads_does_not_stop_the_command(workspace):
    events = events_of(workspace, "head -c 20000000 /dev/zero | tr '\\0' y; echo $? > ended", timeout_seconds=300)
    next(events)  # and no more
    done = workspace.exec("for i in $(seq 1200); do [ -e ended ] && exit 0; sleep 0.05; done; exit 1",
                          timeout_seconds=120)
    assert done["exit_code"] == 0
    events.close()


def test_hundreds_side_by_side(workspace):
    results = [None] * 200
    gate = threading.Barrier(len(results))

    def run(index):
        with workspace.client.another() as client:
            gate.wait()
            results[index] = client.post(f"{workspace.path}/exec",
                                         {"command": f"echo {index}; sleep 0.2", "timeout_seconds": 120})

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["stdout"] for result in results] == [f"{i}\n" for i in range(len(results))]
    sequences = sorted(result["sequence"] for result in results)
    assert sequences == list(range(sequences[0], sequences[0] + len(results)))


def test_a_command_that_was_answered_is_known_and_in_the_logs(client, workspace):
    """However soon one asks: the answer does not wait for the history, so the history waits for it."""
    for number in range(50):
        done = workspace.exec(f"echo {number}")
        assert client.get(f"{workspace.path}/execs/{done['exec_id']}")["stdout"] == f"{number}\n"
        entries = client.get(f"{workspace.path}/logs", limit=1000)["entries"]
        assert entries[-1]["stdout"] == f"{number}\n"


def test_a_stop_gives_commands_the_time_to_end_by_themselves(workspace):
    state = workspace.exec("trap 'sleep 0.3; echo saved > saved; echo bye; exit 3' TERM; echo up > up; "
                           "while :; do sleep 0.05; done", detach=True)
    workspace.exec("while [ ! -e up ]; do sleep 0.05; done")
    workspace.client.post(f"{workspace.path}/stop")
    workspace.client.post(f"{workspace.path}/start")
    assert workspace.read("saved")["content"] == "saved\n"
    final = ended(workspace, state["exec_id"])
    assert (final["exit_code"], final["stdout"]) == (3, "bye\n")


# And what commands do that nobody expects of them.

def test_a_daemon_that_has_left_its_session_holds_nothing_up(workspace):
    """It forks twice, has a session of its own and still holds the streams."""
    result = workspace.exec("setsid sh -c 'sleep 1000 & sleep 1000' & echo away", timeout_seconds=600)
    assert (result["exit_code"], result["stdout"]) == (0, "away\n")
    assert workspace.exec("echo on")["stdout"] == "on\n"


def test_bytes_that_are_no_text_are_told_as_such(workspace):
    result = workspace.exec("printf 'a\\377\\300b'; printf '\\000\\001' >&2")
    assert (result["stdout"], result["stdout_bytes"], result["stderr_bytes"]) == ("a\ufffd\ufffdb", 4, 2)


def test_a_flood_on_both_streams_keeps_both_ends_and_counts_them(workspace):
    result = workspace.exec("for fd in 1 2; do (echo first; head -c 9000000 /dev/zero | tr '\\0' x; echo; echo last) >&$fd; done",
                            timeout_seconds=120, max_output_bytes=4096)
    assert result["truncated"] and result["exit_code"] == 0
    for stream in ("stdout", "stderr"):
        assert result[f"{stream}_bytes"] == 9000012
        assert result[stream].startswith("first\nxxx") and result[stream].endswith("x\nlast\n")
        assert len(result[stream]) < 10000


def test_a_command_that_fills_the_memory_file_system_ends_by_itself(workspace):
    result = workspace.exec("head -c 100000000000 /dev/zero > /dev/shm/full; echo $?; rm -f /dev/shm/full", timeout_seconds=120)
    assert result["stdout"].strip() != "0" or result["exit_code"] != 0
    assert workspace.exec("echo on")["stdout"] == "on\n"
