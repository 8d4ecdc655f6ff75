#!/usr/bin/env python3
"""A model answers a question by running one command in a fresh guest: one tool, vm_run, and nothing
that stays. With OPENAI_API_KEY (and OPENAI_MODEL, if you like) the real service is asked; without, a
scripted model that ships beside this file."""

import contextlib
import os
import pathlib
import sys

import openai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402
from hearth.responses import run_loop  # noqa: E402
import scripted_model  # noqa: E402

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5")
TASK = "Which version of Python does the environment debian:12 have? Look, do not guess."


def main():
    scripted = contextlib.nullcontext() if os.environ.get("OPENAI_API_KEY") else scripted_model.serve()
    with Hearth() as hearth, scripted as url:
        client = openai.OpenAI(base_url=url, api_key="none") if url else openai.OpenAI()
        print(run_loop(client, hearth, model=MODEL, task=TASK, profile="vm-run", stream=True,
                       on_call=lambda call: print(f"model: {call.name} {call.arguments}")))


if __name__ == "__main__":
    sys.exit(main())
