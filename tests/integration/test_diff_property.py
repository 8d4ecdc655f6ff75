"""Any two trees: the patch from the one to the other, put on a copy of the one by `git apply` and by
our own patch code, is the other. What git does not know (empty directories, other mode bits) is left out of the comparison."""

import os
import shutil
import subprocess

import pytest

from harness.daemon import BIN
from harness.random_trees import Generator, apply, look, write

PROGRAM = BIN.parent / "tests/unit/tree_diff"
PATCH = BIN.parent / "tests/unit/patch_tool"
ROUNDS = int(os.environ.get("HEARTH_DIFF_ROUNDS", "30"))
PAIRS = 20  # in a round


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_git_apply_and_ours_make_the_new_tree_of_the_old(tmp_path, round_):
    generator = Generator(round_)
    old, new = {}, {}
    for i in range(PAIRS):
        old[f"p{i}"] = generator.tree()
        new[f"p{i}"] = generator.mutate(old[f"p{i}"])
    write(tmp_path / "old", old)
    write(tmp_path / "new", new)
    context = generator.random.choice([1, 3, 3, 10])
    made = subprocess.run([PROGRAM, tmp_path / "old", tmp_path / "new", str(context)],
                          capture_output=True)
    assert made.returncode == 0, made.stderr
    shutil.copytree(tmp_path / "old", tmp_path / "copy", symlinks=True)
    done = apply(made.stdout, tmp_path / "copy")
    (tmp_path / "patch").write_bytes(made.stdout)
    assert done.returncode == 0, (done.stderr.decode()[-2000:], tmp_path)
    assert look(tmp_path / "copy") == look(tmp_path / "new")
    ours = subprocess.run([PATCH, tmp_path / "old"], input=made.stdout, capture_output=True)
    if made.stdout:
        assert ours.returncode == 0, (ours.stderr.decode()[-2000:], tmp_path)
    assert look(tmp_path / "old") == look(tmp_path / "new")
