"""Makes of a request that fits its schema one that fits the daemon too: what no schema can say.
Requests that are meant to be wrong stay as they are."""

import io
import os
import tarfile

import schemathesis
from schemathesis.core import NOT_SET

WORKSPACE = os.environ.get("TEST_WORKSPACE")
ENDS_IT = {"workspace_delete", "workspace_stop", "workspace_start", "workspace_suspend"}


def a_tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("fits"))
    return out.getvalue()


def fit_body(name, body):
    for field in ("labels", "env"):
        if isinstance(body.get(field), list):  # A name stands once.
            body[field] = list({pair["name"]: pair for pair in body[field]}.values())
    if "environment" in body:
        body["environment"] = "debian:12"
        for name_of_data in ("seed_upload", "seed_path", "secrets"):
            body.pop(name_of_data, None)
        body["network_policy"] = "off"
        body["isolation"] = "container"
        body.pop("transport", None)  # Machines alone have one.
        body["mem_mib"] = 256
    if body.get("host_roots"):
        body["host_roots"] = ["/fits"]
    if name in ("vm_run", "vm_create"):
        body["network"] = False
    if name == "vm_run":
        body["timeout_seconds"] = 1
    if name == "workspace_exec":
        body.pop("argv", None)
        body.pop("secret_env", None)
        body.update(command="true", cwd="/workspace", timeout_seconds=1)
    if name == "service_start":
        for one_too_many in [key for key in body if key.startswith("ready_")]:
            body.pop(one_too_many)
        body.pop("secret_env", None)
        body.pop("published_ports", None)
        body.update(command="true", cwd="/workspace")
    if name == "shell_open":  # No schema says which directories and secrets there are.
        body.clear()
        body["cwd"] = "/workspace"
    if name == "workspace_update":
        body["name"], body["clear_name"] = "fits", False
        body["clear_labels"] = []
    if name == "snapshot_create":
        body["snapshot_name"] = "fits"
    if name == "workspace_fork":  # As many names as copies; and each copy is a real workspace.
        body.update(count=1, names=None, snapshot="baseline", memory=False)
    if name == "workspace_file_search":
        body.update(pattern="fits", regex=False, path=".", include=[], exclude=[])
    if name == "tenant_network_set":  # No schema says what a name or a network is.
        body["allow"] = ["packages.example"]
    if name == "workspace_file_mkdir":
        body.update(path="directory", parents=True)
    if name == "workspace_file_move":  # A file may take its own name.
        body.update(path="fits", to="fits", replace=True)
    if name == "workspace_patch_apply":  # It applies again and again.
        body["patch"] = "--- a/grows\n+++ b/grows\n@@ -0,0 +1 @@\n+fits\n"
    if name == "workspace_file_write":
        body.update(path="fits", mode="0644", text="fits", create_parents=True)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Called before each request."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    name = case.operation.definition.raw["operationId"]
    if WORKSPACE and name not in ENDS_IT and "workspace_id" in (case.path_parameters or {}):
        case.path_parameters["workspace_id"] = WORKSPACE
    if name == "workspace_suspend":  # No schema says which are machines: those that are made here are none.
        case.path_parameters["workspace_id"] = "ws_aaaaaaaaaaaaaaaa"
    if case.query:
        case.query.pop("cursor", None)
        case.query.pop("output_path", None)  # No host_roots allow any.
        if name == "event_list":  # Nothing to wait for comes.
            case.query["wait_ms"] = 0
        if "path" in case.query:
            case.query["path"] = "."
        if name == "workspace_file_read":
            case.query["path"] = "fits"
        if name == "workspace_file_delete":  # Nothing can be deleted twice.
            case.query["path"] = "absent"
    if name == "tool_call":  # What a tool takes is its own schema's business.
        case.path_parameters["name"], case.body = "vm_list_environments", {}
    if name == "upload_create":
        case.body = a_tar()
    if name == "workspace_sync_push":
        case.body, case.media_type, case.query = a_tar(), "application/octet-stream", {}
    as_json = case.media_type == "application/json" and isinstance(case.body, dict)
    if name == "workspace_file_write" and not as_json:
        case.query = {"path": "fits"}
        if case.body is NOT_SET:  # It is that or a body.
            case.query["text"] = "fits"
    if isinstance(case.body, dict):
        fit_body(name, case.body)
        if case.media_type == "application/json" and case.query:
            case.query.clear()
