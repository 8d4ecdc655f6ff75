"""Paths of the daemon's host in requests over REST: below the tenant's host_roots, and no further."""

import io
import os
import tarfile

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
