"""The directory of environments that the tests share, filled once and kept between runs."""

import os
import pathlib
import subprocess
import sys

from .daemon import BIN, Hearthd

ENVIRONMENT = "debian:12"


def directory():
    if named := os.environ.get("HEARTH_TEST_IMAGES"):
        return pathlib.Path(named).resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "hearth" / "images"


def ensure(path, environment=ENVIRONMENT):
    """Builds the environment where it is not there yet, with the progress on stderr."""
    path.mkdir(parents=True, exist_ok=True)
    daemon = Hearthd(path, driver="oci")
    try:
        daemon.start()
        subprocess.run([BIN / "hearth", "env", "pull", environment], check=True,
                       env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}"})
    finally:
        daemon.destroy()


def main():
    ensure(directory())


if __name__ == "__main__":
    sys.exit(main())
