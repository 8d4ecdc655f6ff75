#!/usr/bin/env python3
"""The OpenAI Agents SDK's sandbox interface: a SandboxAgent at work in a workspace."""

import asyncio
import os
import pathlib
import sys

from agents import RunConfig, Runner, set_tracing_disabled
from agents.sandbox import Manifest, SandboxAgent, SandboxRunConfig
from agents.sandbox.capabilities import Shell
from agents.sandbox.entries import File
from agents.testing import ScriptedModel, assistant_message, function_call

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402
from agents_sandbox_client import Client  # noqa: E402

# What a model would say, for a machine without an API key.
SCRIPT = [[function_call("exec_command", {"cmd": "python3 numbers.py | tee answer"}, call_id="one")],
          [assistant_message("The numbers are in `answer`.")]]


async def main():
    set_tracing_disabled(True)
    model = os.environ.get("OPENAI_MODEL", "gpt-5") if os.environ.get("OPENAI_API_KEY") else ScriptedModel(SCRIPT)
    files = Manifest(entries={"numbers.py": File(content=b"print(6 * 7)\n")})
    with Hearth() as hearth:
        agent = SandboxAgent("runner", model=model, capabilities=[Shell()], default_manifest=files)
        sandbox = SandboxRunConfig(client=Client(hearth))
        done = await Runner.run(agent, "Run numbers.py and keep what it prints in `answer`.",
                                run_config=RunConfig(sandbox=sandbox))
        for item in done.new_items:
            if item.type == "tool_call_output_item":
                print(item.output)
        print(done.final_output)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
