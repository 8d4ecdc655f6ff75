"""hearth-archive unpack: images of each format become a root directory, in a process that is
confined to it."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import stat
import subprocess
import tarfile

import pytest

from harness.daemon import BIN

PROGRAM = BIN / "hearth-archive"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "unknown")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files get owners")


def member(name, kind=tarfile.REGTYPE, content=b"", target="", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def directory(name, **fields):
    return member(name, tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name, target):
    return member(name, tarfile.SYMTYPE, target=target)


def hard_link(name, target):
    return member(name, tarfile.LNKTYPE, target=target)


def tar(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


BASE = (directory("usr"), directory("usr/bin"), symlink("bin", "usr/bin"),
        member("usr/bin/sh", content=b"#!", mode=0o755))


class Tree:
    """A directory, and what is unpacked into it."""

    def __init__(self, tmp_path):
        self.root = tmp_path / "tree"
        self.root.mkdir()
        self.scratch = tmp_path

    def unpack(self, format, source):
        """The verdict. source: bytes, or a path."""
        if isinstance(source, bytes):
            path = self.scratch / "image"
            path.write_bytes(source)
            source = path
        fd = os.open(source, os.O_RDONLY)
        try:
            done = subprocess.run([PROGRAM, "unpack", format, self.root], stdin=fd,
                                  capture_output=True, text=True, timeout=120)
        finally:
            os.close(fd)
        assert done.stderr == ""
        assert done.returncode == (0 if done.stdout.startswith("good ") else 1)
        return done.stdout.rstrip("\n")

    def good(self, format, source):
        verdict = self.unpack(format, source)
        assert verdict.startswith("good "), verdict
        return self

    def refused(self, format, source):
        word, code, detail = self.unpack(format, source).split(" ", 2)
        assert word == "refused"
        return code, detail

    def read(self, path):
        return (self.root / path).read_bytes()

    def names(self, path="."):
        return sorted(os.listdir(self.root / path))


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


# Root file systems

def test_what_every_guest_needs_is_there(tree):
    tree.good("rootfs", tar(*BASE, member("etc/resolv.conf", content=b"nameserver 10.0.0.1"),
                            member("etc/machine-id", content=b"abc"), directory("dev"),
                            member("dev/fake", content=b"x")))
    assert tree.names() == ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr", "workspace"]
    assert tree.read("etc/resolv.conf") == tree.read("etc/machine-id") == b""
    assert tree.names("dev") == []
    assert stat.S_IMODE((tree.root / "workspace").stat().st_mode) == 0o755


def test_owners_modes_times_and_links_are_kept(tree):
    tree.good("rootfs", tar(*BASE, member("su", content=b"s", mode=0o4755, mtime=1000000),
                            member("games", content=b"g", mode=0o2755, uid=5, gid=60),
                            hard_link("su2", "su")))
    status = (tree.root / "su").stat()
    assert stat.S_IMODE(status.st_mode) == 0o4755 and status.st_mtime == 1000000
    assert status.st_nlink == 2 and os.path.samefile(tree.root / "su", tree.root / "su2")
    status = (tree.root / "games").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o2755, 5, 60)


def test_device_nodes_are_left_out_and_no_reason_to_refuse(tree):
    tree.good("rootfs", tar(*BASE, member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
                            member("pipe", tarfile.FIFOTYPE)))
    assert "null" not in tree.names() and "pipe" not in tree.names()


def test_symlinks_lead_nowhere_out_of_the_tree(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    tree.good("rootfs", tar(*BASE, symlink("up", "../" * 40 + str(outside)),
                            symlink("absolute", str(outside)),
                            directory(str(outside)[1:]),
                            member("up/x", content=b"1"), member("absolute/y", content=b"2")))
    assert list(outside.iterdir()) == []
    inside = tree.root / str(outside)[1:]
    assert sorted(p.name for p in inside.iterdir()) == ["x", "y"]


@pytest.mark.parametrize("name", ["../x", "a/../../x"])
def test_members_that_climb_are_refused(tree, name):
    assert tree.refused("rootfs", tar(*BASE, member(name)))[0] == "archive_parent_name"


def test_absolute_members_are_refused(tree):
    assert tree.refused("rootfs", tar(*BASE, member("/x")))[0] == "archive_absolute_name"


def test_a_hard_link_to_the_host_is_none(tree):
    code, detail = tree.refused("rootfs", tar(*BASE, hard_link("h", "etc/shadow")))
    assert code == "archive_bad_image" and "h cannot be made" in detail


def test_a_tree_without_a_shell_is_refused(tree):
    code, detail = tree.refused("rootfs", tar(member("readme", content=b"x")))
    assert code == "archive_bad_image" and "/bin/sh" in detail


def test_a_later_member_takes_the_place_of_an_earlier_one(tree):
    tree.good("rootfs", tar(*BASE, member("a", content=b"1"), directory("a"), member("a/b"),
                            member("c/d"), member("c", content=b"2")))
    assert tree.names("a") == ["b"] and tree.read("c") == b"2"


# Images

def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def oci(*layers, platforms=None, tamper=None):
    """{name: content} of an OCI layout."""
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(data):
        files["blobs/sha256/" + digest(data)[7:]] = data
        return {"digest": digest(data), "size": len(data)}

    manifest = {"schemaVersion": 2, "config": blob(b"{}"),
                "layers": [blob(layer) for layer in layers]}
    described = {**blob(json.dumps(manifest).encode()),
                 "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    manifests = [described]
    if platforms:
        manifests = [{**described, "platform": {"os": "linux", "architecture": name}}
                     if name == ARCHITECTURE else
                     {"digest": digest(b""), "size": 0,
                      "platform": {"os": "linux", "architecture": name}}
                     for name in platforms]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    if tamper:
        tamper(files)
    return files


def docker(*layers, **changes):
    config = json.dumps({"rootfs": {"type": "layers",
                                    "diff_ids": [digest(layer) for layer in layers]}}).encode()
    files = {f"{i}/layer.tar": layer for i, layer in enumerate(layers)}
    files["config.json"] = config
    files["manifest.json"] = json.dumps([{"Config": "config.json",
                                          "Layers": [f"{i}/layer.tar"
                                                     for i in range(len(layers))]}]).encode()
    files.update(changes)
    return files


def as_tar(files):
    return tar(*[member(name, content=content) for name, content in files.items()])


def as_directory(files, path):
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


LAYERS = (tar(*BASE, member("etc/old", content=b"old"), member("etc/kept", content=b"kept"),
              member("d/lower", content=b"l"), member("e/f/lower", content=b"l")),
          tar(member("etc/.wh.old"), member("bin/tool", content=b"a tool", mode=0o755),
              member("d/.wh..wh..opq"), member("d/upper", content=b"u"),
              member("e/.wh.f"), member(".wh..wh.plnk/1", content=b"")))


def check_layers(tree):
    assert tree.names("etc") == ["kept", "machine-id", "resolv.conf"]
    assert tree.names("usr/bin") == ["sh", "tool"]  # by way of bin, a symlink
    assert tree.names("d") == ["upper"]
    assert tree.names("e") == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_oci_layout_in_a_directory(tree, tmp_path, pack):
    path = as_directory(oci(*map(pack, LAYERS)), tmp_path / "layout")
    check_layers(tree.good("oci", path))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_oci_layout_in_a_tar(tree, pack):
    check_layers(tree.good("oci", pack(as_tar(oci(*LAYERS)))))


def test_the_manifest_for_this_machine_is_taken(tree):
    platforms = ["s390x", ARCHITECTURE, "riscv64"]
    check_layers(tree.good("oci", as_tar(oci(*LAYERS, platforms=platforms))))


def test_an_image_for_other_machines_is_refused(tree):
    files = as_tar(oci(*LAYERS, platforms=["s390x", "riscv64"]))
    assert "no single image" in tree.refused("oci", files)[1]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_docker_archive(tree, pack):
    check_layers(tree.good("docker", pack(as_tar(docker(*LAYERS)))))


def test_a_layer_that_is_not_what_its_digest_says_is_refused(tree):
    def tamper(files):
        name = "blobs/sha256/" + digest(LAYERS[1])[7:]
        files[name] = files[name].replace(b"a tool", b"a toad")

    code, detail = tree.refused("oci", as_tar(oci(*LAYERS, tamper=tamper)))
    assert code == "archive_bad_image" and "digest" in detail


def test_a_docker_layer_that_is_not_what_its_digest_says_is_refused(tree):
    files = as_tar(docker(*LAYERS, **{"1/layer.tar": tar(member("evil"))}))
    assert "digest" in tree.refused("docker", files)[1]


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(tree):
    def tamper(files):
        for name, content in files.items():
            if b'"layers"' in content:
                files[name] = content + b" "

    assert "digest" in tree.refused("oci", as_tar(oci(*LAYERS, tamper=tamper)))[1]


def test_names_of_blobs_lead_nowhere_out_of_the_layout(tree, tmp_path):
    (tmp_path / "secret").write_bytes(LAYERS[0])
    path = as_directory(oci(*LAYERS), tmp_path / "layout")
    blob = path / "blobs/sha256" / digest(LAYERS[0])[7:]
    blob.unlink()
    blob.symlink_to(tmp_path / "secret")
    assert "missing" in tree.refused("oci", path)[1]


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", b'{"manifests":[]}', b'{"manifests":{}}',
                                   b'{"manifests":[{"digest":"sha256:../../x"}]}',
                                   b'{"manifests":[{"digest":5}]}', b"[" * 2000])
def test_an_index_that_makes_no_sense_is_refused(tree, index):
    files = {**oci(*LAYERS), "index.json": index}
    assert tree.refused("oci", as_tar(files))[0] == "archive_bad_image"


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b"[{}]", b'[{"Config":"../config.json"}]',
                                      b'[{"Config":"config.json","Layers":[]}]',
                                      b'[{"Config":"config.json","Layers":["0/layer.tar"]}]',
                                      b'[{"Config":"config.json","Layers":[1,2]}]'])
def test_a_docker_manifest_that_makes_no_sense_is_refused(tree, manifest):
    files = as_tar(docker(*LAYERS, **{"manifest.json": manifest}))
    assert tree.refused("docker", files)[0] == "archive_bad_image"


def test_a_whiteout_that_hides_the_parent_is_refused(tree):
    assert "hides nothing" in tree.refused("oci", as_tar(oci(LAYERS[0], tar(member(".wh...")))))[1]


def test_a_truncated_layer_is_refused(tree):
    assert tree.refused("oci", as_tar(oci(LAYERS[0][:2000])))[0] == "archive_truncated"


def test_only_the_tree_is_written_to(tree, tmp_path):
    before = {p for p in tmp_path.rglob("*") if tree.root not in p.parents}
    tree.good("rootfs", tar(*BASE))
    after = {p for p in tmp_path.rglob("*") if tree.root not in p.parents}
    assert after - before == {pathlib.Path(tmp_path / "image")}
