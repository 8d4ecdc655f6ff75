#!/usr/bin/env python3
"""A stand-in for a model behind a local /v1/responses endpoint, for a machine without an API key.

It plays three parts: a model that fixes the project in projects/ledger, the same with OpenAI's built-in
tools shell and apply_patch, and, where vm_run is all it is given, one that looks up a version. It decides each turn by what the conversation says, as a model
would: it reads the tests' real output and edits the file's real text. Before each turn it checks what it was sent as strictly as the service does (strict_tools
and conversation below), and answers 400 with the reason where something is wrong.

`python3 scripted_model.py` serves until it is interrupted and prints the base URL for OPENAI_BASE_URL.
"""

import contextlib
import http.server
import json
import re
import secrets
import sys
import threading
import time

import strict_tools

TESTS = "python3 -m unittest 2>&1"
BUG = """    units, cents = int(match[1]), int(match[2])
    return units * 100 + (cents if units >= 0 else -cents)
"""
FIX = """    units, cents = int(match[1]), int(match[2])
    # "-0" is no negative number: the sign has to be read from the text.
    return units * 100 + (-cents if match[1].startswith("-") else cents)
"""
CALLS = ("function_call", "shell_call", "apply_patch_call")
OUTPUTS = tuple(f"{kind}_output" for kind in CALLS)


class Refused(Exception):
    """What was sent would be refused by the service, or does not lead to the script's end."""


def require(condition, reason):
    if not condition:
        raise Refused(reason)


class Conversation:
    """The input of a request: checked, and easy to ask about."""

    def __init__(self, items):
        require(isinstance(items, list) and items, "input is no list of items")
        require(items[0].get("role") == "user", "the first item is no user message")
        self.task = items[0].get("content")
        require(isinstance(self.task, str), "the user message's content is no text")
        self.calls, self.outputs = {}, {}
        for item in items[1:]:
            self._take(item)
        missing = self.calls.keys() - self.outputs.keys()
        require(not missing, f"no output for the calls {sorted(missing)}")

    def _take(self, item):
        kind, call_id = item.get("type"), item.get("call_id")
        if kind in CALLS:
            require(call_id not in self.calls, f"call {call_id} stands twice")
            require(kind != "function_call" or isinstance(item.get("arguments"), str),
                    "a call's arguments are not its text")
            self.calls[call_id] = item
        elif kind in OUTPUTS:
            require(call_id in self.calls, f"an output for {call_id}, which was never called")
            require(call_id not in self.outputs, f"two outputs for {call_id}")
            require(kind == f"{self.calls[call_id]['type']}_output", f"{kind} answers no such call")
            if kind != "function_call_output":
                self.outputs[call_id] = item
                return
            require(isinstance(item.get("output"), str), "an output is no text")
            try:
                self.outputs[call_id] = json.loads(item["output"])
            except ValueError:
                raise Refused(f"the output for {call_id} is not JSON") from None
        else:
            raise Refused(f"an item of type {kind!r} that was never sent out")

    def results(self, name, **arguments):
        """Results of the calls of a tool that had these arguments, in order."""
        found = []
        for call_id, call in self.calls.items():
            if call["type"] != "function_call" or call["name"] != name:
                continue
            if arguments.items() <= json.loads(call["arguments"]).items():
                found.append(self.outputs[call_id])
        return found

    def answers(self, kind):
        """Outputs of a built-in tool's calls, in order."""
        return [self.outputs[call_id] for call_id, call in self.calls.items() if call["type"] == kind]


def look_up(talk):
    """The part with vm_run alone."""
    environment = re.search(r"\bdebian:12[a-z-]*", talk.task)
    require(environment, "the task names no environment")
    runs = talk.results("vm_run")
    if not runs:
        return [("vm_run", {"environment": environment[0], "command": "python3 --version"})]
    require(runs[0].get("exit_code") == 0, f"running gave {runs[0]}")
    require(runs[0]["cleanup"]["deleted"], "the guest was left behind")
    return f"{environment[0]} has {runs[0]['stdout'].strip()}."


def fix_the_bug(talk):
    """What the model does now: a list of (tool, arguments), or its last words."""
    runs = talk.results("workspace_exec", command=TESTS)
    if not runs:
        return [("workspace_exec", {"command": TESTS}),
                ("workspace_file_list", {"path": "/workspace", "recursive": True})]
    require("exit_code" in runs[0], f"running the tests gave {runs[0]}")
    require(runs[0]["exit_code"] == 1 and "FAILED" in runs[0]["stdout"],
            "the tests did not fail at first")
    listing = talk.results("workspace_file_list")[0]
    paths = [entry["path"] for entry in listing.get("entries", [])]
    reads = talk.results("workspace_file_read")
    if not reads:
        # The traceback names the test; what it tests is named after it.
        module = re.search(r'File "\S*/tests/test_(\w+)\.py"', runs[0]["stdout"])[1]
        wanted = [path for path in paths if re.search(rf"(ledger|tests)/(test_)?{module}\.py$", path)]
        require(len(wanted) == 2, f"the listing has no {module}.py and its test: {paths}")
        return [("workspace_file_read", {"path": path}) for path in sorted(wanted)]
    code = reads[0]
    require(code.get("truncated") is False, f"reading the code gave {code}")
    writes = talk.results("workspace_file_write")
    if not writes:
        require(BUG in code["content"], "the code is not what was seeded")
        return [("workspace_file_write",
                 {"path": code["path"], "text": code["content"].replace(BUG, FIX)})]
    require(writes[0].get("bytes_written"), f"writing gave {writes[0]}")
    if len(runs) == 1:
        return [("workspace_exec", {"command": TESTS})]
    require(runs[1].get("exit_code") == 0, f"the tests still fail: {runs[1]}")
    return ('parse_amount took the sign from int("-0"), which has none, so refunds below one unit '
            "counted as payments. It now reads the sign from the text; all tests pass.")


def fix_with_built_in_tools(talk):
    """The same repair with OpenAI's own shell and apply_patch: a list of (kind, its member), or words."""
    shells, patches = talk.answers("shell_call"), talk.answers("apply_patch_call")
    if not shells:
        return [("shell_call", {"action": {"commands": [TESTS, "cat ledger/money.py"],
                                           "timeout_ms": 60000, "max_output_length": 20000}})]
    tests, code = shells[0]["output"]
    require(tests["outcome"] == {"type": "exit", "exit_code": 1}, f"the tests gave {tests}")
    if not patches:
        require(BUG in code["stdout"], f"the code is not what was seeded: {code}")
        lines = [*(f"-{line}" for line in BUG.splitlines()), *(f"+{line}" for line in FIX.splitlines())]
        return [("apply_patch_call", {"operation": {"type": "update_file", "path": "ledger/money.py",
                                                    "diff": "\n".join(["@@", *lines])}}),
                ("apply_patch_call", {"operation": {"type": "delete_file", "path": "no/such/file"}})]
    require([patch["status"] for patch in patches] == ["completed", "failed"], f"patching gave {patches}")
    require(patches[1].get("output"), "what failed has no reason")
    if len(shells) == 1:
        return [("shell_call", {"action": {"commands": [TESTS]}})]
    again = shells[1]["output"][0]
    require(again["outcome"] == {"type": "exit", "exit_code": 0}, f"the tests still fail: {again}")
    return "The sign is read from the text now; all tests pass."


def workspace_of(talk):
    found = re.search(r"\bws_[a-z2-7]{16}\b", talk.task)
    require(found, "the task names no workspace")
    return {"workspace_id": found[0]}


def function_call(tools, name, arguments):
    """Strict mode: every parameter is given, null where the default is meant."""
    tool = next((tool for tool in tools if tool["name"] == name), None)
    require(tool, f"there is no tool {name}")
    given = {key: None for key in tool["parameters"]["properties"]}
    require(arguments.keys() <= given.keys(), f"{name} does not take {sorted(arguments)}")
    return {"type": "function_call", "id": f"fc_{secrets.token_hex(8)}",
            "call_id": f"call_{secrets.token_hex(8)}", "name": name, "status": "completed",
            "arguments": json.dumps({**given, **arguments})}


def respond(request):
    """The response object to a request to /v1/responses."""
    require(isinstance(request.get("model"), str), "no model is named")
    tools = request.get("tools")
    built_in = isinstance(tools, list) and [tool.get("type") for tool in tools] == ["shell", "apply_patch"]
    for tool in tools if isinstance(tools, list) else []:
        tool.setdefault("strict", True)  # As the service has it for function tools.
    for fault in () if built_in else strict_tools.faults(tools):
        raise Refused(f"tools: {fault}")
    talk = Conversation(request.get("input"))
    alone = [tool.get("name") for tool in tools] == ["vm_run"]
    subject = {} if alone or built_in else workspace_of(talk)
    turn = (fix_with_built_in_tools if built_in else look_up if alone else fix_the_bug)(talk)
    if isinstance(turn, str):
        output = [{"type": "message", "id": f"msg_{secrets.token_hex(8)}", "role": "assistant",
                   "status": "completed",
                   "content": [{"type": "output_text", "text": turn, "annotations": []}]}]
    elif built_in:
        output = [{"type": kind, "id": f"item_{secrets.token_hex(8)}", "status": "completed",
                   "call_id": f"call_{secrets.token_hex(8)}", **member} for kind, member in turn]
    else:
        output = [function_call(tools, name, {**subject, **arguments}) for name, arguments in turn]
    return {"id": f"resp_{secrets.token_hex(8)}", "object": "response", "status": "completed",
            "created_at": int(time.time()), "model": request["model"], "output": output,
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": tools, "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}}


def events(response):
    """The response as the service streams it: begun, each item, each text in pieces, completed."""
    begun = {**response, "status": "in_progress", "output": []}
    yield {"type": "response.created", "response": begun}
    for index, item in enumerate(response["output"]):
        yield {"type": "response.output_item.added", "output_index": index, "item": item}
        for part in item.get("content", []):
            for word in re.findall(r"\S+\s*", part["text"]):
                yield {"type": "response.output_text.delta", "output_index": index, "content_index": 0,
                       "item_id": item["id"], "delta": word, "logprobs": []}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        streamed = False
        try:
            require(self.path == "/v1/responses", f"nothing is served at {self.path}")
            require(self.headers.get("Authorization", "").startswith("Bearer "), "no API key")
            request = json.loads(body)
            streamed = bool(request.get("stream"))
            status, answer = 200, respond(request)
        except (Refused, ValueError) as error:
            status, answer = 400, {"error": {"message": str(error), "code": None, "param": None,
                                             "type": "invalid_request_error"}}
        streamed = streamed and status == 200
        text = ("".join(f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"
                        for number, event in enumerate(events(answer)))
                if streamed else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve():
    """Serves on a loopback port in a thread; gives the base URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def main():
    with serve() as url, contextlib.suppress(KeyboardInterrupt):
        print(url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
