"""What is measured beside hearthd: each peer that is installed, driven as by hand."""

import contextlib
import glob
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time

from harness.http import UnixConnection

UNIFIED = "/sys/fs/cgroup/unified"


@contextlib.contextmanager
def volatile_directory():
    """A directory on a tmpfs, as /run is where a system has been set up: there hearthd's runtime
    directory lies, and what crun knows of its containers."""
    with open("/proc/mounts", encoding="utf-8") as file:
        memory = {words[1] for words in map(str.split, file) if words[2] == "tmpfs"}
    place = next((path for path in ("/run", "/dev/shm") if path in memory), None)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place) as path:
        yield path


def runtime():
    """The OCI runtime to compare with: crun where it is there."""
    return shutil.which("crun") or shutil.which("runc")


def in_private_mounts(words):
    """crun does not start where a cgroup2 is mounted beside cgroup v1."""
    if not os.path.ismount(UNIFIED):
        return words
    return ["unshare", "--mount", "sh", "-c",
            f'mount -t tmpfs none {UNIFIED} && exec "$@"', "sh", *words]


class Runtime:
    """crun or runc by hand: the environment's tree as a read-only root, a network namespace of its
    own, and no overlay, no user namespace and no agent, which ours has."""

    def __init__(self, path, tree, state):
        self.path, self.state = path, state
        self.base = tempfile.mkdtemp(prefix="bench-oci-")
        subprocess.run([path, "spec"], cwd=self.base, check=True)
        with open(f"{self.base}/config.json", encoding="utf-8") as file:
            spec = json.load(file)
        spec["root"] = {"path": str(tree), "readonly": True}
        spec["process"] |= {"terminal": False, "args": ["sleep", "inf"]}
        spec["process"].pop("rlimits", None)
        with open(f"{self.base}/config.json", "w", encoding="utf-8") as file:
            json.dump(spec, file)

    def life(self):
        """run, exec true, delete, for spawn_times."""
        command = [self.path, "--root", self.state]
        return [*command, "run", "--detach", "--bundle", self.base, "bench{n}",
                "+", *command, "exec", "bench{n}", "true",
                "+", *command, "delete", "--force", "bench{n}"]

    def close(self):
        shutil.rmtree(self.base)


def bwrap(tree):
    return ["bwrap", "--ro-bind", str(tree), "/", "--unshare-all", "--proc", "/proc", "--dev",
            "/dev", "true"]


class Podman:
    """Podman's service on storage of its own, with one container of the same tree."""

    def __init__(self, tree):
        self.base = tempfile.mkdtemp(prefix="bench-podman-")
        self.socket = f"{self.base}/socket"
        self.command = ["podman", "--root", f"{self.base}/root", "--runroot", f"{self.base}/run",
                        "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
                        "--events-backend", "file"]
        self.service = None
        try:
            self._start(tree)
        except BaseException:
            self.close()
            raise

    def _start(self, tree):
        created = subprocess.run(
            [*self.command, "create", "--name", "bench", "--network", "none", "--ulimit",
             "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--rootfs", f"{tree}:O", "sleep",
             "inf"], capture_output=True, text=True, check=False)
        if created.returncode:
            raise OSError(created.stderr.strip())
        self.service = subprocess.Popen(
            in_private_mounts([*self.command, "system", "service", "--time=0",
                               f"unix://{self.socket}"]), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while self.request("GET", "/_ping")[0] != 200:
            if time.monotonic() > deadline:
                raise OSError("podman's service does not answer")
            time.sleep(0.05)
        status, reply = self.request("POST", "/v4.0.0/libpod/containers/bench/start")
        if status != 204:
            raise OSError(reply.decode(errors="replace"))

    def request(self, method, path, body=None):
        connection = UnixConnection(self.socket, 60)
        try:
            connection.request(method, path, body=body)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def close(self):
        if self.service:
            self.request("DELETE", "/v4.0.0/libpod/containers/bench?force=true")
            self.service.terminate()
            self.service.wait()
        with contextlib.suppress(FileNotFoundError):  # there is no podman, which is why it is closed
            subprocess.run([*self.command, "rm", "--force", "--time=0", "bench"], capture_output=True,
                           check=False)
        # What podman mounted for its storage is only gone with its mount.
        for place in [*glob.glob(f"{self.base}/root/*"), f"{self.base}/root"]:
            if os.path.ismount(place):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self.base, ignore_errors=True)


@contextlib.contextmanager
def bare_mhd(path):
    """The URL of bare_mhd."""
    with subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bare:
        yield bare.stdout.readline().strip()
        bare.stdin.close()
