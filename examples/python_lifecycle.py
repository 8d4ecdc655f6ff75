#!/usr/bin/env python3
"""A machine step by step: made, started, looked at, and gone with its one command."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
from hearth import Hearth, NotFound  # noqa: E402

with Hearth() as hearth:
    vm_id = hearth.create_vm(environment="debian:12", mem_mib=512, allow_host_compat=True)["vm_id"]
    print(f"made: {hearth.status_vm(vm_id)['state']}")
    print(f"after its start: {hearth.start_vm(vm_id)['state']}")
    print(f"network: {hearth.network_info_vm(vm_id)['network_enabled']}")
    done = hearth.exec_vm(vm_id, command="uname -s; echo ready")
    print(done["stdout"], end="")
    print(f"exit code {done['exit_code']}")
    try:
        hearth.status_vm(vm_id)
    except NotFound:
        print("gone with its command")
