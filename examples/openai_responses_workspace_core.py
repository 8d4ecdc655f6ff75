#!/usr/bin/env python3
"""A model finds and fixes a bug in a project, inside a workspace of its own.

The tools come from the daemon, the model's calls go to the daemon unread, and the answers go back
to the model as they are: the loop below is all that it takes. With OPENAI_API_KEY (and OPENAI_MODEL,
if you like) the real service is asked; without, a scripted model that ships beside this file.
"""

import concurrent.futures
import contextlib
import difflib
import os
import pathlib
import sys

import openai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402
import scripted_model  # noqa: E402

PROJECT = pathlib.Path(__file__).resolve().parent / "projects/ledger"
TESTS = "python3 -m unittest 2>&1"
MODEL = os.environ.get("OPENAI_MODEL", "gpt-5")
TASK = f"""The project in /workspace of workspace {{workspace_id}} has failing tests: run them with
`{TESTS}`, find the cause, fix it in the code (not in the tests), and run them again."""


def run_model(client, hearth, task):
    """The loop: ask, call, hand back, until the model has no more calls. Gives its last words."""
    tools = hearth.tools(profile="workspace-core", format="openai-responses")
    conversation = [{"role": "user", "content": task}]
    while True:
        response = client.responses.create(model=MODEL, input=conversation, tools=tools)
        conversation += response.output
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        for call in calls:
            print(f"model: {call.name} {call.arguments[:100]}")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            outputs = pool.map(lambda call: hearth.call_tool(call.name, call.arguments), calls)
        for call, output in zip(calls, outputs):
            conversation.append({"type": "function_call_output", "call_id": call.call_id,
                                 "output": output})


def show_changes(hearth, workspace_id):
    for path in sorted(PROJECT.rglob("*.py")):
        name = str(path.relative_to(PROJECT))
        before = path.read_text().splitlines(keepends=True)
        after = hearth.read_file(workspace_id, name).decode().splitlines(keepends=True)
        sys.stdout.writelines(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"))


def main():
    scripted = contextlib.nullcontext() if os.environ.get("OPENAI_API_KEY") else scripted_model.serve()
    with Hearth() as hearth, scripted as url:
        client = openai.OpenAI(base_url=url, api_key="none") if url else openai.OpenAI()
        seed = hearth.upload_directory(PROJECT, exclude=["__pycache__"])
        workspace = hearth.create_workspace("debian:12", seed_upload=seed["upload_id"])
        workspace_id = workspace["workspace_id"]
        print(f"workspace {workspace_id}: {seed['entry_count']} entries, {workspace['isolation']}")
        try:
            before = hearth.exec(workspace_id, TESTS)
            print(f"before: {before['stdout'].splitlines()[-1]}")
            print(f"model: {run_model(client, hearth, TASK.format(workspace_id=workspace_id))}")
            after = hearth.exec(workspace_id, TESTS)
            print(f"after: {after['stdout'].splitlines()[-1]}")
            show_changes(hearth, workspace_id)
        finally:
            hearth.delete_workspace(workspace_id)
        return after["exit_code"]


if __name__ == "__main__":
    sys.exit(main())
