"""An environment's version is what is in it: the same packages give the same one, however they came."""

import os
import subprocess

import pytest

from harness.daemon import BIN

ENVIRONMENT = "debian:12-base"
EPOCH_DAY = "19518"  # 2023-06-10, Debian 12's release


def pull(hearthd, *options):
    """Starts a build and gives it with its progress as readable text."""
    return subprocess.Popen([BIN / "hearth", "env", "pull", *options, ENVIRONMENT], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            env={**os.environ, "HEARTH_URL": f"unix://{hearthd.socket_path}"})


def version(image_dir):
    reference, = (image_dir / "environments").iterdir()
    return dict(line.split(" ", 1) for line in reference.read_text().splitlines())["version"]


@pytest.mark.timeout(900)
def test_a_version_tells_neither_the_day_nor_what_was_downloaded(hearthd_factory, tmp_path):
    tmp_path.chmod(0o755)
    hearthd = hearthd_factory(image_dir=tmp_path)

    # Nothing is there yet; the daemon dies while packages are installed.
    build = pull(hearthd)
    assert any("unpacking" in line for line in build.stdout)
    hearthd.kill9()
    build.communicate()
    assert not list((tmp_path / "environments").iterdir())

    # The next one waits for what is left of that build, and goes on from what it had downloaded.
    hearthd.start()
    build = pull(hearthd)
    assert "done" in build.communicate()[0] and build.returncode == 0
    from_cache = version(tmp_path)
    packages = sorted(path.name for path in (tmp_path / "cache").glob("*.deb"))
    assert packages and not list(tmp_path.glob("building-*"))

    for package in packages:
        (tmp_path / "cache" / package).unlink()
    (tmp_path / "cache").chmod(0o700)
    build = pull(hearthd, "--force")
    assert "done" in build.communicate()[0] and build.returncode == 0
    assert version(tmp_path) == from_cache
    assert [path.name for path in (tmp_path / "versions").iterdir()] == [from_cache]

    # A login shell starts no process of its own.
    tree = tmp_path / "versions" / from_cache / "tree"
    assert "$(" not in (tree / "etc/profile").read_text() and "mesg" not in (tree / "root/.profile").read_text()
    shadow = (tree / "etc/shadow").read_text()
    assert {line.split(":")[2] for line in shadow.splitlines()} == {EPOCH_DAY}
