"""Random trees and random changes to them, written to a directory, and `git apply` to hold a patch against."""

import os
import random
import subprocess

WORDS = ["alpha", "beta", "gamma", "delta", "", "  indented", "tab\there", "x" * 200, "é ü 漢字",
         "-- a/x", "+++ b/x", "@@ -1 +1 @@", "diff --git a/x b/x", "\\ No newline at end of file",
         "rename from x", "GIT binary patch"]
NAMES = ["a", "b", "c", "d", "with space", "quo\"te", "back\\slash", "tab\tname", "new\nline", "ünï",
         "-dash", "b ", " c", "a.txt"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def text(self):
        r = self.random
        lines = [r.choice(WORDS) for _ in range(r.choice([0, 1, 2, 5, 30, 80]))]
        ending = r.choice(["\n", "\n", "\n", "\r\n"])
        content = ending.join(lines) + (ending if r.random() < 0.7 else "")
        return content.encode()

    def content(self):
        r = self.random
        kind = r.random()
        if kind < 0.75:
            return self.text()
        if kind < 0.85:
            return r.randbytes(r.choice([1, 7, 300, 5000]))
        if kind < 0.9:
            return b"latin \xe9\n" * r.randrange(1, 5)
        return b""

    def leaf(self):
        r = self.random
        if r.random() < 0.12:
            return ("l", r.choice(["a", "../x", "/etc/passwd", "no such", "d/é"]))
        return ("f", r.choice([0o644, 0o644, 0o755]), self.content())

    def tree(self, depth=0):
        """{name: leaf | dict}"""
        r = self.random
        names = r.sample(NAMES, r.randrange(0, 6 if depth else 9))
        return {name: self.tree(depth + 1) if depth < 3 and r.random() < 0.3 else self.leaf()
                for name in names}

    def edit_content(self, data):
        r = self.random
        lines = data.splitlines(keepends=True)
        for _ in range(r.randrange(1, 4)):
            at = r.randrange(len(lines) + 1)
            if lines and r.random() < 0.4:
                del lines[min(at, len(lines) - 1)]
            else:
                lines.insert(at, r.choice(WORDS).encode() + r.choice([b"\n", b"\n", b""]))
        return b"".join(lines)

    def change(self, node):
        r = self.random
        if isinstance(node, dict):
            return self.mutate(node) if r.random() < 0.8 else self.leaf()
        if node[0] == "l":
            return self.leaf()
        kind, mode, data = node
        if r.random() < 0.15:
            return self.tree(2)
        if r.random() < 0.2:
            mode ^= 0o111
        return (kind, mode, self.edit_content(data) if r.random() < 0.8 else self.content())

    def mutate(self, tree):
        r = self.random
        result, moved = {}, []
        for name, node in tree.items():
            what = r.random()
            if what < 0.5:
                result[name] = node
            elif what < 0.75:
                result[name] = self.change(node)
            elif what < 0.9:
                moved.append(node)
        for node in moved:  # renamed, perhaps with a change
            name = r.choice(NAMES)
            if name not in result and not (name in tree and tree[name] is not node):
                result[name] = self.change(node) if r.random() < 0.5 else node
        for name in r.sample(NAMES, r.randrange(0, 3)):
            if name not in result:
                result[name] = self.leaf()
        return result


def has_leaf(tree):
    return any(has_leaf(node) if isinstance(node, dict) else True for node in tree.values())


def write(root, tree):
    root = os.fsencode(root)
    os.makedirs(root, exist_ok=True)
    for name, node in tree.items():
        path = os.path.join(root, name.encode())
        if isinstance(node, dict):
            if has_leaf(node):
                write(path, node)
        elif node[0] == "l":
            os.symlink(node[1].encode(), path)
        else:
            with open(path, "wb") as file:
                file.write(node[2])
            os.chmod(path, node[1])


def look(root):
    found = {}
    for directory, names, files in os.walk(os.fsencode(root)):
        for name in names + files:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, os.fsencode(root))
            if os.path.islink(path):
                found[relative] = ("l", os.readlink(path))
            elif not os.path.isdir(path):
                with open(path, "rb") as file:
                    found[relative] = ("f", bool(os.stat(path).st_mode & 0o100), file.read())
    return found


def apply(patch, directory):
    words = ["git", "-c", "core.fileMode=true", "apply", "--whitespace=nowarn"]
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(directory.parent)}
    return subprocess.run([*words, "-"], input=patch, cwd=directory, capture_output=True,
                          env=environment)
