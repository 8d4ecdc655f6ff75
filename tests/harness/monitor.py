"""QEMU's own monitor, for what hearthd does not ask: one connection at a time, and hearthd keeps none."""

import json
import socket


def ask(hearthd, guest_id, command, **arguments):
    """What it returns."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(hearthd.runtime_dir / "machines" / guest_id / "qmp"))
        lines = connection.makefile("rw", encoding="utf-8")
        for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments, "id": command}):
            lines.write(json.dumps(request) + "\n")
            lines.flush()
        for line in lines:
            told = json.loads(line)
            if told.get("id") == command:
                return told["return"]
    raise AssertionError(f"{command} is not answered")
