"""Machines over each transport that can be demanded here: one suite for all of them."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

import hearth
import test_exec_troubles
from conftest import Workspace
from harness import daemon as harness_daemon
from harness.http import Problem

PLACES = ["/usr/local/bin", "/usr/bin", str(pathlib.Path.home() / ".cache/hearth/bin")]
# What is demanded, what is told of it, and the device by which QEMU has it.
TRANSPORTS = {
    "serial": ("guest_serial", b"virtserialport"),
    "vhost-user-vsock": ("guest_vsock", b"vhost-user-vsock-device"),
    "vhost-vsock": ("guest_vsock", b"vhost-vsock-device"),
}


def usable(transport):
    return {"serial": True, "vhost-vsock": os.access("/dev/vhost-vsock", os.R_OK | os.W_OK),
            "vhost-user-vsock": bool(shutil.which("vhost-device-vsock", path=":".join(PLACES)))}[transport]


@pytest.fixture(scope="module")
def transports_daemon(images):
    with harness_daemon.running(images, driver="qemu", template="off") as hearthd:
        yield hearthd


@pytest.fixture(scope="module", params=[name for name in TRANSPORTS if usable(name)])
def machine(request, transports_daemon):
    made = Workspace(transports_daemon.client(timeout=300), mem_mib=256, transport=request.param)
    made.transport = request.param
    yield made
    assert made.delete().status == 200


@pytest.fixture
def workspace(machine):
    """The machine, running and cleared of what the test before has left."""
    if machine.status()["state"] == "stopped":
        machine.client.post(f"{machine.path}/start")
    machine.exec("find /workspace -mindepth 1 -delete; pkill -x sleep; true")
    return machine


def qemu_of(hearthd, machine):
    """The one QEMU that has the machine's device."""
    device = TRANSPORTS[machine.transport][1]
    pid, = [pid for pid in hearthd.guest_pids()
            if device in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    return pid


def test_what_is_demanded_is_had_and_told(machine, transports_daemon):
    status = machine.status()
    assert (status["isolation"], status["execution_mode"]) == ("vm", TRANSPORTS[machine.transport][0])
    assert qemu_of(transports_daemon, machine)
    ports = int(machine.exec("ls /dev/vport* 2>/dev/null | wc -l")["stdout"])
    assert (ports > 0) == (machine.transport == "serial")


def test_what_is_reached_by_vsock_is_not_copied_with_its_memory(machine):
    if machine.transport == "serial":
        pytest.skip("test_machine_fork.py copies those")
    reply = machine.client.request("POST", f"{machine.path}/fork", {"memory": True})
    problem = reply.json()
    assert (reply.status, problem["code"], problem["field"]) == (422, "fork_memory_unsupported", "/memory")
    assert "vsock" in problem["detail"] and machine.status()["state"] == "started"


NOT_HERE = ("test_hundreds_side_by_side",
            "test_what_runs_in_a_container_is_killed_before_its_agent_where_memory_is_short")

# What exec has trouble with elsewhere has none here, whatever the bytes go through.
for _name in dir(test_exec_troubles):
    _test = getattr(test_exec_troubles, _name)
    if _name.startswith("test_") and "workspace" in _test.__code__.co_varnames[:_test.__code__.co_argcount] \
            and "client" not in _test.__code__.co_varnames and _name not in NOT_HERE:
        globals()[_name] = _test


def test_twenty_commands_side_by_side_are_told_apart(workspace):
    states = [workspace.exec(f"read x < /dev/null; echo {number}; sleep 0.1; exit {number}", detach=True)
              for number in range(20)]
    for number, state in enumerate(states):
        final = test_exec_troubles.ended(workspace, state["exec_id"])
        assert (final["exit_code"], final["stdout"]) == (number, f"{number}\n")


def test_large_files_go_in_and_out_beside_a_command_that_talks(workspace):
    talking = workspace.exec("while [ ! -e enough ]; do head -c 1000000 /dev/zero | tr '\\0' t; done; echo; echo over",
                             detach=True, timeout_seconds=300)
    data = os.urandom(12 << 20)
    reply = workspace.client.request("PUT", f"{workspace.path}/files/content", body=data, query={"path": "large"},
                                     headers={"Content-Type": "application/octet-stream"})
    assert (reply.status, reply.json()["bytes_written"]) == (200, len(data))
    back = workspace.client.request("GET", f"{workspace.path}/files/content", query={"path": "large"},
                                    headers={"Accept": "application/octet-stream"})
    assert back.body == data
    part = workspace.client.request("GET", f"{workspace.path}/files/content", query={"path": "large"},
                                    headers={"Accept": "application/octet-stream", "Range": "bytes=9000000-9000999"})
    assert (part.status, part.body) == (206, data[9000000:9001000])
    workspace.write("enough", "")
    assert test_exec_troubles.ended(workspace, talking["exec_id"])["stdout"].endswith("\nover\n")


def test_trees_go_in_and_out(workspace):
    workspace.exec("mkdir -p t/deep && seq 1 2000 | split -l 1 -a 4 - t/deep/f && ln -s deep/faaaa t/link")
    tar = workspace.client.request("GET", f"{workspace.path}/export", query={"path": "t"}).body
    reply = workspace.client.request("POST", f"{workspace.path}/sync", body=tar, query={"dest": "/workspace/again"},
                                     headers={"Content-Type": "application/x-tar"})
    assert reply.status == 200 and reply.json()["workspace_sync"]["entry_count"] >= 2000
    same = workspace.exec("diff -r t again/t || diff -r t again; echo $?")
    assert same["stdout"].endswith("0\n"), same


def test_a_killed_daemon_takes_it_back_with_what_runs(workspace, transports_daemon):
    pid = qemu_of(transports_daemon, workspace)
    state = workspace.exec("while [ ! -e go ]; do sleep 0.1; done; seq 1 50000; echo lived", detach=True)
    transports_daemon.kill9()
    transports_daemon.start()
    workspace.client = transports_daemon.client(timeout=300)
    assert qemu_of(transports_daemon, workspace) == pid
    assert workspace.status()["execution_mode"] == TRANSPORTS[workspace.transport][0]
    workspace.write("go", "")
    final = test_exec_troubles.ended(workspace, state["exec_id"])
    assert final["exit_code"] == 0 and final["stdout"].endswith("\n50000\nlived\n")


def test_a_stop_and_a_start_keep_disk_and_transport(workspace, transports_daemon):
    workspace.exec("dd if=/dev/urandom of=/var/blob bs=64k count=64 2>/dev/null; md5sum /var/blob > /var/sum")
    before = qemu_of(transports_daemon, workspace)
    assert workspace.client.post(f"{workspace.path}/stop")["state"] == "stopped"
    transports_daemon.restart()  # what was demanded outlives the daemon that was asked
    workspace.client = transports_daemon.client(timeout=300)
    status = workspace.client.post(f"{workspace.path}/start")
    assert (status["state"], status["execution_mode"]) == ("started", TRANSPORTS[workspace.transport][0])
    assert qemu_of(transports_daemon, workspace) != before
    assert workspace.exec("md5sum -c /var/sum; dmesg | grep -c 'recovery complete'")["stdout"] == "/var/blob: OK\n0\n"


def test_a_copy_is_reached_as_its_original_is(workspace):
    workspace.write("note", "copied\n")
    copy, = workspace.client.post(f"{workspace.path}/fork", {"count": 1})["workspaces"]
    path = f"/v1/workspaces/{copy['workspace_id']}"
    assert workspace.client.get(path)["execution_mode"] == TRANSPORTS[workspace.transport][0]
    assert workspace.client.post(f"{path}/exec", {"command": "cat note"})["stdout"] == "copied\n"
    workspace.client.delete(path)


# What cannot be had

def test_a_transport_that_this_host_lacks_is_refused_and_nothing_is_made(transports_daemon):
    lacking = [name for name in TRANSPORTS if not usable(name)]
    if not lacking:
        pytest.skip("this host has every transport")
    with transports_daemon.client() as client:
        before = client.get("/v1/workspaces")["count"]
        for path in ("/v1/workspaces", "/v1/vms"):
            reply = client.request("POST", path, {"environment": "debian:12", "transport": lacking[0]})
            problem = reply.json()
            assert (reply.status, problem["code"], problem["field"]) == (422, "transport_unavailable", "/transport")
            assert lacking[0] in problem["detail"] and "serial" in problem["hint"]
        assert client.get("/v1/workspaces")["count"] == before


def test_the_command_line_and_the_client_demand_it_too(transports_daemon):
    url = f"unix://{transports_daemon.socket_path}"
    done = subprocess.run([harness_daemon.BIN / "hearth", "--json", "workspace", "create", "debian:12", "--isolation",
                           "container", "--transport", "serial"], capture_output=True, text=True,
                          env={**os.environ, "HEARTH_URL": url})
    assert done.returncode == 1 and json.loads(done.stdout)["field"] in ("/transport", "/isolation")
    for create in ("create_workspace", "create_vm"):
        with pytest.raises(hearth.InvalidArgument) as caught:
            getattr(hearth.Hearth(url), create)(environment="debian:12", transport="pigeon")
        assert (caught.value.code, caught.value.field) == ("bad_choice", "/transport")


def test_a_container_has_no_transport_to_choose(transports_daemon):
    body = {"environment": "debian:12", "isolation": "container", "transport": "serial"}
    with transports_daemon.client() as client:
        reply = client.request("POST", "/v1/workspaces", body)
        assert reply.json()["code"] in ("transport_unavailable", "isolation_unavailable")
        if reply.json()["code"] == "transport_unavailable":
            assert (reply.status, reply.json()["field"]) == (422, "/transport")
        reply = client.request("POST", "/v1/workspaces", {**body, "transport": "pigeon"})
        assert (reply.status, reply.json()["code"], reply.json()["field"]) == (422, "bad_choice", "/transport")
        assert client.get("/v1/workspaces", label="none=1")["count"] == 0


def test_a_low_level_machine_has_what_was_demanded_once_it_is_started(transports_daemon):
    with transports_daemon.client(timeout=300) as client:
        made = client.post("/v1/vms", {"environment": "debian:12", "mem_mib": 256, "transport": "serial"})
        path = f"/v1/vms/{made['vm_id']}"
        assert client.post(f"{path}/start")["execution_mode"] == "guest_serial"
        with pytest.raises(Problem):
            client.post("/v1/vms", {"environment": "debian:12", "transport": ""})
        assert client.delete(path)["deleted"] is True
