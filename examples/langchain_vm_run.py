#!/usr/bin/env python3
"""LangChain: hearth's tools as LangChain tools, and an agent that answers with one of them."""

import contextlib
import json
import os
import pathlib
import sys

from langchain.agents import create_agent
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402
import scripted_model  # noqa: E402

TASK = "Which version of Python does the environment debian:12 have? Look, do not guess."


def langchain_tools(hearth, profile="vm-run"):
    """Every tool of the profile; the daemon has the schemas, checks the arguments and words the answers."""
    def tool(definition):
        def call(**arguments):
            return hearth.call_tool(definition["name"], json.dumps(arguments))
        return StructuredTool.from_function(call, name=definition["name"],
                                            description=definition["description"],
                                            args_schema=definition["parameters"], infer_schema=False)
    return [tool(definition) for definition in hearth.tools(profile=profile)]


def main():
    scripted = contextlib.nullcontext() if os.environ.get("OPENAI_API_KEY") else scripted_model.serve()
    with Hearth() as hearth, scripted as url:
        options = {"base_url": url, "api_key": "none"} if url else {}
        model = ChatOpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-5"), use_responses_api=True, **options)
        agent = create_agent(model, tools=langchain_tools(hearth))
        answer = agent.invoke({"messages": [{"role": "user", "content": TASK}]})
        print(answer["messages"][-1].text)


if __name__ == "__main__":
    sys.exit(main())
