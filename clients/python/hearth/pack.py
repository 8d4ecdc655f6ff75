"""A directory as a tar file."""

import fnmatch
import pathlib
import tarfile
import tempfile


def pack_directory(directory, exclude=()):
    """An open temporary file with the directory's content as a tar. Symlinks, hard links and
    permissions are kept; owners are not. A pattern of `exclude` with a slash is held against the
    path below the directory, one without against each name."""
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise NotADirectoryError(str(directory))

    def keep(member):
        name = member.name.rsplit("/", 1)[-1]
        if any(fnmatch.fnmatchcase(member.name if "/" in pattern else name, pattern)
               for pattern in exclude):
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
