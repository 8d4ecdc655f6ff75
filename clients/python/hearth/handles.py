"""Things that clean up after themselves: with hearth.workspace("debian:12") as workspace: …"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .connection import Events
from .errors import NotFound

if TYPE_CHECKING:
    from .client import Hearth


class Workspace:
    """A workspace that is there from `with` to its end, and the calls that one makes all day."""

    def __init__(self, hearth: "Hearth", environment: str, arguments: dict[str, Any]) -> None:
        self._hearth, self._environment, self._arguments = hearth, environment, arguments
        self.id = ""

    def __enter__(self) -> "Workspace":
        created = self._hearth.create_workspace(self._environment, **self._arguments)
        self.id = created["workspace_id"]
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(NotFound):  # Deleted already, or expired: gone is what was wanted.
            self._hearth.delete_workspace(self.id)

    def status(self) -> dict[str, Any]:
        return self._hearth.status_workspace(self.id)

    def exec(self, command: str, **arguments: Any) -> dict[str, Any]:
        return self._hearth.exec_workspace(self.id, command=command, **arguments)

    def stream(self, command: str, **arguments: Any) -> Events:
        return self._hearth.stream_exec_workspace(self.id, command=command, **arguments)

    def read(self, path: str) -> bytes:
        return self._hearth.read_workspace_bytes(self.id, path)

    def write(self, path: str, text: str | bytes, **arguments: Any) -> dict[str, Any]:
        return self._hearth.write_workspace_file(self.id, path, text=text, **arguments)

    def diff(self, **arguments: Any) -> dict[str, Any]:
        return self._hearth.diff_workspace(self.id, **arguments)


class Shell:
    def __init__(self, hearth: "Hearth", workspace_id: str, arguments: dict[str, Any]) -> None:
        self._hearth, self.workspace_id, self._arguments = hearth, workspace_id, arguments
        self.id = ""
        self.cursor = 0

    def __enter__(self) -> "Shell":
        self.id = self._hearth.open_shell(self.workspace_id, **self._arguments)["shell_id"]
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(NotFound):
            self._hearth.close_shell(self.workspace_id, self.id)

    def write(self, text: str, **arguments: Any) -> dict[str, Any]:
        return self._hearth.write_shell(self.workspace_id, self.id, input=text, **arguments)

    def read(self, **arguments: Any) -> str:
        """What came since the last read; plain, after 300 ms of quiet, unless told otherwise."""
        read = self._hearth.read_shell(self.workspace_id, self.id, cursor=self.cursor,
                                       **{"plain": True, "wait_for_idle_ms": 300, **arguments})
        self.cursor = read["next_cursor"]
        return read["output"]


class Service:
    def __init__(self, hearth: "Hearth", workspace_id: str, name: str,
                 arguments: dict[str, Any]) -> None:
        self._hearth, self.workspace_id, self.name, self._arguments = hearth, workspace_id, name, arguments
        self.started: dict[str, Any] = {}

    def __enter__(self) -> "Service":
        self.started = self._hearth.start_service(self.workspace_id, self.name, **self._arguments)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(NotFound):
            self._hearth.stop_service(self.workspace_id, self.name)

    def status(self) -> dict[str, Any]:
        return self._hearth.status_service(self.workspace_id, self.name)

    def logs(self, **arguments: Any) -> dict[str, Any]:
        return self._hearth.logs_service(self.workspace_id, self.name, **arguments)
