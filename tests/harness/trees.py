"""Trees on disk: one with all that a tree can have, and what a tree is, to be compared."""

import hashlib
import os
import pathlib
import stat


def make_odd_tree(root):
    """Files of every kind that is kept, in modes, times and names that are often lost."""
    root = pathlib.Path(root)
    (root / "bin").mkdir(parents=True)
    (root / "bin/run").write_text("#!/bin/sh\necho ran\n")
    (root / "bin/run").chmod(0o755)
    (root / "private").write_bytes(bytes(range(256)) * 700)
    (root / "private").chmod(0o600)
    (root / "empty").write_bytes(b"")
    (root / "empty-directory").mkdir(mode=0o750)
    (root / "deep/er/still").mkdir(parents=True)
    os.link(root / "private", root / "deep/er/second-name")
    for name, target in {"relative": "bin/run", "absolute": "/etc/hostname", "dangling": "no/such",
                         "deep/up": "../bin/../private", "far": "../../../../etc/passwd"}.items():
        (root / name).symlink_to(target)
    (root / ("l" * 255)).write_text("a long name")
    long_directory = root / "/".join(["d" * 100] * 4)
    long_directory.mkdir(parents=True)
    (long_directory / "at the end of a long path").write_text("far")
    (root / "new\nline and \t tab").write_text("odd")
    with open(os.fsencode(root) + b"/bytes-\xff\xfe", "wb") as file:
        file.write(b"no UTF-8")
    with open(root / "sparse", "wb") as file:
        file.truncate(2 << 20)
        file.seek(1 << 20)
        file.write(b"in the middle")
    for index, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, 1_600_000_000_000_000_000 + index * 1_000_000_007), follow_symlinks=False)
    return root


def describe(root, times=True):
    """{path: what is there}; files of several names are told by their first."""
    root = os.fsencode(root)
    found, names = {}, {}
    for directory, directories, files in os.walk(root):
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            short = os.path.relpath(path, root)
            told = {"mode": stat.S_IMODE(status.st_mode)}
            if times:
                told["mtime"] = status.st_mtime_ns
            if stat.S_ISLNK(status.st_mode):
                told = {**told, "link": os.readlink(path), "mode": None}
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    told["content"] = hashlib.sha256(file.read()).hexdigest()
                told["size"] = status.st_size
                if status.st_nlink > 1:
                    told["linked"] = names.setdefault(status.st_ino, len(names))
            elif stat.S_ISDIR(status.st_mode):
                told["directory"] = True
            else:
                told["special"] = True
            found[short] = told
    # Names come in the order of os.walk: which of several is first is the same in equal trees.
    return found
