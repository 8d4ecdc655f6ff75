"""What a guest's agent may do to its daemon, where it is somebody else's: the tests put themselves in its place."""

import concurrent.futures
import contextlib
import pathlib
import socket
import tempfile
import threading
import time

import grpc
import pytest

from harness.waiting import until

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
           ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def taken(hearthd_factory):
    """A daemon that has gone, one of its workspaces, and the directory with its agent's socket, now `real.sock`."""
    hearthd = hearthd_factory(driver="oci")
    with hearthd.client() as client:
        workspace_id = client.post("/v1/workspaces", {"environment": "debian:12"})["workspace_id"]
    directory = hearthd.runtime_dir / "guests" / hearthd.guest_of(workspace_id)
    hearthd.kill9()
    (directory / "agent.sock").rename(directory / "real.sock")
    yield hearthd, workspace_id, directory
    if (directory / "real.sock").exists():
        (directory / "agent.sock").unlink(missing_ok=True)
        (directory / "real.sock").rename(directory / "agent.sock")


@contextlib.contextmanager
def silent(path):
    """Listens, takes connections and says nothing; gives the list of them."""
    made = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)

        def take():
            with contextlib.suppress(OSError):
                while True:
                    made.append(listener.accept()[0])
        threading.Thread(target=take, daemon=True).start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in made:
                connection.close()


class Relay(grpc.GenericRpcHandler):
    """Hands all calls on to the agent behind `path`, and its replies through change(method, reply)."""

    def __init__(self, path, change):
        self.channel = grpc.insecure_channel(f"unix:{path}", options=OPTIONS)
        self.change = change

    def service(self, details):
        def run(requests, context):
            call = self.channel.stream_stream(details.method)(requests)
            context.add_callback(call.cancel)
            try:
                for reply in call:
                    yield self.change(details.method.rsplit("/", 1)[1], reply)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
        return grpc.stream_stream_rpc_method_handler(run)


@contextlib.contextmanager
def relayed(directory, change):
    with tempfile.TemporaryDirectory(prefix="hearth-") as short:  # A socket's path may have 107 bytes.
        link = pathlib.Path(short) / "g"
        link.symlink_to(directory)
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=OPTIONS)
        relay = Relay(link / "real.sock", change)
        server.add_generic_rpc_handlers((relay,))
        server.add_insecure_port(f"unix:{link}/agent.sock")
        server.start()
        try:
            yield
        finally:
            server.stop(0).wait()
            relay.channel.close()


def test_an_agent_that_greets_nobody_is_not_asked_for_once_its_guest_has_stopped(taken):
    hearthd, workspace_id, directory = taken
    with silent(directory / "agent.sock") as before:
        hearthd.start()
        until(lambda: before)
        with hearthd.client() as client:
            assert client.post(f"/v1/workspaces/{workspace_id}/stop")["state"] == "stopped"
    directory.mkdir()
    with silent(directory / "agent.sock") as after:
        time.sleep(5)
        assert after == []
    (directory / "agent.sock").unlink()
    directory.rmdir()
    with hearthd.client() as client:
        client.post(f"/v1/workspaces/{workspace_id}/start")
        done = client.post(f"/v1/workspaces/{workspace_id}/exec", {"command": "echo up"})
        assert done["stdout"] == "up\n"


def test_a_reply_that_is_nothing_but_empty_messages_takes_no_more_than_its_bytes(taken):
    hearthd, workspace_id, directory = taken
    empty = b"\x0a\x00" * (4 << 20)
    with relayed(directory, lambda method, reply: empty[:-16] if method == "FileList" else reply):
        hearthd.start()
        with hearthd.client() as client:
            until(lambda: client.request("GET", f"/v1/workspaces/{workspace_id}/files").status == 500)
            status = pathlib.Path(f"/proc/{hearthd.pid}/status").read_text()
            assert int(status.split("VmHWM:")[1].split()[0]) < 200 << 10
            done = client.post(f"/v1/workspaces/{workspace_id}/exec", {"command": "echo on"})
            assert done["stdout"] == "on\n"
        hearthd.stop()
