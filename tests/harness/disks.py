"""Disks that are small, and full."""

import contextlib
import os
import subprocess


@contextlib.contextmanager
def small(place, options):
    """A file system of its own at that directory, with these options of tmpfs; as root. It is gone once nobody has it open."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(path, left):
    """A file there that leaves so many bytes."""
    free = os.statvfs(path.parent)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - left)
