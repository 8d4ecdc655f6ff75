#!/usr/bin/env python3
"""The OpenAI Agents SDK: its shell and its apply_patch editor, both at work in one workspace."""

import asyncio
import contextlib
import os
import pathlib
import sys
import types

import openai
from agents import (Agent, ApplyPatchTool, OpenAIResponsesModel, Runner, ShellCallOutcome, ShellCommandOutput,
                    ShellResult, ShellTool, set_tracing_disabled)
from agents.editor import ApplyPatchResult

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402
from hearth.responses import answer  # noqa: E402
import scripted_model  # noqa: E402

PROJECT = pathlib.Path(__file__).resolve().parent / "projects/ledger"
TESTS = "python3 -m unittest 2>&1"
TASK = f"The tests of the project fail: run them with `{TESTS}`, fix the code, and run them again."


def shell(workspace, hearth):
    async def run(request):
        call = types.SimpleNamespace(type="shell_call", call_id="", action=request.data.action)
        done = await asyncio.to_thread(answer, hearth, call, workspace.id)
        return ShellResult([ShellCommandOutput(output["stdout"], output["stderr"],
                                               ShellCallOutcome(**output["outcome"]))
                            for output in done["output"]], done["max_output_length"])
    return run


class Editor:
    """Every operation is one patch: the daemon applies it whole or not at all."""

    def __init__(self, workspace, hearth):
        self.workspace, self.hearth = workspace, hearth

    async def create_file(self, operation):
        call = types.SimpleNamespace(type="apply_patch_call", call_id="", operation=operation)
        done = await asyncio.to_thread(answer, self.hearth, call, self.workspace.id)
        return ApplyPatchResult(done["status"], done.get("output"))

    update_file = delete_file = create_file


async def main():
    scripted = contextlib.nullcontext() if os.environ.get("OPENAI_API_KEY") else scripted_model.serve()
    with scripted as url, Hearth() as hearth, \
            hearth.workspace("debian:12", seed_path=PROJECT, exclude=["__pycache__"]) as workspace:
        set_tracing_disabled(True)
        client = openai.AsyncOpenAI(base_url=url, api_key="none") if url else openai.AsyncOpenAI()
        model = OpenAIResponsesModel(os.environ.get("OPENAI_MODEL", "gpt-5"), client)
        tools = [ShellTool(shell(workspace, hearth)), ApplyPatchTool(Editor(workspace, hearth))]
        print((await Runner.run(Agent("mender", model=model, tools=tools), TASK)).final_output)
        after = workspace.exec(TESTS)
        print(f"after: {after['stdout'].splitlines()[-1]}")
        return after["exit_code"]


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
