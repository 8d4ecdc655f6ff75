"""The client: a method an operation, with the tools' parameter names and defaults; results are the
dictionaries that the API answers with."""

from __future__ import annotations

import json
import os
import pathlib
import posixpath
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from .connection import Connection, Events, result_of
from .handles import Service, Shell, Workspace
from .pack import Unpacker, copy_sparse, open_archive
from .server import Server

Result = dict[str, Any]
Path = Union[str, "os.PathLike[str]"]
# A map, or a list of {"name": …, "value": …} as models write it.
Pairs = Union[Mapping[str, str], Sequence[Mapping[str, str]]]


class Hearth:
    """A connection to the daemon that HEARTH_URL names (with HEARTH_TOKEN or HEARTH_TOKEN_FILE), else to
    the user's own or the system's on this machine. May be shared between threads. Host paths are read
    and written here, as the user who runs this."""

    def __init__(self, url: str | None = None, token: str | None = None, timeout: float | None = None) -> None:
        """timeout: seconds that the daemon may be silent. None: ten minutes, and as long as a command may take."""
        self.connection = Connection(url, token, timeout)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> "Hearth":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # How operations are asked for

    def request(self, method: str, path: str, arguments: dict[str, Any] | None = None,
                **options: Any) -> Any:
        """Any route of the API (docs/api.md): the JSON of a success, else a Problem is raised."""
        return self.connection.request(method, path, arguments, **options)

    def _tool(self, tool: str, arguments: dict[str, Any], **options: Any) -> Result:
        given = {name: value for name, value in arguments.items() if value is not None}
        return self.request("POST", f"/v1/tools/{tool}/call", given, **options)

    # Tools for models

    def tools(self, *, profile: str = "workspace-core", format: str = "openai-responses") -> list[Result]:
        """Tool definitions, ready to be handed to a model."""
        return self.request("GET", "/v1/tools", query={"profile": profile, "format": format})["tools"]

    def call_tool(self, name: str, arguments: str) -> str:
        """Calls a tool with the text that a model wrote, unread. Gives the text to hand back to it:
        the result, or the problem for the model to mend."""
        return self.connection.send(
            "POST", f"/v1/tools/{_word(name)}/call", arguments.encode(),
            content_type="application/json", retry=name not in ("workspace_exec", "vm_exec", "vm_run"),
        )[1].decode()

    def create_server(self, profile: str = "workspace-core") -> Server:
        """An MCP server on standard input and output, through the same daemon: .run() serves."""
        return Server(self.connection.url, profile)

    # Environments

    def list_environments(self, *, limit: int = 100, cursor: str | None = None) -> Result:
        return self._tool("vm_list_environments", _given(locals()))

    def pull_environment(self, environment: str) -> Result:
        return self.request("POST", f"/v1/environments/{_word(environment)}/pull", {})

    def inspect_environment(self, environment: str) -> Result:
        return self.request("GET", f"/v1/environments/{_word(environment)}")

    def prune_environments(self) -> Result:
        return self.request("POST", "/v1/environments/prune", {})

    # One-shot and low-level machines

    def run_in_vm(self, *, environment: str, command: str, vcpu_count: int = 1, mem_mib: int = 1024,
                  timeout_seconds: int = 30, ttl_seconds: int = 600, network: bool = False,
                  isolation: str | None = None, allow_host_compat: bool = False,
                  encoding: str = "utf-8") -> Result:
        return self.request("POST", "/v1/vm-runs", _given(locals()), retry=False, takes=timeout_seconds)

    def create_vm(self, *, environment: str, vcpu_count: int = 1, mem_mib: int = 1024,
                  ttl_seconds: int = 600, network: bool = False, isolation: str | None = None,
                  transport: str | None = None, allow_host_compat: bool = False) -> Result:
        return self.request("POST", "/v1/vms", _given(locals()))

    def start_vm(self, vm_id: str) -> Result:
        return self._tool("vm_start", {"vm_id": vm_id})

    def exec_vm(self, vm_id: str, *, command: str, timeout_seconds: int = 30,
                encoding: str = "utf-8") -> Result:
        """Runs one command; the machine is deleted after it."""
        return self._tool("vm_exec", {"vm_id": vm_id, "command": command,
                                      "timeout_seconds": timeout_seconds, "encoding": encoding},
                          retry=False, takes=timeout_seconds)

    def stop_vm(self, vm_id: str) -> Result:
        return self._tool("vm_stop", {"vm_id": vm_id})

    def delete_vm(self, vm_id: str) -> Result:
        return self._tool("vm_delete", {"vm_id": vm_id})

    def status_vm(self, vm_id: str) -> Result:
        return self._tool("vm_status", {"vm_id": vm_id})

    def network_info_vm(self, vm_id: str) -> Result:
        return self._tool("vm_network_info", {"vm_id": vm_id})

    def reap_expired(self) -> Result:
        return self._tool("vm_reap_expired", {})

    # Workspaces

    def upload_directory(self, source_path: Path, *,
                         exclude: Iterable[str] = ()) -> Result:
        """Sends a directory (or a tar) once; its upload_id seeds any number of workspaces."""
        with open_archive(source_path, exclude) as archive:
            return self.request("POST", "/v1/uploads", body=archive, content_type="application/x-tar")

    def create_workspace(self, environment: str, *, vcpu_count: int = 1, mem_mib: int = 1024,
                         ttl_seconds: int = 86400, network_policy: str = "off",
                         allow_host_compat: bool = False,
                         seed_path: Path | None = None,
                         secrets: Sequence[Mapping[str, str]] | None = None,
                         name: str | None = None,
                         labels: Pairs | None = None,
                         isolation: str | None = None, disk_mib: int = 4096,
                         transport: str | None = None,
                         seed_upload: str | None = None, exclude: Iterable[str] = ()) -> Result:
        """seed_path: a directory (without what matches exclude) or a tar of this host."""
        arguments = _given(locals(), leave=["exclude"])
        if seed_path is not None:
            if seed_upload is not None:
                raise ValueError("give seed_path or seed_upload, not both")
            arguments["seed_path"] = str(pathlib.Path(seed_path).resolve())
            arguments["seed_upload"] = self.upload_directory(seed_path, exclude=exclude)["upload_id"]
        if secrets is not None:
            arguments["secrets"] = [_read_secret(secret) for secret in secrets]
        return self.request("POST", "/v1/workspaces", arguments)

    def list_workspaces(self, *, name: str | None = None, label: str | Iterable[str] | None = None,
                        labels: Mapping[str, str] | Iterable[str] | None = None,
                        state: str | None = None, limit: int = 100, cursor: str | None = None) -> Result:
        """label, labels: "key" or "key=value" (labels also {key: value}), all of which must match."""
        wanted = [label] if isinstance(label, str) else list(label or ())
        wanted += [f"{key}={value}" for key, value in labels.items()] if isinstance(labels, Mapping) \
            else list(labels or ())
        query = {"name": name, "label": wanted, "state": state, "limit": limit, "cursor": cursor}
        return self.request("GET", "/v1/workspaces", query=query)

    def update_workspace(self, workspace_id: str, *, name: str | None = None, clear_name: bool = False,
                         labels: Pairs | None = None,
                         clear_labels: Sequence[str] | None = None) -> Result:
        return self._tool("workspace_update", _given(locals()))

    def status_workspace(self, workspace_id: str) -> Result:
        return self._tool("workspace_status", {"workspace_id": workspace_id})

    def stop_workspace(self, workspace_id: str) -> Result:
        return self._tool("workspace_stop", {"workspace_id": workspace_id})

    def suspend_workspace(self, workspace_id: str) -> Result:
        return self._tool("workspace_suspend", {"workspace_id": workspace_id})

    def start_workspace(self, workspace_id: str) -> Result:
        return self._tool("workspace_start", {"workspace_id": workspace_id})

    def delete_workspace(self, workspace_id: str) -> Result:
        return self._tool("workspace_delete", {"workspace_id": workspace_id})

    def reset_workspace(self, workspace_id: str, *, snapshot: str = "baseline") -> Result:
        return self._tool("workspace_reset", {"workspace_id": workspace_id, "snapshot": snapshot})

    def logs_workspace(self, workspace_id: str, *, limit: int = 100, cursor: str | None = None,
                       encoding: str = "utf-8") -> Result:
        return self._tool("workspace_logs", _given(locals()))

    def push_workspace_sync(self, workspace_id: str, source_path: Path | None = None, *,
                            upload_id: str | None = None, dest: str = "/workspace",
                            exclude: Iterable[str] = ()) -> Result:
        """Adds a directory (or a tar) of this host, or an upload, to what is there."""
        if (source_path is None) == (upload_id is None):
            raise ValueError("give either source_path or upload_id")
        if source_path is None:
            return self.request("POST", _path(workspace_id, "sync"), {"upload_id": upload_id, "dest": dest})
        told = os.fsencode(pathlib.Path(source_path).resolve()).decode(errors="replace")
        with open_archive(source_path, exclude) as archive:
            return self.request("POST", _path(workspace_id, "sync"), body=archive,
                                query={"dest": dest, "source_path": told}, content_type="application/x-tar")

    # Commands

    def exec_workspace(self, workspace_id: str, *, command: str | None = None,
                       argv: Sequence[str] | None = None, timeout_seconds: int = 30,
                       cwd: str = "/workspace",
                       env: Pairs | None = None,
                       stdin: str | None = None,
                       secret_env: Pairs | None = None,
                       max_output_bytes: int = 1048576, wait_ms: int | None = None,
                       detach: bool = False, encoding: str = "utf-8") -> Result:
        """Runs a shell command (or argv, without a shell). A non-zero exit_code is a result, not an
        error. It is never sent twice."""
        return self.request("POST", _path(workspace_id, "exec"), _given(locals(), leave=["workspace_id"]),
                            retry=False, takes=timeout_seconds)

    def stream_exec_workspace(self, workspace_id: str, **arguments: Any) -> Events:
        """The command's events as they come: {"type": "stdout"|"stderr", …}, the last one "exit"
        (or, with detach or wait_ms, "running"). Takes exec_workspace's arguments. Closing the iterator early ends the command."""
        body = {**{name: value for name, value in arguments.items() if value is not None}, "stream": True}
        return Events(self.connection.stream("POST", _path(workspace_id, "exec"),
                                             body=json.dumps(body).encode(),
                                             content_type="application/json",
                                             accept="application/x-ndjson",
                                             takes=arguments.get("timeout_seconds")),
                      ends=("exit", "running", "error"))

    def read_exec(self, workspace_id: str, exec_id: str, *, cursor: str | None = None,
                  wait_ms: int = 0, encoding: str = "utf-8") -> Result:
        """State and output of a command that was detached or waited for in part."""
        return self.request("GET", _path(workspace_id, f"execs/{_word(exec_id)}"),
                            query={"cursor": cursor, "wait_ms": wait_ms, "encoding": encoding})

    def cancel_exec(self, workspace_id: str, exec_id: str) -> Result:
        return self.request("DELETE", _path(workspace_id, f"execs/{_word(exec_id)}"))

    # Files

    def list_workspace_files(self, workspace_id: str, *, path: str = "/workspace",
                             recursive: bool = False, limit: int = 100,
                             cursor: str | None = None) -> Result:
        return self._tool("workspace_file_list", _given(locals()))

    def read_workspace_file(self, workspace_id: str, path: str, *, max_bytes: int = 65536,
                            offset: int = 0, encoding: str = "utf-8") -> Result:
        return self._tool("workspace_file_read", _given(locals()))

    def read_workspace_bytes(self, workspace_id: str, path: str) -> bytes:
        """A file whole, as it is."""
        status, body = self.connection.send("GET", _path(workspace_id, "files/content"),
                                            query={"path": path}, accept="application/octet-stream")
        if status != 200:
            result_of(status, body)
        return body

    def write_workspace_file(self, workspace_id: str, path: str, *, text: str | bytes,
                             mode: str | None = None, create_parents: bool = True) -> Result:
        """Writes a text as UTF-8, or bytes, whole or not at all."""
        data = text.encode() if isinstance(text, str) else bytes(text)
        return self.request("PUT", _path(workspace_id, "files/content"), body=data,
                            query={"path": path, "mode": mode, "create_parents": create_parents},
                            content_type="application/octet-stream")

    def apply_workspace_patch(self, workspace_id: str, *, patch: str) -> Result:
        return self._tool("workspace_patch_apply", {"workspace_id": workspace_id, "patch": patch})

    def diff_workspace(self, workspace_id: str, *, paths: Sequence[str] | None = None,
                       context: int = 3, stat_only: bool = False, binary: bool = False,
                       max_entries: int = 1000, max_patch_bytes: int = 262144) -> Result:
        query = _given(locals(), leave=["workspace_id"])
        return self.request("GET", _path(workspace_id, "diff"), query=query)

    def export_workspace(self, workspace_id: str, path: str, *,
                         output_path: Path) -> Result:
        """Copies a file or directory of the guest to output_path on this host, which must not be there
        yet. Nothing is written outside of it, whatever the guest made."""
        unpacker = Unpacker(output_path)
        with self.connection.stream("GET", _path(workspace_id, "export"), query={"path": path},
                                    accept="application/x-tar") as stream, stream.reading():
            kind = unpacker.unpack(stream.response)
        whole = path if path.startswith("/") else posixpath.normpath(f"/workspace/{path}")
        return {"workspace_id": workspace_id, "workspace_path": whole,
                "output_path": str(pathlib.Path(output_path).absolute()), "artifact_type": kind,
                "entry_count": unpacker.entry_count, "bytes_written": unpacker.bytes_written,
                "execution_mode": self.status_workspace(workspace_id)["execution_mode"]}

    # A stopped workspace's disk

    def export_workspace_disk(self, workspace_id: str, *,
                              output_path: Path) -> Result:
        """The disk as one raw ext4 image; holes stay holes."""
        with self.connection.stream("GET", _path(workspace_id, "disk"),
                                    accept="application/octet-stream") as stream, \
                open(output_path, "xb") as file:
            size = copy_sparse(stream.response, file)
        return {"workspace_id": workspace_id, "output_path": str(pathlib.Path(output_path).absolute()), "disk_format": "ext4",
                "bytes_written": size}

    def list_workspace_disk(self, workspace_id: str, *, path: str = "/workspace",
                            recursive: bool = False, limit: int = 1000) -> Result:
        query = _given(locals(), leave=["workspace_id"])
        return self.request("GET", _path(workspace_id, "disk/list"), query=query)

    def read_workspace_disk(self, workspace_id: str, path: str, *, max_bytes: int = 65536,
                            offset: int = 0, encoding: str = "utf-8") -> Result:
        query = _given(locals(), leave=["workspace_id"])
        return self.request("GET", _path(workspace_id, "disk/read"), query=query)

    # Snapshots

    def fork_workspace(self, workspace_id: str, *, count: int = 1, names: Sequence[str] | None = None,
                       labels: Mapping[str, str] | None = None, snapshot: str | None = None,
                       memory: bool = False) -> Result:
        return self._tool("workspace_fork", _given(locals()))

    def summarize_workspace(self, workspace_id: str, *, commands: int = 20, changes: int = 20,
                            exports: int = 20, denials: int = 20) -> Result:
        return self._tool("workspace_summary", _given(locals()))

    def network_log_workspace(self, workspace_id: str, *, limit: int = 100,
                              cursor: str | None = None) -> Result:
        """What the workspace tried to reach and was denied."""
        return self._tool("workspace_network_log", _given(locals()))

    def create_snapshot(self, workspace_id: str, snapshot_name: str) -> Result:
        return self._tool("snapshot_create", _given(locals()))

    def list_snapshots(self, workspace_id: str, *, limit: int = 100, cursor: str | None = None) -> Result:
        return self._tool("snapshot_list", _given(locals()))

    def delete_snapshot(self, workspace_id: str, snapshot_name: str) -> Result:
        return self._tool("snapshot_delete", _given(locals()))

    # Shells

    def open_shell(self, workspace_id: str, *, cwd: str = "/workspace", cols: int = 120, rows: int = 30,
                   term: str = "xterm-256color",
                   secret_env: Pairs | None = None) -> Result:
        arguments = _given(locals(), leave=["workspace_id"])
        return self.request("POST", _path(workspace_id, "shells"), arguments)

    def read_shell(self, workspace_id: str, shell_id: str, *, cursor: int = 0, max_chars: int = 65536,
                   plain: bool = False, wait_for_idle_ms: int | None = None) -> Result:
        return self._tool("shell_read", _given(locals()))

    def write_shell(self, workspace_id: str, shell_id: str, *, input: str,
                    append_newline: bool = True) -> Result:
        return self._tool("shell_write", _given(locals()))

    def signal_shell(self, workspace_id: str, shell_id: str, *, signal_name: str = "INT") -> Result:
        return self._tool("shell_signal", _given(locals()))

    def close_shell(self, workspace_id: str, shell_id: str) -> Result:
        return self._tool("shell_close", _given(locals()))

    # Services

    def start_service(self, workspace_id: str, service_name: str, *, command: str,
                      cwd: str = "/workspace", readiness: Mapping[str, Any] | None = None,
                      ready_file: str | None = None, ready_tcp: str | None = None,
                      ready_http: str | None = None, ready_command: str | None = None,
                      ready_timeout_seconds: int = 30, ready_interval_ms: int = 500,
                      secret_env: Pairs | None = None,
                      published_ports: Sequence[Mapping[str, int]] | None = None,
                      restart: str = "never") -> Result:
        """readiness: {"type": "file", "path": …}, {"type": "tcp", "address": …}, {"type": "http",
        "url": …} or {"type": "command", "command": …}; or one of the operation's own ready_…."""
        arguments = _given(locals(), leave=["workspace_id", "service_name", "readiness"])
        if readiness is not None:
            arguments.update(_readiness(readiness))
        return self.request("PUT", _path(workspace_id, f"services/{_word(service_name)}"), arguments)

    def list_services(self, workspace_id: str, *, limit: int = 100, cursor: str | None = None) -> Result:
        return self._tool("service_list", _given(locals()))

    def status_service(self, workspace_id: str, service_name: str) -> Result:
        return self._tool("service_status", _given(locals()))

    def logs_service(self, workspace_id: str, service_name: str, *, tail_lines: int = 200,
                     all: bool = False, cursor: str | None = None, wait_ms: int = 0,
                     encoding: str = "utf-8") -> Result:
        query = _given(locals(), leave=["workspace_id", "service_name"])
        return self.request("GET", _path(workspace_id, f"services/{_word(service_name)}/logs"), query=query)

    def stop_service(self, workspace_id: str, service_name: str) -> Result:
        return self._tool("service_stop", _given(locals()))

    # What cleans up after itself

    def workspace(self, environment: str, **arguments: Any) -> Workspace:
        """A new workspace as a context manager; takes create_workspace's arguments, deletes at the end."""
        return Workspace(self, environment, arguments)

    def shell(self, workspace_id: str, **arguments: Any) -> Shell:
        """A shell as a context manager: closed at the end."""
        return Shell(self, workspace_id, arguments)

    def service(self, workspace_id: str, service_name: str, **arguments: Any) -> Service:
        """A service as a context manager: stopped at the end."""
        return Service(self, workspace_id, service_name, arguments)


def _word(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _path(workspace_id: str, rest: str) -> str:
    return f"/v1/workspaces/{_word(workspace_id)}/{rest}"


def _given(arguments: dict[str, Any], leave: Sequence[str] = ()) -> dict[str, Any]:
    """A method's own parameters (its locals(), taken first thing) as an operation's arguments: None is
    left out, since absent is the default."""
    return {name: value for name, value in arguments.items()
            if value is not None and name != "self" and name not in leave}


def _read_secret(secret: Mapping[str, str]) -> dict[str, str]:
    """{name, file_path} gets its value: the file is this host's. Of one line the end is left out."""
    if not secret.get("file_path") or secret.get("value") is not None:
        return dict(secret)
    text = pathlib.Path(secret["file_path"]).read_bytes().decode()
    line = re.fullmatch(r"([^\r\n]+)\r?\n", text)
    return {**secret, "value": line[1] if line else text}


_READINESS = {"file": ("path", "ready_file"), "tcp": ("address", "ready_tcp"),
              "http": ("url", "ready_http"), "command": ("command", "ready_command")}


def _readiness(readiness: Mapping[str, Any]) -> dict[str, Any]:
    kind = readiness.get("type")
    if kind not in _READINESS:
        raise ValueError(f"readiness: type is one of {', '.join(_READINESS)}, not {kind!r}")
    member, argument = _READINESS[kind]
    if set(readiness) != {"type", member}:
        raise ValueError(f"readiness of type {kind} has {member} and nothing else")
    return {argument: readiness[member]}
