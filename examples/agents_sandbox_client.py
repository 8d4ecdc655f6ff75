"""A sandbox client for the OpenAI Agents SDK: each sandbox is a workspace of hearth."""

import io
import pathlib
from asyncio import to_thread as away
from typing import Literal

from agents.sandbox import ExecResult, Manifest, WorkspaceReadNotFoundError, resolve_snapshot
from agents.sandbox.session import BaseSandboxClient, BaseSandboxSession, SandboxSessionState

from hearth import NotFound


class State(SandboxSessionState):
    """All that is needed to find the sandbox again: it is the daemon's, whoever made it."""
    type: Literal["hearth"] = "hearth"
    workspace_id: str


class Session(BaseSandboxSession):
    def __init__(self, hearth, state):
        self.hearth, self.state, self.id = hearth, state, state.workspace_id

    async def _exec_internal(self, *command, timeout=None):
        done = await away(self.hearth.exec_workspace, self.id, argv=[str(word) for word in command],
                          timeout_seconds=max(1, round(timeout or 600)))
        return ExecResult(stdout=done["stdout"].encode(), stderr=done["stderr"].encode(), exit_code=done["exit_code"])

    async def read(self, path, *, user=None):
        try:
            return io.BytesIO(await away(self.hearth.read_workspace_bytes, self.id, str(path)))
        except NotFound as problem:
            raise WorkspaceReadNotFoundError(path=pathlib.Path(path), cause=problem) from problem

    async def write(self, path, data, *, user=None):
        await away(self.hearth.write_workspace_file, self.id, str(path), text=data.read())

    async def running(self):
        return (await away(self.hearth.status_workspace, self.id))["state"] == "started"

    async def persist_workspace(self):
        _, tar = await away(self.hearth.connection.send, "GET", f"/v1/workspaces/{self.id}/export",
                            query={"path": "/workspace"}, accept="application/x-tar")
        return io.BytesIO(tar)

    async def hydrate_workspace(self, data):
        await away(self.hearth.request, "POST", f"/v1/workspaces/{self.id}/sync", body=data.read(),
                   content_type="application/x-tar")


class Client(BaseSandboxClient):
    """options: the environment."""
    backend_id, supports_default_options = "hearth", True

    def __init__(self, hearth):
        self.hearth = hearth

    async def create(self, *, snapshot=None, manifest=None, options=None):
        workspace_id = (await away(self.hearth.create_workspace, options or "debian:12"))["workspace_id"]
        return await self.resume(State(workspace_id=workspace_id, manifest=manifest or Manifest(),
                                       snapshot=resolve_snapshot(snapshot, workspace_id)))

    async def resume(self, state):
        return self._wrap_session(Session(self.hearth, state))

    async def delete(self, session):
        await away(self.hearth.delete_workspace, session.state.workspace_id)
        return session

    def deserialize_session_state(self, payload):
        return State.model_validate(payload)
