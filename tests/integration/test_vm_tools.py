"""Machines step by step: the low-level vm_* operations."""

import time

import pytest

from harness.http import Problem

CREATE = {"environment": "debian:12"}


@pytest.fixture
def machine(client):
    made = client.post("/v1/vms", CREATE)
    yield made["vm_id"]
    client.request("DELETE", f"/v1/vms/{made['vm_id']}")


def refused(call, *words, **named):
    with pytest.raises(Problem) as caught:
        call(*words, **named)
    problem = caught.value.reply.json()
    assert problem["hint"]
    return problem["status"], problem["code"], problem["field"]


def test_a_machine_from_create_to_its_one_command(client):
    made = client.post("/v1/vms", {**CREATE, "vcpu_count": 2, "mem_mib": 512, "ttl_seconds": 60})
    path = f"/v1/vms/{made['vm_id']}"
    assert made["vm_id"].startswith("vm_") and made["state"] == "created"
    assert (made["vcpu_count"], made["mem_mib"], made["ttl_seconds"]) == (2, 512, 60)
    assert made["expires_at"] > made["created_at"]
    assert made["network_enabled"] is False and made["guest_ip"] is None
    started = client.post(f"{path}/start")
    assert started["state"] == "started" and client.post(f"{path}/start")["state"] == "started"
    assert client.get(path)["state"] == "started"
    assert client.get(f"{path}/network") == {
        "vm_id": made["vm_id"], "network_enabled": False, "guest_ip": None, "tap_name": None,
        "execution_mode": started["execution_mode"]}
    ran = client.post(f"{path}/exec", {"command": "echo out; echo err >&2; exit 3"})
    assert (ran["vm_id"], ran["stdout"], ran["stderr"], ran["exit_code"]) == (
        made["vm_id"], "out\n", "err\n", 3)
    assert ran["cleanup"] == {"vm_id": made["vm_id"], "deleted": True,
                              "reason": "post_exec_cleanup"}
    assert refused(client.get, path) == (404, "vm_not_found", "/vm_id")


def test_a_machine_that_is_not_started_runs_nothing_and_is_kept(client, machine):
    path = f"/v1/vms/{machine}"
    for state in ("created", "stopped"):
        assert refused(client.post, f"{path}/exec", {"command": "true"}) == (
            409, "vm_not_started", "/vm_id")
        told = client.request("POST", f"{path}/exec", {"command": "true"}).json()["detail"]
        assert told.startswith(f"the machine is {state}")
        assert client.get(path)["state"] == state
        client.post(f"{path}/start")
        assert client.post(f"{path}/stop")["state"] == "stopped"
    assert client.delete(path) == {"vm_id": machine, "deleted": True, "reason": "explicit_delete"}
    assert refused(client.delete, path) == (404, "vm_not_found", "/vm_id")


def test_its_disk_outlives_a_stop(client, machine, daemon):
    path = f"/v1/vms/{machine}"
    client.post(f"{path}/start")
    client.post(f"/v1/workspaces/{machine}/exec", {"command": "echo kept >/etc/kept"})
    client.post(f"{path}/stop")
    client.post(f"{path}/start")
    assert client.post(f"{path}/exec", {"command": "cat /etc/kept"})["stdout"] == "kept\n"


def test_only_machines_are_machines(client, workspace, machine):
    for vm_id in (workspace.id, "vm_aaaaaaaaaaaaaaaa", "nonsense"):
        for call, path, body in ((client.get, "", None), (client.post, "/start", {}),
                                 (client.post, "/exec", {"command": "true"})):
            assert refused(call, f"/v1/vms/{vm_id}{path}", *([body] if body is not None else []))[
                :2] == (404, "vm_not_found")
    assert machine not in [row["workspace_id"] for row in
                           client.get("/v1/workspaces", limit=1000)["workspaces"]]


def test_another_tenants_machine_is_not_there(client, daemon, machine):
    token = client.new_tenant("machines-other")
    with daemon.client(token=token) as stranger:
        assert refused(stranger.get, f"/v1/vms/{machine}")[:2] == (404, "vm_not_found")
        assert stranger.post("/v1/vm-reaps") == {"count": 0, "removed_vm_ids": []}


@pytest.mark.parametrize("arguments, code, field", [
    ({}, "missing_argument", "/environment"), ({"environment": "nope:1"}, "unknown_environment",
                                               "/environment"),
    ({**CREATE, "vcpu_count": 9}, "out_of_range", "/vcpu_count"),
    ({**CREATE, "name": "x"}, "unknown_argument", "/name")])
def test_bad_machines_are_not_made(client, arguments, code, field):
    assert refused(client.post, "/v1/vms", arguments) == (422, code, field)


def test_a_machine_outlives_the_daemon_and_is_deleted_at_its_ttl(hearthd_factory):
    daemon = hearthd_factory()
    client = daemon.client()
    made = [client.post("/v1/vms", CREATE)["vm_id"] for _ in range(2)]
    client.post(f"/v1/vms/{made[0]}/start")
    short = client.post("/v1/vms", {**CREATE, "ttl_seconds": 1})["vm_id"]
    daemon.kill9()
    client = daemon.start().client()
    assert client.get(f"/v1/vms/{made[0]}")["state"] == "started"
    assert client.get(f"/v1/vms/{made[1]}")["state"] == "created"
    ran = client.post(f"/v1/vms/{made[0]}/exec", {"command": "echo still"})
    assert ran["stdout"] == "still\n"
    deadline = time.monotonic() + 60
    while client.request("GET", f"/v1/vms/{short}").status == 200:
        assert time.monotonic() < deadline
        reaped = client.post("/v1/vm-reaps")
        assert reaped["count"] == len(reaped["removed_vm_ids"])
    assert refused(client.get, f"/v1/vms/{short}")[:2] == (404, "vm_not_found")
    client.post(f"/v1/vms/{made[1]}/start")
    client.delete(f"/v1/vms/{made[1]}")


def test_they_are_tools_of_the_full_profile(client):
    names = [tool["name"] for tool in client.get("/v1/tools", profile="workspace-full",
                                                 format="mcp")["tools"]]
    machines = [name for name in names if name.startswith("vm_")]
    assert set(machines) == {"vm_run", "vm_create", "vm_start", "vm_exec", "vm_stop", "vm_delete",
                             "vm_status", "vm_network_info", "vm_reap_expired",
                             "vm_list_environments"}
