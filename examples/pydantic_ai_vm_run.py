#!/usr/bin/env python3
"""PydanticAI: hearth's tools as an agent's tools."""

import contextlib
import json
import os
import pathlib
import sys

from pydantic_ai import Agent, Tool
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402
import scripted_model  # noqa: E402

TASK = "Which version of Python does the environment debian:12 have? Look, do not guess."


def pydantic_ai_tools(hearth, profile="vm-run"):
    """Every tool of the profile; the daemon has the schemas, checks the arguments and words the answers."""
    def tool(definition):
        def call(**arguments):
            return hearth.call_tool(definition["name"], json.dumps(arguments))
        return Tool.from_schema(call, name=definition["name"], description=definition["description"],
                                json_schema=definition["parameters"])
    return [tool(definition) for definition in hearth.tools(profile=profile)]


def main():
    scripted = contextlib.nullcontext() if os.environ.get("OPENAI_API_KEY") else scripted_model.serve()
    with Hearth() as hearth, scripted as url:
        provider = OpenAIProvider(base_url=url, api_key="none") if url else OpenAIProvider()
        model = OpenAIResponsesModel(os.environ.get("OPENAI_MODEL", "gpt-5"), provider=provider)
        print(Agent(model, tools=pydantic_ai_tools(hearth)).run_sync(TASK).output)


if __name__ == "__main__":
    sys.exit(main())
