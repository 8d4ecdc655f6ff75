"""Node tags: what tells the guests of one daemon from those of every other on this machine."""

import errno
import secrets
import socket

from . import leaks

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def claim():
    """A tag that no guest has, not even one left by tests that were killed, and what keeps other
    tests from it until it is closed. The default tag, aa, is never one."""
    while True:
        tag = secrets.choice(BASE32[1:]) + secrets.choice(BASE32)
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0hearth-test-tag-{tag}")
            if not any(leaks.cgroups(tag)):
                return tag, holder
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
        holder.close()
