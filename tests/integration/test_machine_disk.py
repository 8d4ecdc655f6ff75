"""The disk of a stopped machine: an overlay of QEMU's over its environment's image, read offline."""

import json
import os
import shutil
import struct
import subprocess

import pytest

from harness import daemon as harness_daemon
from harness.daemon import BIN

PROGRAM = BIN / "hearth-disk"
SEED = "0123456789abcdef" * 4
TOOLS = {**os.environ, "PATH": "/usr/sbin:/sbin:" + os.environ["PATH"]}
CLUSTER = 1 << 16

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")


def tool(*words, **options):
    return subprocess.run(words, env=TOOLS, capture_output=True, text=True, check=True, **options)


def fsck(image):
    done = subprocess.run(["e2fsck", "-fn", image], env=TOOLS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


class Disk:
    """A base image, what it has become, and the overlay that makes the difference."""

    def __init__(self, directory):
        self.base, self.wanted = directory / "base.ext4", directory / "wanted.ext4"
        self.overlay = directory / "disk.qcow2"
        tree = directory / "tree"
        (tree / "workspace/deep").mkdir(parents=True)
        (tree / "etc").mkdir()
        (tree / "etc/issue").write_text("below\n")
        (tree / "etc/gone").write_text("deleted\n")
        (tree / "workspace/link").symlink_to("../etc/issue")
        (tree / "workspace/long").symlink_to("/" + "x" * 200)
        (tree / "workspace/loop").symlink_to("loop")
        for number in range(300):
            (tree / f"workspace/deep/{number:03}").write_text(str(number))
        tool(PROGRAM, "image", "--seed", SEED, tree, self.base)
        shutil.copy(self.base, self.wanted)
        os.truncate(self.wanted, 160 << 20)
        tool("resize2fs", self.wanted)
        (directory / "new").write_bytes(b"above\n" * 50000)
        tool("debugfs", "-w", "-R", f"write {directory}/new /workspace/new", self.wanted)
        tool("debugfs", "-w", "-R", "rm /etc/gone", self.wanted)
        tool("qemu-img", "convert", "-O", "qcow2", "-B", self.base, "-F", "raw", self.wanted,
             self.overlay)

    def run(self, verb, *words, overlay=None, **options):
        return subprocess.run([PROGRAM, verb, "--overlay", overlay or self.overlay, "--base",
                               self.base, *words], capture_output=True, timeout=60, **options)

    def names(self, path, *words):
        done = self.run("list", "--limit", "10000", *words, path)
        assert done.returncode == 0, done.stdout
        parts = done.stdout.split(b"\0")
        assert parts[-2:] == [b"end 0", b""]
        return {entry.split(b" ", 4)[4].decode(): (entry.split(b" ")[0].decode(), target.decode())
                for entry, target in zip(parts[:-2:2], parts[1:-2:2])}

    def read(self, path, *words):
        return self.run("read", "--limit", "1000000", *words, path).stdout

    def export(self, target, overlay=None):
        target.touch()
        words = []
        if os.geteuid() == 0:
            os.chown(target, 65534, 65534)
            words = ["--uid-base", "65534"]
        return subprocess.run(["sh", "-c", 'exec "$@" 3<>"$0"', target, PROGRAM, "export",
                               "--overlay", overlay or self.overlay, "--base", self.base,
                               "--seed", SEED, *words], capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    return Disk(tmp_path_factory.mktemp("disk"))


# What it holds

def test_a_directory_is_listed_over_both_layers(disk):
    assert disk.names("/workspace") == {
        "/workspace/deep": ("d", ""), "/workspace/link": ("l", "../etc/issue"),
        "/workspace/long": ("l", "/" + "x" * 200), "/workspace/loop": ("l", "loop"),
        "/workspace/new": ("f", "")}
    assert list(disk.names("/etc")) == ["/etc/issue"]
    everything = disk.names("/", "--recursive")
    assert len([path for path in everything if path.startswith("/workspace/deep/")]) == 300


def test_files_are_read_through_links_and_parts(disk):
    assert disk.read("/workspace/link") == b"good 6 6\nbelow\n"
    assert disk.read("/workspace/new") == b"good 300000 300000\n" + b"above\n" * 50000
    assert disk.read("/workspace/new", "--offset", "299999") == b"good 300000 1\n\n"
    for path, code in (("/nothing", b"file_not_found"), ("/workspace/long", b"file_not_found"),
                       ("/workspace/loop", b"file_not_found"), ("/workspace", b"wrong_file_type"),
                       ("/etc/issue/x", b"wrong_file_type"), ("/etc/gone", b"file_not_found")):
        assert disk.read(path).split(b" ")[:2] == [b"refused", code], path


def test_an_export_is_the_disk_as_the_machine_saw_it(disk, tmp_path):
    done = disk.export(tmp_path / "out")
    head, image = done.stdout.split(b"\n", 1)
    assert head == f"good {160 << 20}".encode() and image == disk.wanted.read_bytes()
    assert (tmp_path / "out").stat().st_blocks * 512 < 150 << 20


def test_a_disk_of_a_killed_machine_is_put_in_order(disk, tmp_path):
    dirty, overlay = tmp_path / "dirty", tmp_path / "overlay"
    shutil.copy(disk.wanted, dirty)
    tool("debugfs", "-w", "-R", "set_super_value state 0", dirty)
    tool("debugfs", "-w", "-R", "clri /workspace/deep/007", dirty)
    tool("qemu-img", "convert", "-O", "qcow2", "-B", disk.base, "-F", "raw", dirty, overlay)
    done = disk.export(tmp_path / "out", overlay=overlay)
    assert done.stdout.startswith(b"good "), done.stdout[:300]
    (tmp_path / "image").write_bytes(done.stdout.split(b"\n", 1)[1])
    fsck(tmp_path / "image")


# What means harm

def patched(disk, tmp_path, *changes):
    path = tmp_path / "patched"
    shutil.copy(disk.overlay, path)
    with open(path, "r+b") as file:
        for offset, data in changes:
            file.seek(offset)
            file.write(data)
    return path


@pytest.mark.parametrize("changes", [
    [(0, b"QFI?")], [(4, struct.pack(">I", 2))], [(20, struct.pack(">I", 8))],
    [(20, struct.pack(">I", 63))], [(24, struct.pack(">Q", 1 << 63))],
    [(32, struct.pack(">I", 1))], [(36, struct.pack(">I", 0))],
    [(36, struct.pack(">I", 0xffffffff))], [(40, struct.pack(">Q", 3))],
    [(40, struct.pack(">Q", 1 << 63))], [(72, struct.pack(">Q", 4))],
    [(72, struct.pack(">Q", 16))]])
def test_an_overlay_that_is_none_is_refused(disk, tmp_path, changes):
    overlay = patched(disk, tmp_path, *changes)
    for verb in ("list", "read"):
        done = disk.run(verb, "--limit", "5", "/", overlay=overlay)
        assert (done.returncode, done.stdout.split(b" ")[:2]) == (1, [b"refused",
                                                                      b"disk_unreadable"])
    assert disk.export(tmp_path / "out", overlay=overlay).stdout.startswith(b"refused ")


def test_the_backing_file_that_an_overlay_names_is_not_opened(disk, tmp_path):
    """It is the daemon that says what is below."""
    name = b"/etc/hostname"
    overlay = patched(disk, tmp_path, (8, struct.pack(">QI", 512, len(name))), (512, name))
    assert disk.run("read", "--limit", "9", "/etc/issue",
                    overlay=overlay).stdout == b"good 6 6\nbelow\n"


def test_tables_that_point_anywhere_end_in_an_answer(disk, tmp_path):
    """Each table entry turned to a few places: beyond the file, into itself, compressed."""
    header = disk.overlay.read_bytes()[:104]
    l1_offset, = struct.unpack_from(">Q", header, 40)
    l1_entry, = struct.unpack(">Q", disk.overlay.read_bytes()[l1_offset:l1_offset + 8])
    l2_offset = l1_entry & 0x00fffffffffffe00
    for value in (1 << 55, l1_offset, l1_offset | 1 << 62, l2_offset, 0xffffffffffffffff, 512):
        for offset in (l1_offset, l2_offset, l2_offset + 8):
            overlay = patched(disk, tmp_path, (offset, struct.pack(">Q", value)))
            done = disk.run("list", "--recursive", "--limit", "500", "/", overlay=overlay)
            assert done.returncode in (0, 1) and done.stdout, (hex(value), offset)


def test_a_file_system_of_rubbish_ends_in_an_answer(disk, tmp_path):
    """Metadata overwritten here and there: nothing but an answer comes of it."""
    for seed, offset in enumerate((1024, 1024 + 88, 4096, 5 * 4096, 64 * 4096, 400 * 4096)):
        image, overlay = tmp_path / "image", tmp_path / "overlay"
        shutil.copy(disk.wanted, image)
        with open(image, "r+b") as file:
            file.seek(offset)
            file.write(bytes((seed * 37 + index * 101) & 255 for index in range(4096)))
        tool("qemu-img", "convert", "-O", "qcow2", "-B", disk.base, "-F", "raw", image, overlay)
        done = disk.run("list", "--recursive", "--limit", "10000", "/", overlay=overlay)
        assert done.returncode in (0, 1) and done.stdout


# By way of the daemon, with a real machine

@pytest.fixture(scope="module")
def machine(images):
    hearthd = harness_daemon.Hearthd(images, driver="qemu")
    try:
        client = hearthd.start().client(timeout=300)
        created = client.post("/v1/workspaces", {"environment": "debian:12", "mem_mib": 256,
                                                 "disk_mib": 1024})
        path = f"/v1/workspaces/{created['workspace_id']}"
        done = client.post(f"{path}/exec", {
            "command": "echo kept >kept; rm /etc/issue; mkdir -m 700 d; echo in >d/in; sync"})
        assert done["exit_code"] == 0
        client.post(f"{path}/stop", {})
        yield hearthd, client, path
    finally:
        hearthd.destroy()


def test_a_stopped_machine_is_listed_and_read(machine):
    _, client, path = machine
    listed = client.get(f"{path}/disk/list", recursive="true")
    assert [entry["path"] for entry in listed["entries"]] == [
        "/workspace/d", "/workspace/d/in", "/workspace/kept"]
    assert client.get(f"{path}/disk/read", path="kept")["content"] == "kept\n"
    assert client.get(f"{path}/disk/read", path="/etc/debian_version")["content"].startswith("12")
    reply = client.request("GET", f"{path}/disk/read", query={"path": "/etc/issue"})
    assert (reply.status, reply.json()["code"]) == (404, "file_not_found")


def test_a_stopped_machine_is_exported_clean(machine, tmp_path):
    hearthd, _, path = machine
    image = tmp_path / "image"
    done = subprocess.run([BIN / "hearth", "--json", "workspace", "disk", "export",
                           path.rsplit("/", 1)[1], "--output", image], capture_output=True,
                          text=True, env={**os.environ,
                                          "HEARTH_URL": f"unix://{hearthd.socket_path}"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes_written"] == image.stat().st_size == 1024 << 20
    assert image.stat().st_blocks * 512 < 800 << 20
    fsck(image)
    assert tool("debugfs", "-R", "cat /workspace/d/in", image).stdout == "in\n"
