"""Looks for what a daemon left behind: processes, mounts, cgroups, sockets, directories."""

import os
import pathlib
import time

from harness import living

PATIENCE_S = 60


def _read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        return b""


def processes(base):
    """Processes that name base in their command line or have a mount that lies on it."""
    needle, own = os.fsencode(str(base)), os.getpid()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == own:
            continue
        command = _read(f"/proc/{entry}/cmdline")
        if needle in command:
            yield f"process {entry}: {command.replace(bytes(1), b' ').decode(errors='replace')}"
        elif (needle in _read(f"/proc/{entry}/mountinfo")
              and _mounts(entry) != _mounts("self")):
            yield f"process {entry} with mounts of ours: {_read(f'/proc/{entry}/comm')!r}"


def _mounts(process):
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")
    except OSError:
        return None


def mounts(base):
    for line in _read("/proc/self/mountinfo").decode(errors="replace").splitlines():
        if str(base) in line:
            yield f"mount: {line}"


def cgroups(node_tag):
    """Groups are named after guests, and guests' IDs carry the daemon's node tag."""
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            if f"gu_{node_tag}" in name:
                yield f"cgroup: {directory}/{name}"


def directories(base):
    for place in (base / part / kind for part in ("state", "run") for kind in ("guests", "machines")):
        if place.is_dir():
            yield from (f"directory: {path}" for path in place.glob("gu_*"))
    yield from (f"socket: {path}" for path in living.sockets(base / "run"))


def left_over(base, node_tag):
    return [*processes(base), *mounts(base), *cgroups(node_tag), *directories(base)]


def assert_nothing_left(base, node_tag):
    """The kernel takes a moment to end what was killed: looks until nothing is there or the
    patience is over."""
    deadline = time.monotonic() + PATIENCE_S
    while left := left_over(base, node_tag):
        assert time.monotonic() < deadline, "left behind:\n" + "\n".join(left)
        time.sleep(0.05)


def agents(node_tag):
    """The agents of the guests of a daemon and the QEMUs of its machines: the first processes in
    the groups named after them."""
    for entry in os.listdir("/proc"):
        command = _read(f"/proc/{entry}/cmdline") if entry.isdigit() else b""
        if ((b"hearth-agent" in command or b"/qemu-system-" in command.split(b"\0")[0])
                and f"/gu_{node_tag}".encode() in _read(f"/proc/{entry}/cgroup")):
            yield int(entry)
