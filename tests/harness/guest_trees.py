"""Trees for tests: directories made from a table, packed as a tar, and looked at in a guest."""

import io
import json
import os
import pathlib
import shutil
import tarfile

# In a guest: everything below /workspace, as {path: [type, mode, mtime_ns, content or target]}.
LOOK = r"""python3 - <<'END'
import base64, hashlib, json, os, stat
found = {}
for directory, names, files in os.walk(b"/workspace"):
    for name in names + files:
        path = os.path.join(directory, name)
        info = os.lstat(path)
        kind = stat.S_IFMT(info.st_mode)
        content = (os.readlink(path).decode("latin-1") if stat.S_ISLNK(kind) else
                   hashlib.sha256(open(path, "rb").read()).hexdigest() if stat.S_ISREG(kind) else "")
        found[path[11:].decode("latin-1")] = [
            {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l"}.get(kind, "?"),
            stat.S_IMODE(info.st_mode), info.st_mtime_ns, content,
            sorted([info.st_uid, info.st_gid]), info.st_nlink if stat.S_ISREG(kind) else 0]
print(json.dumps(found))
END"""


def look(workspace):
    """What is in the workspace, as a guest's own program sees it."""
    done = workspace.exec(LOOK, timeout_seconds=60)
    assert done["exit_code"] == 0, done["stderr"]
    return json.loads(done["stdout"])


def tar(entries):
    """A tar of {name: bytes | (mode, bytes) | "-> target" | None for a directory}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, what in entries.items():
            info = tarfile.TarInfo(name)
            info.mtime = 1_700_000_000
            mode, content = what if isinstance(what, tuple) else (0o644, what)
            info.mode = mode
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str) and content.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, content[3:]
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.LNKTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return out.getvalue()


def least_root(*names):
    """The entries of the least that a guest is made of: busybox, which is static, and by these names."""
    busybox = pathlib.Path(shutil.which("busybox")).read_bytes()
    return {"bin": None, "bin/busybox": (0o755, busybox), **{f"bin/{name}": "-> busybox" for name in names}}


def upload(client, entries):
    """The ID of an upload of the tree."""
    return client.post("/v1/uploads", body=tar(entries),
                       headers={"Content-Type": "application/x-tar"})["upload_id"]


def many(count, size=400):
    """A tree of so many small files in some directories."""
    directories = {f"d{i}": None for i in range((count + 49) // 50)}
    return directories | {f"d{i // 50}/f{i}": (b"%d " % i) * (size // 8) + os.urandom(16)
                          for i in range(count)}
