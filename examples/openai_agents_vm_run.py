#!/usr/bin/env python3
"""The OpenAI Agents SDK: hearth's tools as an agent's tools."""

import asyncio
import contextlib
import os
import pathlib
import sys

import openai
from agents import Agent, FunctionTool, OpenAIResponsesModel, Runner, set_tracing_disabled

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import AsyncHearth  # noqa: E402
import scripted_model  # noqa: E402

TASK = "Which version of Python does the environment debian:12 have? Look, do not guess."


async def agents_tools(hearth, profile="vm-run"):
    """Every tool of the profile; the daemon has the schemas, checks the arguments and words the answers."""
    def tool(definition):
        async def call(context, arguments):
            return await hearth.call_tool(definition["name"], arguments)
        return FunctionTool(definition["name"], definition["description"], definition["parameters"], call)
    return [tool(definition) for definition in await hearth.tools(profile=profile)]


async def main():
    scripted = contextlib.nullcontext() if os.environ.get("OPENAI_API_KEY") else scripted_model.serve()
    async with AsyncHearth() as hearth:
        with scripted as url:
            set_tracing_disabled(True)
            client = openai.AsyncOpenAI(base_url=url, api_key="none") if url else openai.AsyncOpenAI()
            model = OpenAIResponsesModel(os.environ.get("OPENAI_MODEL", "gpt-5"), client)
            agent = Agent("looker", model=model, tools=await agents_tools(hearth))
            print((await Runner.run(agent, TASK)).final_output)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
