"""hearth's client: the HTTP API from Python, with the standard library alone.

    from hearth import Hearth

    with Hearth() as hearth, hearth.workspace("debian:12") as workspace:
        print(workspace.exec("uname -a")["stdout"])

Which daemon: HEARTH_URL (http://HOST:PORT or unix:///PATH) with HEARTH_TOKEN or HEARTH_TOKEN_FILE,
else the user's own or the system's socket on this machine.
"""

from .asynchronous import AsyncHearth
from .client import Hearth
from .errors import (Conflict, HearthError, InvalidArgument, NotAllowed, NotFound, Problem,
                     QuotaExceeded, Unavailable)

__all__ = ["AsyncHearth", "Conflict", "Hearth", "HearthError", "InvalidArgument", "NotAllowed",
           "NotFound", "Problem", "QuotaExceeded", "Unavailable"]
