"""The scenario of test_mcp_clients.py with the `mcp` package 2.x: prints what was seen as one JSON
object. Its argument is the JSON of what to connect to and in which mode."""

import asyncio
import json
import os
import sys

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


def connect(target):
    if target["transport"] == "stdio":
        return stdio_client(StdioServerParameters(
            command=target["command"], args=["mcp", "serve"],
            env={**os.environ, "HEARTH_URL": target["url"]}))
    return streamable_http_client(target["url"], http_client=httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {target['token']}"}, timeout=60))


async def scenario(client, workspace_id, tag):
    seen = {"version": client.protocol_version}

    async def run(command, **options):
        return await client.call_tool("workspace_exec", {
            "workspace_id": workspace_id, "command": command}, **options)

    seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
    progress = []

    async def on_progress(value, total, text):
        progress.append(value)

    async def run_fast():
        ended = await run("echo out; exit 4")
        while not progress:  # The slow one runs until it has been told of.
            await asyncio.sleep(0.05)
        await run(f"touch {tag}.told")
        return ended

    slow, fast = await asyncio.gather(run(f"until [ -e {tag}.told ]; do sleep 0.1; done", progress_callback=on_progress),
                                      run_fast())
    seen["progress"] = progress
    seen["result"] = [fast.structured_content["stdout"], fast.structured_content["exit_code"]]
    failed = await run(5)
    seen["failure"] = [failed.is_error, json.loads(failed.content[0].text)["code"]]
    try:
        await client.call_tool("nope", {})
    except MCPError as error:
        seen["unknown"] = error.error.code
    uri = f"hearth://workspaces/{workspace_id}/files/{tag}"
    await run(f"echo -n one >{tag}")
    seen["resource"] = (await client.read_resource(uri)).contents[0].text
    if client.protocol_version >= "2026":
        async with client.listen(resource_subscriptions=[uri]) as events:
            await run(f"echo -n two >>{tag}")
            async for event in events:
                seen["updated"] = event.uri == uri
                break
    seen["prompts"] = len((await client.list_prompts()).prompts)
    prompt = await client.get_prompt("repro-fix-loop", {"command": "make check"})
    seen["prompt"] = "make check" in prompt.messages[0].content.text
    # Giving up ends the command in the guest.
    call = asyncio.create_task(run(f"echo $$ >{tag}.pid; exec sleep 60"))
    while (await run(f"[ -s {tag}.pid ]")).structured_content["exit_code"]:
        pass
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    left = await run(f"pid=$(cat {tag}.pid) || echo never ran; for i in $(seq 250); do "
                     "kill -0 $pid || break; sleep 0.1; done; kill -0 $pid && echo runs still")
    seen["left"] = left.structured_content["stdout"]
    return seen


async def main():
    target = json.loads(sys.argv[1])
    async with Client(connect(target), mode=target["mode"]) as client:
        print(json.dumps(await scenario(client, target["workspace_id"], target["tag"])))


asyncio.run(main())
