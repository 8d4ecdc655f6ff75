"""hearthd as a plain user's service: a user of the test's own, with subordinate IDs, below a systemd of the test's own."""

import pathlib

from . import systemd
from .daemon import BIN

USER, UID = "tess", 54321
SUBORDINATE = 1_900_000_000  # of which no daemon of the other tests has any
HOME = pathlib.Path("/var/lib") / USER


class UserDaemon:
    def __init__(self, manager, node_tag):
        self.manager, self.home = manager, manager.base / HOME.relative_to("/")
        self.log_path = self.home / "hearthd.log"
        manager.replace("passwd", f"{USER}:x:{UID}:{UID}::{HOME}:/bin/sh")
        manager.replace("group", f"{USER}:x:{UID}:")
        for file in ("subuid", "subgid"):
            manager.replace(file, f"{USER}:{SUBORDINATE}:6553600")
        units = manager.base / "user-units"
        units.mkdir()
        systemd.install(units, "user", f"StandardError=append:{HOME}/hearthd.log\n"
                                       f"Environment=HEARTHD_NODE_TAG={node_tag} HEARTHD_LISTEN=127.0.0.1:0")
        systemd.make_targets(units, ("basic", "default", "sockets", "shutdown", "exit"))
        (manager.units / "user.service").write_text(
            f"[Service]\nUser={USER}\nType=notify\nExecStart={systemd.PROGRAM} --user\nDelegate=yes\n"
            f"RuntimeDirectory=user\nEnvironment=XDG_RUNTIME_DIR=/run/user SYSTEMD_UNIT_PATH={units}\n"
            f"StateDirectory={USER}\nStandardError=append:{manager.base}/user.log\n")
        manager.start()
        done = manager.systemctl("start", "user.service")
        assert done.returncode == 0, done.stderr + manager.log()

    def run(self, *words, **options):
        return self.manager.run("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env", f"HOME={HOME}",
                                "XDG_RUNTIME_DIR=/run/user", *words, **options)

    def ok(self, *words, **options):
        done = self.run(*words, **options)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def hearth(self, *words, **options):
        return self.ok(BIN / "hearth", *words, **options)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def agents(self):
        """The first processes of its containers: without control groups of their own it is by the user that they are
        told from others'."""
        def is_one(process):
            try:
                return (b"hearth-agent\0" in (process / "cmdline").read_bytes()
                        and (process / "cmdline").stat().st_uid == UID)
            except OSError:
                return False
        return sorted(process.name for process in pathlib.Path("/proc").glob("[0-9]*") if is_one(process))
