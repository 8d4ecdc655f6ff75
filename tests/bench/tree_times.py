"""Whole trees: seed, diff, snapshot and reset of 2,000 files (16 MiB) beside what people use for the
same on one machine: tar, find, git and cp."""

import base64
import contextlib
import io
import os
import pathlib
import random
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib

FILES = 2000
FILE_BYTES = (16 << 20) // FILES
CHANGED = 10
SNAPSHOTS = 1000
SNAPSHOT_FILES = 10000


def content(number):
    """Text that compresses as source code does."""
    generator = random.Random(number)
    words = [generator.choice("return if while static const struct void int char".split())
             + str(generator.randrange(900)) for _ in range(FILE_BYTES // 8)]
    return " ".join(words).encode()[:FILE_BYTES].ljust(FILE_BYTES, b"\n")


def small(number):
    return content(number)[:1600]


def archive_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range((files + 49) // 50):
            member = tarfile.TarInfo(f"d{i}")
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for i in range(files):
            member = tarfile.TarInfo(f"d{i // 50}/f{i}.c")
            data = content(i) if files == FILES else small(i)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def timed(function):
    """Seconds, and what it gave."""
    begun = time.monotonic()
    result = function()
    return time.monotonic() - begun, result


def seconds(function):
    return timed(function)[0]


def milliseconds(value):
    return f"{value * 1000:.1f} ms"


class TreeFigures:
    def __init__(self, bench, daemon):
        self.bench, self.daemon = bench, daemon
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="hearth-trees-"))
        archive = archive_of(FILES)
        self.tree = self.base / "tree"
        self.tree.mkdir()
        subprocess.run(["tar", "xf", "-"], input=archive, cwd=self.tree, check=True)
        self.client = daemon.unix_client()
        self.upload = self._upload(archive)
        self.copies = 0

    def close(self):
        self.client.close()
        shutil.rmtree(self.base, ignore_errors=True)

    def _upload(self, archive):
        return self.client.post("/v1/uploads", body=archive,
                                headers={"Content-Type": "application/x-tar"})["upload_id"]

    def create(self, **arguments):
        return "/v1/workspaces/" + self.client.post(
            "/v1/workspaces", {"environment": "debian:12", **arguments})["workspace_id"]

    @contextlib.contextmanager
    def seeded(self):
        path = self.create(seed_upload=self.upload)
        yield path
        self.client.request("DELETE", path)

    def copy(self, *words):
        self.copies += 1
        target = self.base / f"copy{self.copies}"
        target.mkdir()
        took = seconds(lambda: subprocess.run(
            ["sh", "-c", words[0], "sh", self.tree, target], check=True))
        shutil.rmtree(target)
        return took

    def row(self, figure, ours, peer, most):
        self.bench.row(figure, milliseconds(ours), milliseconds(peer), ours / peer, f"<= {most} x",
                       ours <= most * peer)

    def seed(self):
        def ours():
            made = []
            empty = seconds(lambda: made.append(self.create()))
            full = seconds(lambda: made.append(self.create(seed_upload=self.upload)))
            for path in made:
                self.client.request("DELETE", path)
            return max(full - empty, 0.001)

        ours()
        figures = self.bench.pairs(ours, lambda: self.copy('tar c -C "$1" . | tar x -C "$2"'))
        self.row("seed of 2,000 files, 16 MiB, without the boot; tar c | tar x", *figures, 3)

    def diff(self):
        with self.seeded() as path:
            self.client.get(f"{path}/diff")
            ours, peer = self.bench.pairs(
                lambda: seconds(lambda: self.client.get(f"{path}/diff")),
                lambda: seconds(lambda: subprocess.run(
                    ["find", self.tree, "-printf", "%p %y %m %s %T@ %C@ %i\n"], check=True,
                    stdout=subprocess.DEVNULL)))
            self.row("diff of them, unchanged; find -printf", ours, peer, 1.5)
            repository = self.base / "git"
            shutil.copytree(self.tree, repository)
            git = ["git", "-C", repository, "-c", "user.name=x", "-c", "user.email=x@x"]
            subprocess.run([*git, "init", "-q"], check=True)
            subprocess.run([*git, "add", "."], check=True)
            subprocess.run([*git, "commit", "-qm", "x"], check=True)
            change = f"for i in $(seq 1 {CHANGED}); do echo changed >> d$i/f$((i * 50)).c; done"
            self.client.post(f"{path}/exec", {"command": change})
            subprocess.run(["sh", "-c", change], cwd=repository, check=True)

            def peer_():
                for word in ("status", "diff"):
                    subprocess.run([*git, word], check=True, stdout=subprocess.DEVNULL)

            assert self.client.get(f"{path}/diff")["summary"]["total"] == CHANGED
            subprocess.run([*git, "status"], check=True, stdout=subprocess.DEVNULL)
            ours, peer = self.bench.pairs(
                lambda: seconds(lambda: self.client.get(f"{path}/diff")), lambda: seconds(peer_))
            self.row("diff of them, 10 changed; git status and git diff", ours, peer, 2)

    def snapshot_and_reset(self):
        def cp():
            return self.copy('cp -a "$1/." "$2"')

        with self.seeded() as path:
            # All of it is new to the store each time.
            def snapshot():
                self.client.post(f"{path}/exec", {
                    "command": "for f in */*; do echo $$ >> $f; done", "timeout_seconds": 60})
                took = seconds(lambda: self.client.post(f"{path}/snapshots",
                                                        {"snapshot_name": "s"}))
                self.client.delete(f"{path}/snapshots/s")
                return took

            self.row("snapshot of them, all changed; cp -a", *self.bench.pairs(snapshot, cp), 2)
            self.client.post(f"{path}/snapshots", {"snapshot_name": "kept"})
            unchanged = [seconds(lambda i=i: self.client.post(
                f"{path}/snapshots", {"snapshot_name": f"u{i}"})) for i in range(5)]
            self.bench.row("the same, unchanged", milliseconds(sorted(unchanged)[2]), "", None, "",
                           None)
            self.row("reset to it, boot and all; cp -a", *self.bench.pairs(
                lambda: seconds(lambda: self.client.post(f"{path}/reset", {"snapshot": "kept"})),
                cp), 2)

    def fork(self):
        """Beside a copy of the same container's overlay, as one would make it by hand."""
        with self.seeded() as path:
            upper = max(self.daemon.state_dir.glob("guests/*/upper"), key=lambda found: found.stat().st_ctime)

            def ours():
                took = seconds(lambda: forks.append(self.client.post(f"{path}/fork", {"count": 1})))
                for row in forks.pop()["workspaces"]:
                    self.client.request("DELETE", f"/v1/workspaces/{row['workspace_id']}")
                return took

            def peer():
                target = self.base / "overlay"
                took = seconds(lambda: subprocess.run(["cp", "-a", "--reflink=auto", upper, target], check=True))
                assert (target / "workspace/d0/f0.c").exists()
                shutil.rmtree(target)
                return took

            forks = []
            self.row("fork of them, boot and all; cp -a --reflink=auto of the overlay", *self.bench.pairs(ours, peer), 3)

    def many_snapshots(self):
        """Slowly changing: ten files are rewritten before each."""
        before = self.client.post("/v1/store/verify")
        path = self.create(seed_upload=self._upload(archive_of(SNAPSHOT_FILES)))
        for i in range(SNAPSHOTS):
            self.client.post(f"{path}/exec", {
                "command": f"for k in $(seq 1 10); do n=$(( ({i} * 10 + k) % {SNAPSHOT_FILES} )); "
                           "head -c 1200 /dev/urandom | base64 > d$((n / 50))/f$n.c; done"})
            self.client.post(f"{path}/snapshots", {"snapshot_name": f"s{i}"})
        after = self.client.post("/v1/store/verify")
        assert after["whole"]
        stored = after["stored_bytes"] - before["stored_bytes"]
        distinct = (sum(len(zlib.compress(small(i), 1)) for i in range(SNAPSHOT_FILES))
                    + sum(len(zlib.compress(base64.encodebytes(random.randbytes(1200)), 1))
                          for _ in range(SNAPSHOTS * CHANGED)))
        self.bench.row(f"{SNAPSHOTS} snapshots of {SNAPSHOT_FILES} files, ten changed between two;"
                       " each content once, compressed", f"{stored / 2**20:.1f} MiB",
                       f"{distinct / 2**20:.1f} MiB", stored / distinct, "<= 2 x",
                       stored <= 2 * distinct)
        self.client.request("DELETE", path)


def measure(bench, daemon):
    figures = TreeFigures(bench, daemon)
    try:
        figures.seed()
        figures.diff()
        figures.snapshot_and_reset()
        figures.fork()
        if not bench.quick:
            figures.many_snapshots()
    finally:
        figures.close()
