"""`hearth mcp serve`: the protocol's rules over standard input and output, byte by byte."""

import json
import pathlib
import re
import signal
import subprocess

import pytest

from harness.daemon import BIN
from harness.mcp import (META_CAPABILITIES, META_VERSION, MODERN, Stdio, enveloped, hello, message,
                         result_of)
from harness.waiting import until

HANDSHAKE = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
PROFILES = ["vm-run", "workspace-core", "workspace-full"]


@pytest.fixture(scope="module")
def url(daemon):
    return f"unix://{daemon.socket_path}"


@pytest.fixture
def stdio(url):
    with Stdio(url) as made:
        made.initialize()
        yield made


@pytest.fixture
def modern(url):
    with Stdio(url) as made:
        yield made


@pytest.fixture(scope="module")
def shared(daemon):
    """A workspace for tests that only need one."""
    with daemon.client() as client:
        made = client.post("/v1/workspaces", {"environment": "debian:12", "name": "mcp"})
        yield made["workspace_id"]
        client.delete(f"/v1/workspaces/{made['workspace_id']}")


def running(daemon, workspace_id, word, asking=None):
    """The processes in a workspace whose command line starts with word; asking: a client."""
    with asking or daemon.client() as client:
        found = client.post(f"/v1/workspaces/{workspace_id}/exec", {
            "command": "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null"})
    return [line for line in found["stdout"].splitlines() if line.startswith(word)]


wait_for = until


# The handshake

@pytest.mark.parametrize("version", HANDSHAKE)
def test_a_known_version_is_echoed(url, version):
    with Stdio(url) as stdio:
        result = stdio.initialize(version)
        assert result["protocolVersion"] == version
        assert result["serverInfo"]["name"] == "hearth"
        assert {"tools", "resources", "prompts"} == set(result["capabilities"])
        assert stdio.request("ping") == {}


def test_an_unknown_version_is_answered_with_our_own(url):
    with Stdio(url) as stdio:
        assert stdio.initialize("1999-01-01")["protocolVersion"] == HANDSHAKE[-1]


def test_before_initialize_only_ping_is_answered(url):
    with Stdio(url) as stdio:
        assert stdio.request("ping") == {}
        assert stdio.error("tools/list")["code"] == -32600
        assert stdio.error("server/discover")["code"] == -32601
        assert stdio.error("initialize", {})["code"] == -32602
        stdio.initialize()
        assert stdio.request("tools/list")["tools"]


# Tools

@pytest.mark.parametrize("profile", PROFILES)
def test_the_tools_are_the_operation_tables(url, client, profile):
    with Stdio(url, "--profile", profile) as stdio:
        stdio.initialize()
        first, second = stdio.request("tools/list"), stdio.request("tools/list", {"cursor": None})
        assert json.dumps(first) == json.dumps(second)
        assert first["tools"] == client.get("/v1/tools", profile=profile, format="mcp")["tools"]
        if profile == "vm-run":
            assert [tool["name"] for tool in first["tools"]] == ["vm_run"]
            for method in ("resources/list", "prompts/list"):
                assert stdio.error(method)["code"] == -32601
        for tool in first["tools"]:
            assert tool["title"] and tool["description"]
            assert {name: type(value) for name, value in tool["annotations"].items()
                    if name != "title"} == dict.fromkeys(
                ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"], bool)
            assert tool["outputSchema"]["type"] == "object"
            schema = tool["inputSchema"]
            assert schema["type"] == "object" and schema["additionalProperties"] is False
            for name, argument in schema["properties"].items():
                if name not in schema["required"]:
                    assert "null" in json.dumps(argument), (tool["name"], name)


def test_a_bogus_cursor_is_an_invalid_parameter(stdio):
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        assert stdio.error(method, {"cursor": "bogus"})["code"] == -32602


def test_a_result_comes_twice_and_fits_its_schema(stdio, shared):
    result = stdio.call("workspace_exec", {"workspace_id": shared, "command": "echo out; exit 3",
                                           "timeout_seconds": None, "env": None})
    assert result["isError"] is False
    assert result["structuredContent"]["exit_code"] == 3
    assert [block["type"] for block in result["content"]] == ["text"]
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]


@pytest.mark.parametrize("arguments, code, field", [
    ({"command": 5}, "bad_type", "/command"),
    ({"command": "true", "bogus": 1}, "unknown_argument", "/bogus"),
    ({"command": "true", "stream": True}, "unknown_argument", "/stream"),
    ({"command": "true", "secret_env": {}}, "unknown_argument", "/secret_env"),
    ({"command": "true", "timeout_seconds": 0}, "out_of_range", "/timeout_seconds"),
    ({}, "conflicting_arguments", "/command"),
])
def test_a_failed_call_is_a_problem_without_structured_content(stdio, shared, arguments, code,
                                                               field):
    result = stdio.call("workspace_exec", {"workspace_id": shared, **arguments})
    assert result["isError"] is True and "structuredContent" not in result
    problem = json.loads(result["content"][0]["text"])
    assert (problem["code"], problem["field"]) == (code, field)
    assert problem["hint"]


def test_a_workspace_that_is_not_there_is_a_problem(stdio):
    result = stdio.call("workspace_status", {"workspace_id": "ws_aaaaaaaaaaaaaaaa"})
    assert json.loads(result["content"][0]["text"])["code"] == "workspace_not_found"


@pytest.mark.parametrize("params", [{"name": "nope", "arguments": {}}, {"name": "upload_create"},
                                    {"name": "workspace_exec", "arguments": []}, {"name": 5}, {},
                                    []])
def test_what_is_no_call_of_a_tool_is_an_invalid_parameter(stdio, params):
    assert stdio.error("tools/call", params)["code"] == -32602


def test_a_tool_of_another_profile_is_unknown(url):
    with Stdio(url, "--profile", "vm-run") as stdio:
        stdio.initialize()
        assert stdio.error("tools/call", {"name": "workspace_list", "arguments": {}})[
            "code"] == -32602


def test_a_repeated_call_with_a_key_has_one_effect(stdio, shared):
    call = {"workspace_id": shared, "command": "echo again >>repeated; wc -l <repeated"}
    first, again = (stdio.call("workspace_exec", call, **{"hearth/idempotency_key": "mcp-key-1"})
                    for _ in range(2))
    assert first == again and first["structuredContent"]["stdout"] == "1\n"
    other = stdio.call("workspace_exec", {**call, "command": "true"},
                       **{"hearth/idempotency_key": "mcp-key-1"})
    assert json.loads(other["content"][0]["text"])["code"] == "idempotency_key_reused"
    bad = stdio.call("workspace_exec", call, **{"hearth/idempotency_key": "é"})
    assert json.loads(bad["content"][0]["text"])["code"] == "bad_idempotency_key"


# Calls side by side, progress, cancelling

def test_a_ping_is_answered_while_commands_run(stdio, shared):
    slow = [stdio.ask("tools/call", {"name": "workspace_exec", "arguments": {
        "workspace_id": shared, "command": "until [ -e pinged ]; do sleep 0.1; done"}})
            for _ in range(2)]
    assert stdio.request("ping") == {}
    assert not [each for each in stdio.kept if "id" in each]
    stdio.call("workspace_file_write", {"workspace_id": shared, "path": "pinged", "text": ""})
    for number in slow:
        assert result_of(stdio.answer(number))["structuredContent"]["exit_code"] == 0


def test_progress_is_told_where_a_token_was_given_and_rises(stdio, shared):
    call = {"name": "workspace_exec", "arguments": {"workspace_id": shared, "command": "until [ -e told ]; do sleep 0.1; done"}}
    silent = stdio.ask("tools/call", call)
    told = stdio.ask("tools/call", {**call, "_meta": {"progressToken": "mine"}})
    early = [stdio.notification("notifications/progress") for _ in range(2)]
    stdio.call("workspace_file_write", {"workspace_id": shared, "path": "told", "text": ""})
    result_of(stdio.answer(told))
    result_of(stdio.answer(silent))
    stdio.request("ping")
    progress = early + [each["params"] for each in stdio.kept
                        if each.get("method") == "notifications/progress"]
    values = [each["progress"] for each in progress]
    assert values == sorted(set(values))
    assert {each["progressToken"] for each in progress} == {"mine"}


def test_cancelling_ends_the_process_in_the_guest_and_is_not_answered(stdio, daemon, shared):
    number = stdio.ask("tools/call", {"name": "workspace_exec", "arguments": {
        "workspace_id": shared, "command": "exec sleep 4711"}})
    wait_for(lambda: running(daemon, shared, "sleep 4711"))
    stdio.send(message("notifications/cancelled", {"requestId": number, "reason": "enough"}))
    wait_for(lambda: not running(daemon, shared, "sleep 4711"))
    # Late, unknown and senseless ones change nothing.
    stdio.send(message("notifications/cancelled", {"requestId": number}),
               message("notifications/cancelled", {"requestId": "never"}),
               message("notifications/cancelled", {}), message("notifications/cancelled"))
    assert stdio.request("ping") == {}
    assert not [each for each in stdio.kept if each.get("id") == number]


def test_an_id_in_use_and_too_many_requests_are_refused(stdio, shared):
    call = {"name": "workspace_exec", "arguments": {"workspace_id": shared, "command": "sleep 20"}}
    stdio.send(message("tools/call", call, "same"), message("ping", None, "same"))
    assert stdio.answer("same")["error"]["code"] == -32600
    stdio.send(*[message("tools/call", call, f"many {number}") for number in range(128)])
    assert stdio.answer("many 127")["error"]["code"] == -32000
    stdio.send(message("notifications/cancelled", {"requestId": "same"}),
               *[message("notifications/cancelled", {"requestId": f"many {number}"})
                 for number in range(128)])
    assert stdio.request("ping") == {}


# Framing

@pytest.mark.parametrize("line, code, id", [
    (b'{"jsonrpc":"2.0","id":1', -32700, None),
    (b"nonsense", -32700, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping"} trailing', -32700, None),
    (b"\xff\xfe", -32700, None),
    (b"[" * 200000, -32700, None),
    (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
    (b'"ping"', -32600, None),
    (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600, 1),
    (b'{"id":1,"method":"ping"}', -32600, 1),
    (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1}', -32600, 1),
    (b'{"jsonrpc":"2.0","id":"n","method":"ping","params":{"x":"\\u0000"}}', -32602, "n"),
    (b'{"jsonrpc":"2.0","id":"t","method":"ping","params":{"x":1,"x":2}}', -32602, "t"),
    (b'{"jsonrpc":"2.0","id":"a","method":"ping","params":[]}', -32602, "a"),
    (b'{"jsonrpc":"2.0","id":"u","method":"no/such"}', -32601, "u"),
])
def test_a_bad_message_has_the_protocols_error_and_the_next_one_is_served(stdio, line, code, id):
    stdio.write(line + b"\n")
    answer = stdio.next()
    assert (answer["error"]["code"], answer["id"]) == (code, id)
    assert stdio.request("ping") == {}


def test_messages_of_three_megabytes_are_taken(stdio, shared):
    text = "x" * 3000000
    result = stdio.call("workspace_file_write",
                        {"workspace_id": shared, "path": "large", "text": text})
    assert result["structuredContent"]["bytes_written"] == 3000000


def test_a_message_past_the_limit_is_refused_and_the_next_one_is_served(stdio):
    for number, size, id in ((1, 9, 1), (2, 40, None)):  # of the larger one not even the ID is looked for
        stdio.write(b'{"jsonrpc":"2.0","method":"' + b"x" * (size << 20) + b'","id":%d}\n' % number)
        answer = stdio.next()
        assert (answer["error"]["code"], answer["id"]) == (-32600, id)
        assert stdio.request("ping") == {}


def test_pipelined_requests_blank_lines_and_carriage_returns(url):
    with Stdio(url) as stdio:
        lines = [message("initialize", hello(), 1), message("notifications/initialized"),
                 message("tools/list", None, "two"), message("ping", None, 3)]
        stdio.write(b"\n \r\n" + b"\r\n".join(json.dumps(line).encode() for line in lines) + b"\n")
        assert [stdio.next()["id"] for _ in range(3)] == [1, "two", 3]


def test_ids_come_back_as_they_were(stdio):
    for number in ("", "é\n\"", 0, -7, 9007199254740991, 2**53 + 1, 1764161518123456789, -(2**63), 2**64 - 1):
        stdio.send(message("ping", None, number))
        assert stdio.next()["id"] == number


def test_ids_past_what_a_double_holds_are_kept_apart(stdio, shared):
    """A client that counts in nanoseconds: what is cancelled, told of and answered by the command itself is its own."""
    first = 1764161518123456789
    for number in (first, first + 1):
        stdio.send(message("tools/call", {"name": "workspace_exec", "_meta": {"progressToken": number},
                                          "arguments": {"workspace_id": shared, "command": "sleep 2; echo $$"}}, number))
    stdio.send(message("notifications/cancelled", {"requestId": first}))
    answer = stdio.next()
    while "method" in answer:
        assert answer["params"]["progressToken"] in (first, first + 1)
        answer = stdio.next()
    assert answer["id"] == first + 1 and answer["result"]["isError"] is False
    for path in ("/nonexistent", "/dev/null/x"):
        stdio.send(message("tools/call", {"name": "workspace_sync_push", "arguments": {
            "workspace_id": shared, "source_path": path}}, first + 2))
        refused = stdio.next()
        assert refused["id"] == first + 2 and refused["result"]["isError"] is True


# The end

def test_the_end_of_the_input_is_the_end(stdio):
    assert stdio.end() == (0, [])


def test_what_was_asked_before_the_end_is_answered(url):
    with Stdio(url) as stdio:
        stdio.write(b"\n".join(json.dumps(line).encode() for line in [
            message("initialize", hello(), 1), message("tools/list", None, 2),
            message("ping", None, 3)]))  # the last line has no end of its own
        status, rest = stdio.end()
        assert status == 0 and [answer["id"] for answer in rest] == [1, 2, 3]


def test_the_end_in_the_middle_of_a_call_ends_the_command_too(stdio, daemon, shared):
    stdio.ask("tools/call", {"name": "workspace_exec", "arguments": {
        "workspace_id": shared, "command": "exec sleep 4712", "timeout_seconds": 4712}})
    wait_for(lambda: running(daemon, shared, "sleep 4712"))
    status, _ = stdio.end()  # long before the command would end
    assert status == 0
    wait_for(lambda: not running(daemon, shared, "sleep 4712"))


def test_a_killed_client_takes_its_commands_with_it(stdio, daemon, shared):
    stdio.ask("tools/call", {"name": "workspace_exec", "arguments": {
        "workspace_id": shared, "command": "exec sleep 4713"}})
    wait_for(lambda: running(daemon, shared, "sleep 4713"))
    stdio.process.send_signal(signal.SIGKILL)
    wait_for(lambda: not running(daemon, shared, "sleep 4713"))


def test_a_client_that_never_reads_stops_nobody_else(url, daemon, stdio, shared):
    """Its answers pile up to a bound; then it is not served any more, and its input waits."""
    def resident():
        status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])
    before = resident()
    greedy = subprocess.Popen([str(BIN / "hearth"), "mcp", "serve"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE,
                              env={"HEARTH_URL": url, "PATH": "/usr/bin:/bin"})
    line = json.dumps(message("tools/list", None, 1)).encode() + b"\n"
    greedy.stdin.write(json.dumps(message("initialize", hello(), 0)).encode() + b"\n")
    greedy.stdin.write(line * 20000)
    greedy.stdin.flush()
    assert stdio.request("ping") == {}
    assert stdio.call("workspace_status", {"workspace_id": shared})["isError"] is False
    assert greedy.poll() is None and resident() - before < 64 << 10
    greedy.stdin.close()
    assert greedy.wait(60) == 0
    greedy.stdout.close()


def test_many_requests_at_once_are_all_answered(stdio):
    stdio.write(b"".join(json.dumps(message("tools/list", None, number)).encode() + b"\n"
                         for number in range(300)))
    assert [stdio.next()["id"] for _ in range(300)] == list(range(300))


def test_an_unknown_profile_is_told_on_stderr_alone():
    for words in (["--profile", "everything"], ["--bogus"], ["word"]):
        ended = subprocess.run([BIN / "hearth", "mcp", "serve", *words], capture_output=True,
                               stdin=subprocess.DEVNULL, env={"HEARTH_URL": "http://127.0.0.1:9"})
        assert ended.returncode == 2 and not ended.stdout and ended.stderr


def test_without_a_daemon_it_says_so_on_stderr_alone():
    ended = subprocess.run([BIN / "hearth", "mcp", "serve"], capture_output=True,
                           stdin=subprocess.DEVNULL, env={"HEARTH_URL": "http://127.0.0.1:9"})
    assert ended.returncode == 1 and not ended.stdout and b"no hearthd" in ended.stderr


def test_over_tcp_with_a_token(daemon, shared, tmp_path):
    (tmp_path / "over").write_text("tcp")
    with Stdio(daemon.url, environment={"HEARTH_TOKEN": daemon.token}) as stdio:
        stdio.initialize()
        pushed = stdio.call("workspace_sync_push", {"workspace_id": shared,
                                                    "source_path": str(tmp_path)})
        assert pushed["isError"] is False
        read = stdio.call("workspace_file_read", {"workspace_id": shared, "path": "over"})
        assert read["structuredContent"]["content"] == "tcp"
        assert stdio.end() == (0, [])
    with Stdio(daemon.url, environment={"HEARTH_TOKEN": "nonsense"}) as stdio:
        assert stdio.process.wait(60) == 1
        assert b"token" in stdio.process.stderr.read()


# The modern era

def test_discover_and_the_results_of_the_modern_era(modern):
    found = modern.request("server/discover", enveloped())
    assert found["supportedVersions"] == [MODERN]
    assert {"tools", "resources", "prompts"} == set(found["capabilities"])
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        listed = modern.request(method, enveloped())
        for result in (found, listed):
            assert result["resultType"] == "complete"
            assert result["ttlMs"] >= 0 and result["cacheScope"] in ("private", "public")
            assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "hearth"
    called = modern.request("tools/call", enveloped({"name": "workspace_list", "arguments": {}}))
    assert called["resultType"] == "complete" and called["structuredContent"]["count"] >= 0


def test_the_first_request_fixes_the_era(modern, stdio):
    supported = modern.request("server/discover", enveloped())["supportedVersions"]
    error = modern.error("initialize", hello())
    assert error["code"] == -32022
    assert error["data"] == {"supported": supported, "requested": "2025-11-25"}
    assert stdio.error("tools/list", enveloped())["code"] == -32600
    assert stdio.request("tools/list")["tools"]


@pytest.mark.parametrize("params, code", [
    (None, -32602), ({}, -32602), ({"_meta": {}}, -32602),
    ({"_meta": {META_VERSION: MODERN}}, -32602), ({"_meta": {META_CAPABILITIES: {}}}, -32602),
    ({"_meta": {META_VERSION: 7, META_CAPABILITIES: {}}}, -32602),
    (enveloped(version="2099-01-01"), -32022),
    (enveloped(version="2025-11-25"), -32022),
])
def test_a_faulty_envelope_is_refused(modern, params, code):
    supported = modern.request("server/discover", enveloped())["supportedVersions"]
    error = modern.error("tools/list", params)
    assert error["code"] == code
    if code == -32022:
        assert error["data"]["supported"] == supported


def test_an_initialize_with_an_envelope_is_the_handshake(modern):
    assert modern.request("initialize", {**hello(), **enveloped()})["protocolVersion"] == \
        HANDSHAKE[-1]


def test_methods_of_the_other_era_are_not_there(modern, stdio):
    for method in ("ping", "resources/subscribe", "no/such"):
        assert modern.error(method, enveloped())["code"] == -32601
    for method in ("server/discover", "subscriptions/listen", "no/such"):
        assert stdio.error(method)["code"] == -32601


def test_modern_calls_are_cancelled_too(modern, daemon, shared):
    number = modern.ask("tools/call", enveloped({"name": "workspace_exec", "arguments": {
        "workspace_id": shared, "command": "exec sleep 4714"}}))
    wait_for(lambda: running(daemon, shared, "sleep 4714"))
    modern.send(message("notifications/cancelled", {"requestId": number}))
    wait_for(lambda: not running(daemon, shared, "sleep 4714"))


# Resources

def uri(workspace_id, tail):
    return f"hearth://workspaces/{workspace_id}/{tail}"


def test_files_and_logs_are_resources(stdio, shared):
    templates = stdio.request("resources/templates/list")["resourceTemplates"]
    assert {each["uriTemplate"] for each in templates} == {
        uri("{workspace_id}", "files/{+path}"), uri("{workspace_id}", "logs")}
    assert uri(shared, "logs") in [each["uri"] for each in
                                   stdio.request("resources/list")["resources"]]
    stdio.call("workspace_exec", {"workspace_id": shared, "command":
               "mkdir -p 'a b'; printf 'text é' >'a b/c%d'; printf '\\000\\377' >bytes"})
    [text] = stdio.request("resources/read", {"uri": uri(shared, "files/a%20b/c%25d")})["contents"]
    assert (text["text"], text["mimeType"]) == ("text é", "text/plain")
    [blob] = stdio.request("resources/read", {"uri": uri(shared, "files/bytes")})["contents"]
    assert (blob["blob"], blob["uri"]) == ("AP8=", uri(shared, "files/bytes"))
    [log] = stdio.request("resources/read", {"uri": uri(shared, "logs")})["contents"]
    assert json.loads(log["text"])["entries"]


@pytest.mark.parametrize("name, session_code", [
    ("hearth://workspaces/ws_aaaaaaaaaaaaaaaa/logs", -32002),
    ("hearth://workspaces/ws_aaaaaaaaaaaaaaaa/files/x", -32002),
    ("hearth://workspaces/x/elsewhere", -32002), ("file:///etc/passwd", -32002),
    ("hearth://workspaces/ws_aaaaaaaaaaaaaaaa/files/%zz", -32002), (None, -32602), (5, -32602)])
def test_what_is_no_resource_is_told(stdio, modern, name, session_code):
    assert stdio.error("resources/read", {"uri": name})["code"] == session_code
    modern.request("server/discover", enveloped())
    assert modern.error("resources/read", enveloped({"uri": name}))["code"] == -32602


def test_a_path_never_leaves_the_workspace(stdio, shared):
    for tail in ("files/../../etc/passwd", "files/%2e%2e/%2e%2e/etc/passwd", "files//etc/passwd"):
        assert stdio.error("resources/read", {"uri": uri(shared, tail)})["code"] in (-32602, -32002)


def test_subscribers_are_told_of_changes(stdio, shared):
    watched, log = uri(shared, "files/watched"), uri(shared, "logs")
    stdio.request("resources/subscribe", {"uri": watched})
    stdio.request("resources/subscribe", {"uri": watched})
    stdio.call("workspace_file_write", {"workspace_id": shared, "path": "watched", "text": "1"})
    assert stdio.notification("notifications/resources/updated") == {"uri": watched}
    # A change that no operation made, by a process in the guest.
    stdio.call("workspace_exec", {"workspace_id": shared, "command":
               "(sleep 2; echo more >>watched) >/dev/null 2>&1 &"})
    assert stdio.notification("notifications/resources/updated") == {"uri": watched}
    stdio.request("resources/unsubscribe", {"uri": watched})
    stdio.request("resources/subscribe", {"uri": log})
    stdio.call("workspace_exec", {"workspace_id": shared, "command": "rm watched"})
    assert stdio.notification("notifications/resources/updated") == {"uri": log}
    assert stdio.error("resources/subscribe", {"uri": uri("ws_aaaaaaaaaaaaaaaa", "logs")})[
        "code"] == -32002


def test_a_modern_client_listens_with_a_request(modern, shared):
    watched = uri(shared, "files/listened")
    number = modern.ask("subscriptions/listen", enveloped({"notifications": {
        "toolsListChanged": True, "resourceSubscriptions": [watched, "nonsense:"]}}))
    told = modern.notification("notifications/subscriptions/acknowledged")
    stamp = {"io.modelcontextprotocol/subscriptionId": number}
    assert told == {"_meta": stamp, "notifications": {"resourceSubscriptions": [watched]}}
    modern.request("tools/call", enveloped({"name": "workspace_file_write", "arguments": {
        "workspace_id": shared, "path": "listened", "text": "x"}}))
    assert modern.notification("notifications/resources/updated") == {"uri": watched,
                                                                      "_meta": stamp}
    modern.send(message("notifications/cancelled", {"requestId": number}))
    assert modern.error("subscriptions/listen", enveloped({}))["code"] == -32602


# Prompts

def test_the_five_stories_are_prompts(stdio):
    prompts = stdio.request("prompts/list")["prompts"]
    assert [prompt["name"] for prompt in prompts] == [
        "cold-start-repo-validation", "repro-fix-loop", "parallel-workspaces",
        "untrusted-inspection", "review-eval-workflows"]
    for prompt in prompts:
        got = stdio.request("prompts/get", {"name": prompt["name"], "arguments": {
            "source_path": "/src/{task}", "environment": "debian:12-build"}})
        [said] = got["messages"]
        assert said["role"] == "user" and "/src/{task}" in said["content"]["text"]
        assert "debian:12-build" in said["content"]["text"]
        assert "workspace_create" in said["content"]["text"]


@pytest.mark.parametrize("params", [{"name": "nope"}, {}, {"name": "repro-fix-loop",
                                                           "arguments": {"bogus": "x"}},
                                    {"name": "repro-fix-loop", "arguments": {"command": 5}},
                                    {"name": "repro-fix-loop", "arguments": []}])
def test_a_prompt_that_is_not_there_is_an_invalid_parameter(stdio, params):
    assert stdio.error("prompts/get", params)["code"] == -32602


# Host paths are the client's

def test_a_seed_path_is_packed_here(url, tmp_path):
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("seeded")
    (tmp_path / "tree/run.sh").write_text("echo ran")
    (tmp_path / "tree/run.sh").chmod(0o755)
    with Stdio(url) as stdio:
        stdio.initialize()
        number = stdio.ask("tools/call", {"name": "workspace_create", "arguments": {
            "environment": "debian:12", "seed_path": str(tmp_path / "tree")}})
        assert stdio.request("ping") == {}
        made = result_of(stdio.answer(number))["structuredContent"]
        try:
            assert made["workspace_seed"]["seed_path"] == str(tmp_path / "tree")
            ran = stdio.call("workspace_exec", {"workspace_id": made["workspace_id"],
                                                "command": "cat sub/file; ./run.sh"})
            assert ran["structuredContent"]["stdout"] == "seededran\n"
        finally:
            stdio.call("workspace_delete", {"workspace_id": made["workspace_id"]})


def test_a_seed_path_that_is_not_there_is_a_problem_of_the_call(stdio):
    result = stdio.call("workspace_create", {"environment": "debian:12",
                                             "seed_path": "/no/such/directory"})
    problem = json.loads(result["content"][0]["text"])
    assert result["isError"] is True and problem["field"] == "/seed_path"
    assert "structuredContent" not in result


@pytest.mark.parametrize("path, code", [("", "blank_argument"), ("x" * 4096, "bad_length")])
def test_a_text_that_can_be_no_path_is_refused_as_by_everybody(stdio, shared, path, code):
    for tool, arguments, field in (
            ("workspace_create", {"environment": "debian:12", "seed_path": path}, "/seed_path"),
            ("workspace_sync_push", {"workspace_id": shared, "source_path": path}, "/source_path"),
            ("workspace_export", {"workspace_id": shared, "path": ".", "output_path": path}, "/output_path")):
        problem = json.loads(stdio.call(tool, arguments)["content"][0]["text"])
        assert (problem["status"], problem["code"], problem["field"]) == (422, code, field)


def test_a_path_with_a_nul_is_not_the_path_before_it(stdio, shared, tmp_path):
    (tmp_path / "tree").mkdir()
    for tool, arguments in (
            ("workspace_sync_push", {"workspace_id": shared, "source_path": f"{tmp_path}/tree\0x"}),
            ("workspace_export", {"workspace_id": shared, "path": ".", "output_path": f"{tmp_path}/out\0x"})):
        assert stdio.error("tools/call", {"name": tool, "arguments": arguments})["code"] == -32602
    assert [entry.name for entry in tmp_path.iterdir()] == ["tree"]
    (tmp_path / "tree/file").write_text("here")
    pushed = stdio.call("workspace_sync_push", {
        "workspace_id": shared, "source_path": str(tmp_path / "tree"), "dest": "back\\u0000slash"})
    assert pushed["structuredContent"]["workspace_sync"]["destination"] == "/workspace/back\\u0000slash"


def test_a_source_path_is_pushed_and_an_output_path_written_here(stdio, shared, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/pushed").write_text("from here")
    pushed = stdio.call("workspace_sync_push", {
        "workspace_id": shared, "source_path": str(tmp_path / "source"), "dest": "sub"})
    assert pushed["structuredContent"]["workspace_sync"]["entry_count"] == 1
    call = {"workspace_id": shared, "path": "sub", "output_path": str(tmp_path / "out put")}
    exported = stdio.call("workspace_export", call)
    assert exported["isError"] is False
    assert json.loads(exported["content"][0]["text"]) == exported["structuredContent"]
    assert exported["structuredContent"]["output_path"] == str(tmp_path / "out put")
    assert (tmp_path / "out put/pushed").read_text() == "from here"
    for wrong, code in (({}, "output_exists"), ({"path": "nothing", "output_path": str(
            tmp_path / "other")}, "file_not_found"), ({"bogus": 1}, "unknown_argument")):
        failed = stdio.call("workspace_export", {**call, **wrong})
        assert failed["isError"] is True and "structuredContent" not in failed
        assert json.loads(failed["content"][0]["text"])["code"] == code


def test_a_tool_of_another_profile_writes_nothing(url, shared, tmp_path):
    with Stdio(url, "--profile", "vm-run") as stdio:
        stdio.initialize()
        assert stdio.error("tools/call", {"name": "workspace_export", "arguments": {
            "workspace_id": shared, "path": ".", "output_path": str(tmp_path / "out")}})[
                "code"] == -32602
    assert not list(tmp_path.iterdir())
