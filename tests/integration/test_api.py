"""What is common to every operation: refusals, tools, pages, idempotency, rights, request IDs."""

import concurrent.futures
import json
import re

import pytest

from harness.http import Client
from harness.waiting import until

ENVIRONMENT = "debian:12"
ABSENT = "ws_aaaaaaaaaaaaaaaa"


def problem(reply, status, code, field=None):
    """The reply is a whole problem document."""
    assert reply.status == status, reply
    assert reply.headers["Content-Type"].split(";")[0] == "application/problem+json"
    body = reply.json()
    assert body.keys() == {"type", "title", "status", "detail", "code", "field", "hint",
                           "request_id", "retryable"}
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] == f"/problems/{code}" and body["title"] and body["detail"]
    assert body["request_id"] == reply.headers["X-Request-Id"]
    if field is not None:
        assert body["field"] == field, body
    return body


# Bad input. Each: what is sent to create, and what is to blame.

BAD_CREATES = {
    "nothing": ({}, 422, "missing_argument", "/environment"),
    "unknown environment": ({"environment": "debian:99"}, 422, "unknown_environment",
                            "/environment"),
    "environment that is a path": ({"environment": "../../etc"}, 422, "unknown_environment",
                                   "/environment"),
    "blank name": ({"name": ""}, 422, "blank_argument", "/name"),
    "bad name": ({"name": "a\nb"}, 422, "bad_name", "/name"),
    "long name": ({"name": "x" * 5000}, 422, "bad_length", "/name"),
    "bad label": ({"labels": {"a b": "c"}}, 422, "bad_label", None),
    "label that is no text": ({"labels": {"a": 1}}, 422, "bad_type", "/labels/a"),
    "label twice": ({"labels": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}, 422,
                    "duplicate_name", "/labels/1"),
    "little memory": ({"mem_mib": 255}, 422, "out_of_range", "/mem_mib"),
    "much memory": ({"mem_mib": 32769}, 422, "out_of_range", "/mem_mib"),
    "half a processor": ({"vcpu_count": 0.5}, 422, "bad_type", "/vcpu_count"),
    "number as text": ({"mem_mib": "1024"}, 422, "bad_type", "/mem_mib"),
    "unknown argument": ({"environmnt": "x"}, 422, "unknown_argument", "/environmnt"),
    "unknown isolation": ({"isolation": "none"}, 422, "bad_choice", "/isolation"),
    "absent upload": ({"seed_upload": "up_aaaaaaaaaaaaaaaa"}, 404, "upload_not_found", "/seed_upload"),
}


@pytest.mark.parametrize("name", BAD_CREATES)
def test_a_bad_create_is_refused_and_leaves_nothing(client, name):
    arguments, status, code, field = BAD_CREATES[name]
    before = client.get("/v1/workspaces", limit=1000)["count"]
    if arguments:
        arguments = {"environment": ENVIRONMENT, **arguments}
    problem(client.request("POST", "/v1/workspaces", arguments), status, code, field)
    assert client.get("/v1/workspaces", limit=1000)["count"] == before


def test_an_unknown_argument_is_told_the_nearest(client):
    reply = client.request("POST", "/v1/workspaces", {"environment": ENVIRONMENT, "mem_mb": 512})
    assert "mem_mib" in problem(reply, 422, "unknown_argument", "/mem_mb")["hint"]


BAD_BODIES = {
    "no JSON": b"environment=debian",
    "cut": b'{"environment":',
    "two values": b"{} {}",
    "a list": b"[]",
    "duplicate keys": b'{"environment":"debian:12","environment":"debian:12"}',
    "invalid UTF-8": b'{"environment":"\xff"}',
    "overlong UTF-8": b'{"environment":"\xc0\xaf"}',
    "lone surrogate": b'{"environment":"\\ud800"}',
    "NUL": b'{"environment":"a\\u0000"}',
    "200,000 brackets": b"[" * 200000,
    "200,000 nested objects": b'{"a":' * 200000,
    "NaN": b'{"mem_mib":NaN}',
    "huge number": b'{"mem_mib":1e999}',
}


@pytest.mark.parametrize("name", BAD_BODIES)
@pytest.mark.parametrize("path", ["/v1/workspaces", "/v1/tools/workspace_create/call"])
def test_a_body_that_is_no_json_is_refused(client, name, path):
    reply = client.request("POST", path, body=BAD_BODIES[name],
                           headers={"Content-Type": "application/json"})
    if name == "a list" and "tools" in path:
        problem(reply, 422, "bad_type")
    else:
        problem(reply, 400, "malformed_json")


def test_a_body_of_another_type_is_refused(client):
    for path in ("/v1/workspaces", "/v1/tools/workspace_create/call"):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
            reply = client.request("POST", path, body=b"{}", headers={"Content-Type": kind})
            problem(reply, 415, "unsupported_media_type")


def test_json_may_say_its_charset(client):
    reply = client.request("POST", "/v1/workspaces", body=b"{}",
                           headers={"Content-Type": "application/json; charset=utf-8"})
    problem(reply, 422, "missing_argument")


def test_a_body_too_large_is_refused_by_its_length(hearthd_factory):
    client = hearthd_factory(max_body_bytes=100000).client()
    body = b'{"environment":"' + b"x" * 200000 + b'"}'
    reply = client.request("POST", "/v1/workspaces", body=body,
                           headers={"Content-Type": "application/json"})
    assert problem(reply, 413, reply.json()["code"])


@pytest.mark.parametrize("path", [f"/v1/workspaces/{ABSENT}", "/v1/workspaces/x",
                                  "/v1/workspaces/ws_AAAAAAAAAAAAAAAA",
                                  "/v1/workspaces/%2e%2e%2fetc", "/v1/workspaces/ws_aa%00"])
def test_an_id_that_names_nothing_is_absent(client, path):
    reply = client.request("GET", path)
    if "%00" in path or "%2f" in path:
        assert reply.status in (400, 404) and reply.json()["code"]
    else:
        problem(reply, 404, "workspace_not_found", "/workspace_id")


@pytest.mark.parametrize("query, code, field", [
    ("limit=", "bad_type", "/limit"), ("limit=0", "out_of_range", "/limit"),
    ("limit=1001", "out_of_range", "/limit"), ("limit=ten", "bad_type", "/limit"),
    ("cursor=nonsense", "bad_cursor", "/cursor"), ("state=", "blank_argument", "/state"),
    ("state=dead", "bad_choice", "/state"), ("lmit=1", "unknown_argument", "/lmit"),
    ("name=", "blank_argument", "/name"),
])
def test_a_bad_query_is_refused(client, query, code, field):
    problem(client.request("GET", f"/v1/workspaces?{query}"), 422, code, field)


def test_an_argument_may_stand_once_in_a_query(client):
    for path in ("/v1/workspaces?limit=1&limit=2", "/v1/tools?format=mcp&format=mcp"):
        problem(client.request("GET", path), 400, "duplicate_parameter")


def test_another_method_is_told_what_there_is(client):
    for path, allowed in (("/v1/workspaces", {"GET", "HEAD", "POST"}),
                          ("/v1/tools/workspace_exec/call", {"POST"}),
                          (f"/v1/workspaces/{ABSENT}", {"GET", "HEAD", "PATCH", "DELETE"}),
                          ("/livez", {"GET", "HEAD"})):
        for method in ("PUT", "OPTIONS", "BREW"):
            reply = client.request(method, path)
            problem(reply, 405, "method_not_allowed")
            assert set(reply.headers["Allow"].split(", ")) == allowed


def test_no_such_resource(client):
    for path in ("/", "/v1/nothing", "/v1/workspaces/", "/v2/workspaces"):
        problem(client.request("GET", path), 404, "route_not_found")


# Who is asking

def test_a_token_is_needed(daemon):
    for headers in ({}, {"Authorization": "Bearer nonsense"},
                    {"Authorization": f"Bearer {daemon.token}x"},
                    {"Authorization": "Basic YTpi"}):
        with Client(daemon.url) as nobody:
            reply = nobody.request("GET", "/v1/workspaces", headers=headers)
            problem(reply, 401, reply.json()["code"])
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")


def test_some_things_need_no_token(daemon):
    with Client(daemon.url) as nobody:
        for path in ("/livez", "/readyz", "/openapi.json"):
            assert nobody.request("GET", path).status == 200
        for path in ("/v1", "/v1/tools", "/metrics"):
            assert nobody.request("GET", path).status == 401


@pytest.fixture
def tenant_client(daemon, client):
    """tenant_client(name, rights, **quotas): a client with a token of a tenant; the tenant is
    made where it is new."""
    clients = []

    def make(name, rights, **quotas):
        client.request("POST", "/v1/tenants", {"name": name, **quotas})
        issued = client.post(f"/v1/tenants/{name}/tokens", {"rights": rights})
        clients.append(daemon.client(token=issued["token"]))
        return clients[-1]

    yield make
    for made in clients:
        for row in made.get("/v1/workspaces", limit=1000)["workspaces"]:
            made.request("DELETE", f"/v1/workspaces/{row['workspace_id']}")


def without_request_id(reply):
    return {key: value for key, value in reply.json().items() if key != "request_id"}


def test_a_foreign_id_looks_like_an_absent_one(workspace, tenant_client):
    foreign = tenant_client("foreign", "operate")
    for method, path, body in (("GET", "", None), ("DELETE", "", None),
                               ("PATCH", "", {"name": "mine"}), ("POST", "/stop", {}),
                               ("POST", "/exec", {"command": "true"}), ("GET", "/logs", None),
                               ("GET", "/files", None), ("GET", "/files/content?path=x", None),
                               ("PUT", "/files/content", {"path": "x", "text": "x"})):
        theirs = foreign.request(method, workspace.path + path, body)
        absent = foreign.request(method, f"/v1/workspaces/{ABSENT}" + path, body)
        problem(theirs, 404, "workspace_not_found")
        assert without_request_id(theirs) == without_request_id(absent)
    assert foreign.get("/v1/workspaces")["count"] == 0
    assert workspace.status()["state"] == "started"


# What the calls below need besides the workspace.
ARGUMENTS = {"command": "true", "path": "x", "text": "x", "patch": "x", "pattern": "x", "snapshot_name": "s", "input": "x",
             "cols": 80, "rows": 24, "name": "x", "from": "x", "to": "y", "source_path": "/x", "destination": "y"}


def needed(schema):
    return {name: ARGUMENTS[name] for name in schema.get("required", ()) if name in ARGUMENTS}


def test_no_route_and_no_tool_tells_of_anothers_workspace(client, workspace, tenant_client):
    """Of its shells, services, ports, snapshots and commands neither, whatever the other tenant's token may do."""
    ids = {"shell_id": client.post(f"{workspace.path}/shells", {})["shell_id"], "service_name": "web", "port": "8000", "path": "x",
           "exec_id": workspace.exec("true")["exec_id"], "snapshot_name": "kept", "name": "kept"}
    client.put(f"{workspace.path}/services/web", {"command": "exec sleep 1000"})
    client.post(f"{workspace.path}/snapshots", {"snapshot_name": "kept"})
    described, asked = client.get("/openapi.json")["paths"], 0
    tools = [tool for tool in client.get("/v1/tools", profile="workspace-full", format="mcp")["tools"]
             if "workspace_id" in tool["inputSchema"]["properties"]]
    assert len(tools) > 30
    for rights in ("operate", "admin"):
        foreign = tenant_client(f"sweeps-{rights}", rights)
        calls = []
        for path, methods in described.items():
            for method, operation in methods.items():
                if "{workspace_id}" not in path or not isinstance(operation, dict) or "attach" in path:
                    continue
                body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
                query = {row["name"]: ARGUMENTS.get(row["name"], "x") for row in operation.get("parameters", ())
                         if row["in"] == "query" and row.get("required")}
                json_body = needed(body) if method in ("post", "put", "patch") else None
                calls.append((method.upper(), path, json_body, query))
        calls += [("POST", f"/v1/tools/{tool['name']}/call",
                   {**needed(tool["inputSchema"]), **{key: value for key, value in ids.items() if key in tool["inputSchema"]["required"]}}, None)
                  for tool in tools]
        for method, path, body, query in calls:
            told = []
            for workspace_id in (workspace.id, ABSENT):
                filled = path.replace("{workspace_id}", workspace_id)
                for name, value in ids.items():
                    filled = filled.replace(f"{{{name}}}", value)
                sent = {**body, "workspace_id": workspace_id} if "/v1/tools/" in path else body
                reply = foreign.request(method, filled, sent, query=query)
                assert reply.status == 404, (method, path, reply)
                told.append(reply.body and without_request_id(reply))
            assert told[0] == told[1], (method, path)
            asked += 1
    assert asked > 140
    assert client.get(f"{workspace.path}/services/web")["state"] == "running"
    assert client.get(f"{workspace.path}/shells")["shells"][0]["state"] == "running"
    assert workspace.status()["state"] == "started"


def test_reading_may_not_change_and_operating_may_not_administer(daemon, tenant_client):
    reader, operator = tenant_client("rights", "read-only"), tenant_client("rights", "operate")
    made = operator.post("/v1/workspaces", {"environment": ENVIRONMENT})
    path = f"/v1/workspaces/{made['workspace_id']}"
    assert reader.get(path)["workspace_id"] == made["workspace_id"]
    for method, target, body in (("POST", "/v1/workspaces", {"environment": ENVIRONMENT}),
                                 ("POST", f"{path}/exec", {"command": "true"}),
                                 ("POST", "/v1/tools/workspace_delete/call",
                                  {"workspace_id": made["workspace_id"]}),
                                 ("DELETE", path, None)):
        reply = reader.request(method, target, body)
        assert problem(reply, 403, "forbidden")["hint"]
        assert refused_in_audit(daemon, reply.headers["X-Request-Id"])
    for method, target, body in (("GET", "/v1/tenants", None),
                                 ("POST", "/v1/tenants", {"name": "more"}),
                                 ("POST", "/v1/tenants/rights/tokens", {"rights": "admin"})):
        problem(operator.request(method, target, body), 403, "forbidden")


def test_figures_of_all_tenants_are_not_for_one_of_them(daemon, client, tenant_client):
    problem(tenant_client("figures", "operate").request("GET", "/metrics"), 403, "forbidden")
    scraper = client.post("/v1/tenants/admin/tokens", {"rights": "read-only"})
    for one in (tenant_client("figures", "admin"), daemon.client(token=scraper["token"])):
        assert one.request("GET", "/metrics").status == 200


def refused_in_audit(daemon, request_id):
    """Audit rows are committed by their own transaction soon after: asks until it is there."""
    rows = until(lambda: daemon.rows("SELECT outcome FROM audit WHERE request_id = ?", request_id))
    return rows == [("forbidden",)]


def test_who_cancelled_a_command_is_in_the_audit(daemon, workspace):
    made = workspace.client.post(f"{workspace.path}/exec", {"command": "sleep 600", "detach": True})["exec_id"]
    reply = workspace.client.request("DELETE", f"{workspace.path}/execs/{made}")
    assert reply.status == 200
    rows = until(lambda: daemon.rows("SELECT operation, subject_id, outcome FROM audit WHERE request_id = ?",
                                     reply.headers["X-Request-Id"]))
    assert rows == [("workspace_exec_cancel", f"{workspace.id}/{made}", "ok")]


def test_quotas(tenant_client):
    few = tenant_client("few", "operate", max_workspaces=2, max_mem_mib=1024)
    made = few.post("/v1/workspaces", {"environment": ENVIRONMENT, "mem_mib": 512})["workspace_id"]
    few.post(f"/v1/workspaces/{made}/stop")
    reply = few.request("POST", "/v1/workspaces", {"environment": ENVIRONMENT, "mem_mib": 1024})
    told = problem(reply, 429, "quota_memory")
    assert told["retryable"] and told["hint"].startswith("Delete"), "a stop would not help"
    few.post("/v1/workspaces", {"environment": ENVIRONMENT, "mem_mib": 256})
    reply = few.request("POST", "/v1/workspaces", {"environment": ENVIRONMENT, "mem_mib": 256})
    problem(reply, 429, "quota_workspaces")


def test_what_was_deleted_is_in_no_quota(tenant_client):
    one = tenant_client("one", "operate", max_workspaces=1, max_mem_mib=256)
    small = {"environment": ENVIRONMENT, "mem_mib": 256}
    for _ in range(3):
        made = one.post("/v1/workspaces", small)
        assert one.delete(f"/v1/workspaces/{made['workspace_id']}")["deleted"]
        assert one.post("/v1/vm-runs", {**small, "command": "true"})["cleanup"]["deleted"]


def test_a_quota_of_uploads(tenant_client):
    few = tenant_client("uploader", "operate", max_kept_upload_bytes=30000)
    tar = {"body": bytes(20480), "headers": {"Content-Type": "application/x-tar"}}
    first = few.request("POST", "/v1/uploads", **tar)
    assert first.status == 201
    assert problem(few.request("POST", "/v1/uploads", **tar), 429, "quota_uploads")["retryable"]
    assert few.get(f"/v1/uploads/{first.json()['upload_id']}")["size_bytes"] == 20480


def test_a_quota_of_running_commands(tenant_client):
    few = tenant_client("busy", "operate", max_running_execs=1)
    made = few.post("/v1/workspaces", {"environment": ENVIRONMENT})
    path = f"/v1/workspaces/{made['workspace_id']}/exec"
    few.post(path, {"command": "sleep 60", "detach": True, "timeout_seconds": 60})
    problem(few.request("POST", path, {"command": "true"}), 429, "quota_execs")


# Request IDs

def test_a_request_id_is_kept_or_made(client, daemon):
    reply = client.request("GET", "/v1/workspaces", headers={"X-Request-Id": "my-own.id_1"})
    assert reply.headers["X-Request-Id"] == "my-own.id_1"
    made = [client.request("GET", "/v1/workspaces").headers["X-Request-Id"] for _ in range(3)]
    assert len(set(made)) == 3 and all(made)


# Maps and pages

def test_labels_come_as_an_object_or_as_a_list(workspace_factory):
    first = workspace_factory(labels={"a": "1", "b": "2"})
    second = workspace_factory(labels=[{"name": "a", "value": "1"}, {"name": "b", "value": "2"}])
    assert first.created["labels"] == second.created["labels"] == {"a": "1", "b": "2"}
    for given in ({"V": "1"}, [{"name": "V", "value": "1"}]):
        assert first.exec('echo "$V"', env=given)["stdout"] == "1\n"


def test_names_and_labels_values_are_as_long_as_their_schema_says_in_characters(workspace_factory, client):
    made = workspace_factory(name="é" * 120, labels={"k": "日" * 256})
    assert made.created["name"] == "é" * 120 and made.created["labels"] == {"k": "日" * 256}
    assert client.get("/v1/workspaces", name="é" * 120)["count"] == 1
    for wrong, code, field in (({"name": "é" * 121}, "bad_length", "/name"),
                               ({"labels": {"k": "日" * 257}}, "bad_label", "/labels/k")):
        problem(client.request("POST", "/v1/workspaces", {"environment": ENVIRONMENT, **wrong}), 422, code, field)


def lists_and_maps(schema, name):
    for branch in schema.get("anyOf", [schema]):
        kind = branch.get("type")
        if "array" in kind:
            yield name, branch.get("maxItems")
        elif "object" in kind:
            yield name, branch.get("maxProperties")


def test_every_list_and_map_says_how_many_it_may_hold(client):
    limits = [found for tool in client.get("/v1/tools", profile="workspace-full", format="json-schema")["tools"]
              for name, schema in tool["input_schema"]["properties"].items()
              for found in lists_and_maps(schema, f"{tool['name']}.{name}")]
    assert limits and not [name for name, limit in limits if not limit]


def test_a_command_may_have_a_thousand_variables(workspace):
    env = {f"V_{number}": "x" for number in range(1000)}
    assert workspace.exec("env | grep -c ^V_", env=env)["stdout"] == "1000\n"


@pytest.fixture(scope="module")
def many(daemon):
    """Twelve workspaces under one label."""
    client = daemon.client()
    made = [client.post("/v1/workspaces", {"environment": ENVIRONMENT, "mem_mib": 256,
                                           "labels": {"page": "yes", "n": str(index % 2)}})
            for index in range(12)]
    yield [row["workspace_id"] for row in made]
    for row in made:
        client.request("DELETE", f"/v1/workspaces/{row['workspace_id']}")


def test_pages_neither_repeat_nor_skip_while_rows_are_touched(client, many):
    for touched in (many[0], many[5], many[11]):
        seen, cursor = [], None
        while True:
            page = client.get("/v1/workspaces", label="page=yes", limit=2,
                              **({"cursor": cursor} if cursor else {}))
            assert page["count"] == len(page["workspaces"]) <= 2
            seen += [row["workspace_id"] for row in page["workspaces"]]
            client.post(f"/v1/workspaces/{touched}/exec", {"command": "true"})
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert sorted(seen) == sorted(many), "a row that was there throughout"


def test_pages_go_on_while_others_are_begun(client, many):
    begun = client.get("/v1/workspaces", label="page=yes", limit=6)
    for number in range(200):  # each an order of its own, being of a filter
        client.get("/v1/workspaces", label="page=yes", limit=1 + number % 5)
    rest = client.get("/v1/workspaces", cursor=begun["next_cursor"], limit=6)
    assert sorted(row["workspace_id"] for page in (begun, rest) for row in page["workspaces"]) == sorted(many)


def test_environments_come_in_pages_too(client):
    whole = client.get("/v1/environments")
    assert whole["next_cursor"] is None and whole["count"] == len(whole["environments"]) >= 3
    names, page = [], {"next_cursor": None}
    while not names or page["next_cursor"]:
        page = client.get("/v1/environments", limit=1, **({"cursor": page["next_cursor"]} if names else {}))
        assert page["count"] == 1
        names += [environment["name"] for environment in page["environments"]]
    assert names == [environment["name"] for environment in whole["environments"]]
    problem(client.request("GET", "/v1/environments", query={"cursor": "nosuch"}), 422, "bad_cursor")
    called = client.request("POST", "/v1/tools/vm_list_environments/call", {"limit": None, "cursor": None})
    assert called.json() == whole


def test_labels_select(client, many):
    both = client.get("/v1/workspaces", label=["page", "n=1"])["workspaces"]
    assert {row["workspace_id"] for row in both} == set(many[1::2])
    assert client.get("/v1/workspaces", label="page=no")["workspaces"] == []


# Tools

CORE = {"vm_run", "workspace_create", "workspace_list", "workspace_update", "workspace_status",
        "workspace_sync_push", "workspace_exec", "workspace_logs", "workspace_file_list",
        "workspace_file_read", "workspace_file_write", "workspace_patch_apply", "workspace_diff",
        "workspace_export", "workspace_reset", "workspace_delete"}
# What later versions bring.
CORE_NOT_YET = {"workspace_diff", "workspace_reset"}


def tools(client, **query):
    return client.get("/v1/tools", **query)["tools"]


def test_profiles_hold_their_sets(client):
    assert [tool["name"] for tool in tools(client, profile="vm-run")] == ["vm_run"]
    core = [tool["name"] for tool in tools(client, profile="workspace-core")]
    full = [tool["name"] for tool in tools(client, profile="workspace-full")]
    assert len(set(core)) == len(core) and CORE - CORE_NOT_YET <= set(core) <= CORE
    assert set(core) < set(full)
    assert "vm_list_environments" in full


@pytest.mark.parametrize("form", ["openai-responses", "openai-chat", "mcp", "json-schema"])
def test_tool_lists_are_the_same_bytes_each_time(client, form):
    path = f"/v1/tools?profile=workspace-full&format={form}"
    assert client.request("GET", path).body == client.request("GET", path).body


def test_definitions_are_flat_and_strict(client):
    for tool in tools(client, profile="workspace-full", format="openai-responses"):
        assert tool.keys() == {"type", "name", "description", "parameters", "strict"}
        assert tool["strict"] is True and 1 <= len(tool["description"]) <= 1024
        assert re.fullmatch("[A-Za-z0-9_-]{1,64}", tool["name"])
        for schema in tool["parameters"]["properties"].values():
            assert 1 <= len(schema["description"]) <= 1024


def test_mcp_definitions_have_hints_and_output_schemas(client):
    for tool in tools(client, format="mcp"):
        assert tool["inputSchema"]["additionalProperties"] is False and tool["outputSchema"]
        assert {"readOnlyHint", "destructiveHint", "idempotentHint",
                "openWorldHint"} <= tool["annotations"].keys()


@pytest.mark.parametrize("query, field", [("profile=all", "/profile"), ("profile=", "/profile"),
                                          ("format=xml", "/format"), ("colour=red", "/colour")])
def test_a_bad_tool_list_is_refused(client, query, field):
    code = "unknown_argument" if "colour" in query else "bad_choice"
    problem(client.request("GET", f"/v1/tools?{query}"), 422, code, field)


def call(client, name, text, **headers):
    return client.request("POST", f"/v1/tools/{name}/call", body=text.encode(),
                          headers={"Content-Type": "application/json", **headers})


def test_a_tool_takes_the_argument_text_as_it_is(client, workspace):
    text = (f'{{ "workspace_id" : "{workspace.id}", "command":"echo \\u00e4", "argv":null,\n'
            '"timeout_seconds": 5.0, "cwd": null, "env":[{"name":"A","value":"b"}] }')
    reply = call(client, "workspace_exec", text)
    assert reply.status == 200 and reply.json()["stdout"] == "ä\n"
    assert b"\n" not in reply.body and b'": ' not in reply.body, "compact"
    assert reply.json()["exit_code"] == 0


def test_a_tool_that_fails_gives_a_problem(client, workspace):
    problem(call(client, "workspace_nothing", "{}"), 404, "unknown_tool")
    problem(call(client, "tenant_list", "{}"), 404, "unknown_tool")
    problem(call(client, "workspace_status", "{}"), 422, "missing_argument", "/workspace_id")
    problem(call(client, "workspace_status", ""), 422, "missing_argument", "/workspace_id")
    problem(call(client, "workspace_status", f'{{"workspace_id":"{ABSENT}"}}'), 404,
            "workspace_not_found", "/workspace_id")
    problem(call(client, "workspace_exec",
                 f'{{"workspace_id":"{workspace.id}","command":"true","timeout_seconds":1.5}}'),
            422, "bad_type", "/timeout_seconds")


def test_what_only_rest_has_is_unknown_to_a_tool(client, workspace):
    def exec_with(argument):
        return call(client, "workspace_exec", f'{{"workspace_id":"{workspace.id}","command":"true",{argument}}}')

    for name in ("stream", "stdin_open"):
        problem(exec_with(f'"{name}":true'), 422, "unknown_argument", f"/{name}")
        for nothing in ("false", "null"):
            assert exec_with(f'"{name}":{nothing}').json()["exit_code"] == 0


def test_a_tool_gives_bytes_that_are_no_text(client, workspace):
    asked = {"command": r"printf '\377'", "encoding": "base64"}
    for name, where in (("workspace_exec", {"workspace_id": workspace.id}), ("vm_run", {"environment": "debian:12"})):
        result = call(client, name, json.dumps({**where, **asked})).json()
        assert (result["stdout"], result["stdout_bytes"]) == ("/w==", 1)


def test_what_the_path_names_may_stand_in_the_body_too(client, workspace):
    path = f"{workspace.path}/exec"
    assert client.post(path, {"workspace_id": workspace.id, "command": "true"})["exit_code"] == 0
    problem(client.request("POST", path, {"workspace_id": ABSENT, "command": "touch ran"}), 422,
            "conflicting_arguments", "/workspace_id")
    assert workspace.exec("ls ran")["exit_code"] != 0


def test_every_state_can_be_listed(client, workspace):
    for state in ("creating", "deleting", "failed", "stopped", "suspended"):
        assert workspace.id not in {row["workspace_id"] for row in client.get("/v1/workspaces", state=state)["workspaces"]}
    assert client.get("/v1/workspaces", state="started", limit=1000)["count"] >= 1
    problem(client.request("GET", "/v1/workspaces?state=asleep"), 422, "bad_choice", "/state")


def test_a_query_is_nothing_to_a_tool(client):
    problem(client.request("POST", "/v1/tools/workspace_list/call?limit=1", {}), 422,
            "unknown_argument", "/limit")


# Idempotency

def keyed(client, key, arguments, path="/v1/workspaces"):
    return client.request("POST", path, arguments, headers={"Idempotency-Key": key})


def test_a_repeated_change_is_answered_by_its_first_answer(hearthd_factory):
    hearthd = hearthd_factory()
    client = hearthd.client()
    asked = {"environment": ENVIRONMENT, "name": "once"}
    first = keyed(client, "key-1", asked)
    assert first.status == 201 and "Idempotency-Replayed" not in first.headers
    again = keyed(client, "key-1", asked)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    problem(keyed(client, "key-1", {**asked, "name": "twice"}), 422, "idempotency_key_reused")
    assert keyed(client, "key-2", asked).json()["workspace_id"] != first.json()["workspace_id"]
    hearthd.kill9()
    hearthd.start()
    client = hearthd.client()
    restarted = keyed(client, "key-1", asked)
    assert (restarted.status, restarted.body) == (first.status, first.body)
    assert client.get("/v1/workspaces")["count"] == 2


def test_a_key_belongs_to_its_tenant_and_a_failure_keeps_none(client, tenant_client, workspace):
    other = tenant_client("keys", "operate")
    mine = keyed(client, "shared-key", {"command": "date +%N; echo mine"},
                 f"{workspace.path}/exec")
    theirs = keyed(other, "shared-key", {"environment": ENVIRONMENT})
    assert mine.status == 200 and theirs.status == 201
    problem(keyed(client, "fails", {"environment": "debian:99"}), 422, "unknown_environment")
    assert keyed(client, "fails", {"command": "true"}, f"{workspace.path}/exec").status == 200


def test_two_at_once_run_once(client, workspace):
    def one():
        with client.another() as own:
            return keyed(own, "race", {"command": "echo x >>runs; sleep 0.3"},
                         f"{workspace.path}/exec")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = [future.result() for future in [pool.submit(one) for _ in range(4)]]
    statuses = {reply.status for reply in replies}
    assert statuses <= {200, 409} and 200 in statuses
    assert all(reply.json()["code"] == "idempotency_in_progress" for reply in replies
               if reply.status == 409)
    assert workspace.read("runs")["content"] == "x\n"


# Metrics

def test_metrics_are_prometheus_text(client, workspace):
    reply = client.request("GET", "/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    types, seen = {}, set()
    for line in reply.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types and kind in ("gauge", "counter", "histogram")
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = re.fullmatch(r'([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? '
                                 r"(-?[0-9.e+]+)", line)
            assert match, line
            base = re.sub("_(bucket|sum|count)$", "", match[1])
            assert match[1] in types or types.get(base) == "histogram", line
            assert types.get(match[1]) != "counter" or match[1].endswith("_total"), line
            assert line.rsplit(" ", 1)[0] not in seen
            seen.add(line.rsplit(" ", 1)[0])
    assert 'hearth_workspaces{state="started"}' in seen


def test_what_is_asked_of_something_absent_is_refused_and_no_more(client):
    """The request's input goes with the refusal: nobody may look at it after."""
    absent = "ws_aaaaaaaaaaaaaaaa"
    for _ in range(20):
        assert client.request("POST", "/v1/tenants/none/tokens", {"expires_in_seconds": 1}).status == 404
        assert client.request("DELETE", "/v1/tenants/none/tokens/tk_none").status in (404, 422)
        assert client.request("PUT", f"/v1/workspaces/{absent}/services/x", {"command": "true"}).status == 404
        assert client.request("POST", f"/v1/workspaces/{absent}/shells/sh_aaaaaaaaaaaaaaaa/input",
                              {"input": "x"}).status == 404
    assert client.request("GET", "/livez").status == 200
