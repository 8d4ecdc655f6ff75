"""Snapshots and the baseline: what is kept, what it costs, and what is refused."""

import pytest

from harness import guest_trees as trees
from harness.waiting import until

SEED = {
    "README": b"hello\n", "bin/run": (0o755, b"#!/bin/sh\n"), "empty": None,
    "deep/er/f": b"x" * 3_000_000, "link": "-> ../outside", "hard": "README",
    "bytes": bytes(range(256)),
}


@pytest.fixture(scope="module")
def store(images):
    """A daemon whose store nobody else fills."""
    from harness import daemon as harness_daemon
    with harness_daemon.running(images) as hearthd:
        yield hearthd


@pytest.fixture
def client(store):
    """Of a tenant of the test's own: what an earlier one has deleted may yet be given back."""
    with store.client() as admin:
        name = f"of-a-test-{len(admin.get('/v1/tenants')['tenants'])}"
        token = admin.new_tenant(name)
    with store.client(token) as made:
        yield made


def verify(client):
    report = client.post("/v1/store/verify")
    assert report["whole"], report
    return report


def snapshot(workspace, name):
    made = workspace.client.post(f"{workspace.path}/snapshots", {"snapshot_name": name})
    alone = made.pop("snapshot")
    assert made == alone
    return made


def names(workspace):
    return [row["snapshot_name"] for row in
            workspace.client.get(f"{workspace.path}/snapshots")["snapshots"]]


def refusal(reply):
    problem = reply.json()
    return reply.status, problem["code"], problem["field"]


def test_every_workspace_begins_with_a_baseline(client, workspace_factory):
    empty = workspace_factory()
    listed = client.get(f"{empty.path}/snapshots")
    assert listed["count"] == 1 and listed["workspace_id"] == empty.id
    baseline = listed["snapshots"][0]
    assert (baseline["snapshot_name"], baseline["kind"], baseline["deletable"],
            baseline["entry_count"], baseline["bytes_written"]) == (
                "baseline", "baseline", False, 0, 0)
    seeded = workspace_factory(seed_upload=trees.upload(client, SEED))
    baseline = client.get(f"{seeded.path}/snapshots")["snapshots"][0]
    assert baseline["entry_count"] == len(SEED) + 3  # bin, deep, deep/er
    assert baseline["bytes_written"] == 6 + 10 + 3_000_000 + 256


def test_twenty_workspaces_from_one_upload_cost_its_content_once(client, workspace_factory):
    upload = trees.upload(client, trees.many(500))
    workspace_factory(seed_upload=upload)
    before = verify(client)
    for _ in range(4):
        workspace_factory(seed_upload=upload)
    after = verify(client)
    assert after["stored_bytes"] == before["stored_bytes"]


def test_a_snapshot_of_an_unchanged_tree_costs_nothing(client, workspace_factory):
    workspace = workspace_factory(seed_upload=trees.upload(client, trees.many(2000)))
    before = verify(client)
    first = snapshot(workspace, "first")
    assert (first["kind"], first["deletable"], first["entry_count"]) == ("named", True, 2040)
    assert verify(client)["stored_bytes"] == before["stored_bytes"]
    workspace.write("d3/f151", "changed")
    second = snapshot(workspace, "second")
    assert second["entry_count"] == 2040
    assert verify(client)["stored_bytes"] - before["stored_bytes"] < 20_000
    assert names(workspace) == ["baseline", "second", "first"]


def test_what_nobody_holds_any_more_is_given_back(client, workspace_factory):
    workspace = workspace_factory()
    before = verify(client)
    workspace.exec("head -c 5000000 /dev/urandom > big; head -c 300000 /dev/urandom > small")
    snapshot(workspace, "one")
    snapshot(workspace, "two")
    grown = verify(client)
    assert grown["stored_bytes"] - before["stored_bytes"] > 5_300_000
    client.delete(f"{workspace.path}/snapshots/one")
    assert verify(client)["stored_bytes"] == grown["stored_bytes"]
    client.delete(f"{workspace.path}/snapshots/two")
    after = verify(client)
    assert (after["stored_bytes"], after["dead_bytes"]) == (before["stored_bytes"], 0)
    assert names(workspace) == ["baseline"]


def test_a_deleted_workspace_gives_back_all_of_its_snapshots(client, workspace_factory):
    before = verify(client)
    workspace = workspace_factory()
    workspace.exec("head -c 400000 /dev/urandom > f")
    snapshot(workspace, "s")
    workspace.delete()
    until(lambda: verify(client)["blob_count"] == before["blob_count"])


def test_names_are_checked_and_the_baseline_stays(client, workspace_factory):
    workspace = workspace_factory()
    path = f"{workspace.path}/snapshots"
    for name in ("", "a" * 65, ".hidden", "a/b", "a b", "../x", "ä"):
        reply = client.request("POST", path, {"snapshot_name": name})
        assert reply.status == 422 and reply.json()["field"] == "/snapshot_name", name
    assert refusal(client.request("POST", path, {"snapshot_name": "baseline"})) == (
        422, "snapshot_name_reserved", "/snapshot_name")
    assert refusal(client.request("DELETE", f"{path}/baseline")) == (
        409, "snapshot_protected", "/snapshot_name")
    assert refusal(client.request("DELETE", f"{path}/none")) == (404, "snapshot_not_found", "/snapshot_name")
    snapshot(workspace, "A.b_c-9")
    assert refusal(client.request("POST", path, {"snapshot_name": "A.b_c-9"})) == (
        409, "snapshot_exists", "/snapshot_name")
    assert names(workspace) == ["baseline", "A.b_c-9"]


def test_two_at_once_of_one_name_make_one(client, workspace_factory):
    import concurrent.futures
    workspace = workspace_factory()
    workspace.write("f", "x")

    def make(_):
        with client.another() as own:
            return own.request("POST", f"{workspace.path}/snapshots",
                               {"snapshot_name": "same"}).status

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(make, range(4))) == [201, 409, 409, 409]
    assert names(workspace) == ["baseline", "same"]


def test_a_stopped_workspace_keeps_its_snapshots_and_makes_none(client, workspace_factory):
    workspace = workspace_factory()
    workspace.write("f", "x")
    snapshot(workspace, "kept")
    client.post(f"{workspace.path}/stop")
    reply = client.request("POST", f"{workspace.path}/snapshots", {"snapshot_name": "late"})
    assert refusal(reply)[:2] == (409, "workspace_not_started")
    assert names(workspace) == ["baseline", "kept"]


def test_another_tenant_sees_and_shares_nothing(store, workspace_factory):
    admin = store.unix_client()
    with store.client(admin.new_tenant("other")) as other:
        workspace = workspace_factory()
        workspace.write("f", "the same content for both")
        snapshot(workspace, "mine")
        assert other.request("GET", f"{workspace.path}/snapshots").status == 404
        assert other.post("/v1/store/verify")["blob_count"] == 0
        assert other.request("POST", "/v1/store/verify", {"tenant": "admin"}).status == 404
        theirs = workspace_factory(on=other)
        theirs.write("f", "the same content for both")
        snapshot(theirs, "theirs")
        assert other.post("/v1/store/verify")["blob_count"] == 3  # content, page, root
        assert admin.post("/v1/store/verify", {"tenant": "other"})["blob_count"] == 3
        theirs.delete()


def test_quotas_are_kept(hearthd_factory, workspace_factory):
    client = hearthd_factory(max_snapshots=2, max_store_bytes=1 << 20).client()
    workspace = workspace_factory(on=client)
    workspace.exec("head -c 2000000 /dev/urandom > big")
    reply = client.request("POST", f"{workspace.path}/snapshots", {"snapshot_name": "a"})
    assert refusal(reply)[:2] == (429, "quota_store")
    assert verify(client)["blob_count"] == 0
    workspace.exec("rm big; echo small > f")
    for name in ("a", "b"):
        snapshot(workspace, name)
    reply = client.request("POST", f"{workspace.path}/snapshots", {"snapshot_name": "c"})
    assert refusal(reply)[:2] == (429, "quota_snapshots")


@pytest.mark.parametrize("point", ["snapshot:captured", "snapshot:committed", "snapshot:deleted"])
def test_a_kill_at_any_point_leaves_a_whole_store(hearthd_factory, workspace_factory, point):
    hearthd = hearthd_factory()
    client = hearthd.client()
    workspace = workspace_factory(on=client, seed_upload=trees.upload(client, trees.many(50)))
    snapshot(workspace, "kept")
    hearthd.stop()
    hearthd.start_with_environment(HEARTHD_CRASH_AT=point)
    client = workspace.client = hearthd.client()
    workspace.write("new", "new " * 1000)
    with pytest.raises(Exception):
        snapshot(workspace, "new")
        client.delete(f"{workspace.path}/snapshots/new")
    assert hearthd.wait() == 137
    hearthd.start()
    client = workspace.client = hearthd.client()
    expected = {"snapshot:captured": ["baseline", "kept"],
                "snapshot:committed": ["baseline", "new", "kept"],
                "snapshot:deleted": ["baseline", "kept"]}[point]
    assert names(workspace) == expected
    report = verify(client)
    assert report["dead_bytes"] == 0
    # As much as the snapshots that there are need, and no more.
    for name in expected[1:]:
        client.delete(f"{workspace.path}/snapshots/{name}")
    assert workspace.delete().status == 200
    while verify(client)["blob_count"]:
        pass


def test_what_is_known_of_a_tree_survives_a_restart(hearthd_factory, workspace_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    workspace = workspace_factory(on=client, seed_upload=trees.upload(client, trees.many(300)))
    snapshot(workspace, "before")
    size = verify(client)["stored_bytes"]
    hearthd.kill9()
    hearthd.start()
    client = workspace.client = hearthd.client()
    snapshot(workspace, "after")
    assert verify(client)["stored_bytes"] == size


def test_pages_of_snapshots_and_of_services(client, workspace):
    path = f"{workspace.path}/snapshots"
    for name in ("a", "b", "c", "d"):
        client.post(path, {"snapshot_name": name})

    def pages(where, member, key, between):
        names, cursor = [], None
        while True:
            page = client.get(where, limit=2, **({"cursor": cursor} if cursor else {}))
            assert page["count"] == len(page[member]) <= 2
            names += [row[key] for row in page[member]]
            cursor = page["next_cursor"]
            if not cursor:
                return names
            between()

    def change():
        """A row that comes, and one that goes, the cursor's own, between two pages."""
        client.request("DELETE", f"{path}/d")
        client.request("POST", path, {"snapshot_name": "late"})

    assert pages(path, "snapshots", "snapshot_name", lambda: None) == ["baseline", "d", "c", "b", "a"]
    assert pages(path, "snapshots", "snapshot_name", change) == ["baseline", "d", "c", "b", "a"]
    assert client.get(path)["count"] == 5 and client.get(path)["next_cursor"] is None
    for wrong in ("zz", "5", "5.", ".a"):
        reply = client.request("GET", path, query={"cursor": wrong})
        assert (reply.status, reply.json()["code"], reply.json()["field"]) == (422, "bad_cursor", "/cursor")
    services = f"{workspace.path}/services"
    for name in ("x", "y", "z"):
        client.put(f"{services}/{name}", {"command": "sleep 1000"})
    assert client.get(services, limit=1)["running_count"] == 3
    assert pages(services, "services", "service_name", lambda: None) == ["x", "y", "z"]
