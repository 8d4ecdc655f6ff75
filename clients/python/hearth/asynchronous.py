"""AsyncHearth: the same methods, to be awaited. The standard library has no HTTP client for asyncio, so
each call runs on a thread of a pool of its own; calls made together run side by side."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from .client import Hearth
from .server import Server

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def _awaited(method: Callable[Concatenate[Hearth, Parameters], Answer]
             ) -> Callable[Concatenate["AsyncHearth", Parameters], Awaitable[Answer]]:
    @functools.wraps(method)
    async def call(self: "AsyncHearth", *arguments: Parameters.args,
                   **keywords: Parameters.kwargs) -> Answer:
        loop = asyncio.get_running_loop()
        work = functools.partial(method, self.hearth, *arguments, **keywords)
        return await loop.run_in_executor(self._pool, work)
    return cast("Callable[Concatenate[AsyncHearth, Parameters], Awaitable[Answer]]", call)


class AsyncHearth:
    """May be used by any number of tasks of one event loop."""

    def __init__(self, url: str | None = None, token: str | None = None, timeout: float | None = None,
                 calls: int = 64) -> None:
        """calls: how many may be under way at one time."""
        self.hearth = Hearth(url, token, timeout)
        self._pool = concurrent.futures.ThreadPoolExecutor(calls, thread_name_prefix="hearth")

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)
        self.hearth.close()

    async def __aenter__(self) -> "AsyncHearth":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def create_server(self, profile: str = "workspace-core") -> Server:
        return self.hearth.create_server(profile)

    async def stream_exec_workspace(self, workspace_id: str, **arguments: Any
                                    ) -> AsyncIterator[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        start = functools.partial(self.hearth.stream_exec_workspace, workspace_id, **arguments)
        events = await loop.run_in_executor(self._pool, start)
        try:
            while (event := await loop.run_in_executor(self._pool, next, events, None)) is not None:
                yield event
        finally:
            events.close()

    tools = _awaited(Hearth.tools)
    call_tool = _awaited(Hearth.call_tool)
    list_environments = _awaited(Hearth.list_environments)
    pull_environment = _awaited(Hearth.pull_environment)
    inspect_environment = _awaited(Hearth.inspect_environment)
    prune_environments = _awaited(Hearth.prune_environments)
    run_in_vm = _awaited(Hearth.run_in_vm)
    create_vm = _awaited(Hearth.create_vm)
    start_vm = _awaited(Hearth.start_vm)
    exec_vm = _awaited(Hearth.exec_vm)
    stop_vm = _awaited(Hearth.stop_vm)
    delete_vm = _awaited(Hearth.delete_vm)
    status_vm = _awaited(Hearth.status_vm)
    network_info_vm = _awaited(Hearth.network_info_vm)
    reap_expired = _awaited(Hearth.reap_expired)
    upload_directory = _awaited(Hearth.upload_directory)
    create_workspace = _awaited(Hearth.create_workspace)
    list_workspaces = _awaited(Hearth.list_workspaces)
    update_workspace = _awaited(Hearth.update_workspace)
    status_workspace = _awaited(Hearth.status_workspace)
    stop_workspace = _awaited(Hearth.stop_workspace)
    suspend_workspace = _awaited(Hearth.suspend_workspace)
    start_workspace = _awaited(Hearth.start_workspace)
    delete_workspace = _awaited(Hearth.delete_workspace)
    reset_workspace = _awaited(Hearth.reset_workspace)
    logs_workspace = _awaited(Hearth.logs_workspace)
    push_workspace_sync = _awaited(Hearth.push_workspace_sync)
    exec_workspace = _awaited(Hearth.exec_workspace)
    read_exec = _awaited(Hearth.read_exec)
    cancel_exec = _awaited(Hearth.cancel_exec)
    list_workspace_files = _awaited(Hearth.list_workspace_files)
    read_workspace_file = _awaited(Hearth.read_workspace_file)
    read_workspace_bytes = _awaited(Hearth.read_workspace_bytes)
    write_workspace_file = _awaited(Hearth.write_workspace_file)
    apply_workspace_patch = _awaited(Hearth.apply_workspace_patch)
    diff_workspace = _awaited(Hearth.diff_workspace)
    export_workspace = _awaited(Hearth.export_workspace)
    export_workspace_disk = _awaited(Hearth.export_workspace_disk)
    list_workspace_disk = _awaited(Hearth.list_workspace_disk)
    read_workspace_disk = _awaited(Hearth.read_workspace_disk)
    fork_workspace = _awaited(Hearth.fork_workspace)
    summarize_workspace = _awaited(Hearth.summarize_workspace)
    network_log_workspace = _awaited(Hearth.network_log_workspace)
    create_snapshot = _awaited(Hearth.create_snapshot)
    list_snapshots = _awaited(Hearth.list_snapshots)
    delete_snapshot = _awaited(Hearth.delete_snapshot)
    open_shell = _awaited(Hearth.open_shell)
    read_shell = _awaited(Hearth.read_shell)
    write_shell = _awaited(Hearth.write_shell)
    signal_shell = _awaited(Hearth.signal_shell)
    close_shell = _awaited(Hearth.close_shell)
    start_service = _awaited(Hearth.start_service)
    list_services = _awaited(Hearth.list_services)
    status_service = _awaited(Hearth.status_service)
    logs_service = _awaited(Hearth.logs_service)
    stop_service = _awaited(Hearth.stop_service)
