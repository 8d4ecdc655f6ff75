"""Where the daemon is, and connections to it: http.client over TCP or a Unix socket."""

from __future__ import annotations

import http.client
import os
import pathlib
import select
import socket
import stat
import urllib.parse

from .errors import HearthError

SYSTEM_SOCKET = pathlib.Path("/run/hearth/hearthd.sock")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def _own_socket() -> pathlib.Path | None:
    """The private daemon's socket; None where its directory is not this user's alone."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    writable = base.startswith("/") and os.access(base, os.W_OK)
    directory = pathlib.Path(base, "hearth") if writable else pathlib.Path(f"/tmp/hearth-{os.getuid()}")
    try:
        found = directory.lstat()
    except OSError:
        return None
    ours = (stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            and not found.st_mode & 0o077)
    return directory / "hearthd.sock" if ours else None


def find_url() -> str:
    """HEARTH_URL, or the first socket of this machine that is there."""
    if url := os.environ.get("HEARTH_URL"):
        return url
    for path in (_own_socket(), SYSTEM_SOCKET):
        if path and path.is_socket():
            return f"unix://{path}"
    raise HearthError("no hearthd runs on this machine (start one: hearth doctor), and HEARTH_URL "
                      "names none")


def find_token() -> str | None:
    if token := os.environ.get("HEARTH_TOKEN"):
        return token.strip()
    if path := os.environ.get("HEARTH_TOKEN_FILE"):
        return pathlib.Path(path).read_text().strip()
    return None


def connect(url: str, timeout: float) -> http.client.HTTPConnection:
    """A connection to be opened by its first request."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "unix" and parts.path:
        return UnixConnection(parts.path, timeout)
    if parts.scheme == "http" and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    if parts.scheme == "https" and parts.hostname:
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout)
    raise HearthError(f"not the URL of a daemon: {url}")


def usable(connection: http.client.HTTPConnection) -> bool:
    """May a kept connection take another request? One that is readable now was closed by the
    other side; asking first means that no request is ever sent twice."""
    if connection.sock is None:
        return True
    readable = select.poll()  # select.select() knows no descriptor from 1024 on.
    readable.register(connection.sock, select.POLLIN)
    return not readable.poll(0)
