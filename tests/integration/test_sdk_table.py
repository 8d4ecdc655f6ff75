"""The Python client's methods beside the operation table: no argument forgotten, every default the same."""

import inspect

import pytest

import hearth
from harness.daemon import operations

METHODS = {
    "vm_run": "run_in_vm", "vm_create": "create_vm", "vm_start": "start_vm", "vm_exec": "exec_vm",
    "vm_stop": "stop_vm", "vm_delete": "delete_vm", "vm_status": "status_vm",
    "vm_network_info": "network_info_vm", "vm_reap_expired": "reap_expired",
    "vm_list_environments": "list_environments", "environment_prune": "prune_environments",
    "workspace_create": "create_workspace", "workspace_list": "list_workspaces",
    "workspace_update": "update_workspace", "workspace_status": "status_workspace",
    "workspace_delete": "delete_workspace", "workspace_stop": "stop_workspace",
    "workspace_suspend": "suspend_workspace", "workspace_start": "start_workspace", "workspace_reset": "reset_workspace",
    "workspace_exec": "exec_workspace", "workspace_logs": "logs_workspace",
    "workspace_file_list": "list_workspace_files", "workspace_file_read": "read_workspace_file",
    "workspace_file_write": "write_workspace_file", "workspace_patch_apply": "apply_workspace_patch",
    "workspace_diff": "diff_workspace", "workspace_disk_list": "list_workspace_disk",
    "workspace_disk_read": "read_workspace_disk", "snapshot_create": "create_snapshot",
    "snapshot_list": "list_snapshots", "snapshot_delete": "delete_snapshot", "shell_open": "open_shell",
    "shell_read": "read_shell", "shell_write": "write_shell", "shell_signal": "signal_shell",
    "shell_close": "close_shell", "service_start": "start_service", "service_list": "list_services",
    "service_status": "status_service", "service_logs": "logs_service", "service_stop": "stop_service",
}

# What a method says in another way.
SAID_OTHERWISE = {
    "workspace_exec": {"stream", "stdin_open"},  # stream_exec_workspace
}


def described():
    """Each operation's arguments: name to default, None where it has none."""
    for operation in operations():
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        fields = {field["name"]: field["schema"] for field in operation.get("parameters", ())
                  if field["in"] != "header"}
        fields.update(body.get("schema", {}).get("properties", {}))
        yield operation["operationId"], {name: schema.get("default") for name, schema in fields.items()}


OPERATIONS = dict(described())


@pytest.mark.parametrize("tool", METHODS)
def test_a_method_has_its_operation_s_arguments_and_defaults(tool):
    given = {name: None if parameter.default is parameter.empty else parameter.default
             for name, parameter in list(inspect.signature(getattr(hearth.Hearth, METHODS[tool]))
                                         .parameters.items())[1:]}
    wanted = OPERATIONS[tool]
    missing = wanted.keys() - given.keys() - SAID_OTHERWISE.get(tool, set())
    assert not missing, f"{METHODS[tool]} does not take {sorted(missing)}"
    differing = {name: (given[name], default) for name, default in wanted.items()
                 if default is not None and name in given and given[name] != default}
    assert not differing


def test_arguments_that_the_reference_does_not_have_reach_the_daemon(daemon):
    with hearth.Hearth(f"unix://{daemon.socket_path}") as sdk, sdk.workspace("debian:12") as workspace:
        sdk.write_workspace_file(workspace.id, "bytes", text=b"a\0b")
        assert "GIT binary patch" in sdk.diff_workspace(workspace.id, binary=True)["patch"]
        assert not sdk.diff_workspace(workspace.id, binary=True, max_patch_bytes=0)["patch"]
        done = sdk.exec_workspace(workspace.id, command="printf 'a\\0b'", encoding="base64")
        assert done["stdout"] == "YQBi"
        with hearth.Hearth(f"unix://{daemon.socket_path}").shell(workspace.id, term="vt100") as shell:
            shell.write("echo kind=$TERM.")
            seen = ""
            while "kind=vt100." not in seen:
                seen += shell.read()
        started = sdk.start_service(workspace.id, "once", command="echo up; sleep 600", restart="on-failure")
        assert started["state"] == "running"
        logs = sdk.logs_service(workspace.id, "once")
        if not logs["stdout"]:
            logs = sdk.logs_service(workspace.id, "once", cursor=logs["cursor"], wait_ms=30000)
        assert logs["stdout"] == "up\n"
