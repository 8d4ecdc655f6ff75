"""Our patch code beside git apply and GNU patch on trees that are changed at random. The rounds are
seeded: HEARTH_PATCH_SEED and HEARTH_PATCH_ROUNDS choose them."""

import os
import random
import shutil
import subprocess

from harness.daemon import BIN
from harness.trees import describe

TOOL = BIN.parent / "tests/unit/patch_tool"
SEED = int(os.environ.get("HEARTH_PATCH_SEED", "7"))
ROUNDS = int(os.environ.get("HEARTH_PATCH_ROUNDS", "30"))
GIT = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
WORDS = ["alpha", "beta", "", "gamma\tdelta", "  indented", "-- ", "+++ x", "@@ -1 +1 @@", "\u00e4\u00f6"]
NAMES = ["a", "b.txt", "dir/c", "dir/deep/d e.c", "x/y", "z", "q\"uote", "tab\there", "u\u00e9"]


def run(*words, cwd, stdin=None):
    return subprocess.run(words, cwd=cwd, input=stdin, capture_output=True, env=GIT)


def lines(pick, count):
    return [pick.choice(WORDS) + str(pick.randrange(8)) for _ in range(count)]


def text(pick, content):
    joined = pick.choice(["\n", "\n", "\n", "\r\n"]).join(content)
    return joined + ("" if pick.random() < 0.2 or not joined else "\n")


def content_of(pick, count):
    """One in four is no text: what git tells as a literal or, once changed, as a delta."""
    if pick.random() < 0.25:
        return pick.randbytes(pick.choice([1, 51, 52, 53, 400, 70000])) + b"\0"
    return text(pick, lines(pick, count)).encode()


def edited(pick, content):
    if b"\0" in content:
        at = pick.randrange(len(content))
        return pick.choice([b"", content[:at], content[at:] + content[:at]]) + pick.randbytes(pick.randrange(1, 90))
    split = content.decode().split("\n")
    for _ in range(pick.randrange(1, 4)):
        at = pick.randrange(len(split) + 1)
        split[at:at + pick.randrange(3)] = lines(pick, pick.randrange(3))
    return "\n".join(split).encode()


def make(pick, root):
    root.mkdir()
    for name in pick.sample(NAMES, pick.randrange(2, 6)):
        path = root / name
        if any(parent.is_file() for parent in path.parents if parent != root):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content_of(pick, pick.choice([0, 1, 5, 40])))
        path.chmod(pick.choice([0o644, 0o755]))


def change(pick, root):
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in files:
        what = pick.random()
        if what < 0.5:
            path.write_bytes(edited(pick, path.read_bytes()))
        elif what < 0.6:
            path.unlink()
        elif what < 0.7:
            path.chmod(path.stat().st_mode & 0o777 ^ 0o111)
        elif what < 0.8:
            target = root / "moved" / path.name
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    files = [path for path in files if path.exists()]
    if len(files) > 1 and pick.random() < 0.3:  # names go round
        turning = pick.sample(files, pick.randrange(2, len(files) + 1))
        content = [(path.read_bytes(), path.stat().st_mode & 0o777) for path in turning]
        for path, (data, mode) in zip(turning, content[1:] + content[:1]):
            path.write_bytes(data)
            path.chmod(mode)
    for name in pick.sample(["new", "new dir/file", "nl"], pick.randrange(3)):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content_of(pick, pick.randrange(6)))
    if pick.random() < 0.2:
        (root / "link").symlink_to(pick.choice(["a", "/no/where", "../up"]))
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def shape(root):
    """Files alone: directories come and go with them."""
    return {path: told for path, told in describe(root, times=False).items() if "directory" not in told}


def git_diff(base, changed, *options):
    done = run("git", "diff", "--no-index", "--no-color", "--binary", *options, base.name, changed.name, cwd=base.parent)
    assert done.returncode in (0, 1), done.stderr
    # Names are below the two directories: as if it were one repository.
    patch = done.stdout
    for side in (b"a/", b"b/", b"rename from ", b"rename to ", b"copy from ", b"copy to "):
        for directory in (b"base/", b"changed/"):
            patch = patch.replace(side + directory, side).replace(side + b'"' + directory, side + b'"')
    return patch


def pairs(tmp_path, kind):
    for index in range(ROUNDS):
        pick = random.Random(f"{kind}-{SEED}-{index}")
        room = tmp_path / str(index)
        room.mkdir()
        make(pick, room / "base")
        shutil.copytree(room / "base", room / "changed", symlinks=True)
        change(pick, room / "changed")
        yield pick, room
        shutil.rmtree(room)


def test_a_git_diff_makes_the_changed_tree(tmp_path):
    for pick, room in pairs(tmp_path, "git"):
        patch = git_diff(room / "base", room / "changed", "-M", f"-U{pick.choice([0, 1, 3, 10])}",
                         *pick.choice([[], ["-C"], ["--find-copies-harder"], ["-B"]]))
        if not patch:
            continue
        ours = run(TOOL, room / "base", cwd=room, stdin=patch)
        assert ours.returncode == 0, (room, ours.stderr, patch.decode(errors="replace"))
        assert shape(room / "base") == shape(room / "changed"), patch.decode(errors="replace")


def test_the_reverse_diff_goes_back(tmp_path):
    for _, room in pairs(tmp_path, "reverse"):
        forth, back = (git_diff(room / "base", room / "changed", *options) for options in ([], ["-R"]))
        if not forth:
            continue
        before = shape(room / "base")
        assert run(TOOL, room / "base", cwd=room, stdin=forth).returncode == 0
        ours = run(TOOL, room / "base", cwd=room, stdin=back)
        assert ours.returncode == 0, (ours.stderr, back.decode(errors="replace"))
        assert shape(room / "base") == before


def test_a_plain_diff_does_what_patch_does(tmp_path):
    """diff -ruN, with timestamps, applied to a tree that has moved on by some lines."""
    for pick, room in pairs(tmp_path, "plain"):
        done = run("diff", "-ruN", "base", "changed", cwd=room)
        shutil.rmtree(room / "changed")
        for path in (room / "base").rglob("*"):
            if path.is_file() and pick.random() < 0.5:
                path.write_bytes(b"one more line\n" * pick.randrange(1, 20) + path.read_bytes())
        shutil.copytree(room / "base", room / "theirs")
        theirs = run("patch", "-p1", "--fuzz=0", "-s", "-f", "--no-backup-if-mismatch", cwd=room / "theirs", stdin=done.stdout)
        ours = run(TOOL, room / "base", cwd=room, stdin=done.stdout)
        if not done.stdout or b"\"" in done.stdout or b"Binary files" in done.stdout:  # diff's quotes are not patch's
            continue
        if theirs.returncode == 0 and ours.returncode == 0:
            assert shape(room / "base") == shape(room / "theirs"), done.stdout.decode(errors="replace")
        elif theirs.returncode == 0:
            assert False, (ours.stderr, done.stdout.decode(errors="replace"))


def test_what_git_refuses_is_refused_and_changes_nothing(tmp_path):
    """Hunks whose lines were changed since."""
    for pick, room in pairs(tmp_path, "refuse"):
        patch = git_diff(room / "base", room / "changed")
        for path in (room / "base").rglob("*"):
            if path.is_file():
                content = path.read_bytes().split(b"\n")
                content[pick.randrange(len(content))] += b"!"
                path.write_bytes(b"\n".join(content))
        before = shape(room / "base")
        run("git", "init", "-q", cwd=room / "base")
        theirs = run("git", "apply", "--check", "--unidiff-zero", cwd=room / "base", stdin=patch)
        shutil.rmtree(room / "base/.git")
        ours = run(TOOL, room / "base", cwd=room, stdin=patch)
        if patch:
            assert (ours.returncode == 0) or shape(room / "base") == before
            assert ours.returncode == 0 or b":" in ours.stderr
            if theirs.returncode == 0:
                assert ours.returncode == 0, (ours.stderr, patch.decode(errors="replace"))
