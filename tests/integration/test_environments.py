"""Environments over the API and between daemons: what they hold, who needs them, and that the one
for builds builds."""

import io
import os
import shutil
import subprocess
import tarfile
import time

import pytest

from harness import images as harness_images
from harness.daemon import BIN


@pytest.fixture
def image_dir(tmp_path):
    """A directory of one's own."""
    made = tmp_path / "images"
    made.mkdir(mode=0o755)
    return made


def root_archive(path, note):
    """A root file system that starts: a shell that is static, and what tells two of them apart."""
    with tarfile.open(path, "w") as tar:
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "run", "workspace", "root", "usr"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        tar.add(shutil.which("busybox"), "bin/sh")
        member = tarfile.TarInfo("etc/note")
        member.size = len(note)
        tar.addfile(member, io.BytesIO(note))
    return str(path)


def import_as(client, name, path):
    return client.post(f"/v1/environments/{name}/import", {"path": path, "format": "rootfs-tar"})["version"]


def test_what_is_installed_is_told_in_pages(client):
    whole = client.get("/v1/environments/debian:12", limit=1000)
    packages = whole["packages"]
    assert whole["package_count"] == len(packages) > 100 and whole["next_cursor"] is None
    assert [p["name"] for p in packages] == sorted(p["name"] for p in packages)
    assert {"git", "python3", "ca-certificates"} <= {p["name"] for p in packages}
    assert next(p for p in packages if p["name"] == "base-files")["version"].startswith("12.")

    pages, cursor = [], None
    while True:
        query = {"limit": 40} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/environments/debian:12", **query)
        assert page["package_count"] == len(packages)
        pages += page["packages"]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert pages == packages


def test_a_cursor_that_is_none_is_refused(client):
    reply = client.request("GET", "/v1/environments/debian:12", query={"cursor": "nonsense"})
    assert reply.status == 422 and reply.json()["code"] == "bad_cursor"


def test_the_command_shows_the_packages(daemon):
    done = subprocess.run([BIN / "hearth", "env", "inspect", "debian:12"], text=True,
                          capture_output=True, timeout=60,
                          env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}"})
    assert done.returncode == 0, done.stderr
    assert "PACKAGE" in done.stdout and "\nbase-files " in done.stdout


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("busybox"),
                    reason="an imported root needs root and a static shell")
def test_prune_spares_what_another_daemon_needs(hearthd_factory, image_dir, tmp_path):
    one, other = hearthd_factory(image_dir=image_dir), hearthd_factory(image_dir=image_dir)
    with one.unix_client() as client:
        first = import_as(client, "mine:1", root_archive(tmp_path / "first.tar", b"first"))
        workspace = client.post("/v1/workspaces", {"environment": "mine:1"})["workspace_id"]
        second = import_as(client, "mine:1", root_archive(tmp_path / "second.tar", b"second"))
    assert first != second

    def prune():
        with other.unix_client() as client:
            removed = client.post("/v1/environments/prune")["removed"]
        return removed, {path.name for path in (image_dir / "versions").iterdir()}

    assert prune() == (0, {first, second})
    one.kill9()
    assert prune() == (0, {first, second})
    one.start()
    with one.unix_client() as client:
        reply = client.post(f"/v1/workspaces/{workspace}/exec", {"command": "cat /etc/note"})
        assert reply["stdout"] == "first"
    one.stop()
    assert prune() == (0, {first, second})
    one.start()
    with one.unix_client() as client:
        client.delete(f"/v1/workspaces/{workspace}")
        # The answer comes before the last of the guest is taken away, which needs its root.
        deadline = time.monotonic() + 60
        while not client.post("/v1/environments/prune")["removed"]:
            assert time.monotonic() < deadline
    assert prune() == (0, {second})


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("busybox"),
                    reason="an imported root needs root and a static shell")
def test_what_a_state_directory_that_is_gone_needed_is_pruned(hearthd_factory, image_dir, tmp_path):
    one, other = hearthd_factory(image_dir=image_dir), hearthd_factory(image_dir=image_dir)
    with one.unix_client() as client:
        import_as(client, "mine:1", root_archive(tmp_path / "first.tar", b"first"))
        client.post("/v1/workspaces", {"environment": "mine:1"})
        import_as(client, "mine:1", root_archive(tmp_path / "second.tar", b"second"))
    one.destroy()
    with other.unix_client() as client:
        assert client.post("/v1/environments/prune")["removed"] == 1


def test_the_environment_for_builds_builds(images, hearthd_factory):
    """Pulled once into the shared directory, by `make stress` or with HEARTH_TEST_PULL=1: it is
    some 300 MB of packages, which `make check` does not ask of every machine."""
    hearthd = hearthd_factory()
    with hearthd.unix_client() as client:
        built = client.get("/v1/environments/debian:12-build")["built"]
        if not built and not os.environ.get("HEARTH_TEST_PULL"):
            pytest.skip("debian:12-build is not in the shared image directory")
        harness_images.ensure(images, "debian:12-build")
        workspace = client.post("/v1/workspaces", {"environment": "debian:12-build"})["workspace_id"]
        client.request("PUT", f"/v1/workspaces/{workspace}/files/content", {
            "path": "main.c", "text": '#include <stdio.h>\nint main(void) { puts("made"); }\n'})
        client.request("PUT", f"/v1/workspaces/{workspace}/files/content", {
            "path": "Makefile", "text": "main: main.c\n\tcc -Wall -o main main.c\n"})
        done = client.post(f"/v1/workspaces/{workspace}/exec", {
            "timeout_seconds": 300,
            "command": "make -s && ./main && python3 -m venv v && v/bin/pip --version "
                       "&& g++ --version && pkg-config --version"})
        assert done["exit_code"] == 0, done["stderr"]
        assert done["stdout"].startswith("made\npip ")
        client.delete(f"/v1/workspaces/{workspace}")


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="machines cannot run here")
def test_a_pull_fetches_the_kernel_of_machines_where_they_can_run(hearthd_factory, images, image_dir, tmp_path):
    (image_dir / "cache").mkdir()
    for package in images.glob("cache/linux-image-*.deb"):  # by its name, but not once more over the network
        shutil.copy(package, image_dir / "cache")
    daemon = hearthd_factory(image_dir=image_dir)
    with daemon.client(timeout=600) as client:
        import_as(client, "small:1", root_archive(tmp_path / "root.tar", b"x"))
        assert not (image_dir / "kernels").exists()
        client.post("/v1/environments/small:1/pull", {})
    if "kernel_not_fetched" in daemon.log() and not os.environ.get("HEARTH_TEST_PULL"):
        pytest.skip("no mirror of Debian can be reached")
    digest = (image_dir / "kernels/current").read_text().split()[0]
    assert (image_dir / "kernels" / digest / "tree/vmlinuz").stat().st_size > 1 << 20
    own = hearthd_factory(image_dir=image_dir, kernel=str(image_dir / "kernels" / digest / "tree/vmlinuz"))
    shutil.rmtree(image_dir / "kernels" / digest / "tree/modules")
    os.unlink(image_dir / "kernels/current")
    with own.client(timeout=600) as client:  # a daemon that has a kernel of its own fetches none
        client.post("/v1/environments/small:1/pull", {})
    assert not (image_dir / "kernels/current").exists()
