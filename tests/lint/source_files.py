"""The project's own files: what is tracked, or everything in a tarball, where nothing is."""

import functools
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@functools.lru_cache
def files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode == 0 and listed.stdout:
        names = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    else:
        names = [path for path in ROOT.rglob("*") if "__pycache__" not in path.parts
                 and not path.relative_to(ROOT).parts[0].startswith(("build", ".venv"))]
    return [path for path in names if path.is_file()]


def text_of(path):
    """The file's text, or None where it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def name_of(path):
    return str(path.relative_to(ROOT))
