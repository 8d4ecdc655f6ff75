"""A hearth-agent of its own on a directory, called by a stock gRPC client with what agent.proto says."""

import contextlib
import functools
import importlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

from .daemon import BIN, ROOT


@functools.cache
def messages():
    """The module with agent.proto's messages."""
    out = tempfile.mkdtemp(prefix="hearth-proto-")
    source = ROOT / "guestagent"
    assert protoc.main(["", f"-I{source}", f"--python_out={out}", str(source / "agent.proto")]) == 0
    sys.path.insert(0, out)
    return importlib.import_module("agent_pb2")


class Agent:
    def __init__(self, base):
        self.base = pathlib.Path(base)
        self.workspace = self.base / "workspace"
        self.workspace.mkdir(exist_ok=True)
        self.process = None

    def start(self):
        path = self.base / "agent.sock"
        path.unlink(missing_ok=True)
        self.process = subprocess.Popen([BIN / "hearth-agent", "--listen", path, "--workspace",
                                         self.workspace], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                   ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(f"unix:{path}", options=options)
        return self

    def kill(self):
        self.channel.close()
        self.process.kill()
        self.process.wait()

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


@contextlib.contextmanager
def running(base):
    agent = Agent(base).start()
    try:
        yield agent
    finally:
        agent.kill()
