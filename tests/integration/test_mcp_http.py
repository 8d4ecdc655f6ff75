"""MCP at /mcp (Streamable HTTP): the rules of both eras, byte by byte."""

import base64
import json
import concurrent.futures
import threading

import pytest

from harness.mcp import META_CAPABILITIES, MODERN, Http, enveloped, hello, message
from test_mcp_stdio import HANDSHAKE, running, wait_for

VERSION = {"MCP-Protocol-Version": "2025-11-25"}


@pytest.fixture(scope="module")
def client(daemon):
    with daemon.client() as made:
        made.observe = None  # /mcp speaks JSON-RPC: /openapi.json does not describe it
        yield made


@pytest.fixture
def anonymous(client):
    """No session yet."""
    return Http(client)


@pytest.fixture
def http(client):
    made = Http(client)
    made.initialize()
    yield made
    made.send("DELETE")


@pytest.fixture(scope="module")
def shared(client):
    made = client.post("/v1/workspaces", {"environment": "debian:12", "name": "mcp-http"})
    yield made["workspace_id"]
    client.delete(f"/v1/workspaces/{made['workspace_id']}")


def exec_of(workspace_id, command, **meta):
    return {"name": "workspace_exec", "arguments": {"workspace_id": workspace_id,
                                                    "command": command},
            **({"_meta": meta} if meta else {})}


# A command that has been told of before it ends: by progress, else there would be no stream.
UNTIL_TOLD = "until [ -e told ]; do sleep 0.1; done; rm told"


def tell(http, workspace_id):
    http.client.put(f"/v1/workspaces/{workspace_id}/files/content", {"path": "told", "text": ""})


def code(reply, status):
    assert reply.status == status, reply
    return reply.json()["error"]["code"]


# Sessions

@pytest.mark.parametrize("version", HANDSHAKE)
def test_a_session_from_its_beginning_to_its_end(anonymous, version):
    reply = anonymous.initialize(version)
    assert reply.json()["result"]["protocolVersion"] == version
    assert len(anonymous.session) >= 20 and all(33 <= ord(char) <= 126
                                                for char in anonymous.session)
    assert anonymous.ask("ping", headers={"MCP-Protocol-Version": version})["result"] == {}
    assert anonymous.ask("tools/list")["result"]["tools"]
    notified = anonymous.post(message("notifications/initialized"))
    assert (notified.status, notified.body) == (202, b"")
    assert anonymous.send("DELETE").status == 204
    assert code(anonymous.post(message("ping", None, 1)), 404) == -32001
    assert anonymous.send("DELETE").status == 404
    assert anonymous.send("GET").status == 404


def test_without_a_session_nothing_is_served(anonymous):
    assert code(anonymous.post(message("tools/list", None, 1)), 400) == -32600
    assert code(anonymous.post(message("notifications/initialized")), 400) == -32600
    assert code(anonymous.send("GET"), 400) == -32600
    assert code(anonymous.send("DELETE"), 400) == -32600
    anonymous.session = "nothere-nothere-nothere"
    assert code(anonymous.post(message("tools/list", None, 1)), 404) == -32001


def test_a_failed_initialize_leaves_no_session(anonymous):
    reply = anonymous.post(message("initialize", {}, 1))
    assert reply.json()["error"]["code"] == -32602
    anonymous.session = reply.headers["Mcp-Session-Id"]
    assert code(anonymous.post(message("ping", None, 1)), 404 if anonymous.session else 400)


def test_a_session_is_its_tokens_alone(http, daemon, client):
    token = client.new_tenant("mcp-other", rights="admin")
    with daemon.client(token=token) as stranger:
        stranger.observe = None
        thief = Http(stranger)
        thief.session = http.session
        assert code(thief.post(message("tools/list", None, 1)), 404) == -32001
        assert thief.send("GET").status == 404
        assert thief.send("DELETE").status == 404
    assert http.ask("ping")["result"] == {}


def test_a_token_is_wanted(daemon, anonymous):
    with daemon.client(token="nonsense") as stranger:
        stranger.observe = None
        reply = Http(stranger).post(message("initialize", hello(), 1))
        assert reply.status == 401 and reply.headers["WWW-Authenticate"].startswith("Bearer")
        for path in ("/.well-known/oauth-protected-resource", "/.well-known/openid-configuration",
                     "/.well-known/oauth-authorization-server/mcp", "/register"):
            assert stranger.request("GET", path).status in (401, 404)
    assert anonymous.client.request("GET", "/.well-known/oauth-protected-resource").status == 404


# What is refused

@pytest.mark.parametrize("body, expected", [
    (b"{", -32700), (b"", -32700), (b"nonsense", -32700), (b"[" * 100000, -32700),
    (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600), (b'"x"', -32600),
    (b'{"jsonrpc":"2.0"}', -32600), (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600)])
def test_what_is_no_message_is_a_bad_request(http, body, expected):
    for headers in (VERSION, {"MCP-Protocol-Version": MODERN}):
        assert code(http.send("POST", raw=body, headers=headers), 400) == expected


@pytest.mark.parametrize("version", ["1999-01-01", "nonsense", "2025-11-25, 2025-06-18"])
def test_an_unknown_version_is_a_bad_request(http, anonymous, version):
    headers = {"MCP-Protocol-Version": version}
    for reply in (http.post(message("tools/list", None, 1), headers),
                  http.post(message("notifications/initialized"), headers),
                  http.send("GET", headers=headers), http.send("DELETE", headers=headers),
                  anonymous.post(message("initialize", hello(), 1), headers)):
        assert code(reply, 400) == -32022
        assert reply.json()["error"]["data"]["supported"] == [MODERN]


@pytest.mark.parametrize("accept, status", [
    ("text/plain", 406), ("application/json", 406), ("text/event-stream", 406),
    ("*/*", 200), (None, 200), ("application/json;charset=utf-8, text/event-stream;q=0.5", 200),
    ("application/*, text/*", 200), ("APPLICATION/JSON,TEXT/EVENT-STREAM", 200)])
def test_what_the_client_accepts(http, accept, status):
    assert http.post(message("ping", None, 1), {"Accept": accept}).status == status


def test_a_body_of_another_type_and_other_methods(http):
    reply = http.client.request("POST", "/mcp", body=b"{}", headers={
        **http.headers(), "Content-Type": "text/plain"})
    assert reply.status == 415
    assert http.client.request("POST", "/mcp", body=json.dumps(message("ping", None, 1)).encode(),
                               headers={**http.headers(), "Content-Type":
                                        "application/json; charset=utf-8"}).status == 200
    for method in ("PUT", "PATCH", "OPTIONS", "HEAD"):
        reply = http.client.request(method, "/mcp", headers=http.headers())
        assert reply.status == 405 and {"GET", "POST", "DELETE"} <= set(
            reply.headers["Allow"].replace(" ", "").split(","))
    assert http.client.request("GET", "/mcp", headers=http.headers(
        {"Accept": "application/json"})).status == 406


def test_a_foreign_origin_and_host_are_refused(http):
    ping = message("ping", None, 1)
    assert http.post(ping, {"Origin": "http://evil.example"}).status == 403
    assert 400 <= http.post(ping, {"Host": "evil.example"}).status < 500
    assert http.post(ping, {"Origin": http.client.url}).status == 200


def test_headers_that_stand_twice_are_refused(http):
    connection = http.client.connect()
    connection.putrequest("POST", "/mcp")
    body = json.dumps(message("ping", None, 1)).encode()
    for name, value in {**http.headers(), "Content-Type": "application/json",
                        "Authorization": f"Bearer {http.client.token}",
                        "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.putheader("Mcp-Session-Id", "another-another-another")
    connection.endheaders(body)
    assert connection.getresponse().status == 400
    connection.close()


def test_the_profile_is_in_the_query(client):
    for profile, tools in (("vm-run", 1), ("workspace-core", None), ("workspace-full", None)):
        http = Http(client, profile)
        http.initialize()
        listed = http.ask("tools/list")["result"]["tools"]
        assert listed == client.get("/v1/tools", profile=profile, format="mcp")["tools"]
        assert tools in (None, len(listed))
        status, answer = http.modern("tools/list", headers={"Mcp-Session-Id": None})
        assert (status, answer["result"]["tools"]) == (200, listed)
    assert Http(client, "everything").post(message("initialize", hello(), 1)).status == 422
    assert client.request("POST", "/mcp?bogus=1", message("ping", None, 1)).status == 422


# Calls

def test_a_call_and_its_failures(http, shared):
    result = http.ask("tools/call", exec_of(shared, "echo hi; exit 3"))["result"]
    assert result["structuredContent"]["exit_code"] == 3
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    failed = http.ask("tools/call", exec_of(shared, 5))["result"]
    assert failed["isError"] is True and "structuredContent" not in failed
    assert http.ask("tools/call", {"name": "nope"})["error"]["code"] == -32602
    assert http.ask("no/such")["error"]["code"] == -32601


def test_host_paths_are_not_the_daemons(http, tmp_path):
    result = http.ask("tools/call", {"name": "workspace_create", "arguments": {
        "environment": "debian:12", "seed_path": str(tmp_path)}})["result"]
    assert json.loads(result["content"][0]["text"])["code"] == "host_path_forbidden"


def test_read_only_tokens_read(daemon, client):
    other = client.post("/v1/tenants", {"name": "mcp-reader"})
    token = client.post(f"/v1/tenants/{other['tenant_id']}/tokens",
                        {"rights": "read-only"})["token"]
    with daemon.client(token=token) as reader:
        reader.observe = None
        http = Http(reader)
        http.initialize()
        call = {"name": "workspace_list", "arguments": {}}
        assert http.ask("tools/call", call)["result"]["isError"] is False
        call = {"name": "workspace_create", "arguments": {"environment": "debian:12"}}
        result = http.ask("tools/call", call)["result"]
        assert json.loads(result["content"][0]["text"])["code"] == "forbidden"


def test_progress_makes_a_stream(http, shared):
    request = message("tools/call", exec_of(shared, f"{UNTIL_TOLD}; echo done", progressToken=7), 1)
    with http.stream("POST", request, VERSION) as events:
        got = []
        for each in events:
            got.append(each)
            if len(got) == 2:
                tell(http, shared)
    assert got[0][1] is None and all(number for number, _ in got)
    assert len({number for number, _ in got}) == len(got)
    values = [data["params"]["progress"] for _, data in got[1:-1]]
    assert values and values == sorted(set(values))
    assert got[-1][1]["result"]["structuredContent"]["stdout"] == "done\n"


def test_an_older_client_gets_no_event_without_data(anonymous, shared):
    anonymous.initialize("2025-06-18")
    request = message("tools/call", exec_of(shared, "sleep 1", progressToken="t"), 1)
    with anonymous.stream("POST", request) as events:
        assert all(data is not None for _, data in events)


def test_large_results_come_as_json_and_fit_an_event_where_they_must(http, shared):
    result = http.ask("tools/call", exec_of(shared, "head -c 900000 /dev/zero | tr '\\0' x"))[
        "result"]
    assert len(result["structuredContent"]["stdout"]) == 900000
    for size, fits in ((400000, True), (800000, False)):
        command = f"head -c {size} /dev/zero | tr '\\0' x | tee /dev/stderr; {UNTIL_TOLD}"
        request = message("tools/call", exec_of(shared, command, progressToken=1), 1)
        with http.stream("POST", request) as events:  # which begins with the first progress
            tell(http, shared)
            *_, (_, last) = events
        assert len(json.dumps(last)) <= 1 << 20
        assert last["result"]["isError"] is not fits
        if fits:
            assert len(last["result"]["structuredContent"]["stdout"]) == size


def test_cancelling_by_notification(http, daemon, shared):
    replies = []
    body = message("tools/call", exec_of(shared, "exec sleep 4721"), "slow")
    other = Http(http.client.another())
    other.session = http.session
    thread = threading.Thread(target=lambda: replies.append(other.post(body)))
    thread.start()
    wait_for(lambda: running(daemon, shared, "sleep 4721"))
    assert http.post(message("notifications/cancelled", {"requestId": "slow"})).status == 202
    wait_for(lambda: not running(daemon, shared, "sleep 4721"))
    thread.join(60)
    assert replies[0].json()["error"]["code"] == -32800
    other.client.close()


def test_hanging_up_before_a_stream_ends_the_command(http, daemon, shared):
    body = message("tools/call", exec_of(shared, "exec sleep 4722"), 1)
    connection = http.client.connect()
    connection.request("POST", "/mcp", json.dumps(body), {
        **http.headers(), "Content-Type": "application/json",
        "Authorization": f"Bearer {http.client.token}"})
    wait_for(lambda: running(daemon, shared, "sleep 4722"))
    connection.close()
    wait_for(lambda: not running(daemon, shared, "sleep 4722"))


def test_the_end_of_a_session_ends_its_commands(anonymous, daemon, shared):
    anonymous.initialize()
    body = message("tools/call", exec_of(shared, "exec sleep 4723", progressToken=1), 1)
    with anonymous.stream("POST", body) as events:
        events.first(lambda data: data is not None)
        assert anonymous.send("DELETE").status == 204
        assert list(events) == []
    wait_for(lambda: not running(daemon, shared, "sleep 4723"))


# Streams that are taken up again

def test_a_broken_stream_goes_on_where_it_was(http, shared):
    request = message("tools/call", exec_of(shared, f"{UNTIL_TOLD}; echo late", progressToken=1), 9)
    with http.stream("POST", request) as events:
        last, _ = events.first(lambda data: data and "params" in data)
    with http.stream("GET", headers={"Last-Event-ID": last}) as events:
        tell(http, shared)
        got = [(number, data) for number, data in events if data]
    assert got[-1][1]["id"] == 9
    assert got[-1][1]["result"]["structuredContent"]["stdout"] == "late\n"
    assert last not in [number for number, _ in got]
    numbers = [int(number.split("-")[1]) for number, _ in got]
    assert numbers == list(range(int(last.split("-")[1]) + 1, numbers[-1] + 1))
    # Once more, now that all is said: the same again.
    with http.stream("GET", headers={"Last-Event-ID": last}) as events:
        assert [(number, data) for number, data in events if data] == got


def test_an_event_that_never_was_is_told(http):
    for last in ("nonsense", "999-1", "1", "-1-1"):
        assert http.send("GET", headers={"Last-Event-ID": last}).status == 400


def test_get_tells_of_changes_and_goes_on_after_a_break(http, shared):
    uri = f"hearth://workspaces/{shared}/files/watched"
    path = f"/v1/workspaces/{shared}/files/content"
    assert http.ask("resources/subscribe", {"uri": uri})["result"] == {}
    with http.stream("GET") as events:
        http.client.put(path, {"path": "watched", "text": "1"})
        last, data = events.first(lambda data: data is not None)
        assert data["params"]["uri"] == uri
    http.client.put(path, {"path": "watched", "text": "two"})
    with http.stream("GET", headers={"Last-Event-ID": last}) as events:
        number, data = events.first(lambda data: data is not None)
        assert data["method"] == "notifications/resources/updated" and number != last
        with http.stream("GET") as newer:  # the newest takes over
            assert list(events) == []
            http.client.put(path, {"path": "watched", "text": "three"})
            newer.first(lambda data: data is not None)


def test_many_sessions_make_room_for_new_ones(client):
    first = Http(client)
    first.initialize()
    for _ in range(130):
        Http(client).initialize()
    assert first.post(message("ping", None, 1)).status == 404


# The modern era

def test_the_modern_era_is_stateless(anonymous, shared):
    status, found = anonymous.modern("server/discover")
    assert status == 200 and found["result"]["supportedVersions"] == [MODERN]
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        status, answer = anonymous.modern(method)
        assert status == 200 and answer["result"]["resultType"] == "complete"
        assert answer["result"]["ttlMs"] >= 0 and answer["result"]["cacheScope"]
    status, answer = anonymous.modern("tools/call", exec_of(shared, "exit 3"))
    assert status == 200 and answer["result"]["structuredContent"]["exit_code"] == 3
    reply = anonymous.post(message("tools/list", enveloped(), 1),
                           {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"})
    assert "Mcp-Session-Id" not in reply.headers


@pytest.mark.parametrize("headers", [
    {"MCP-Protocol-Version": None}, {"MCP-Protocol-Version": "2025-11-25x"},
    {"Mcp-Method": None}, {"Mcp-Method": "tools/list"}, {"Mcp-Name": None},
    {"Mcp-Name": "vm_run"}, {"Mcp-Name": "=?base64?%%%?="}, {"Mcp-Name": "=?base64?dm1fcnVu?="}])
def test_headers_must_say_what_the_body_says(anonymous, headers):
    call = {"name": "workspace_list", "arguments": {}}
    status, answer = anonymous.modern("tools/call", call, headers)
    assert (status, answer["error"]["code"]) == (400, -32020), answer


@pytest.mark.parametrize("name", ["workspace_list", "  workspace_list\t",
                                  "=?base64?" + base64.b64encode(b"workspace_list").decode() + "?="])
def test_headers_are_trimmed_and_decoded(anonymous, name):
    call = {"name": "workspace_list", "arguments": {}}
    status, answer = anonymous.modern("tools/call", call, {"Mcp-Name": name})
    assert status == 200 and answer["result"]["isError"] is False


@pytest.mark.parametrize("params, expected", [
    (None, -32602), ({}, -32602), ({"_meta": {}}, -32602),
    ({"_meta": {META_CAPABILITIES: {}}}, -32602)])
def test_a_missing_envelope_is_an_invalid_parameter(anonymous, params, expected):
    status, answer = anonymous.modern("tools/list", body=message("tools/list", params, 1))
    assert (status, answer["error"]["code"], answer["id"]) == (400, expected, 1)


def test_an_unknown_modern_version_names_the_known_ones(anonymous):
    body = message("tools/list", enveloped(version="2099-01-01"), 1)
    status, answer = anonymous.modern("tools/list", None, {"MCP-Protocol-Version": "2099-01-01"},
                                      body)
    assert (status, answer["error"]["code"]) == (400, -32022)
    assert answer["error"]["data"] == {"supported": [MODERN], "requested": "2099-01-01"}


def test_statuses_of_the_modern_era(anonymous):
    assert anonymous.modern("no/such")[0] == 404
    assert anonymous.modern("ping")[0] == 404
    assert anonymous.modern("initialize", hello())[0] == 400
    assert anonymous.modern("tools/call", {"name": "nope"})[0] == 400
    headers = {"MCP-Protocol-Version": MODERN}
    for method in ("GET", "DELETE"):
        reply = anonymous.send(method, headers=headers)
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    notified = anonymous.post(message("notifications/cancelled", {"requestId": 1}), headers)
    assert (notified.status, notified.body) == (202, b"")
    answered = anonymous.post({"jsonrpc": "2.0", "id": 1, "result": {}}, headers)
    assert code(answered, 400) == -32600


def test_hanging_up_cancels_a_modern_request_also_as_a_stream(anonymous, daemon, shared):
    for seconds, token in ((4731, None), (4732, "t")):
        params = enveloped(exec_of(shared, f"exec sleep {seconds}"),
                           **({"progressToken": token} if token else {}))
        connection = anonymous.client.connect()
        connection.request("POST", "/mcp", json.dumps(message("tools/call", params, 1)), {
            **anonymous.headers({"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call",
                                 "Mcp-Name": "workspace_exec"}),
            "Content-Type": "application/json", "Authorization": f"Bearer {anonymous.client.token}"})
        wait_for(lambda: running(daemon, shared, f"sleep {seconds}"))
        if token:
            response = connection.getresponse()
            assert response.headers["Content-Type"] == "text/event-stream"
            response.close()
        connection.close()
        wait_for(lambda: not running(daemon, shared, f"sleep {seconds}"))


def test_listening_is_a_stream_of_its_request(anonymous, shared):
    uri = f"hearth://workspaces/{shared}/files/listened"
    body = message("subscriptions/listen", enveloped({"notifications": {
        "resourceSubscriptions": [uri]}}), "sub")
    with anonymous.stream("POST", body, {"MCP-Protocol-Version": MODERN,
                                         "Mcp-Method": "subscriptions/listen"}) as events:
        _, first = events.first(lambda data: True)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        anonymous.client.put(f"/v1/workspaces/{shared}/files/content",
                             {"path": "listened", "text": "x"})
        _, told = events.first(lambda data: True)
        assert told["params"]["uri"] == uri
        assert told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"


# The end of the daemon

def test_open_streams_do_not_hold_the_daemon_up(hearthd_factory):
    daemon = hearthd_factory(driver="oci")
    http = Http(daemon.client())
    http.client.observe = None
    http.initialize()
    with http.stream("GET") as events:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            seen = pool.submit(list, events)
            assert daemon.stop() == 0
            seen.result()  # it was ended as a stream is, not cut when the drain was over
