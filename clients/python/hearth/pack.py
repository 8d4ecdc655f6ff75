"""Directories and tar files, both ways."""

from __future__ import annotations

import fnmatch
import os
import pathlib
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterable
from typing import IO, Any

from .errors import HearthError

def open_archive(source: str | os.PathLike[str], exclude: Iterable[str] = ()) -> IO[bytes]:
    """source as a tar to be sent: a directory is packed, a file is one already."""
    path = pathlib.Path(source)
    return pack_directory(path, exclude) if path.is_dir() else path.open("rb")


def pack_directory(directory: str | os.PathLike[str], exclude: Iterable[str] = ()) -> IO[bytes]:
    """An open temporary file with the directory's content as a tar. Symlinks, hard links and
    permissions are kept; owners are not. A pattern of `exclude` with a slash is held against the
    path below the directory, one without against each name."""
    directory = pathlib.Path(directory)
    patterns = list(exclude)
    if not directory.is_dir():
        raise NotADirectoryError(str(directory))

    def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = member.name.rsplit("/", 1)[-1]
        if any(fnmatch.fnmatchcase(member.name if "/" in pattern else name, pattern)
               for pattern in patterns):
            return None
        if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode &= 0o777
        return member

    file = tempfile.TemporaryFile()
    try:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for child in sorted(directory.iterdir()):
                archive.add(child, arcname=child.name, filter=keep)
        file.seek(0)
        return file
    except BaseException:
        file.close()
        raise


class Unpacker:
    """Takes an export's tar apart below one directory that it makes itself, so that nothing which was
    there before can be followed or overwritten. Whatever the guest called its files, nothing is
    written outside: a member that would be is an error, and what was unpacked is removed."""

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self.output = pathlib.Path(output)
        self.entry_count = self.bytes_written = 0
        self._alone = False
        if os.path.lexists(self.output):
            raise FileExistsError(f"{self.output} is there already: nothing is overwritten")
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self._work = pathlib.Path(tempfile.mkdtemp(prefix=".hearth-", dir=self.output.parent))

    def unpack(self, stream: Any) -> str:
        """stream: the tar, readable. The output is there, whole, when this returns. Gives what it is:
        "file", "directory" or "symlink"."""
        try:
            directories: list[tuple[pathlib.Path, tarfile.TarInfo]] = []
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    self._take(archive, member, directories)
            for path, member in reversed(directories):
                os.chmod(path, member.mode & 0o777)
                os.utime(path, (member.mtime, member.mtime))
            return self._move()
        except tarfile.TarError as error:
            raise HearthError(f"the export is no tar: {error}") from error
        finally:
            shutil.rmtree(self._work, ignore_errors=True)

    def _move(self) -> str:
        tree = self._work / "tree"
        if not os.path.lexists(tree):
            raise HearthError("the export holds nothing")
        kind = "symlink" if tree.is_symlink() else "directory" if tree.is_dir() else "file"
        os.rename(tree, self.output)
        return kind

    def _place(self, name: str) -> pathlib.Path:
        """Where a member goes; its parents are real directories of ours."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise HearthError(f"the export holds a name that leads out of it: {name!r}")
        path = self._work / "tree"
        for part in parts:
            if not os.path.lexists(path):
                path.mkdir(mode=0o700)
            elif not stat.S_ISDIR(path.lstat().st_mode):
                raise HearthError(f"the export holds a name behind a link: {name!r}")
            path = path / part
        return path

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo,
              directories: list[tuple[pathlib.Path, tarfile.TarInfo]]) -> None:
        # A tree begins with its root, a directory; a file or symlink that was asked for comes alone.
        if self._alone or (self.entry_count == 0 and not member.isdir()):
            if self._alone:
                raise HearthError(f"the export holds more than was asked for: {member.name!r}")
            self._alone = True
            path = self._work / "tree"
        else:
            path = self._place(member.name)
        self.entry_count += 1
        if member.isdir():
            if not os.path.lexists(path):
                path.mkdir(mode=0o700)
            elif not stat.S_ISDIR(path.lstat().st_mode):  # Its mode and time would be set on what a link leads to.
                raise HearthError(f"the export holds a directory in the place of something else: {member.name!r}")
            directories.append((path, member))
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            os.link(self._place(member.linkname), path, follow_symlinks=False)
        elif member.isfile():
            source = archive.extractfile(member)
            assert source is not None
            with open(path, "xb") as file:
                shutil.copyfileobj(source, file)
            os.chmod(path, member.mode & 0o777)
            os.utime(path, (member.mtime, member.mtime))
            self.bytes_written += member.size
        else:
            raise HearthError(f"the export holds what is neither file, directory nor link: {member.name!r}")


def copy_sparse(source: Any, file: IO[bytes], block: int = 64 * 1024) -> int:
    """Copies to its end, blocks of zeros as holes. Gives the size."""
    size = 0
    while piece := source.read(block):
        if piece.count(0) == len(piece):
            file.seek(len(piece), os.SEEK_CUR)
        else:
            file.write(piece)
        size += len(piece)
    file.truncate(size)
    return size
