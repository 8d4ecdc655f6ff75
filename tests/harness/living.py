"""What lies below a directory that somebody changes while it is looked at: what goes meanwhile is left out. Path.glob and
Path.rglob fail where a directory is gone before they list it; os.walk and glob.glob do not."""

import glob
import os
import pathlib
import stat


def open_files(*directories):
    """Path and open file of each regular one below them: what it holds is there to be read though its name may go."""
    for path in _paths(directories):
        try:
            file = path.open("rb") if stat.S_ISREG(path.lstat().st_mode) else None
        except FileNotFoundError:
            continue
        if file:
            with file:
                yield path, file


def sockets(directory):
    return [path for path in _paths([directory]) if path.is_socket()]


def matching(directory, pattern):
    return [pathlib.Path(directory, found) for found in glob.glob(pattern, root_dir=directory, recursive=True)]


def _paths(directories):
    for directory in directories:
        for place, _, names in os.walk(directory):
            yield from (pathlib.Path(place, name) for name in names)
