#!/usr/bin/env python3
"""A model finds and fixes a bug in a project, inside a workspace of its own.

The tools come from the daemon, the model's calls go to the daemon unread, and the answers go back
to the model as they are: hearth.responses.run_loop is all that it takes. With OPENAI_API_KEY (and OPENAI_MODEL,
if you like) the real service is asked; without, a scripted model that ships beside this file.
"""

import contextlib
import os
import pathlib
import sys

import openai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402
from hearth.responses import run_loop  # noqa: E402
import scripted_model  # noqa: E402

PROJECT = pathlib.Path(__file__).resolve().parent / "projects/ledger"
TESTS = "python3 -m unittest 2>&1"
MODEL = os.environ.get("OPENAI_MODEL", "gpt-5")
TASK = f"""The project in /workspace of workspace {{workspace_id}} has failing tests: run them with
`{TESTS}`, find the cause, fix it in the code (not in the tests), and run them again."""


def show_changes(workspace):
    for entry in workspace.diff()["entries"]:
        sys.stdout.write(entry["text_patch"] or "")


def main():
    scripted = contextlib.nullcontext() if os.environ.get("OPENAI_API_KEY") else scripted_model.serve()
    with scripted as url, Hearth() as hearth, \
            hearth.workspace("debian:12", seed_path=PROJECT, exclude=["__pycache__"]) as workspace:
        client = openai.OpenAI(base_url=url, api_key="none") if url else openai.OpenAI()
        status = workspace.status()
        print(f"workspace {workspace.id}: {status['workspace_seed']['entry_count']} entries,"
              f" {status['isolation']}")
        print(f"before: {workspace.exec(TESTS)['stdout'].splitlines()[-1]}")
        words = run_loop(client, hearth, model=MODEL, task=TASK.format(workspace_id=workspace.id),
                         on_call=lambda call: print(f"model: {call.name} {call.arguments[:100]}"))
        print(f"model: {words}")
        after = workspace.exec(TESTS)
        print(f"after: {after['stdout'].splitlines()[-1]}")
        show_changes(workspace)
        return after["exit_code"]


if __name__ == "__main__":
    sys.exit(main())
