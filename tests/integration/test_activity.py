"""What moves last_activity_at and what does not, as the contract lists it; also over a restart."""

import pytest

BUMP = {
    "exec": lambda ws: ws.exec("true"),
    "file_write": lambda ws: ws.write("a.txt", "x"),
    "update": lambda ws: ws.client.patch(ws.path, {"labels": {"k": "v"}}),
    "stop_and_start": lambda ws: (ws.client.post(f"{ws.path}/stop"), ws.client.post(f"{ws.path}/start")),
}
KEEP = {
    "status": lambda ws: ws.status(),
    "list": lambda ws: ws.client.get("/v1/workspaces"),
    "events": lambda ws: ws.client.get("/v1/events", workspace_id=ws.id),
    "logs": lambda ws: ws.client.get(f"{ws.path}/logs"),
    "file_list": lambda ws: ws.client.get(f"{ws.path}/files"),
    "file_read": lambda ws: ws.read("kept.txt"),
    "file_read_raw": lambda ws: ws.client.request("GET", f"{ws.path}/files/content", query={"path": "kept.txt"},
                                                  headers={"Accept": "application/octet-stream"}),
    "exec_read": lambda ws: ws.client.get(f"{ws.path}/execs/{ws.known_exec}"),
}


@pytest.fixture
def prepared(workspace):
    workspace.write("kept.txt", "kept")
    workspace.known_exec = workspace.exec("true")["exec_id"]
    return workspace


@pytest.mark.parametrize("name", BUMP)
def test_it_moves_with(prepared, name):
    before = prepared.status()["last_activity_at"]
    BUMP[name](prepared)
    after = prepared.status()
    assert after["last_activity_at"] > before
    assert after["expires_at"] == pytest.approx(after["last_activity_at"] + after["ttl_seconds"])


@pytest.mark.parametrize("name", KEEP)
def test_it_stays_with(prepared, name):
    before = prepared.status()["last_activity_at"]
    KEEP[name](prepared)
    assert prepared.status()["last_activity_at"] == before


def test_the_list_is_ordered_by_it(workspace_factory):
    first, second, third = (workspace_factory(labels={"order": "yes"}) for _ in range(3))

    def listed():
        return [row["workspace_id"] for row in first.client.get("/v1/workspaces", label="order=yes")["workspaces"]]

    assert listed() == [third.id, second.id, first.id]
    first.write("x", "x")
    assert listed() == [first.id, third.id, second.id]
    second.client.get(f"{second.path}/files")
    first.read("x")
    assert listed() == [first.id, third.id, second.id]


def test_it_survives_a_restart(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    path = f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': 'debian:12'})['workspace_id']}"
    client.post(f"{path}/exec", {"command": "echo x > f"})
    before = client.get(path)["last_activity_at"]
    client.get(f"{path}/files/content", path="f")
    hearthd.restart()
    client = hearthd.client()
    client.get(f"{path}/files/content", path="f")
    assert client.get(path)["last_activity_at"] == before
