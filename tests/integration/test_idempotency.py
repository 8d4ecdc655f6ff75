"""Idempotency-Key over crashes and with raw bodies: one effect, and an answer that is true of it."""

import contextlib
import json
import sqlite3

import pytest

from harness.living import open_files
from harness.waiting import until

ENVIRONMENT = "debian:12"


def keyed(client, method, path, arguments=None, key="the-key", **options):
    headers = {"Idempotency-Key": key, **options.pop("headers", {})}
    return client.request(method, path, arguments, headers=headers, **options)


def settled(client, *request, **options):
    """The answer once recovery, which may go on for a moment after a start, is over."""
    return until(lambda: ((reply := keyed(client, *request, **options)).status != 409
                          or reply.json()["code"] != "idempotency_in_progress") and reply, "for ever in progress")


def crash_and_ask_again(hearthd, point, *request, **options):
    """Sends a keyed request to a daemon that ends at a crash point, starts it again, and sends the
    same request once more."""
    hearthd.stop()
    hearthd.start_with_environment(HEARTHD_CRASH_AT=point)
    with pytest.raises(OSError):
        keyed(hearthd.client(timeout=60), *request, **options)
    assert hearthd.wait() == 137
    hearthd.start()
    return settled(hearthd.client(), *request, **options)


def audited(hearthd, operation):
    """Outcomes in the audit, oldest first, once the last one is that of an end."""
    def outcomes():
        return [row[0] for row in hearthd.rows("SELECT outcome FROM audit WHERE operation = ? ORDER BY sequence", operation)]
    return until(lambda: (rows := outcomes()) and rows[-1] != "begun" and rows, outcomes)


@pytest.fixture
def hearthd(hearthd_factory):
    return hearthd_factory()


@pytest.fixture
def made(hearthd):
    """The path of a workspace on it."""
    client = hearthd.client()
    return f"/v1/workspaces/{client.post('/v1/workspaces', {'environment': ENVIRONMENT})['workspace_id']}"


# One effect, whatever the crash came between.

@pytest.mark.parametrize("point, pool", [
    ("create:boot", 0), ("create:end", 0), ("create:published", 0), ("answer", 0),
    ("create:published", 1), ("answer", 1)])
def test_a_create_is_done_once(hearthd_factory, point, pool):
    hearthd = hearthd_factory(pool=pool)
    if pool:  # Filled for what was asked for last.
        client = hearthd.client()
        first = client.post("/v1/workspaces", {"environment": ENVIRONMENT})["workspace_id"]
        client.delete(f"/v1/workspaces/{first}")
    request = ("POST", "/v1/workspaces", {"environment": ENVIRONMENT, "name": "one"})
    reply = crash_and_ask_again(hearthd, point, *request)
    assert (reply.status, reply.json()["name"], reply.json()["state"]) == (201, "one", "started")
    client = hearthd.client()
    listed = [row["workspace_id"] for row in client.get("/v1/workspaces", name="one")["workspaces"]]
    assert listed == [reply.json()["workspace_id"]]
    again = keyed(client, *request)
    assert again.body == reply.body and again.headers["Idempotency-Replayed"] == "true"


def test_a_command_is_run_once_and_told_of(hearthd, made):
    command = {"command": "echo ran >>runs; cat runs"}
    reply = crash_and_ask_again(hearthd, "answer", "POST", f"{made}/exec", command)
    assert (reply.status, reply.json()["stdout"], reply.json()["exit_code"]) == (200, "ran\n", 0)
    assert hearthd.client().get(f"{made}/files/content", path="runs")["content"] == "ran\n"


def test_a_command_that_runs_over_the_crash_is_waited_for(hearthd, made):
    client = hearthd.client()
    command = {"command": "echo ran >>runs; until [ -e go ]; do sleep 0.05; done; cat runs", "timeout_seconds": 600}
    with contextlib.closing(client.connect()) as connection:
        connection.request("POST", f"{made}/exec", json.dumps({**command, "detach": False, "wait_ms": 600000}), {
            "Authorization": f"Bearer {client.token}", "Content-Type": "application/json", "Idempotency-Key": "the-key"})
        until(lambda: hearthd.rows("SELECT 1 FROM exec", database="history"))  # By its row it is found again.
        hearthd.kill9()
    hearthd.start()
    client = hearthd.client()
    client.put(f"{made}/files/content", {"path": "go", "text": ""})
    reply = settled(client, "POST", f"{made}/exec", {**command, "detach": False, "wait_ms": 600000})
    assert (reply.status, reply.json()["stdout"]) == (200, "ran\n")


def test_a_streamed_command_is_run_once(hearthd, made):
    client = hearthd.client()
    command = {"command": "echo ran >>runs; cat runs", "stream": True}
    lines = list(client.stream("POST", f"{made}/exec", command, headers={"Idempotency-Key": "the-key"}))
    assert lines[-1]["type"] == "exit"
    reply = settled(client, "POST", f"{made}/exec", command)
    assert (reply.status, reply.json()["stdout"]) == (200, "ran\n")


@pytest.mark.parametrize("point", ["delete:tell", "answer"])
def test_a_delete_is_confirmed(hearthd, made, point):
    reply = crash_and_ask_again(hearthd, point, "DELETE", made)
    assert reply.status == 200 and reply.json()["deleted"]
    assert hearthd.client().request("GET", made).status == 404


@pytest.mark.parametrize("verb, state", [("stop", "stopped"), ("start", "started")])
def test_a_stop_and_a_start_are_told_of(hearthd, made, verb, state):
    if verb == "start":
        hearthd.client().post(f"{made}/stop")
    reply = crash_and_ask_again(hearthd, "answer", "POST", f"{made}/{verb}", {})
    assert (reply.status, reply.json()["state"]) == (200, state)
    assert audited(hearthd, f"workspace_{verb}")[-2:] == ["begun", "ok"]


def test_a_token_is_issued_once_and_its_loss_is_said(hearthd):
    request = ("POST", "/v1/tenants/admin/tokens", {"rights": "operate"})
    reply = crash_and_ask_again(hearthd, "answer", *request)
    assert (reply.status, reply.json()["code"], reply.json()["retryable"]) == (
        409, "idempotency_answer_lost", False)
    assert audited(hearthd, "tenant_token_issue") == ["ok"]


def test_a_token_that_is_told_again_is_nowhere_in_clear(hearthd):
    request = ("POST", "/v1/tenants/admin/tokens", {"rights": "operate"})
    issued = keyed(hearthd.client(), *request)
    hearthd.kill9()
    hearthd.start()
    again = keyed(hearthd.client(), *request)
    assert (again.status, again.body) == (201, issued.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    secret = issued.json()["token"].rsplit("_", 1)[1].encode()
    holds = {path.name: secret in file.read() for path, file in open_files(hearthd.state_dir)}
    assert "state.db" in holds and not any(holds.values())
    # What another row holds does not open as this one's.
    hearthd.stop()
    with contextlib.closing(sqlite3.connect(hearthd.state_dir / "state.db")) as state, state:
        state.execute("UPDATE idempotency SET key = 'moved'")
    hearthd.start()
    moved = keyed(hearthd.client(), *request, key="moved")
    assert (moved.status, moved.json()["code"]) == (409, "idempotency_answer_lost")


def test_a_tenant_is_made_once(hearthd):
    reply = crash_and_ask_again(hearthd, "answer", "POST", "/v1/tenants", {"name": "one"})
    assert (reply.status, reply.json()["name"]) == (201, "one")
    assert [row["name"] for row in hearthd.client().get("/v1/tenants")["tenants"]].count("one") == 1


def test_what_was_cut_short_before_anything_was_known_is_not_run_again(hearthd, made):
    command = {"command": "echo ran >>runs"}
    reply = crash_and_ask_again(hearthd, "intent", "POST", f"{made}/exec", command)
    assert (reply.status, reply.json()["code"]) == (409, "idempotency_answer_lost")
    created = crash_and_ask_again(hearthd, "intent", "POST", "/v1/workspaces",
                                  {"environment": ENVIRONMENT}, key="another")
    assert created.status == 201, "its effect and its audit are one commit: there was none"


def test_a_failure_frees_its_key(hearthd, made):
    client = hearthd.client()
    refused = keyed(client, "POST", f"{made}/start", {"colour": "red"})
    assert refused.status == 422
    for _ in range(2):
        absent = keyed(client, "DELETE", "/v1/workspaces/ws_aaaaaaaaaaaaaaaa")
        assert (absent.status, absent.json()["code"]) == (404, "workspace_not_found")
    assert keyed(client, "POST", f"{made}/exec", {"command": "true"}).status == 200


# Raw bodies: the content is what must be the same.

def put(client, path, content, key="the-key"):
    return keyed(client, "PUT", f"{path}/files/content", body=content, key=key, query={"path": "raw"},
                 headers={"Content-Type": "application/octet-stream"})


def test_a_raw_body_is_compared_by_its_content(client, workspace):
    first = put(client, workspace.path, b"a" * 300000, "content-1")
    assert first.status == 200
    other = put(client, workspace.path, b"b" * 300000, "content-1")
    assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
    assert workspace.read("raw")["content"][:1] == "a"
    workspace.write("raw", "changed")
    again = put(client, workspace.path, b"a" * 300000, "content-1")
    assert again.body == first.body and again.headers["Idempotency-Replayed"] == "true"
    assert workspace.read("raw")["content"] == "changed", "answered, not written again"


def test_an_upload_is_kept_once(hearthd):
    tar = bytes(1024 * 20)
    request = {"body": tar, "headers": {"Content-Type": "application/x-tar"}}
    reply = crash_and_ask_again(hearthd, "answer", "POST", "/v1/uploads", **request)
    assert reply.status == 201
    again = settled(hearthd.client(), "POST", "/v1/uploads", **request)
    assert again.body == reply.body
    other = settled(hearthd.client(), "POST", "/v1/uploads", body=bytes(1024 * 10),
                    headers={"Content-Type": "application/x-tar"})
    assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(list((hearthd.state_dir / "uploads").iterdir())) == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_none_is_refused(client, key):
    reply = keyed(client, "POST", "/v1/workspaces", {"environment": ENVIRONMENT}, key=key)
    assert (reply.status, reply.json()["code"]) == (400, "bad_idempotency_key")


def test_every_command_is_audited(client, daemon, workspace):
    done = client.request("POST", f"{workspace.path}/exec", {"command": "true"},
                          headers={"X-Request-Id": "audited-exec"})
    rows = until(lambda: daemon.rows("SELECT token_id, operation, subject_id, outcome FROM audit WHERE request_id = 'audited-exec'"))
    token = daemon.token.split("_")[1]
    assert rows == [(token, "workspace_exec", f"{workspace.id}/{done.json()['exec_id']}", "ok")]
