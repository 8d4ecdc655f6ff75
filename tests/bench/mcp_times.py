"""Times of `hearth mcp serve`, as a client sees them: for run.py."""

import json
import os
import pathlib
import subprocess
import time

from harness.mcp import Stdio, hello, message

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PEER_PYTHON = ROOT / ".venv/mcp1/bin/python"
PEER = """
from mcp.server.fastmcp import FastMCP
server = FastMCP("hello")

@server.tool()
def hello(name: str) -> str:
    return f"hello {name}"

server.run()
"""


def peer_command():
    """A server of one tool; None where its package is not installed."""
    return [str(PEER_PYTHON), "-c", PEER] if PEER_PYTHON.exists() else None


def microseconds(started):
    return (time.perf_counter() - started) * 1e6


def ready(command, url=None):
    """From the spawn to the answer to tools/list."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL,
                               env={**os.environ, **({"HEARTH_URL": url} if url else {})})
    for request in (message("initialize", hello(), 1), message("tools/list", {}, 2)):
        if request["id"] == 2:
            process.stdin.write(json.dumps(message("notifications/initialized")).encode() + b"\n")
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert answer["id"] == request["id"] and "result" in answer
    taken = microseconds(started)
    process.stdin.close()
    process.wait()
    process.stdout.close()
    return taken


def version(command):
    started = time.perf_counter()
    subprocess.run([command, "--version"], stdout=subprocess.DEVNULL, check=True)
    return microseconds(started)


def call(stdio, workspace_id):
    started = time.perf_counter()
    stdio.call("workspace_status", {"workspace_id": workspace_id})
    return microseconds(started)


def rest_call(client, workspace_id):
    started = time.perf_counter()
    client.get(f"/v1/workspaces/{workspace_id}")
    return microseconds(started)


def together(url, workspace_id):
    """Two `sleep 1` and a ping, sent at once: when the ping was answered, and when the last was."""
    call_of = {"name": "workspace_exec", "arguments": {"workspace_id": workspace_id,
                                                       "command": "sleep 1"}}
    with Stdio(url) as stdio:
        stdio.initialize()
        started = time.perf_counter()
        stdio.send(message("tools/call", call_of, "a"), message("tools/call", call_of, "b"),
                   message("ping", None, "ping"))
        stdio.answer("ping")
        pinged = microseconds(started)
        for number in ("a", "b"):
            assert stdio.answer(number)["result"]["structuredContent"]["exit_code"] == 0
        return pinged, microseconds(started)
