#!/usr/bin/env python3
"""One command in a fresh guest; nothing of it stays."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth  # noqa: E402

with Hearth() as hearth:
    done = hearth.run_in_vm(environment="debian:12", command="uname -s; python3 --version")
    print(done["stdout"], end="")
    print(f"exit code {done['exit_code']}, {done['execution_mode']}, {done['cleanup']['reason']}")
    sys.exit(done["exit_code"])
