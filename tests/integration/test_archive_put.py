"""hearth-archive put and put-file: what a request's output_path becomes, by a process that can do nothing else."""

import os
import pathlib
import stat
import subprocess
import tarfile

import pytest

from harness.daemon import BIN
from harness.waiting import until
from test_sync import LINK, tar_of

PROGRAM = BIN / "hearth-archive"
TOP = ("./", {"type": tarfile.DIRTYPE, "mode": 0o750})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root/in").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/out").symlink_to("../outside")
    return tmp_path / "root"


def put(root, path, data, mode="put"):
    return subprocess.run([PROGRAM, mode, "--", root, path], input=data, capture_output=True, timeout=60)


def names(root):
    return sorted(str(path.relative_to(root.parent)) for path in root.parent.rglob("*"))


def test_a_tree_is_made_and_told(root):
    done = put(root, "in/new", tar_of(TOP, ("a", "12345"), ("l", LINK), ("h", {"type": tarfile.LNKTYPE, "linkname": "a"})))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"good 4 5 directory\n", b"")
    new = root / "in/new"
    assert stat.S_IMODE(new.stat().st_mode) == 0o750 and (new / "h").samefile(new / "a") and os.readlink(new / "l") == "/etc"


@pytest.mark.parametrize("data", [
    tar_of(TOP, ("../x", "x")), tar_of(TOP, ("/x", "x")), tar_of(TOP, ("a/../../x", "x")),
    tar_of(TOP, ("l", {"type": tarfile.SYMTYPE, "linkname": "../../../outside"}), ("l/x", "x")),
    tar_of(TOP, ("h", {"type": tarfile.LNKTYPE, "linkname": "../../out"})),
    tar_of(TOP, ("n", {"type": tarfile.CHRTYPE})), tar_of(TOP, ("a", "x"), ("a", "y")),
    tar_of(TOP, ("a", "x" * 5000))[:3000], b"no tar at all" * 100, b"",
], ids=["parent", "absolute", "inner parent", "symlink", "hard link", "device", "twice", "cut", "no tar", "nothing"])
def test_what_is_none_of_ours_leaves_nothing(root, data):
    before = names(root)
    done = put(root, "in/new", data)
    assert done.returncode == 1 and done.stdout.startswith(b"refused ") and done.stdout.count(b"\n") == 1
    assert names(root) == before


@pytest.mark.parametrize("mode, data", [("put", tar_of(TOP)), ("put-file", b"3\nabc")])
@pytest.mark.parametrize("path, status, said", [
    ("out/x", 3, b""), ("in/../../x", 3, b""), ("in", 1, b"refused output_exists"), ("out", 1, b"refused output_exists"),
    (".", 1, b"refused output_exists"), ("none/x", 1, b"refused cannot_write")])
def test_where_it_may_not_be_it_is_not(root, mode, data, path, status, said):
    before = names(root)
    done = put(root, path, data, mode)
    assert (done.returncode, done.stdout.startswith(said)) == (status, True), done
    assert names(root) == before


def test_a_file_has_its_size_and_holes_or_is_not_there(root):
    size = 4 << 20
    data = bytes(3 << 20) + b"x" * (1 << 20)
    assert put(root, "in/file", b"%d\n" % size + data, "put-file").stdout == b"good 1 %d file\n" % size
    assert (root / "in/file").read_bytes() == data and (root / "in/file").stat().st_blocks * 512 < 2 << 20
    before = names(root)
    for cut in (b"", b"4", b"4\nabc", b"x\nabcd"):
        assert put(root, "in/other", cut, "put-file").returncode == 1
    assert names(root) == before


def test_it_is_confined_before_it_reads_anything(root):
    if os.geteuid() == 0:
        os.chown(root / "in", 12345, 12346)
    with subprocess.Popen([PROGRAM, "put", "--", root, "in/new"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        def told():
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

        until(lambda: told()["Seccomp"] == "2", told)
        fields = told()  # Once more: what stands above that line was looked at before it.
        assert (fields["Seccomp"], fields["NoNewPrivs"], int(fields["CapEff"], 16)) == ("2", "1", 0)
        if os.geteuid() == 0:
            assert (fields["Uid"].split()[0], fields["Gid"].split()[0], fields["Groups"].strip()) == ("12345", "12346", "")
        process.stdin.close()
        assert process.stdout.read().startswith(b"refused ")
