"""Paths of the daemon's host in requests over REST: below the tenant's host_roots, and no further."""

import hashlib
import io
import os
import subprocess
import tarfile
import time

import pytest

from harness import guest_trees
from harness.images import ENVIRONMENT


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    base = tmp_path_factory.mktemp("host")
    tree = base / "allowed/tree"
    (tree / "sub/empty").mkdir(parents=True)
    (tree / "sub/run").write_bytes(b"#!/bin/sh\n")
    (tree / "sub/run").chmod(0o750)
    (tree / "hard").hardlink_to(tree / "sub/run")
    (tree / "-dash").write_bytes(os.urandom(300000))
    (tree / "leads-out").symlink_to("/etc")
    (base / "allowed/inside").symlink_to("tree/sub")
    (base / "allowed/out").symlink_to("../secret")
    (base / "allowed/absolute").symlink_to("/etc")
    os.mkfifo(base / "allowed/pipe")
    (base / "secret").mkdir()
    (base / "secret/key").write_text("hidden")
    (base / "allowed-not").mkdir()
    with tarfile.open(base / "allowed/tree.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("from-tar")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"tar"))
    return base


@pytest.fixture(scope="module")
def tenant(daemon, roots):
    """A client of a tenant that has one root."""
    with daemon.client() as admin:
        made = admin.post("/v1/tenants", {"name": "rooted", "host_roots": [f"{roots}/allowed/"]})
        assert made["host_roots"] == [f"{roots}/allowed"]
        token = admin.post("/v1/tenants/rooted/tokens", {})["token"]
    with daemon.client(token=token) as made:
        yield made
        for row in made.get("/v1/workspaces")["workspaces"]:
            made.request("DELETE", f"/v1/workspaces/{row['workspace_id']}")


@pytest.fixture(scope="module")
def seeded(tenant, roots):
    from conftest import Workspace
    return Workspace(tenant, seed_path=f"{roots}/allowed/tree")


def test_a_seed_path_below_a_root_is_packed(seeded, roots):
    seed = seeded.created["workspace_seed"]
    assert (seed["mode"], seed["seed_path"], seed["entry_count"]) == ("directory", f"{roots}/allowed/tree", 6)
    assert seeded.exec("stat -c '%a %h' sub/run hard; stat -c %s -- -dash; readlink leads-out; ls sub")["stdout"] == (
        "750 2\n750 2\n300000\n/etc\nempty\nrun\n")


def test_a_source_path_is_pushed_directory_or_tar(seeded, roots):
    for path, entry in (("inside", "run"), ("tree.tar.gz", "from-tar")):
        result = seeded.client.post(f"{seeded.path}/sync", {"source_path": f"{roots}/allowed/{path}", "dest": path})
        assert result["workspace_sync"]["source_path"] == f"{roots}/allowed/{path}"
        assert entry in seeded.exec(f"ls {path}")["stdout"].split()


REFUSED = [
    ("secret", "host_path_forbidden"), ("allowed-not", "host_path_forbidden"), ("", "host_path_forbidden"),
    ("allowed/../secret", "host_path_forbidden"), ("allowed/tree/../../secret", "host_path_forbidden"),
    ("allowed/out", "host_path_forbidden"), ("allowed/out/key", "host_path_forbidden"),
    ("allowed/absolute", "host_path_forbidden"), ("allowed/tree/leads-out/passwd", "host_path_forbidden"),
    ("allowed/absent", "host_path_unreadable"), ("allowed/pipe", "host_path_unreadable"),
    ("allowed/a\nb", "host_path_forbidden"),
]


@pytest.mark.parametrize("path, code", REFUSED)
def test_what_no_root_allows_is_refused_and_nothing_is_changed(seeded, tenant, roots, path, code):
    before, count = guest_trees.look(seeded), tenant.get("/v1/workspaces")["count"]
    for method, target, field in (("POST", f"{seeded.path}/sync", "source_path"), ("POST", "/v1/workspaces", "seed_path")):
        body = {field: f"{roots}/{path}", **({"environment": ENVIRONMENT} if field == "seed_path" else {})}
        reply = tenant.request(method, target, body)
        problem = reply.json()
        assert (reply.status, problem["code"], problem["field"]) == (422, code, f"/{field}"), problem
        assert problem["hint"] and "hidden" not in reply.body.decode()
    assert guest_trees.look(seeded) == before
    assert tenant.get("/v1/workspaces")["count"] == count


# a secret's file_path: what the daemon reads into a secret

@pytest.fixture(scope="module")
def keys(roots):
    path = roots / "allowed/keys"
    path.mkdir(mode=0o700)
    (path / "token").write_text("t0ken-of-a-file\n")
    (path / "pem").write_text("first line of a key\nsecond line of a key\n")
    (path / "longest").write_text("l" * 65536 + "\r\n")
    (path / "longer").write_text("l" * 65537)
    (path / "empty").write_text("\n")
    (path / "binary").write_bytes(b"a\0b")
    (path / "latin").write_bytes(b"caf\xe9")
    (path / "of-root").write_text("hidden")
    (path / "alias").symlink_to("../keys/token")
    (path / "out").symlink_to("../../secret/key")
    os.mkfifo(path / "pipe")
    for each in path.iterdir():
        if not each.is_symlink():
            each.chmod(0o600)
    if os.geteuid() == 0:
        for each in (path, *path.iterdir()):
            if each.name != "of-root":
                os.chown(each, 12345, 12346, follow_symlinks=False)
    return path


def test_a_secret_is_read_from_a_file_below_a_root(tenant, keys):
    from conftest import Workspace
    wanted = {"ALIAS": ("alias", 15), "PEM": ("pem", 41), "LONGEST": ("longest", 65536)}
    secrets = [{"name": name, "file_path": f"{keys}/{file}"} for name, (file, _) in wanted.items()]
    workspace = Workspace(tenant, secrets=[{"name": "GIVEN", "value": "g1ven-by-value"}, *secrets])
    assert workspace.status()["secrets"] == [
        {"name": "GIVEN", "source_kind": "literal"}, *({"name": name, "source_kind": "file"} for name in wanted)]
    for name, (_, size) in wanted.items():
        told = workspace.exec(f"wc -c </run/hearth/secrets/{name}; head -c 100 /run/hearth/secrets/{name}")["stdout"]
        assert told.split()[0] == str(size) and (name == "LONGEST" or "[REDACTED]" in told), told
    assert workspace.exec('test "$T" = t0ken-of-a-file', secret_env={"ALIAS": "T"})["exit_code"] == 0


@pytest.mark.parametrize("path, code", [
    ("secret/key", "host_path_forbidden"), ("allowed/keys/out", "host_path_forbidden"), ("allowed/absolute/passwd", "host_path_forbidden"),
    ("allowed/keys/../../secret/key", "host_path_forbidden"), ("allowed-not/key", "host_path_forbidden"),
    ("allowed/keys/absent", "host_path_unreadable"), ("allowed/absent/token", "host_path_unreadable"),
    ("allowed/keys/pipe", "host_path_unreadable"), ("allowed/keys", "host_path_unreadable"), ("allowed", "host_path_unreadable"),
    ("allowed/keys/token/more", "host_path_unreadable"),
    pytest.param("allowed/keys/of-root", "host_path_unreadable",
                 marks=pytest.mark.skipif(os.geteuid() != 0, reason="every file is its owner's where nobody is root")),
    ("allowed/keys/longer", "bad_secret"), ("allowed/keys/empty", "bad_secret"), ("allowed/keys/binary", "bad_secret"),
    ("allowed/keys/latin", "bad_secret"),
])
def test_a_file_that_is_no_secret_is_refused_and_nothing_is_made(tenant, roots, keys, path, code):
    before = tenant.get("/v1/workspaces")["count"], everything(roots)
    secrets = [{"name": "FINE", "file_path": f"{keys}/token"}, {"name": "BAD", "file_path": f"{roots}/{path}"}]
    body = {"environment": ENVIRONMENT, "secrets": secrets}
    for target in ("/v1/workspaces", "/v1/tools/workspace_create/call"):
        reply = tenant.request("POST", target, body)
        problem = reply.json()
        assert (problem["status"], problem["code"], problem["field"]) == (422, code, "/secrets/1/file_path"), problem
        assert problem["hint"] and b"hidden" not in reply.body and b"t0ken" not in reply.body
    assert (tenant.get("/v1/workspaces")["count"], everything(roots)) == before


# output_path: what the daemon writes

@pytest.fixture(scope="module")
def outputs(roots):
    path = roots / "allowed/outputs"
    path.mkdir()
    (path / "taken").write_text("mine")
    (path / "closed").mkdir(mode=0o555)
    if os.geteuid() == 0:
        for each in (path, path / "closed"):
            os.chown(each, 12345, 12346)
    (path / "out").symlink_to(roots / "secret")
    (path / "dangling").symlink_to("nowhere")
    (path / "inner").mkdir()
    (path / "alias").symlink_to("inner")
    return path


def everything(path):
    return {str(each): (each.lstat().st_mode, each.lstat().st_size, each.lstat().st_mtime_ns) for each in path.rglob("*")}


def export(tenant, workspace, path, output, **query):
    return tenant.request("GET", f"{workspace.path}/export", query={"path": path, "output_path": str(output), **query})


def test_a_tree_is_put_below_a_root(seeded, tenant, roots, outputs):
    before = seeded.status()["last_activity_at"]
    reply = export(tenant, seeded, "/workspace/./sub", outputs / "alias/sub")
    assert reply.status == 200 and reply.json() == {
        "workspace_id": seeded.id, "workspace_path": "/workspace/sub", "output_path": f"{outputs}/alias/sub",
        "artifact_type": "directory", "entry_count": 3, "bytes_written": 10,
        "execution_mode": seeded.created["execution_mode"]}
    assert (outputs / "inner/sub/run").read_bytes() == b"#!/bin/sh\n"
    assert (outputs / "inner/sub/run").stat().st_mode & 0o777 == 0o750 and (outputs / "inner/sub/empty").is_dir()
    called = tenant.post("/v1/tools/workspace_export/call", {
        "workspace_id": seeded.id, "path": ".", "output_path": f"{outputs}/whole/"})
    assert (called["workspace_path"], called["artifact_type"]) == ("/workspace", "directory")
    whole = outputs / "whole"
    assert (whole / "-dash").read_bytes() == (roots / "allowed/tree/-dash").read_bytes()
    assert os.readlink(whole / "leads-out") == "/etc" and (whole / "hard").samefile(whole / "sub/run")
    for path, kind in (("sub/run", "file"), ("leads-out", "symlink")):
        assert export(tenant, seeded, path, outputs / kind).json()["artifact_type"] == kind
    if os.geteuid() == 0:
        assert {(each.lstat().st_uid, each.lstat().st_gid) for each in (whole, whole / "sub/run", outputs / "symlink")} == {(12345, 12346)}
    assert seeded.status()["last_activity_at"] == before


OUTPUTS_REFUSED = [
    ("allowed/outputs/taken", 409, "output_exists"), ("allowed/outputs/dangling", 409, "output_exists"),
    ("allowed/outputs/inner", 409, "output_exists"), ("allowed/outputs/inner/", 409, "output_exists"),
    ("allowed", 409, "output_exists"), ("allowed/outputs/out", 409, "output_exists"),
    ("allowed/outputs/out/new", 422, "host_path_forbidden"), ("allowed/absolute/new", 422, "host_path_forbidden"),
    ("allowed/outputs/../../secret/new", 422, "host_path_forbidden"), ("secret/new", 422, "host_path_forbidden"),
    ("allowed-not/new", 422, "host_path_forbidden"), ("allowed/outputs/absent/new", 422, "host_path_unwritable"),
    ("allowed/outputs/taken/new", 422, "host_path_unwritable"), ("allowed/outputs/closed/new", 422, "host_path_unwritable"),
]


@pytest.mark.parametrize("path, status, code", OUTPUTS_REFUSED)
def test_an_output_path_that_is_refused_writes_nothing(seeded, tenant, roots, outputs, path, status, code):
    before = everything(roots)
    problem = export(tenant, seeded, ".", roots / path).json()
    assert (problem["status"], problem["code"], problem["field"]) == (status, code, "/output_path"), problem
    assert problem["hint"] and everything(roots) == before


def test_what_cannot_be_exported_puts_nothing_there(seeded, tenant, roots, outputs):
    before = everything(roots)
    for path, code in (("absent", "file_not_found"), ("../x", "path_outside_workspace")):
        problem = export(tenant, seeded, path, outputs / "new").json()
        assert (problem["code"], problem["field"]) == (code, "/path")
    assert everything(roots) == before


def test_a_reader_has_nothing_written(daemon, client, seeded, roots, outputs):
    token = client.post("/v1/tenants/rooted/tokens", {"rights": "read-only"})["token"]
    before = everything(roots)
    with daemon.client(token=token) as reader:
        assert reader.request("GET", f"{seeded.path}/export", query={"path": "sub"}).status == 200
        for path in ("export?path=sub&", "disk?"):
            reply = reader.request("GET", f"{seeded.path}/{path}output_path={outputs}/new")
            assert (reply.status, reply.json()["code"]) == (403, "forbidden")
    assert everything(roots) == before


def test_a_large_file_is_put_whole_and_one_that_is_cut_not_at_all(seeded, tenant, outputs):
    seeded.exec("mkdir -p large; head -c 40000000 /dev/urandom > large/file")
    assert export(tenant, seeded, "large", outputs / "large").json()["bytes_written"] == 40000000
    expected = seeded.exec("sha256sum < large/file")["stdout"].split()[0]
    assert hashlib.sha256((outputs / "large/file").read_bytes()).hexdigest() == expected
    connection = tenant.connect()
    connection.request("GET", f"{seeded.path}/export?path=large&output_path={outputs}/cut",
                       headers={"Authorization": f"Bearer {tenant.token}"})
    while not list(outputs.glob(".hearth-export-*")) and not (outputs / "cut").exists():
        time.sleep(0.001)
    connection.close()
    while list(outputs.glob(".hearth-export-*")):
        time.sleep(0.01)
    assert not (outputs / "cut").exists() or (outputs / "cut/file").stat().st_size == 40000000
    seeded.exec("rm -r large")


def test_a_disk_is_put_below_a_root(seeded, tenant, roots, outputs):
    disk = f"{seeded.path}/disk"
    before = everything(roots)
    running = tenant.request("GET", disk, query={"output_path": f"{outputs}/disk"}).json()
    assert (running["code"], running["status"]) == ("workspace_not_stopped", 409)
    tenant.post(f"{seeded.path}/stop")
    for path, code in (("allowed/outputs/taken", "output_exists"), ("secret/x", "host_path_forbidden")):
        problem = tenant.request("GET", disk, query={"output_path": f"{roots}/{path}"}).json()
        assert (problem["code"], problem["field"]) == (code, "/output_path")
    assert everything(roots) == before
    result = tenant.post("/v1/tools/workspace_disk_export/call", {"workspace_id": seeded.id, "output_path": f"{outputs}/disk"})
    image = outputs / "disk"
    assert result == {"workspace_id": seeded.id, "output_path": str(image), "disk_format": "ext4",
                      "bytes_written": image.stat().st_size}
    assert image.stat().st_blocks * 512 < image.stat().st_size
    subprocess.run(["/sbin/e2fsck", "-fn", image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    image.unlink()
    tenant.post(f"{seeded.path}/start")


def test_a_relative_path_is_refused(tenant):
    reply = tenant.request("POST", "/v1/workspaces", {"environment": ENVIRONMENT, "seed_path": "allowed/tree"})
    assert (reply.status, reply.json()["code"]) == (422, "host_path_forbidden")


@pytest.mark.parametrize("bad", [["relative"], ["/a/../b"], ["/a/./b"], ["/a\nb"], [""], ["/x"] * 17])
def test_bad_roots_are_refused(client, bad):
    for method, path, body in (("POST", "/v1/tenants", {"name": "badly-rooted"}), ("PATCH", "/v1/tenants/admin", {})):
        reply = client.request(method, path, {**body, "host_roots": bad})
        assert reply.status == 422 and reply.json()["field"].startswith("/host_roots"), reply
    rows = {row["name"]: row for row in client.get("/v1/tenants")["tenants"]}
    assert "badly-rooted" not in rows and rows["admin"]["host_roots"] == []


def test_roots_are_replaced_and_outlive_the_daemon(hearthd_factory, roots):
    hearthd = hearthd_factory()
    with hearthd.client() as admin:
        assert admin.request("PATCH", "/v1/tenants/absent", {"host_roots": []}).json()["code"] == "tenant_not_found"
        changed = admin.request("PATCH", "/v1/tenants/admin", {"host_roots": [str(roots / "secret"), str(roots / "allowed")]})
        assert changed.json()["host_roots"] == [str(roots / "secret"), str(roots / "allowed")]
    hearthd.kill9()
    hearthd.start()
    with hearthd.client() as admin:
        path = {"environment": ENVIRONMENT, "seed_path": str(roots / "secret")}
        made = admin.post("/v1/workspaces", path)
        assert made["workspace_seed"]["entry_count"] == 1
        admin.request("DELETE", f"/v1/workspaces/{made['workspace_id']}")
        admin.request("PATCH", "/v1/tenants/admin", {"host_roots": []})
        assert admin.request("POST", "/v1/workspaces", path).json()["code"] == "host_path_forbidden"
