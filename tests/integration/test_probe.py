"""At its start a daemon tries out what can run guests: on a busy host that is slow, and no reason to do without."""

import os
import pathlib
import shutil
import tempfile

import pytest

SLOW = """#!/bin/sh
[ "$1" != --version ] || sleep 6
exec {} "$@"
"""


@pytest.fixture
def slowly():
    """slowly(program): a script that is it, and takes its time to say its version."""
    with tempfile.TemporaryDirectory(prefix="hearth-", dir="/var/tmp") as directory:  # runtimes see no /tmp
        os.chmod(directory, 0o755)

        def make(program):
            if not (found := shutil.which(program)):
                pytest.skip(f"{program} is not installed")
            script = pathlib.Path(directory, program)
            script.write_text(SLOW.format(found))
            script.chmod(0o755)
            return script

        yield make


def test_what_is_slow_to_say_its_version_is_taken_all_the_same(hearthd_factory, slowly):
    hearthd = hearthd_factory(runtime=slowly("crun"), qemu=slowly("qemu-system-x86_64"))
    told = hearthd.client().get("/readyz", verbose="true")["drivers"]
    assert {driver["name"]: driver["usable"] for driver in told} == {"oci": True, "qemu": True}, told
