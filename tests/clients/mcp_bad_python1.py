"""What test_mcp_bad_input.py asks of the `mcp` package 1.x: mistakes that a real client can make, over
either transport. Its argument is the JSON of what to connect to; prints what was seen."""

import asyncio
import json
import sys

import anyio
import httpx
import mcp.types
from mcp import ClientSession, McpError
from mcp_python1 import connect

TARGET = json.loads(sys.argv[1])
AUTHORIZATION = {"Authorization": f"Bearer {TARGET['token']}"}


async def refused(awaitable):
    """The error's code."""
    try:
        await awaitable
    except McpError as error:
        return error.error.code
    return None


async def negotiated(version):
    mcp.types.LATEST_PROTOCOL_VERSION, kept = version, mcp.types.LATEST_PROTOCOL_VERSION
    try:
        async with connect(TARGET) as (reading, writing, *_), ClientSession(reading, writing) as session:
            answer = (await session.initialize()).protocolVersion
            await session.send_ping()
            return answer
    finally:
        mcp.types.LATEST_PROTOCOL_VERSION = kept


async def mistakes(session, session_id):
    workspace_id = TARGET["workspace_id"]

    async def problem(name, arguments):
        answer = await session.call_tool(name, arguments)
        assert answer.isError and answer.structuredContent is None, answer
        return json.loads(answer.content[0].text)["code"]

    async def echo(text):
        answer = await session.call_tool("workspace_exec", {"workspace_id": workspace_id,
                                                            "command": f"echo {text}"})
        return answer.structuredContent["stdout"].strip()

    seen = {"types": [await problem("workspace_exec", {"workspace_id": workspace_id, "command": value})
                      for value in (5, [], {}, True)],
            "argument": await problem("workspace_exec", {"workspace_id": workspace_id, "command": "true",
                                                         "bogus": 1}),
            "missing": await problem("workspace_status", {}),
            "no workspace": await problem("workspace_status", {"workspace_id": "../x"}),
            "tool": await refused(session.call_tool("nope", {})),
            "prompt": await refused(session.get_prompt("nope")),
            "resource": await refused(session.read_resource("hearth://nope")),
            "cursor": await refused(session.list_tools(cursor="bogus"))}
    # Given up without a word, as this package does: the server's own limit holds, and it serves on.
    with anyio.move_on_after(0.5):
        await session.call_tool("workspace_exec", {"workspace_id": workspace_id, "timeout_seconds": 2,
                                                   "command": "sleep 600"})
    seen["after giving up"] = await echo("on")
    if session_id:
        async with httpx.AsyncClient(headers=AUTHORIZATION) as http:
            await http.delete(TARGET["url"], headers={"Mcp-Session-Id": session_id()})
        seen["ended session"] = await refused(session.send_ping())
    return seen


async def main():
    seen = {"versions": {version: await negotiated(version) for version in
                         ("2024-11-05", "2025-03-26", "2025-06-18", "1999-01-01")}}
    async with connect(TARGET) as (reading, writing, *rest), ClientSession(reading, writing) as session:
        await session.initialize()
        seen.update(await mistakes(session, rest[0] if rest else None))
    print(json.dumps(seen))


asyncio.run(main())
