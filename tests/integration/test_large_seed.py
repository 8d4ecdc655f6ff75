"""A large seed is streamed from end to end: it costs neither memory nor disk of its own size."""

import contextlib
import os
import pathlib
import random
import subprocess
import tarfile
import threading
import zlib

import pytest

MIB = 1 << 20


def archive(size):
    """A tar with one file that compresses well, though no two MiB of it are the same; gzipped, in pieces."""
    packer, pick = zlib.compressobj(1, wbits=31), random.Random(5)
    head = tarfile.TarInfo("large")
    head.size = size
    yield packer.compress(head.tobuf(tarfile.GNU_FORMAT))
    for _ in range(size // MIB):
        yield packer.compress(pick.randbytes(8192) * (MIB // 8192))
    yield packer.compress(bytes(10240)) + packer.flush()


def used(directory):
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


class Peak:
    """The most disk that was used below a directory meanwhile."""

    def __init__(self, directory):
        self.directory, self.bytes, self.ended = directory, 0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.ended.wait(0.1):
            self.bytes = max(self.bytes, used(self.directory))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


@pytest.mark.parametrize("size", [pytest.param(256 * MIB, id="256M"),
                                  pytest.param(2048 * MIB, id="2G", marks=pytest.mark.stress)])
def test_a_large_seed_needs_no_memory_and_no_second_disk(hearthd_factory, workspace_factory, size):
    hearthd = hearthd_factory()
    client = hearthd.client(timeout=1200)

    def most_memory():
        text = pathlib.Path(f"/proc/{hearthd.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024

    before = most_memory()
    with Peak(hearthd.state_dir) as peak:
        sent = client.request("POST", "/v1/uploads", body=archive(size), headers={"Content-Type": "application/gzip"})
        assert sent.status == 201, sent
        workspace = workspace_factory(on=client, seed_upload=sent.json()["upload_id"])
        assert workspace.created["workspace_seed"]["bytes_written"] == size
        assert client.get(f"{workspace.path}/diff", stat_only="true")["changed"] is False
    assert most_memory() - before < 96 * MIB
    # The guest's own file; the upload and the baseline, both compressed.
    assert peak.bytes < size + size // 8 + 16 * MIB
    assert workspace.exec("stat -c %s large")["stdout"] == f"{size}\n"
    assert client.post("/v1/store/verify")["whole"]


def test_a_sparse_file_has_its_size_and_its_bytes(workspace_factory, client, tmp_path):
    """As GNU tar writes one: a map of the content, and the content alone."""
    size = 64 * MIB
    with open(tmp_path / "holes", "wb") as file:
        file.seek(size - 3)
        file.write(b"end")
    packed = subprocess.run(["tar", "--sparse", "-C", tmp_path, "-cf", "-", "holes"], check=True, stdout=subprocess.PIPE).stdout
    assert len(packed) < 100_000
    reply = client.request("POST", "/v1/uploads", body=packed, headers={"Content-Type": "application/x-tar"})
    workspace = workspace_factory(seed_upload=reply.json()["upload_id"])
    assert workspace.exec("stat -c %s holes; tr -d '\\0' < holes")["stdout"] == f"{size}\nend"


def test_guests_lie_apart_on_the_disk(daemon):
    """By ext4's mark of a directory whose subdirectories have nothing to do with each other."""
    guests = daemon.state_dir / "guests"
    kind = subprocess.run(["stat", "-f", "-c", "%T", guests], check=True, capture_output=True, text=True).stdout.strip()
    if kind != "ext2/ext3":
        pytest.skip(f"the state directory is on {kind}")
    assert "T" in subprocess.run(["lsattr", "-d", guests], check=True, capture_output=True, text=True).stdout.split()[0]
