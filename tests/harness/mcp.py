"""MCP without an SDK: the bytes of both transports, for tests of the protocol's own rules."""

import itertools
import json
import os
import queue
import subprocess
import threading

from .daemon import BIN

PATIENCE_S = 60
MODERN = "2026-07-28"
META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


def message(method, params=None, id=None):
    made = {"jsonrpc": "2.0", "method": method}
    if id is not None:
        made["id"] = id
    if params is not None:
        made["params"] = params
    return made


def hello(version="2025-11-25"):
    return {"protocolVersion": version, "capabilities": {},
            "clientInfo": {"name": "tests", "version": "1"}}


def enveloped(params=None, version=MODERN, **meta):
    """params with the envelope of the modern era."""
    return {**(params or {}), "_meta": {META_VERSION: version, META_CAPABILITIES: {}, **meta}}


class Refused(AssertionError):
    """An answer that was to be a result and is an error."""

    def __init__(self, error):
        super().__init__(str(error))
        self.error = error


def result_of(answer):
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["result"]


class Stdio:
    """`hearth mcp serve` as a client sees it: lines in, lines out. Everything on its standard output
    must be JSON-RPC, a message a line."""

    def __init__(self, url, *options, environment=None):
        variables = {**os.environ, **({"HEARTH_URL": url} if url else {}), **(environment or {})}
        self.process = subprocess.Popen([str(BIN / "hearth"), "mcp", "serve", *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=variables)
        self.ids = itertools.count(1)
        self.arrived = queue.Queue()
        self.kept = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.arrived.put(json.loads(line))
        self.arrived.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stderr):
            try:
                stream.close()
            except BrokenPipeError:
                pass
        self.reader.join(PATIENCE_S)
        self.process.stdout.close()

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, *messages):
        """All in one write."""
        self.write(b"".join(json.dumps(each).encode() + b"\n" for each in messages))

    def ask(self, method, params=None):
        """Sends a request; gives its ID."""
        number = next(self.ids)
        self.send(message(method, params, number))
        return number

    def next(self, wanted=lambda _: True):
        """The next message that is wanted; the others are kept for later."""
        for kept in self.kept:
            if wanted(kept):
                self.kept.remove(kept)
                return kept
        while (arrived := self.arrived.get(timeout=PATIENCE_S)) is not None:
            if wanted(arrived):
                return arrived
            self.kept.append(arrived)
        raise AssertionError(f"the output ended; kept: {self.kept}")

    def answer(self, number):
        return self.next(lambda each: each.get("id", self) == number and "method" not in each)

    def notification(self, method):
        return self.next(lambda each: each.get("method") == method)["params"]

    def request(self, method, params=None):
        return result_of(self.answer(self.ask(method, params)))

    def error(self, method, params=None):
        return self.answer(self.ask(method, params))["error"]

    def initialize(self, version="2025-11-25"):
        result = self.request("initialize", hello(version))
        self.send(message("notifications/initialized"))
        return result

    def call(self, name, arguments, **meta):
        params = {"name": name, "arguments": arguments}
        return self.request("tools/call", {**params, "_meta": meta} if meta else params)

    def end(self):
        """Ends the input; gives the exit status and what was said after."""
        self.process.stdin.close()
        status = self.process.wait(PATIENCE_S)
        self.reader.join(PATIENCE_S)
        rest = list(self.kept)
        while not self.arrived.empty():
            if (arrived := self.arrived.get()) is not None:
                rest.append(arrived)
        return status, rest


class Http:
    """Requests to /mcp with the headers that real clients send."""

    def __init__(self, client, profile=None):
        self.client = client
        self.path = "/mcp" + (f"?profile={profile}" if profile else "")
        self.session = None
        self.ids = itertools.count(1)

    def headers(self, more=None):
        made = {"Accept": "application/json, text/event-stream"}
        if self.session:
            made["Mcp-Session-Id"] = self.session
        return {name: value for name, value in {**made, **(more or {})}.items()
                if value is not None}

    def send(self, method, body=None, headers=None, raw=None):
        return self.client.request(method, self.path, body, body=raw, headers={
            **({"Content-Type": "application/json"} if raw is not None else {}),
            **self.headers(headers)})

    def post(self, body, headers=None):
        return self.send("POST", body, headers)

    def initialize(self, version="2025-11-25"):
        reply = self.post(message("initialize", hello(version), next(self.ids)))
        assert reply.status == 200, reply
        self.session = reply.headers["Mcp-Session-Id"]
        assert self.post(message("notifications/initialized")).status == 202
        return reply

    def ask(self, method, params=None, headers=None):
        """The whole answer of a request that is answered as JSON."""
        reply = self.post(message(method, params, next(self.ids)), headers)
        assert reply.headers["Content-Type"] == "application/json", reply
        return reply.json()

    def modern(self, method, params=None, headers=None, body=None):
        """(status, answer) of a request of the modern era with the headers that match it."""
        named = (params or {}).get("uri" if method == "resources/read" else "name")
        reply = self.post(body or message(method, enveloped(params), next(self.ids)),
                          {"MCP-Protocol-Version": MODERN, "Mcp-Method": method,
                           "Mcp-Name": named, **(headers or {})})
        return reply.status, reply.json()

    def stream(self, method, body=None, headers=None):
        """A request whose reply is a stream: an Events."""
        connection = self.client.connect()
        return Events(connection, self.client._send(connection, method, self.path, body, None, None,
                                                    self.headers(headers)))


class Events:
    """The events of a stream, as (id, data) with the data's JSON, or None where it is empty."""

    def __init__(self, connection, response):
        self.connection, self.response = connection, response

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.response.close()
        self.connection.close()

    def __iter__(self):
        assert self.response.status == 200, self.response.read()
        assert self.response.headers["Content-Type"] == "text/event-stream"
        number, data = None, None
        for line in self.response:
            line = line.rstrip(b"\r\n")
            if line.startswith(b"id:"):
                number = line[3:].strip().decode()
            elif line.startswith(b"data:"):
                data = line[5:].strip()
            elif not line and data is not None:
                yield number, json.loads(data) if data else None
                number, data = None, None

    def first(self, wanted):
        return next(each for each in self if wanted(each[1]))
