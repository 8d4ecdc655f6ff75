"""A systemd of its own, as PID 1 of namespaces of its own: what it starts is started as on a host
that runs by it, and ends with it. It knows no unit but those that it is given, so nothing of this
host is started or mounted anew. Needs root."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from .daemon import BIN, ROOT
from .waiting import until

PROGRAM = pathlib.Path("/lib/systemd/systemd")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# What units name that are not our own.
TARGETS = ("sysinit", "basic", "sockets", "network", "shutdown", "multi-user", "default")

# $1: the directory, $2: its name among the control groups; the rest: systemd. A hierarchy of
# control groups seems to begin where this one's groups do.
START = r"""
set -eu
mount --make-rprivate /
for directory in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    [ -e "$directory/$2/cgroup.procs" ] || continue
    echo 0 >"$directory/$2/cgroup.procs"
    mount --bind "$directory/$2" "$directory"
done
for file in passwd group subuid subgid; do
    [ ! -e "$1/etc/$file" ] || mount --bind "$1/etc/$file" /etc/$file
done
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200  # everybody's, as udev makes it
mount --bind "$1/var/lib" /var/lib
shift 2
exec unshare --cgroup "$@"
"""


def missing():
    """Why there can be none here; None: it can."""
    if os.geteuid() != 0:
        return "a systemd of one's own needs root"
    return None if PROGRAM.exists() else "systemd is not installed"


def install(directory, kind, settings=None):
    """The units of a kind ("system", "user") as they are installed, but with the hearthd that was built here, and with these
    settings where there are any."""
    inner = "user" if kind == "user" else "."
    for file in (BIN.parent / "systemd" / inner / "hearthd.service", ROOT / "systemd" / inner / "hearthd.socket"):
        (directory / file.name).write_text(
            re.sub(r"ExecStart=\S+/hearthd", f"ExecStart={BIN}/hearthd", file.read_text()))
    if settings:
        (directory / "hearthd.service.d").mkdir()
        (directory / "hearthd.service.d/test.conf").write_text(f"[Service]\n{settings}\n")


def make_targets(directory, names):
    """Targets with nothing behind them."""
    for name in names:
        (directory / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")


class Systemd:
    """Its directories are those of `base`: etc holds files that take the place of /etc's, units the
    units, var/lib is /var/lib."""

    def __init__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="hearth-sd-"))
        self.base.chmod(0o755)
        self.units, self.log_path = self.base / "units", self.base / "log"
        for place in (self.units, self.base / "etc", self.base / "var/lib"):
            place.mkdir(parents=True)
        make_targets(self.units, TARGETS)
        self.process = self.pid = None
        self.groups = [directory / self.base.name for directory in (CGROUPS, *CGROUPS.iterdir())
                       if (directory / "cgroup.procs").exists()]

    def replace(self, file, more):
        """/etc/FILE is what it is with these lines after it."""
        text = pathlib.Path("/etc", file).read_text() if pathlib.Path("/etc", file).exists() else ""
        (self.base / "etc" / file).write_text(f"{text.rstrip()}\n{more}\n")

    def start(self):
        for group in self.groups:
            group.mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):  # the first version has none of it to begin with
                if (group / file).exists():
                    (group / file).write_text((group.parent / file).read_text())
        command = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child",
                   "--mount-proc", "sh", "-c", START, "systemd", self.base, self.base.name,
                   PROGRAM, "--system", "--unit=default.target", "--log-target=console",
                   "--show-status=no"]
        environment = {"PATH": os.environ["PATH"], "container": "test",
                       "SYSTEMD_UNIT_PATH": str(self.units)}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment)
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.pid = int(until(lambda: children.read_text().split(), self.log)[0])
        until(lambda: self.systemctl("is-active", "default.target").returncode == 0, self.log)
        return self

    def run(self, *command, timeout=120):
        """A command among its processes."""
        return subprocess.run(["nsenter", f"--target={self.pid}", "--mount", "--pid", "--cgroup",
                               "--uts", "--ipc", "--", *map(str, command)],
                              check=False, capture_output=True, text=True, timeout=timeout)

    def systemctl(self, *words):
        return self.run("systemctl", *words)

    def path(self, inside):
        """What it calls by this absolute path, seen from here."""
        return pathlib.Path(f"/proc/{self.pid}/root{inside}")

    def log(self):
        return self.log_path.read_text(errors="replace")

    def destroy(self):
        if self.process:
            self.systemctl("stop", "hearthd.service")  # it removes its private directories in /tmp and /var/tmp
            self.process.kill()  # and by --kill-child all that it began
            self.process.wait()
        for group in self.groups:
            until(lambda group=group: _removed(group), f"{group} is in use")
        shutil.rmtree(self.base)


def _removed(group):
    """True once the group and all below it are gone: their processes take a moment to end."""
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True
