"""Mistakes that real MCP clients make: each is answered as the protocol says, and the next call is served."""

import asyncio
import concurrent.futures
import json
import os
import subprocess
import sys

import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from test_mcp_clients import CLIENTS, NODE_DIRECTORY, PYTHON1, TRANSPORTS, node, seen_by, shared, target  # noqa: F401
from test_mcp_stdio import running, wait_for


def check(seen, transport):
    assert seen["types"] == ["bad_type"] * 4
    assert seen["argument"] == "unknown_argument" and seen["missing"] == "missing_argument"
    assert seen["no workspace"] == "workspace_not_found"
    assert seen["tool"] == seen["prompt"] == seen["cursor"] == -32602
    assert seen["resource"] == -32002
    assert seen["after giving up"] == "on"
    assert ("ended session" in seen) == (transport == "http")
    assert seen.get("ended session", True)


def python1(made):
    return seen_by([PYTHON1, CLIENTS / "mcp_bad_python1.py", json.dumps(made)])


def typescript(made):
    with open(CLIENTS / "mcp_bad_typescript.mjs") as script:
        return seen_by([node(), "--input-type=module", "-"], stdin=script, cwd=NODE_DIRECTORY,
                       env={**os.environ, "HEARTH_TARGET": json.dumps(made)})


@pytest.fixture(scope="module")
def runs(target):  # noqa: F811
    """All of them at a time: they mostly wait."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield {(run, transport): pool.submit(run, target(transport))
               for run in (python1, typescript) for transport in TRANSPORTS}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_python_package_1(runs, transport):
    if not PYTHON1.exists():
        pytest.skip("mcp 1.x is not installed: make deps")
    seen = runs[python1, transport].result()
    assert seen["versions"] == {"2024-11-05": "2024-11-05", "2025-03-26": "2025-03-26",
                                "2025-06-18": "2025-06-18", "1999-01-01": "2025-11-25"}
    check(seen, transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_typescript_sdk(runs, transport):
    node()  # or it is skipped
    check(runs[typescript, transport].result(), transport)


# The Python package 2.x, in this process.

def connection(made):
    if made["transport"] == "stdio":
        return stdio_client(StdioServerParameters(command=made["command"], args=["mcp", "serve"],
                                                  env={"HEARTH_URL": made["url"]}))
    return streamable_http_client(made["url"], http_client=httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {made['token']}"}, timeout=60))


def in_session(made, mode, scenario):
    async def run():
        async with Client(connection(made), mode=mode) as client:
            return await scenario(client)
    return asyncio.run(run())


MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


@MODES
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_python_package_2(target, transport, mode):  # noqa: F811
    made = target(transport)

    async def scenario(client):
        async def problem(name, arguments):
            answer = await client.call_tool(name, arguments)
            assert answer.is_error and answer.structured_content is None
            return json.loads(answer.content[0].text)["code"]

        async def refused(awaitable):
            with pytest.raises(MCPError) as caught:
                await awaitable
            return caught.value.error.code

        run = {"workspace_id": made["workspace_id"]}
        seen = {"types": [await problem("workspace_exec", {**run, "command": value})
                          for value in (5, [], {}, True)],
                "argument": await problem("workspace_exec", {**run, "command": "true", "bogus": 1}),
                "missing": await problem("workspace_status", {}),
                "no workspace": await problem("workspace_status", {"workspace_id": "../x"}),
                "tool": await refused(client.call_tool("nope", {})),
                "prompt": await refused(client.get_prompt("nope")),
                "cursor": await refused(client.list_tools(cursor="bogus")),
                "resource": -32002}
        assert await refused(client.read_resource("hearth://nope")) in (-32002, -32602)
        given_up = asyncio.create_task(client.call_tool("workspace_exec", {**run, "command": "sleep 600",
                                                                           "timeout_seconds": 600}))
        await asyncio.sleep(0.3)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        answer = await client.call_tool("workspace_exec", {**run, "command": "echo on"})
        seen["after giving up"] = answer.structured_content["stdout"].strip()
        return seen

    check({**in_session(made, mode, scenario), **({"ended session": True} if transport == "http" else {})},
          transport)


@MODES
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_message_that_is_too_large(target, transport, mode):  # noqa: F811
    """The call is refused at once, not by the client's own time limit, and the next one is served."""
    made = target(transport)

    async def scenario(client):
        large = {"workspace_id": made["workspace_id"], "path": "large", "text": "x" * (9 << 20)}
        with pytest.raises(MCPError) as caught:
            await client.call_tool("workspace_file_write", large, read_timeout_seconds=60)
        answer = await client.call_tool("workspace_status", {"workspace_id": made["workspace_id"]})
        assert not answer.is_error
        return str(caught.value)

    told = in_session(made, mode, scenario)
    assert "timed out" not in told and ("longer" in told or transport == "http"), told


def test_a_client_that_leaves_in_the_middle_of_a_call(daemon, target):  # noqa: F811
    """The package closes its end of the standard input first; the server ends by itself."""
    made = target("stdio")
    script = f"""
import asyncio, sys
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
async def main():
    server = StdioServerParameters(command={made['command']!r}, args=["mcp", "serve"],
                                   env={{"HEARTH_URL": {made['url']!r}}})
    async with Client(stdio_client(server)) as client:
        call = asyncio.create_task(client.call_tool("workspace_exec", {{
            "workspace_id": {made['workspace_id']!r}, "command": "exec sleep 4719", "timeout_seconds": 600}}))
        await asyncio.sleep(0.3)
        call.cancel()
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    wait_for(lambda: not running(daemon, made["workspace_id"], "sleep 4719"))
