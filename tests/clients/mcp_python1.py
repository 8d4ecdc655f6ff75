"""The scenario of test_mcp_clients.py with the `mcp` package 1.x, in an environment of its own:
prints what was seen as one JSON object. Its argument is the JSON of what to connect to."""

import asyncio
import json
import os
import sys

from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


def connect(target):
    if target["transport"] == "stdio":
        return stdio_client(StdioServerParameters(
            command=target["command"], args=["mcp", "serve"],
            env={**os.environ, "HEARTH_URL": target["url"]}))
    return streamablehttp_client(target["url"],
                                 headers={"Authorization": f"Bearer {target['token']}"})


async def scenario(session, workspace_id, tag, notices):
    seen = {"version": (await session.initialize()).protocolVersion}

    async def run(command, **options):
        return await session.call_tool("workspace_exec", {
            "workspace_id": workspace_id, "command": command}, **options)

    seen["tools"] = [tool.name for tool in (await session.list_tools()).tools]
    progress = []

    async def on_progress(value, total, text):
        progress.append(value)

    async def run_fast():
        ended = await run("echo out; exit 4")
        while not progress:  # The slow one runs until it has been told of.
            await asyncio.sleep(0.05)
        await run(f"touch {tag}.told")
        return ended

    slow, fast, _ = await asyncio.gather(run(f"until [ -e {tag}.told ]; do sleep 0.1; done", progress_callback=on_progress),
                                         run_fast(), session.send_ping())
    seen["progress"] = progress
    seen["result"] = [fast.structuredContent["stdout"], fast.structuredContent["exit_code"]]
    failed = await run(5)
    seen["failure"] = [failed.isError, json.loads(failed.content[0].text)["code"]]
    try:
        await session.call_tool("nope", {})
    except McpError as error:
        seen["unknown"] = error.error.code
    uri = f"hearth://workspaces/{workspace_id}/files/{tag}"
    await run(f"echo -n one >{tag}")
    seen["resource"] = (await session.read_resource(uri)).contents[0].text
    await session.subscribe_resource(uri)
    await run(f"echo -n two >>{tag}")
    await asyncio.wait_for(notices.get(), 60)
    seen["updated"] = True
    seen["prompts"] = len((await session.list_prompts()).prompts)
    prompt = await session.get_prompt("repro-fix-loop", {"command": "make check"})
    seen["prompt"] = "make check" in prompt.messages[0].content.text
    return seen


async def main():
    target = json.loads(sys.argv[1])
    notices = asyncio.Queue()

    async def on_message(message):
        if type(getattr(message, "root", None)).__name__ == "ResourceUpdatedNotification":
            notices.put_nowait(message)

    async with connect(target) as (reading, writing, *_):
        async with ClientSession(reading, writing, message_handler=on_message) as session:
            print(json.dumps(await scenario(session, target["workspace_id"], target["tag"],
                                            notices)))


if __name__ == "__main__":
    asyncio.run(main())
