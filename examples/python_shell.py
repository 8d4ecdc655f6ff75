#!/usr/bin/env python3
"""A terminal in a workspace: its state stays from one line to the next, and it is read as a person sees it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402


def until(shell, text):
    """Reads until a line is the text: what is typed is on the screen too, and no line of its own."""
    seen = ""
    while text not in seen.splitlines():
        seen += shell.read()
    return seen


with Hearth() as hearth:
    with hearth.workspace("debian:12") as workspace, hearth.shell(workspace.id) as shell:
        shell.write("cd /tmp && colour=blue")
        shell.write("echo $PWD $colour")
        until(shell, "/tmp blue")
        print("the shell kept its directory and its variable")
        shell.write("sleep 600; echo woken")
        hearth.signal_shell(workspace.id, shell.id, signal_name="INT")
        shell.write("echo still $colour")
        until(shell, "still blue")
        print("the sleep was interrupted, the shell was not")
