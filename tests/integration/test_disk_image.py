"""hearth-disk image: a directory tree as one ext4 file system, which is the same for the same tree."""

import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess

import pytest

from harness.daemon import BIN
from harness.waiting import until

PROGRAM = BIN / "hearth-disk"
SEED = "0123456789abcdef" * 4
TOOLS = {**os.environ, "PATH": "/usr/sbin:/sbin:" + os.environ["PATH"]}

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="files get owners")


def make(tree, image, seed=SEED):
    """The size that it says."""
    done = subprocess.run([PROGRAM, "image", "--seed", seed, tree, image], capture_output=True,
                          text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    word, size = done.stdout.split()
    assert word == "good" and int(size) == image.stat().st_size
    check(image)
    return int(size)


def check(image):
    done = subprocess.run(["e2fsck", "-fn", image], env=TOOLS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def debugfs(image, request):
    return subprocess.run(["debugfs", "-R", request, image], env=TOOLS, capture_output=True,
                          text=True, check=True).stdout


def inode(image, path):
    """What `debugfs stat` says, by its words."""
    text = debugfs(image, f'stat "{path}"')
    found = {}
    for key, value in re.findall(r"(\w+): +(\S+)", text):
        found.setdefault(key, value)
    if link := re.search(r'Fast link dest: "(.*)"', text):
        found["target"] = link.group(1)
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Every kind of file there is."""
    root = tmp_path_factory.mktemp("tree")
    (root / "workspace").mkdir(mode=0o755)
    (root / "bin").mkdir()
    (root / "bin/su").write_bytes(b"s" * 5000)
    os.link(root / "bin/su", root / "bin/su2")
    (root / "bin/su").chmod(0o4755)
    (root / "games").write_text("g")
    os.chown(root / "games", 5, 60)
    (root / "games").chmod(0o2640)
    (root / "short").symlink_to("bin/su")
    (root / "long").symlink_to("/nowhere/" + "x" * 300)
    with open(root / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(200 << 20)
        file.write(b"end")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        directory = os.open(root, os.O_PATH)
        made.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / 'a "name" with; quotes\n and a line end').write_text("odd")
    (root / b"\xff\xfe".decode(errors="surrogateescape")).write_text("bytes")
    many = root / "many"
    many.mkdir(mode=0o1777)
    many.chmod(0o1777)
    for number in range(1000):
        (many / f"a-name-of-some-length-{number:06}").write_text(str(number))
    os.setxattr(root / "games", "user.note", b"kept")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(10**9, 1600000000 * 10**9), follow_symlinks=False)
    return root


@pytest.fixture(scope="module")
def image(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.ext4"
    make(tree, path)
    return path


@as_root
def test_modes_owners_and_kinds_are_the_trees(image):
    assert inode(image, "/bin/su")["Mode"] == "04755"
    found = inode(image, "/games")
    assert (found["Mode"], found["User"], found["Group"]) == ("02640", "5", "60")
    assert inode(image, "/many")["Mode"] == "01777"
    assert inode(image, "/")["Mode"] == "0700"
    assert [inode(image, path)["Type"] for path in ("/bin", "/short", "/pipe", "/socket", "/null")
            ] == ["directory", "symlink", "FIFO", "socket", "character"]
    assert 'user.note (4) = "kept"' in debugfs(image, 'ea_list /games')


@as_root
def test_links_of_both_kinds_are_kept(image):
    assert inode(image, "/bin/su")["Inode"] == inode(image, "/bin/su2")["Inode"]
    assert inode(image, "/bin/su")["Links"] == "2"
    assert inode(image, "/short")["target"] == "bin/su"
    assert debugfs(image, "cat /long") == "/nowhere/" + "x" * 300


@as_root
def test_contents_and_names_are_kept_and_holes_stay_holes(image, tree):
    assert debugfs(image, "cat /bin/su") == "s" * 5000
    names = debugfs(image, "ls -p /many").splitlines()
    assert len([line for line in names if "a-name-of-some-length" in line]) == 1000
    assert int(inode(image, "/sparse")["Size"]) == (tree / "sparse").stat().st_size
    assert int(inode(image, "/sparse")["Blockcount"]) < 100
    assert image.stat().st_size < 200 << 20
    assert image.stat().st_blocks * 512 < image.stat().st_size / 2


@as_root
def test_the_same_tree_is_the_same_image(image, tree, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", tree, copy], check=True)
    (copy / "games").read_text()
    (copy / "games").chmod(0o2640)
    assert make(copy, tmp_path / "again") == image.stat().st_size
    assert (tmp_path / "again").read_bytes() == image.read_bytes()
    make(copy, tmp_path / "other", seed="ff" + SEED[2:])
    assert (tmp_path / "other").read_bytes() != image.read_bytes()


@as_root
def test_a_tree_larger_than_it_looks_still_fits(tmp_path):
    """Many files with a little data each way off, which the measure takes for less."""
    tree = tmp_path / "tree"
    (tree / "workspace").mkdir(parents=True)
    with open(tree / "holes", "wb") as file:
        for number in range(5000):
            file.seek(number << 14)
            file.write(b"x")
    for number in range(4000):
        (tree / "workspace" / str(number)).touch()
    make(tree, tmp_path / "image")


@as_root
def test_the_system_finds_it_a_root(image, tmp_path):
    """It mounts, can be written to, and its journal holds."""
    mounted, copy = tmp_path / "mounted", tmp_path / "disk"
    mounted.mkdir()
    shutil.copy(image, copy)
    script = ('mount -o loop "$1" "$2" && echo new >"$2/workspace/new" && cat "$2/games" && '
              'stat -c %U:%a "$2/many" && umount "$2"')
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", copy, mounted],
                          capture_output=True, text=True)
    if "loop" in done.stderr:
        pytest.skip("this host has no loop devices")
    assert done.stdout == "groot:1777\n", done.stderr
    check(copy)
    assert debugfs(copy, "cat /workspace/new") == "new\n"


@as_root
def test_as_a_plain_user_it_is_all_the_guests_roots(anyones_path):
    """In the user's own namespace the tree's owner is root, as a guest has it."""
    program = anyones_path / "hearth-disk"
    shutil.copy(PROGRAM, program)
    script = (f"mkdir -p tree/workspace && echo x >tree/file && "
              f"{program} image --seed {SEED} tree image")
    done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                           "sh", "-c", script], cwd=anyones_path, capture_output=True, text=True)
    if "user namespace" in done.stderr:
        pytest.skip("plain users may make no user namespaces here")
    assert done.stdout.startswith("good "), done.stdout + done.stderr
    check(anyones_path / "image")
    found = inode(anyones_path / "image", "/file")
    assert (found["User"], found["Group"]) == ("0", "0")
    assert (anyones_path / "image").stat().st_uid == 65534


def test_what_cannot_be_made_is_told_and_leaves_nothing(tmp_path):
    image = tmp_path / "image"
    done = subprocess.run([PROGRAM, "image", "--seed", SEED, tmp_path / "none", image],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "failed cannot read the tree: "
                                                 "No such file or directory\n")
    assert not image.exists()
    for seed in ("", "00", SEED + "00", "x" * 64):
        assert subprocess.run([PROGRAM, "image", "--seed", seed, tmp_path, image],
                              capture_output=True).returncode == 2
    assert not image.exists()


@as_root
def test_one_that_is_killed_is_not_taken_for_whole(tmp_path):
    """What it leaves lies where it was told to write, never under another name."""
    tree, image = tmp_path / "tree", tmp_path / "image"
    tree.mkdir()
    with open(tree / "big", "wb") as file:
        file.write(os.urandom(64 << 20))

    def killed_while_it_writes():
        """Not so where it has made the whole of it before the kill came."""
        image.unlink(missing_ok=True)
        with subprocess.Popen([PROGRAM, "image", "--seed", SEED, tree, image], stdout=subprocess.PIPE,
                              start_new_session=True) as making:
            while not image.exists():
                assert making.poll() is None
            os.killpg(making.pid, 9)
            said = making.stdout.read()
        assert (said == b"") == (making.returncode != 0)
        return making.returncode != 0

    until(killed_while_it_writes)
    assert {path.name for path in pathlib.Path(tmp_path).iterdir()} <= {"tree", "image"}
