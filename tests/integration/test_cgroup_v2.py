"""hearthd on a host whose control groups are of the second version alone: in a machine of hearth's own."""

import io
import pathlib
import re
import shutil
import subprocess
import tarfile

import pytest

from harness import guest_trees
from harness.daemon import BIN

PROGRAMS = ("hearth", "hearth-agent", "hearth-archive", "hearth-disk", "hearth-launch", "hearth-net", "hearthd")

# As a host that is set up: the control groups mounted, the libraries where they belong.
SET_UP = r"""
set -e
cp -n lib/* /usr/lib/x86_64-linux-gnu/ && ldconfig
cp bin/crun bin/busybox /usr/bin/
busybox insmod overlay.ko
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/daemon
echo $$ >/sys/fs/cgroup/daemon/cgroup.procs
mkdir /var/h && cd /var/h
setsid /workspace/bin/hearthd --set state_dir=/var/h/state --set runtime_dir=/run/h --set image_dir=/var/h/images \
    --set qemu=/none --listen 127.0.0.1:0 >out 2>log </dev/null &
i=0; until grep -q ready out; do i=$((i+1)); [ $i -lt 600 ]; sleep 0.2; done
"""


def libraries(program):
    told = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return [path for path in re.findall(r"=> (/\S+)", told) if not re.search(r"/(libc|libm|ld-linux\S*)\.so", path)]


def overlay_module(images):
    """Of the kernel that the machines boot: from the package that it came in."""
    package = max(images.glob("cache/linux-image-*.deb"), key=lambda path: path.stat().st_mtime)
    whole = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        return next(archive.extractfile(member).read() for member in archive if member.name.endswith("/overlay.ko"))


@pytest.fixture
def nested(hearthd_factory, images, tmp_path):
    """What runs `hearth WORDS` in a machine where a hearthd of its own is up."""
    outer = hearthd_factory()
    tree = tmp_path / "tree"
    for place in ("bin", "lib"):
        (tree / place).mkdir(parents=True)
    for program in (*(BIN / name for name in PROGRAMS), shutil.which("busybox"), shutil.which("crun")):
        shutil.copy(program, tree / "bin")
        for library in libraries(program):
            shutil.copy(library, tree / "lib" / pathlib.Path(library).name)
    (tree / "overlay.ko").write_bytes(overlay_module(images))
    (tree / "rootfs.tar").write_bytes(guest_trees.tar(guest_trees.least_root("sh", "cat", "sleep", "sort", "head")))

    def hearth(url, *words):
        done = subprocess.run([BIN / "hearth", *map(str, words)], capture_output=True, text=True, timeout=600,
                              env={"HEARTH_URL": url, "PATH": "/usr/bin:/bin"})
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    url = f"unix://{outer.socket_path}"
    machine = hearth(url, "workspace", "create", "debian:12", "--isolation", "vm", "--mem-mib", 1024, "--seed-path", tree,
                     "--id-only").strip()

    def inside(script):
        return hearth(url, "workspace", "exec", machine, "--timeout", 500, "--", "sh", "-c",
                      f"export PATH=/workspace/bin:$PATH HEARTH_URL=unix:///run/h/hearthd.sock; {script}")

    inside(SET_UP)
    return inside


@pytest.mark.timeout(1200)
def test_limits_hold_by_the_second_version_of_control_groups(nested):
    assert "cgroup v2, root" in nested("hearth doctor")
    nested("hearth env import least /workspace/rootfs.tar")
    workspace = nested("hearth workspace create least --mem-mib 256 --id-only").strip()
    told = nested(f"hearth workspace status {workspace} --json | tr -d ' \\n'")
    assert re.search(r'"limits":{"memory":true,"pids":true,"cpu":true', told), told
    group = nested("find /sys/fs/cgroup -name 'gu_*'").strip()
    assert nested(f"cd {group} && cat memory.max pids.max cpu.max") == f"{256 << 20}\n4096\n100000 100000\n"
    told = nested(f"""hearth workspace exec {workspace} --timeout 300 -- sh -c '
        head -c 600000000 /dev/zero | sort | head -c 1; echo over'""")
    assert told == "over\n"
    nested(f"""hearth workspace exec {workspace} --timeout 100 -- sh -c '
        i=0; while [ $i -lt 5000 ]; do sleep 1000 & i=$((i+1)); done' || :""")
    assert nested(f"hearth workspace exec {workspace} -- sh -c 'echo alive'") == "alive\n"
    assert "oom_kill 0" not in nested(f"cat {group}/memory.events")
    nested(f"hearth workspace delete {workspace}; until [ ! -e {group} ]; do sleep 0.1; done")
