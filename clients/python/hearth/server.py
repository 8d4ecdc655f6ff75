"""create_server: an MCP server on standard input and output, which is the `hearth` program's own."""

from __future__ import annotations

import os
import shutil
import subprocess

from .errors import HearthError

PROFILES = ("vm-run", "workspace-core", "workspace-full")


class Server:
    def __init__(self, url: str, profile: str) -> None:
        if profile not in PROFILES:
            raise ValueError(f"profile is one of {', '.join(PROFILES)}, not {profile!r}")
        self.url, self.profile = url, profile

    def command(self) -> list[str]:
        program = os.environ.get("HEARTH_CLI") or shutil.which("hearth")
        if not program:
            raise HearthError("the hearth program is not on the PATH (HEARTH_CLI may name it)")
        return [program, "mcp", "serve", "--profile", self.profile]

    def run(self) -> int:
        """Serves this process's standard input and output until the client ends; gives the status."""
        return subprocess.run(self.command(), env={**os.environ, "HEARTH_URL": self.url}).returncode
