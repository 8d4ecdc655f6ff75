"""A token that is revoked ends what it has open, at once; what others have open goes on."""

import copy
import http.client
import types

import pytest

from harness.mcp import Http, Stdio, message
from test_mcp_stdio import running, wait_for
from test_port_proxy import Web, read_until
from test_shell_attach import Terminal
from test_shells import Shell


class Tenant:
    """A tenant with a token to be revoked and one that is not."""

    def __init__(self, daemon, admin, name):
        self.daemon, self.admin = daemon, admin
        self.path = f"/v1/tenants/{admin.post('/v1/tenants', {'name': name})['tenant_id']}/tokens"
        self.first, self.other = (admin.post(self.path, {"rights": "operate"}) for _ in range(2))
        self.client, self.bystander = (daemon.client(token=each["token"])
                                       for each in (self.first, self.other))
        self.web = Web(self.bystander)

    def revoke(self):
        self.admin.delete(f"{self.path}/{self.first['token_id']}")
        self.first = self.admin.post(self.path, {"rights": "operate"})
        self.client = self.daemon.client(token=self.first["token"])


@pytest.fixture(scope="module")
def tenant(daemon):
    with daemon.client() as admin:
        made = Tenant(daemon, admin, "revoked")
        yield made
        made.web.workspace.delete()


def rest_of(stream):
    """Reads a stream to its end, however that comes."""
    try:
        return list(stream)
    except (http.client.IncompleteRead, ConnectionResetError):
        return []


def test_a_streamed_command_ends_with_its_token(daemon, tenant):
    workspace = tenant.web.workspace
    call = {"command": "echo began; exec sleep 4715", "stream": True, "timeout_seconds": 4715}
    mine, others = (client.stream("POST", f"{workspace.path}/exec", call)
                    for client in (tenant.client, tenant.bystander))
    next(mine), next(others)
    tenant.revoke()
    rest_of(mine)
    wait_for(lambda: len(running(daemon, workspace.id, "sleep 4715", tenant.bystander)) == 1)
    others.close()


def test_events_end_with_their_token(tenant):
    connection = tenant.client.connect()
    reply = tenant.client._send(connection, "GET", "/v1/events", None, None, None,
                                {"Accept": "text/event-stream"})
    tenant.bystander.patch(tenant.web.workspace.path, {"labels": {"seen": "yes"}})
    assert reply.status == 200 and reply.readline()
    tenant.revoke()
    rest_of(reply)
    connection.close()


def test_mcp_sessions_end_with_their_token(daemon, tenant):
    workspace = tenant.web.workspace
    mcp = Http(tenant.client)
    mcp.client.observe = None
    mcp.initialize()
    with mcp.stream("GET") as events, mcp.stream("POST", message("tools/call", {
            "name": "workspace_exec", "_meta": {"progressToken": 1}, "arguments": {
                "workspace_id": workspace.id, "command": "exec sleep 4716",
                "timeout_seconds": 4716}}, 7)) as calls:
        calls.first(lambda data: data and data["method"] == "notifications/progress")
        tenant.revoke()
        rest_of(events), rest_of(calls)
    wait_for(lambda: not running(daemon, workspace.id, "sleep 4716", tenant.bystander))


def test_mcp_over_stdio_ends_with_its_token(daemon, tenant):
    workspace = tenant.web.workspace
    with Stdio(daemon.url, environment={"HEARTH_TOKEN": tenant.first["token"]}) as stdio:
        stdio.initialize()
        number = stdio.ask("tools/call", {"name": "workspace_exec", "arguments": {
            "workspace_id": workspace.id, "command": "exec sleep 4717"}})
        wait_for(lambda: running(daemon, workspace.id, "sleep 4717", tenant.bystander))
        tenant.revoke()
        assert stdio.answer(number)["result"]["isError"] is True
        assert stdio.process.wait(60) == 1
        assert b"token" in stdio.process.stderr.read()
    wait_for(lambda: not running(daemon, workspace.id, "sleep 4717", tenant.bystander))


def test_an_attached_shell_ends_with_its_token_and_the_shell_goes_on(daemon, tenant):
    shell = Shell(tenant.web.workspace)
    terminal = Terminal(types.SimpleNamespace(url=daemon.url, token=tenant.first["token"]), shell)
    try:
        terminal.until("hearth$ ")
        tenant.revoke()
        assert terminal.ended() != 0
        assert shell.read()["state"] == "running"
    finally:
        terminal.close()
        shell.close()


def test_an_upgraded_port_ends_with_its_token(tenant):
    web = tenant.web
    mine = copy.copy(web)
    mine.client = tenant.client
    upgrade = ["Connection: Upgrade", "Upgrade: mine"]
    with mine.raw("/upgrade", upgrade) as connection, web.raw("/upgrade", upgrade) as others:
        read_until(connection, b"first words;"), read_until(others, b"first words;")
        tenant.revoke()
        while connection.recv(65536):
            pass
        others.sendall(b"goes on.")
        read_until(others, b"goes on.")


def test_a_token_may_revoke_itself_and_is_answered(daemon, tenant):
    made = tenant.admin.post("/v1/tenants/admin/tokens", {"rights": "admin"})
    with daemon.client(token=made["token"]) as client:
        assert client.delete(f"/v1/tenants/admin/tokens/{made['token_id']}")["revoked"] is True
        assert client.request("GET", "/v1/workspaces").status == 401


def test_what_is_open_ends_when_its_token_expires(daemon, tenant):
    workspace = tenant.web.workspace
    short = tenant.admin.post(tenant.path, {"rights": "operate", "expires_in_seconds": 10})
    with daemon.client(token=short["token"]) as client:
        streams = [client.stream("POST", f"{workspace.path}/exec", {
            "command": "echo began; exec sleep 4718", "stream": True, "timeout_seconds": 4718})
            for _ in range(2)]
        for stream in streams:
            next(stream)
        for stream in streams:
            rest_of(stream)
        assert client.request("GET", "/v1/workspaces").status == 401
    wait_for(lambda: not running(daemon, workspace.id, "sleep 4718", tenant.bystander))
    assert tenant.bystander.get(workspace.path)["state"] == "started"
