"""Events: every change is told once, in order, to those who follow and to those who ask later."""

import contextlib
import json
import pathlib
import re
import sqlite3
import subprocess
import threading
import time

import pytest

ENVIRONMENT = "debian:12"


class Stream:
    """Server-sent events on a connection of its own, as a browser's EventSource reads them."""

    def __init__(self, client, query="", **headers):
        self.connection = client.connect()
        token = {"Authorization": f"Bearer {client.token}"} if client.token else {}
        self.connection.request("GET", f"/v1/events{query}",
                                headers={"Accept": "text/event-stream", **token, **headers})
        self.response = self.connection.getresponse()
        self.comments = self.retries = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def next(self):
        """The next event as (id, kind, data); None at the stream's end."""
        fields = {}
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            if line.startswith(":"):
                self.comments += 1
            elif line.startswith("retry:"):
                self.retries += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                return int(fields["id"]), fields["event"], json.loads(fields["data"])
        return None

    def until(self, kind):
        """Events up to the first of this kind."""
        seen = []
        while True:
            seen.append(self.next())
            assert seen[-1], "the stream ended"
            if seen[-1][1] == kind:
                return seen


def create(client, **arguments):
    return client.post("/v1/workspaces", {"environment": ENVIRONMENT, **arguments})["workspace_id"]


def events(client, **query):
    return client.get("/v1/events", **query)


def kinds(page):
    return [event["kind"] for event in page["events"]]


@pytest.fixture(scope="module")
def told(images):
    """A daemon of this file's own, whose tenants have few events."""
    from harness.daemon import running
    with running(images, event_heartbeat_ms=100) as hearthd:
        yield hearthd


@pytest.fixture
def tenant(told, request):
    """A client of a tenant of the test's own."""
    admin = told.unix_client()
    name = request.node.name.replace("_", "-").replace("[", "-").rstrip("]")[-60:].strip("-")
    client = told.client(admin.new_tenant(name))
    yield client
    for row in client.get("/v1/workspaces", limit=1000)["workspaces"]:
        client.delete(f"/v1/workspaces/{row['workspace_id']}")


def test_the_life_of_a_workspace_is_told_in_order(told, tenant):
    workspace = create(tenant, name="told")
    path = f"/v1/workspaces/{workspace}"
    tenant.patch(path, {"labels": {"a": "b"}})
    done = tenant.post(f"{path}/exec", {"command": "exit 3"})
    assert events(tenant, after=2, wait_ms=60000)["count"]  # Recorded off the reply's path.
    tenant.post(f"{path}/stop")
    tenant.post(f"{path}/start")
    tenant.delete(path)
    page = events(tenant, after=5, wait_ms=60000)
    assert page["events"][0]["data"]["reason"] == "requested"
    page = events(tenant)
    assert kinds(page) == ["workspace.created", "workspace.updated", "exec.ended", "workspace.stopped",
                           "workspace.started", "workspace.deleted"]
    assert [event["id"] for event in page["events"]] == [1, 2, 3, 4, 5, 6]
    assert {event["workspace_id"] for event in page["events"]} == {workspace}
    assert page["next_after"] == 6 and page["gaps"] == []
    ended = page["events"][2]["data"]
    assert (ended["exec_id"], ended["exit_code"], ended["state"]) == (done["exec_id"], 3, "exited")
    assert events(tenant, after=6)["events"] == []


def test_a_stream_tells_as_it_happens_and_goes_on_where_it_was(told, tenant):
    create(tenant)
    with Stream(tenant) as stream:
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers.get_all("Cache-Control") == ["no-store"]
        path = f"/v1/workspaces/{create(tenant)}"
        tenant.post(f"{path}/stop")
        seen = stream.until("workspace.stopped")
        assert stream.retries == 1
        assert [kind for _, kind, _ in seen] == ["workspace.created", "workspace.stopped"], "from now on"
        last = seen[-1][0]
    tenant.post(f"{path}/start")
    with Stream(tenant, **{"Last-Event-ID": str(last - 1)}) as again:
        assert [kind for _, kind, _ in again.until("workspace.started")] == [
            "workspace.stopped", "workspace.started"]


def test_a_stream_tells_nothing_of_what_was_answered_before_it(told, tenant):
    path = f"/v1/workspaces/{create(tenant)}"
    with contextlib.closing(sqlite3.connect(told.state_dir / "history.db")) as database:
        database.execute("BEGIN IMMEDIATE")  # Events are written off the reply's path: now after the stream's begin.
        tenant.patch(path, {"name": "before"})
        with Stream(tenant) as stream:
            database.rollback()
            tenant.patch(path, {"name": "after"})
            assert stream.next()[2]["data"]["name"] == "after"


def test_a_page_has_all_that_was_answered_before_it(told, tenant):
    path = f"/v1/workspaces/{create(tenant)}"
    with contextlib.closing(sqlite3.connect(told.state_dir / "history.db")) as database, \
            contextlib.closing(tenant.connect()) as connection:
        database.execute("BEGIN IMMEDIATE")
        tenant.patch(path, {"name": "answered"})
        connection.request("GET", "/v1/events?kind=workspace.updated", headers={"Authorization": f"Bearer {tenant.token}"})
        assert tenant.get(path)["name"] == "answered", "who asks for events holds up nobody else"
        database.rollback()
        assert kinds(json.loads(connection.getresponse().read())) == ["workspace.updated"]


def test_a_quiet_stream_says_that_it_is_alive(tenant):
    with Stream(tenant, "?after=0") as stream:
        for raw in stream.response:
            stream.comments += raw.startswith(b":")
            if stream.comments == 3:
                break


def test_filters(told, tenant):
    one, two = create(tenant), create(tenant)
    tenant.post(f"/v1/workspaces/{one}/exec", {"command": "true"})
    assert events(tenant, after=2, wait_ms=60000)["count"] == 1
    assert events(tenant, kind="exec")["events"][0]["data"]["timed_out"] is False
    assert kinds(events(tenant, kind="exec")) == kinds(events(tenant, kind="exec.ended")) == ["exec.ended"]
    assert kinds(events(tenant, kind=["exec", "workspace.created"], workspace_id=two)) == ["workspace.created"]
    page = events(tenant, kind="workspace", limit=1)
    assert page["count"] == 1 and kinds(events(tenant, kind="workspace", after=page["next_after"])) == [
        "workspace.created"]
    assert events(tenant, kind="exe")["events"] == []


def test_a_page_is_waited_for(told, tenant):
    workspace = create(tenant)
    path = f"/v1/workspaces/{workspace}"
    replies = []
    with tenant.another() as own:
        waiting = threading.Thread(target=lambda: replies.append(
            events(own, after=-1, kind="workspace.stopped", wait_ms=120000)))
        waiting.start()
        while waiting.is_alive():  # One of these comes after it has begun to wait.
            tenant.post(f"{path}/stop")
            tenant.post(f"{path}/start")
        waiting.join()
    assert set(kinds(replies[0])) == {"workspace.stopped"}  # Of several at once, where they were written at once.
    assert events(tenant, kind="nothing", wait_ms=1)["events"] == []


def test_nobody_hears_of_another_tenants(told, tenant):
    admin = told.client()
    newest = events(admin, after=-1)["next_after"]
    create(tenant)
    assert kinds(events(tenant, wait_ms=30000)) == ["workspace.created"]
    assert events(admin, after=newest)["events"] == []


def test_events_outlive_a_kill_and_a_stream_is_taken_up(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    with Stream(client) as stream:
        create(client)
        last = stream.next()[0]
        hearthd.kill9()
        assert stream.next() is None
    hearthd.start()
    client = hearthd.client()
    with Stream(client, **{"Last-Event-ID": str(last)}) as stream:
        create(client)
        assert stream.next()[:2] == (last + 1, "workspace.created")
        hearthd.stop()  # Not held up by a stream that has no end.
        assert stream.next() is None


def test_what_is_pruned_is_told_as_a_gap(hearthd_factory):
    hearthd = hearthd_factory(event_entries=64)
    client = hearthd.client()
    path = f"/v1/workspaces/{create(client)}"
    for number in range(1, 128):
        client.patch(path, {"name": f"n{number}"})
    page = events(client, after=0)
    while not page["gaps"]:  # The pruning is committed with the 128th.
        page = events(client, after=0)
    assert page["gaps"] == [{"first": 1, "last": page["events"][0]["id"] - 1}]
    assert page["events"][0]["id"] == 65
    with Stream(client, "?after=3") as stream:
        assert stream.next() == (64, "gap", {"type": "gap", "first": 4, "last": 64})
        assert stream.next()[0] == 65
    assert hearthd.rows("SELECT count(*) FROM event", database="history")[0][0] <= 64


def resident_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])


def test_a_reader_that_does_not_read_costs_little_and_misses_nothing(hearthd_factory):
    hearthd = hearthd_factory()
    hearthd.stop()
    count = 30000  # Some 8 MB once written as JSON: more than sockets and queues hold.
    with sqlite3.connect(hearthd.state_dir / "history.db") as database:
        database.executemany("INSERT INTO event VALUES ('admin', ?, ?, 'workspace.updated', NULL, ?)",
                             ((number, time.time_ns() // 1000, f"name={number:0>100}\n")
                              for number in range(1, count + 1)))
    hearthd.start()
    client = hearthd.client()
    before = resident_kib(hearthd.pid)
    with Stream(client, "?after=0") as slow:
        path = f"/v1/workspaces/{create(client)}"
        for _ in range(50):
            client.get(path)
        assert resident_kib(hearthd.pid) - before < 5000
        numbers = [slow.next()[0] for _ in range(count + 1)]
    assert numbers == list(range(1, count + 2))


@pytest.mark.parametrize("query, headers, status, code", [
    ("?after=-2", {}, 422, "out_of_range"), ("?wait_ms=x", {}, 422, "bad_type"),
    ("?workspace_id=", {}, 422, "blank_argument"), ("", {"Last-Event-ID": "x"}, 400, "bad_last_event_id"),
])
def test_bad_input_is_refused(client, query, headers, status, code):
    reply = client.request("GET", f"/v1/events{query}", headers={"Accept": "text/event-stream", **headers})
    assert (reply.status, reply.json()["code"]) == (status, code)


def test_the_command_line_prints_and_follows(told, tenant, bin_dir):
    environment = {"HEARTH_URL": told.url, "HEARTH_TOKEN": tenant.token, "PATH": "/usr/bin:/bin"}
    path = f"/v1/workspaces/{create(tenant, name='shown')}"
    listed = subprocess.run([bin_dir / "hearth", "events"], env=environment, capture_output=True, text=True)
    assert listed.returncode == 0 and "workspace.created" in listed.stdout and "name=shown" in listed.stdout
    with subprocess.Popen([bin_dir / "hearth", "events", "-f", "--after", "0", "--json"], env=environment,
                          stdout=subprocess.PIPE, text=True) as following:
        assert json.loads(following.stdout.readline())["kind"] == "workspace.created"
        tenant.post(f"{path}/stop")
        assert json.loads(following.stdout.readline())["kind"] == "workspace.stopped"
        following.terminate()
