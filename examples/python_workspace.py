#!/usr/bin/env python3
"""A workspace over many calls: seeded, used, found again by its label, gone at the end."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402

PROJECT = pathlib.Path(__file__).resolve().parent / "projects/ledger"

with Hearth() as hearth:
    with hearth.workspace("debian:12", seed_path=PROJECT, exclude=["__pycache__"], name="example",
                          labels={"example": "python_workspace"}) as workspace:
        print(workspace.exec("python3 -m unittest 2>&1 | tail -n 1")["stdout"], end="")
        workspace.write("notes/today.txt", "three tests fail\n")
        print(workspace.read("notes/today.txt").decode(), end="")
        with workspace.stream("for file in ledger/*.py; do wc -l $file; done") as events:
            for event in events:
                if event["type"] == "stdout":
                    print(event["data"], end="")
        found = hearth.list_workspaces(labels=["example=python_workspace"])["workspaces"]
        print(f"found again: {[row['name'] for row in found]}")
    print(f"left: {hearth.list_workspaces(labels=['example=python_workspace'])['count']}")
