"""`hearth mcp serve` outlives its daemon: what was said before is told again to the next one."""

import json
import os
import signal
import subprocess

import pytest

from harness.mcp import Stdio, enveloped, message, result_of
from test_mcp_stdio import wait_for


@pytest.fixture(scope="module")
def daemon(images):
    from harness.daemon import running
    with running(images, driver="oci") as hearthd:
        yield hearthd


@pytest.fixture(scope="module")
def workspace_id(daemon):
    with daemon.client() as client:
        yield client.post("/v1/workspaces", {"environment": "debian:12"})["workspace_id"]


@pytest.fixture
def stdio(daemon):
    with Stdio(f"unix://{daemon.socket_path}") as made:
        made.initialize()
        yield made


def problem(result):
    assert result["isError"] is True and "structuredContent" not in result
    return json.loads(result["content"][0]["text"])


def test_later_calls_work_and_the_session_goes_on(daemon, stdio, workspace_id):
    for end in (daemon.stop, daemon.kill9):
        end()
        daemon.start()
        assert stdio.request("ping") == {}
        ran = stdio.call("workspace_exec", {"workspace_id": workspace_id, "command": "echo again"})
        assert ran["structuredContent"]["stdout"] == "again\n"
        # The handshake was told to this one too, and its answers were not passed on.
        assert stdio.request("tools/list")["tools"] and not stdio.kept
    assert stdio.end() == (0, [])


def test_what_is_asked_while_there_is_none_waits_for_the_next(daemon, stdio, workspace_id):
    daemon.stop()
    listed = stdio.ask("tools/list")
    dropped = stdio.ask("ping")
    called = stdio.ask("tools/call", {"name": "workspace_exec", "arguments": {
        "workspace_id": workspace_id, "command": "echo once >>counted; wc -l <counted"}})
    stdio.send(message("notifications/cancelled", {"requestId": dropped}))
    daemon.start()
    assert result_of(stdio.answer(called))["structuredContent"]["stdout"] == "1\n"
    assert result_of(stdio.answer(listed))["tools"]
    assert stdio.request("ping") == {}
    assert not [each for each in stdio.kept if each.get("id") == dropped]


def under_way(stdio, workspace_id, file, **meta):
    """A call whose command runs until it is told to end."""
    number = stdio.ask("tools/call", {"name": "workspace_exec", "_meta": meta, "arguments": {
        "workspace_id": workspace_id, "timeout_seconds": 600,
        "command": f"echo x >>{file}; until [ -e {file}.go ]; do sleep 0.1; done; cat {file}"}})
    while stdio.call("workspace_exec", {"workspace_id": workspace_id, "command": f"cat {file}"})[
            "structuredContent"]["exit_code"]:
        pass
    return number


def test_a_call_that_was_under_way_is_told_of_and_not_made_twice(daemon, stdio, workspace_id):
    number = under_way(stdio, workspace_id, "lost")
    daemon.kill9()
    told = problem(result_of(stdio.answer(number)))
    assert told["code"] == "connection_lost" and told["retryable"] is False and told["hint"]
    daemon.start()
    read = stdio.call("workspace_file_read", {"workspace_id": workspace_id, "path": "lost"})
    assert read["structuredContent"]["content"] == "x\n"


def unread(socket_path):
    """Has a connection to the socket bytes that its server has not read?"""
    listed = subprocess.run(["ss", "--unix", "--no-header"], capture_output=True, text=True, check=True).stdout
    return any(int(line.split()[2]) for line in listed.splitlines() if str(socket_path) in line)


def test_a_call_that_only_reads_is_made_again(daemon, workspace_id):
    """The daemon takes the calls, and dies before it answers any."""
    with Stdio(f"unix://{daemon.socket_path}", "--profile", "workspace-full") as stdio:
        stdio.initialize()
        stdio.request("tools/list")
        stdio.call("workspace_exec", {"workspace_id": workspace_id, "command": "echo served >read"})
        os.kill(daemon.pid, signal.SIGSTOP)
        held = [stdio.ask("tools/call", {"name": name, "arguments": {
            "workspace_id": workspace_id, **arguments}}) for name, arguments in (
                ("shell_read", {"shell_id": "sh_aaaaaaaaaaaaaaaa"}),
                ("workspace_file_read", {"path": "read"}), ("workspace_diff", {}))]
        wait_for(lambda: unread(daemon.socket_path))
        daemon.kill9()
        daemon.start()
        answers = [result_of(stdio.answer(number)) for number in held]
        assert problem(answers[0])["code"] == "shell_not_found"
        assert answers[1]["structuredContent"]["content"] == "served\n"
        assert answers[2]["isError"] is False


@pytest.mark.parametrize("end", ["kill9", "stop"])
def test_a_call_with_a_key_is_made_again(daemon, stdio, workspace_id, end):
    name = f"keyed-{end}"
    number = under_way(stdio, workspace_id, name, **{"hearth/idempotency_key": f"restart-{end}"})
    getattr(daemon, end)()
    daemon.start()
    stdio.call("workspace_file_write", {"workspace_id": workspace_id, "path": f"{name}.go",
                                        "text": ""})
    # The daemon decides by the key: the command's answer, or that it was lost with the daemon.
    answer = result_of(stdio.answer(number))
    if answer["isError"]:
        assert problem(answer)["code"] == "idempotency_answer_lost"
    else:
        ended = answer["structuredContent"]
        assert (ended["stdout"], ended["cancelled"]) == ("x\n", False)
    read = stdio.call("workspace_file_read", {"workspace_id": workspace_id, "path": name})
    assert read["structuredContent"]["content"] == "x\n"


def test_subscriptions_are_made_again(daemon, stdio, workspace_id):
    uri = f"hearth://workspaces/{workspace_id}/files/watched"
    bogus = f"hearth://workspaces/{workspace_id}/nothing"
    stdio.request("resources/subscribe", {"uri": uri})
    stdio.error("resources/subscribe", {"uri": bogus})
    daemon.restart()
    # What changed meanwhile was told to nobody, so the client is told to look.
    assert stdio.notification("notifications/resources/updated") == {"uri": uri}
    stdio.call("workspace_file_write", {"workspace_id": workspace_id, "path": "watched",
                                        "text": "new"})
    assert stdio.notification("notifications/resources/updated") == {"uri": uri}
    stdio.request("resources/unsubscribe", {"uri": uri})
    daemon.restart()
    stdio.request("ping")
    assert not stdio.kept


def test_a_modern_client_listens_on(daemon, workspace_id):
    uri = f"hearth://workspaces/{workspace_id}/files/listened"
    with Stdio(f"unix://{daemon.socket_path}") as stdio:
        number = stdio.ask("subscriptions/listen", enveloped({"notifications": {
            "resourceSubscriptions": [uri]}}))
        stdio.notification("notifications/subscriptions/acknowledged")
        daemon.restart()
        stdio.notification("notifications/subscriptions/acknowledged")
        stdio.request("tools/call", enveloped({"name": "workspace_file_write", "arguments": {
            "workspace_id": workspace_id, "path": "listened", "text": "x"}}))
        assert stdio.notification("notifications/resources/updated")["_meta"] == {
            "io.modelcontextprotocol/subscriptionId": number}


def test_the_end_of_the_input_without_a_daemon(daemon, stdio):
    daemon.stop()
    number = stdio.ask("tools/call", {"name": "workspace_list", "arguments": {}})
    other = stdio.ask("tools/list")
    status, rest = stdio.end()
    daemon.start()
    answers = {each["id"]: each for each in rest}
    assert status == 0 and set(answers) == {number, other}
    assert problem(answers[number]["result"])["code"] == "connection_lost"
    assert answers[other]["error"]["code"] == -32000


def test_a_token_that_is_refused_by_the_next_daemon_is_the_end(daemon, tmp_path):
    with daemon.client() as client:
        token = client.post("/v1/tenants/admin/tokens", {"rights": "operate"})
    file = tmp_path / "token"
    file.write_text(token["token"])
    with Stdio(f"unix://{daemon.socket_path}", environment={"HEARTH_TOKEN_FILE": str(file)}) as made:
        made.initialize()
        daemon.stop()
        file.write_text("hth_nonsense")
        daemon.start()
        assert made.process.wait(60) == 1
        assert b"waited for" in made.process.stderr.read()


def test_the_real_client_goes_on(daemon, workspace_id):
    """The `mcp` package, which knows nothing of the restart."""
    import asyncio

    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    from harness.daemon import BIN

    async def scenario():
        server = StdioServerParameters(command=str(BIN / "hearth"), args=["mcp", "serve"],
                                       env={"HEARTH_URL": f"unix://{daemon.socket_path}"})
        async with Client(stdio_client(server)) as client:
            for signal_number in (None, signal.SIGTERM, signal.SIGKILL):
                if signal_number == signal.SIGTERM:
                    await asyncio.to_thread(daemon.restart)
                elif signal_number:
                    await asyncio.to_thread(daemon.kill9)
                    await asyncio.to_thread(daemon.start)
                ran = await client.call_tool("workspace_exec", {"workspace_id": workspace_id,
                                                                "command": "echo on"})
                assert ran.structured_content["stdout"] == "on\n"
    asyncio.run(scenario())
