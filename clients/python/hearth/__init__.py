"""hearth's client: the HTTP API from Python, with the standard library alone.

    from hearth import Hearth

    with Hearth() as hearth:
        workspace = hearth.create_workspace("debian:12")
        print(hearth.exec(workspace["workspace_id"], "uname -a")["stdout"])
        hearth.delete_workspace(workspace["workspace_id"])

Which daemon: HEARTH_URL (http://HOST:PORT or unix:///PATH) with HEARTH_TOKEN or HEARTH_TOKEN_FILE,
else the user's own or the system's socket on this machine.
"""

from .client import Hearth
from .errors import HearthError, Problem

__all__ = ["Hearth", "HearthError", "Problem"]
