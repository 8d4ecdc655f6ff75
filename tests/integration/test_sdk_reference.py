"""Code written for the reference's class: the 47 methods, called as such code calls them; each gives a dict
with the fields that the operation has."""

import inspect
import json
import subprocess
import sys

import pytest

from harness.daemon import BIN, operations
from harness.mcp import hello, message
from harness.waiting import until
from hearth import AsyncHearth
from hearth import Hearth as Pyro  # the change of the import
from test_sdk import METHODS
from test_sdk_table import METHODS as METHOD_OF

OPERATION_OF = {method: operation for operation, method in METHOD_OF.items()} | {
    "pull_environment": None, "create_server": None, "inspect_environment": "environment_inspect",
    "push_workspace_sync": "workspace_sync_push", "export_workspace": None, "export_workspace_disk": None}


def outputs():
    """Each operation's fields of a success."""
    for operation in operations():
        for status, reply in operation["responses"].items():
            schema = reply.get("content", {}).get("application/json", {}).get("schema", {})
            if status.startswith("2") and "properties" in schema:
                yield operation["operationId"], schema.get("required", schema["properties"].keys())


class Watched:
    """The class, with each result looked at."""

    def __init__(self, pyro):
        self.pyro, self.fields, self.called = pyro, dict(outputs()), {"create_server"}

    def __getattr__(self, name):
        def call(*arguments, **keywords):
            result = getattr(self.pyro, name)(*arguments, **keywords)
            self.called.add(name)
            assert isinstance(result, dict), name
            if operation := OPERATION_OF[name]:
                assert set(self.fields[operation]) <= result.keys(), name
            return result
        return call


@pytest.fixture(scope="module")
def pyro(daemon):
    with Pyro(f"unix://{daemon.socket_path}") as made:
        yield Watched(made)


def test_environments_and_machines(pyro):
    assert "debian:12" in [row["name"] for row in pyro.list_environments()["environments"]]
    assert pyro.inspect_environment("debian:12")["built"] is True
    pyro.pull_environment("debian:12")
    ran = pyro.run_in_vm(environment="debian:12", command="echo hi", vcpu_count=1, mem_mib=512,
                         timeout_seconds=30, ttl_seconds=600, network=False, allow_host_compat=True)
    assert (ran["stdout"], ran["exit_code"], ran["cleanup"]["deleted"]) == ("hi\n", 0, True)
    vm_id = pyro.create_vm(environment="debian:12", allow_host_compat=True)["vm_id"]
    assert pyro.start_vm(vm_id)["state"] == "started" == pyro.status_vm(vm_id)["state"]
    assert pyro.network_info_vm(vm_id)["network_enabled"] is False
    pyro.stop_vm(vm_id)
    pyro.start_vm(vm_id)
    assert pyro.exec_vm(vm_id, command="exit 3", timeout_seconds=30)["exit_code"] == 3
    assert pyro.delete_vm(pyro.create_vm(environment="debian:12")["vm_id"])["deleted"] is True
    pyro.reap_expired()


def test_a_workspace_from_its_seed_to_its_disk(pyro, tmp_path):
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed/app.txt").write_text("one\n")
    (tmp_path / "token").write_text("file value\n")
    created = pyro.create_workspace(
        environment="debian:12", seed_path=tmp_path / "seed", network_policy="published-ports",
        name="reference", labels={"for": "reference"},
        secrets=[{"name": "TOKEN", "value": "s3cret-value"},
                 {"name": "KEY", "file_path": str(tmp_path / "token")}])
    workspace_id = created["workspace_id"]
    assert created["workspace_seed"]["entry_count"] == 1
    assert "reference" in [row["name"] for row in pyro.list_workspaces()["workspaces"]]
    assert pyro.update_workspace(workspace_id, name="renamed", labels={"more": "yes"},
                                 clear_labels=["for"])["labels"] == {"more": "yes"}
    assert pyro.status_workspace(workspace_id)["name"] == "renamed"
    ran = pyro.exec_workspace(workspace_id, command="test $TOKEN = s3cret-value && echo $TOKEN",
                              timeout_seconds=30, secret_env={"TOKEN": "TOKEN"})
    assert (ran["stdout"], ran["exit_code"]) == ("[REDACTED]\n", 0)
    (tmp_path / "seed/more.txt").write_text("two\n")
    assert pyro.push_workspace_sync(workspace_id, tmp_path / "seed", dest="/workspace/more")[
        "workspace_sync"]["entry_count"] == 2
    assert len(pyro.list_workspace_files(workspace_id, path="/workspace", recursive=True)["entries"]) == 4
    assert pyro.read_workspace_file(workspace_id, "app.txt", max_bytes=100)["content"] == "one\n"
    pyro.write_workspace_file(workspace_id, "new.txt", text="new\n")
    patch = "--- a/app.txt\n+++ b/app.txt\n@@ -1 +1 @@\n-one\n+changed\n"
    assert pyro.apply_workspace_patch(workspace_id, patch=patch)["changed"] is True
    assert "+changed" in pyro.diff_workspace(workspace_id)["patch"]
    assert pyro.logs_workspace(workspace_id)["count"] == 1
    assert pyro.export_workspace(workspace_id, "new.txt", output_path=tmp_path / "out.txt")[
        "artifact_type"] == "file" and (tmp_path / "out.txt").read_text() == "new\n"
    assert pyro.create_snapshot(workspace_id, "checkpoint")["snapshot"]["kind"] == "named"
    assert pyro.list_snapshots(workspace_id)["count"] == 2
    assert pyro.reset_workspace(workspace_id, snapshot="checkpoint")["reset_count"] == 1
    assert pyro.delete_snapshot(workspace_id, "checkpoint")["deleted"] is True

    shell_id = pyro.open_shell(workspace_id, cwd="/workspace", cols=120, rows=30,
                               secret_env={"TOKEN": "TOKEN"})["shell_id"]
    pyro.write_shell(workspace_id, shell_id, input="echo typed", append_newline=True)
    until(lambda: "typed" in pyro.read_shell(workspace_id, shell_id, cursor=0, plain=True,
                                             wait_for_idle_ms=300)["output"], "nothing is typed")
    pyro.signal_shell(workspace_id, shell_id, signal_name="INT")
    assert pyro.close_shell(workspace_id, shell_id)["closed"] is True

    started = pyro.start_service(
        workspace_id, "web", command="exec python3 -m http.server 8123", cwd="/workspace",
        readiness={"type": "tcp", "address": "127.0.0.1:8123"}, ready_timeout_seconds=150,
        ready_interval_ms=100, published_ports=[{"guest_port": 8123}])
    assert started["state"] == "running" and started["published_ports"][0]["host_port"]
    assert pyro.list_services(workspace_id)["services"][0]["service_name"] == "web"
    assert pyro.status_service(workspace_id, "web")["state"] == "running"
    pyro.logs_service(workspace_id, "web", tail_lines=10)
    assert pyro.stop_service(workspace_id, "web")["state"] == "stopped"

    assert pyro.stop_workspace(workspace_id)["state"] == "stopped"
    assert [entry["path"] for entry in pyro.list_workspace_disk(workspace_id, path="/workspace/more")[
        "entries"]] == ["/workspace/more/app.txt", "/workspace/more/more.txt"]
    assert pyro.read_workspace_disk(workspace_id, "new.txt", max_bytes=100)["content"] == "new\n"
    exported = pyro.export_workspace_disk(workspace_id, output_path=tmp_path / "disk.ext4")
    assert exported["disk_format"] == "ext4" and exported["bytes_written"] > 1 << 20
    assert pyro.start_workspace(workspace_id)["state"] == "started"
    assert pyro.delete_workspace(workspace_id)["deleted"] is True


@pytest.mark.parametrize("readiness, argument", [
    ({"type": "file", "path": "/x"}, {"ready_file": "/x"}), ({"type": "tcp", "address": "1"}, {"ready_tcp": "1"}),
    ({"type": "http", "url": "http://x"}, {"ready_http": "http://x"}),
    ({"type": "command", "command": "true"}, {"ready_command": "true"})])
def test_each_kind_of_readiness(readiness, argument, monkeypatch):
    asked = {}
    made = Pyro("http://127.0.0.1:9")
    monkeypatch.setattr(made, "request", lambda method, path, arguments: asked.update(arguments) or {})
    made.start_service("ws_x", "web", command="true", readiness=readiness)
    assert argument.items() <= asked.items() and "readiness" not in asked


def test_a_server_serves_mcp_through_the_same_daemon(daemon):
    lines = [message("initialize", hello(), 1), message("notifications/initialized"),
             message("tools/list", {}, 2)]
    code = f"import hearth; raise SystemExit(hearth.Hearth('unix://{daemon.socket_path}').create_server(" \
           "'vm-run').run())"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=60,
                          input="".join(json.dumps(line) + "\n" for line in lines),
                          env={"PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0, done.stderr
    tools = json.loads(done.stdout.splitlines()[1])["result"]["tools"]
    assert [tool["name"] for tool in tools] == ["vm_run"]
    with pytest.raises(ValueError):
        Pyro("http://127.0.0.1:9").create_server("everything")


def test_nothing_of_the_reference_is_left_out(pyro):
    """After the tests above, in this order."""
    assert set(METHODS) - pyro.called == {"prune_environments"}, "prune would touch what others share"
    assert set(METHODS) <= OPERATION_OF.keys()
    for name in METHODS:
        assert name == "create_server" or inspect.iscoroutinefunction(getattr(AsyncHearth, name)), name
