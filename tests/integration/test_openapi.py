"""/openapi.json tells the truth: schemathesis with every check that it has."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
# They reach for the network or for a host path, or take what another test needs. port_request is answered by whatever
# serves in a guest, with any status and any media type (test_port_proxy.py); shell_attach by another protocol
# (test_shell_attach.py): neither has a schema that an answer could be held against.
LEFT_OUT = "environment_pull|environment_import|environment_prune|port_request|shell_attach"


@pytest.fixture
def own(hearthd_factory):
    """A daemon with room for all that is made here."""
    return hearthd_factory(max_workspaces=10000, max_mem_mib=1 << 30, max_running_execs=1000)


def operations(document):
    return [(path, method, operation) for path, methods in document["paths"].items()
            for method, operation in methods.items()]


def test_the_document_is_whole(client, daemon):
    document = client.get("/openapi.json")
    assert document["openapi"].startswith("3.1") and document["components"]["securitySchemes"]
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, _, operation in operations(document):
        inside = {entry["name"] for entry in operation["parameters"] if entry["in"] == "path"}
        assert inside == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert {"401", "404", "405", "422"} <= operation["responses"].keys()


def test_what_is_no_operation_is_described_too(client, daemon):
    document = client.get("/openapi.json")
    described = {path: methods for path, methods in document["paths"].items()}
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert described[path]["get"]["security"] == [], "it needs no token"
    for path in ("/metrics", "/v1", "/v1/tools"):
        assert "security" not in described[path]["get"]
    assert "post" in described["/v1/tools/{name}/call"]
    assert "text/plain" in described["/metrics"]["get"]["responses"]["200"]["content"]
    assert "application/json" in described["/readyz"]["get"]["responses"]["503"]["content"]


@pytest.mark.timeout(1200)
def test_schemathesis_finds_nothing(own, tmp_path):
    client = own.client()
    workspace = client.post("/v1/workspaces", {"environment": "debian:12"})["workspace_id"]
    client.put(f"/v1/workspaces/{workspace}/files/content", {"path": "fits", "text": "fits"})
    st = pathlib.Path(sys.executable).parent / "st"
    done = subprocess.run(
        [st, "run", f"{own.url}/openapi.json", "-H", f"Authorization: Bearer {own.token}",
         "--checks", "all", "--max-examples", os.environ.get("HEARTH_TEST_EXAMPLES", "10"),
         "--seed", "1", "--generation-deterministic", "--phases", "examples,coverage,fuzzing",
         "--workers", "1", "--request-timeout", "120", "--exclude-operation-id-regex", LEFT_OUT],
        cwd=tmp_path, capture_output=True, text=True, timeout=1100,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(HERE),
             "TEST_WORKSPACE": workspace, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    assert client.get(f"/v1/workspaces/{workspace}")["state"] == "started"
    assert own.running
