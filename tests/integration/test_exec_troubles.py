"""The nine troubles that exec has elsewhere, and our rule for each."""

import base64
import threading

import pytest

from harness.waiting import until


TIMEOUT_S = 3  # in which a command has said what it says first, on a busy host too


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


@pytest.mark.parametrize("bound", [{"wait_ms": 300}, {"detach": True}])
def test_a_stream_too_ends_where_the_wait_does(workspace, bound):
    events = list(events_of(workspace, "echo up; while [ ! -e go ]; do sleep 0.05; done; echo done", **bound))
    assert events[0]["type"] == "started" and events[-1]["type"] == "running"
    assert all(event["type"] != "exit" for event in events)
    workspace.write("go", "")
    final = ended(workspace, events[-1]["exec_id"])
    assert (final["exit_code"], final["stdout"]) == (0, "up\ndone\n")


def test_a_timeout_ends_the_whole_process_group_and_keeps_the_output(workspace):
    result = workspace.exec("echo before; sleep 1357 & sleep 1357", timeout_seconds=TIMEOUT_S)
    assert (result["exit_code"], result["timed_out"], result["stdout"]) == (124, True, "before\n")
    assert workspace.exec("pgrep -fx 'sleep 1357' | wc -l")["stdout"].strip() == "0"


def test_whatever_a_command_has_started_has_the_time_to_end_by_itself(workspace):
    """The shell itself ends at once."""
    child = "(trap 'sleep 0.2; echo saved > saved; exit' TERM; echo up; while :; do sleep 0.05; done) & wait"
    result = workspace.exec(child, timeout_seconds=TIMEOUT_S)
    assert (result["exit_code"], result["timed_out"], result["stdout"]) == (124, True, "up\n")
    assert workspace.read("saved")["content"] == "saved\n"
    deaf = "(trap '' TERM; exec >/dev/null 2>&1; while :; do sleep 0.05; done) & echo $!; wait"
    result = workspace.exec(deaf, timeout_seconds=TIMEOUT_S)
    assert workspace.exec(f"kill -0 {result['stdout']}")["exit_code"] == 1  # All of it has ended when that is told.


def test_a_command_that_ignores_term_is_killed(workspace):
    result = workspace.exec("trap '' TERM; echo on; while :; do sleep 0.1; done", timeout_seconds=1)
    assert (result["exit_code"], result["timed_out"]) == (124, True)


def test_a_client_that_goes_away_cancels_its_command(workspace):
    events = events_of(workspace, "echo $$ > pid; echo up; sleep 1000", timeout_seconds=600)
    started = next(event for event in events if event.get("type") == "stdout")
    assert started
    events.close()
    gone = workspace.exec("for i in $(seq 1200); do kill -0 $(cat pid) 2>/dev/null || exit 0; "
                          "sleep 0.05; done; exit 1", timeout_seconds=120)
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
    assert (again.status, again.json()["code"], again.json()["field"]) == (409, "exec_ended", "/exec_id")
    late = workspace.client.request("POST", f"{workspace.path}/execs/{state['exec_id']}/input", {"data": "x"})
    assert (late.status, late.json()["code"]) == (409, "exec_ended")


# 8: an agent that is away is told as such.

def test_a_guest_that_died_is_a_state_with_a_reason(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    created = client.post("/v1/workspaces", {"environment": "debian:12"})
    path = f"/v1/workspaces/{created['workspace_id']}"
    held = threading.Thread(target=client.another().request, args=("POST", f"{path}/exec",
                                                                   {"command": "sleep 1000"}))
    held.start()
    until(lambda: client.get(path)["command_count"])
    # PID 1 of the guest is the agent: without it the guest is gone.
    hearthd.kill_guests()
    held.join(60)
    assert not held.is_alive()
    until(lambda: client.get(path)["state"] == "failed")
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


@pytest.mark.parametrize("size", [10, 900_000])
def test_what_many_commands_say_last_before_a_stop_is_told_whole(workspace, size):
    command = (f"trap 'head -c {size} /dev/zero | tr \"\\0\" x; exit 3' TERM; echo up >>up; "
               "while :; do sleep 0.05; done")
    begun = [workspace.exec(command, detach=True) for _ in range(10)]
    workspace.exec("while [ $(wc -l <up) -lt 10 ]; do sleep 0.05; done")
    workspace.client.post(f"{workspace.path}/stop")
    told = [ended(workspace, state["exec_id"]) for state in begun]
    assert [(state["exit_code"], state["stdout"]) for state in told] == [(3, "x" * size)] * 10


# And what commands do that nobody expects of them.

def test_a_daemon_that_has_left_its_session_holds_nothing_up(workspace):
    """It forks twice, has a session of its own and still holds the streams."""
    result = workspace.exec("setsid sh -c 'sleep 1000 & sleep 1000' & echo away", timeout_seconds=600)
    assert (result["exit_code"], result["stdout"]) == (0, "away\n")
    assert workspace.exec("echo on")["stdout"] == "on\n"


def test_bytes_that_are_no_text_are_told_as_such(workspace):
    result = workspace.exec("printf 'a\\377\\300b'; printf '\\000\\001' >&2")
    assert (result["stdout"], result["stdout_bytes"], result["stderr_bytes"]) == ("a\ufffd\ufffdb", 4, 2)


@pytest.mark.parametrize("limit", [30_000, 1 << 20])
def test_a_stream_tells_all_of_a_flood_or_how_much_is_lost(workspace, limit):
    told = lost = 0
    for event in events_of(workspace, "yes 123456789 | head -c 8000000", max_output_bytes=limit):
        told += len(event["data"]) if event["type"] == "stdout" else 0
        lost += event["lost_bytes"] if event["type"] == "gap" else 0
    assert (event["type"], event["stdout_bytes"]) == ("exit", 8000000)
    assert (told + lost, event["truncated"]) == (8000000, lost > 0)


def test_a_stream_of_much_text_is_cut_between_characters(workspace):
    text = "x" + "\N{EURO SIGN}" * 100_000 + "\n\t\"\\\x01 and \N{SLIGHTLY SMILING FACE}" * 10_000
    workspace.write("text", text)
    told, wait = "", "while [ ! -e {} ]; do sleep 0.02; done"
    # What there is when it is first told of, and what has ended, is told at once.
    for event in events_of(workspace, f"{wait.format('begin')}; cat text; {wait.format('go')}"):
        if event["type"] == "started":
            workspace.write("begin", "")
        if event["type"] == "stdout":
            assert "encoding" not in event and len(event["data"].encode()) <= 16 << 10
            told += event["data"]
            if told == text:
                workspace.write("go", "")
    assert told == text


BYTE_BY_BYTE = """put() { printf "$1"; printf "$1" >&2; }
put 'a\\342'; while [ ! -e go1 ]; do sleep 0.02; done
put '\\202'; while [ ! -e go2 ]; do sleep 0.02; done
put '\\254b\\360\\237'; while [ ! -e go3 ]; do sleep 0.02; done
put '\\231'; while [ ! -e go4 ]; do sleep 0.02; done
put '\\202\\303'"""
SMILE = "\N{SLIGHTLY SMILING FACE}"


def writes_byte_by_byte(workspace, exec_id, look):
    """Lets the command write on, each time once the guest has taken in what came before."""
    for turn, length in enumerate([2, 3, 7, 8], 1):
        def taken(length=length):
            state = look(exec_id)
            return state["stdout_bytes"] == state["stderr_bytes"] == length
        until(taken)
        workspace.write(f"go{turn}", "")


def test_a_stream_waits_for_the_rest_of_a_character(workspace):
    events = events_of(workspace, BYTE_BY_BYTE)
    told = [next(events)]
    writes_byte_by_byte(workspace, told[0]["exec_id"],
                        lambda exec_id: workspace.client.another().get(f"{workspace.path}/execs/{exec_id}"))
    told += events
    for stream in ("stdout", "stderr"):
        pieces = [event for event in told if event["type"] == stream]
        assert "".join(event["data"] for event in pieces[:-1]) == f"a\N{EURO SIGN}b{SMILE}"
        assert all("encoding" not in event for event in pieces[:-1])
        assert base64.b64decode(pieces[-1]["data"]) == b"\xc3", "what never became a character is told too"


def test_who_polls_is_told_of_whole_characters(workspace):
    told = {"stdout": "", "stderr": "", "cursor": "0.0"}

    def look(exec_id):
        state = workspace.client.get(f"{workspace.path}/execs/{exec_id}", cursor=told["cursor"])
        told.update(stdout=told["stdout"] + state["stdout"], stderr=told["stderr"] + state["stderr"],
                    cursor=state["cursor"])
        return state

    exec_id = workspace.exec(BYTE_BY_BYTE, detach=True)["exec_id"]
    writes_byte_by_byte(workspace, exec_id, look)
    until(lambda: not look(exec_id)["running"])
    assert told["stdout"] == told["stderr"] == f"a\N{EURO SIGN}b{SMILE}\ufffd"


@pytest.mark.parametrize("shift", range(3))
def test_a_hole_cuts_one_character_and_not_the_text_beside_it(workspace, shift):
    workspace.write("text", "x" * shift + "\N{EURO SIGN}" * 100_000)
    told = lost = 0
    for event in events_of(workspace, "cat text", max_output_bytes=4096):
        if event["type"] == "stdout":
            data = base64.b64decode(event["data"]) if "encoding" in event else event["data"].encode()
            assert len(data) < 3 or "encoding" not in event
            told += len(data)
        lost += event["lost_bytes"] if event["type"] == "gap" else 0
    assert told + lost == event["stdout_bytes"] == shift + 300_000 and lost


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


def test_what_runs_in_a_container_is_killed_before_its_agent_where_memory_is_short(workspace):
    """Else a command with many small processes would cost its workspace the agent, the largest of all."""
    read = "cat /proc/self/oom_score_adj /proc/1/oom_score_adj"
    in_exec = workspace.exec(read)["stdout"].split()
    client, path = workspace.client, workspace.path
    client.put(f"{path}/services/one", {"command": f"{read} >adj; touch ready; exec sleep 1000", "ready_file": "ready"})
    in_service = workspace.exec("cat adj")["stdout"].split()
    shell = f"{path}/shells/" + client.post(f"{path}/shells", {})["shell_id"]
    client.post(f"{shell}/input", {"input": f"{read} >adj; echo writ''ten"})
    until(lambda: "written" in client.get(shell, cursor=0)["output"], "the shell does nothing")
    in_shell = workspace.exec("cat adj")["stdout"].split()
    for own, agent in (in_exec, in_service, in_shell):
        assert int(own) == 1000 > int(agent)
