"""A tool loop over OpenAI's Responses API: the model asks, hearth does, the answers go back.

    from hearth.responses import run_loop
    print(run_loop(openai.OpenAI(), hearth, model="gpt-5", task="…"))

Function tools come from the daemon (GET /v1/tools) and are called there, the model's text unread. With
workspace_id the built-in tools `shell` and `apply_patch` work on that workspace too. openai itself is
not imported: whatever has .responses.create does.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

from .client import Hearth
from .errors import Problem

BUILTIN = ({"type": "shell"}, {"type": "apply_patch"})
OUTPUT_MAX = 65536


def run_loop(client: Any, hearth: Hearth, *, model: str, task: str, profile: str | None = "workspace-core",
             workspace_id: str | None = None, builtin: bool = False, stream: bool = False,
             max_turns: int = 50, on_call: Callable[[Any], None] = lambda call: None,
             on_event: Callable[[Any], None] = lambda event: None, **options: Any) -> str:
    """Asks until the model has no more calls; gives its last words. Calls of one turn run side by side.
    profile None: no function tools. builtin: offer shell and apply_patch on workspace_id. on_event sees
    what a stream brings; options go to responses.create."""
    tools = list(hearth.tools(profile=profile)) if profile else []
    if builtin:
        if not workspace_id:
            raise ValueError("builtin tools need a workspace_id to work on")
        tools += [dict(tool) for tool in BUILTIN]
    conversation: list[Any] = [{"role": "user", "content": task}]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in range(max_turns):
            response = _ask(client, stream, on_event, model=model, input=conversation, tools=tools,
                            **options)
            conversation += response.output
            calls = [item for item in response.output if item.type in _ANSWERS]
            if not calls:
                return response.output_text
            for call in calls:
                on_call(call)
            conversation += pool.map(lambda call: answer(hearth, call, workspace_id), calls)
    raise RuntimeError(f"the model was still calling tools after {max_turns} turns")


def _ask(client: Any, stream: bool, on_event: Callable[[Any], None], **request: Any) -> Any:
    if not stream:
        return client.responses.create(**request)
    completed = None
    for event in client.responses.create(stream=True, **request):
        on_event(event)
        if event.type in ("response.completed", "response.incomplete", "response.failed"):
            completed = event.response
    if completed is None or completed.status == "failed":
        raise RuntimeError("the model's stream ended without a response")
    return completed


def answer(hearth: Hearth, call: Any, workspace_id: str | None = None) -> dict[str, Any]:
    """One call's output item, ready for the next request's input."""
    return _ANSWERS[call.type](hearth, call, workspace_id)


def _function(hearth: Hearth, call: Any, workspace_id: str | None) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call.call_id,
            "output": hearth.call_tool(call.name, call.arguments)}


def _of(value: Any, name: str) -> Any:
    """A member of the SDK's object, or of the plain dictionary that it may be as well."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def _shell(hearth: Hearth, call: Any, workspace_id: str | None) -> dict[str, Any]:
    """shell_call: each command on its own, in order."""
    limit = _of(call.action, "max_output_length")
    timeout = _of(call.action, "timeout_ms")
    outputs = [_run(hearth, str(workspace_id), command, timeout, limit or OUTPUT_MAX)
               for command in _of(call.action, "commands")]
    return {"type": "shell_call_output", "call_id": call.call_id, "max_output_length": limit,
            "output": outputs}


def _run(hearth: Hearth, workspace_id: str, command: str, timeout_ms: int | None,
         limit: int) -> dict[str, Any]:
    seconds = max(1, -(-timeout_ms // 1000)) if timeout_ms else 120
    try:
        done = hearth.exec_workspace(workspace_id, command=command, timeout_seconds=seconds)
    except Problem as problem:
        return {"stdout": "", "stderr": str(problem), "outcome": {"type": "exit", "exit_code": 1}}
    outcome = ({"type": "timeout"} if done["timed_out"]
               else {"type": "exit", "exit_code": done["exit_code"]})
    return {"stdout": _middle_cut(done["stdout"], limit), "stderr": _middle_cut(done["stderr"], limit),
            "outcome": outcome}


def _middle_cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    note = f"\n[{len(text) - limit} characters left out]\n"
    return text[:limit // 2] + note + text[len(text) - (limit - limit // 2):]


_PATCH_HEADS = {"create_file": "Add File", "update_file": "Update File", "delete_file": "Delete File"}


def _apply_patch(hearth: Hearth, call: Any, workspace_id: str | None) -> dict[str, Any]:
    """apply_patch_call: one file's V4A diff, as a whole patch of that form."""
    operation = call.operation
    head = _PATCH_HEADS[_of(operation, "type")]
    diff = (_of(operation, "diff") or "").strip("\n")
    move_to = _of(operation, "move_to")
    patch = "\n".join(["*** Begin Patch", f"*** {head}: {_of(operation, 'path')}",
                       *([f"*** Move to: {move_to}"] if move_to else []), *([diff] if diff else []),
                       "*** End Patch", ""])
    try:
        hearth.apply_workspace_patch(str(workspace_id), patch=patch)
    except Problem as problem:
        return {"type": "apply_patch_call_output", "call_id": call.call_id, "status": "failed",
                "output": str(problem)}
    return {"type": "apply_patch_call_output", "call_id": call.call_id, "status": "completed"}


_ANSWERS: dict[str, Callable[[Hearth, Any, "str | None"], dict[str, Any]]] = {
    "function_call": _function, "shell_call": _shell, "apply_patch_call": _apply_patch}
