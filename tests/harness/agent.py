"""A hearth-agent of its own on a directory, called by a stock gRPC client with what agent.proto says."""

import contextlib
import functools
import importlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

from .daemon import BIN, ROOT

TIMEOUT = 120


@functools.cache
def messages():
    """The module with agent.proto's messages."""
    source = ROOT / "guestagent"
    with tempfile.TemporaryDirectory(prefix="hearth-proto-") as out:
        assert protoc.main(["", f"-I{source}", f"--python_out={out}", str(source / "agent.proto")]) == 0
        sys.path.insert(0, out)
        try:
            return importlib.import_module("agent_pb2")
        finally:
            sys.path.remove(out)


def message(name, /, **fields):
    return getattr(messages(), name)(**fields)


def listens(path):
    """A socket is there a moment before it is listened on."""
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


class Agent:
    """agent.ExecStart(exec_id=…, argv=[…]) calls; agent.begin.ExecStart(…) gives a future; client streams take a list
    or an iterator of messages: agent.TreeApply([…])."""

    def __init__(self, base, *options, preexec=None):
        self.base = pathlib.Path(base)
        self.workspace = self.base / "workspace"
        self.workspace.mkdir(exist_ok=True)
        self.process = None
        self.begin = _Futures(self)
        self._options, self._preexec = options, preexec

    def __getattr__(self, name):
        if not name[0].isupper():
            raise AttributeError(name)
        return functools.partial(self._ask, name, False)

    def _ask(self, name, future, requests=None, **fields):
        service = messages().DESCRIPTOR.services_by_name["Agent"].methods_by_name[name]
        method = self._method(name, None, getattr(messages(), service.output_type.name))
        request = iter(requests) if service.client_streaming else message(service.input_type.name, **fields)
        return (method.future if future else method)(request, timeout=TIMEOUT)

    def run(self, command, exec_id="ex", **fields):
        """A shell line, to its end."""
        return self.ExecStart(exec_id=exec_id, argv=["/bin/sh", "-c", command],
                              environment=[{"name": "PATH", "value": "/usr/bin:/bin"}],
                              read={"wait_ms": TIMEOUT * 1000, "until_end": True}, **fields)

    def start(self):
        path = self.base / "agent.sock"
        path.unlink(missing_ok=True)
        self.process = subprocess.Popen([BIN / "hearth-agent", "--listen", path, "--workspace",
                                         self.workspace, *self._options],
                                        stdin=subprocess.DEVNULL, preexec_fn=self._preexec)
        deadline = time.monotonic() + 30
        while not listens(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                   ("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 20)]
        self.channel = grpc.insecure_channel(f"unix:{path}", options=options)
        return self

    def kill(self):
        self.channel.close()
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.channel.close()
        self.process.terminate()
        self.process.wait(TIMEOUT)

    def _method(self, name, request, reply):
        service = messages().DESCRIPTOR.services_by_name["Agent"].methods_by_name[name]
        kind = (("stream" if service.client_streaming else "unary") + "_"
                + ("stream" if service.server_streaming else "unary"))
        return getattr(self.channel, kind)(f"/hearth.agent.v1.Agent/{name}",
                                           request_serializer=lambda m: m.SerializeToString(),
                                           response_deserializer=reply.FromString)

    def call(self, name, request):
        """The reply, or an iterator of replies; a list or iterator as the request is streamed."""
        service = messages().DESCRIPTOR.services_by_name["Agent"].methods_by_name[name]
        reply = getattr(messages(), service.output_type.name)
        made = iter(request) if service.client_streaming else request
        return self._method(name, request, reply)(made, timeout=60)

    def leftovers(self):
        return [name for name in os.listdir(self.base) if name.startswith(".hearth-stage-")]


class _Futures:
    def __init__(self, agent):
        self._agent = agent

    def __getattr__(self, name):
        return functools.partial(self._agent._ask, name, True)


@contextlib.contextmanager
def running(base):
    agent = Agent(base).start()
    try:
        yield agent
    finally:
        agent.kill()
