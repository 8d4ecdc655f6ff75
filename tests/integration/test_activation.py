"""The whole daemon under systemd's socket activation and notification, as its units start it."""

import os
import shutil
import socket
import subprocess

import pytest

from harness.agent import listens
from harness.http import Client
from harness.waiting import until

ACTIVATE = shutil.which("systemd-socket-activate")
pytestmark = pytest.mark.skipif(not ACTIVATE, reason="systemd-socket-activate is not installed")


class Notifications:
    """What sd_notify(3) sends, as systemd gets it."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(60)
        self.socket.bind(str(path))

    def until(self, wanted):
        while True:
            if wanted in self.socket.recv(4096).decode().splitlines():
                return


@pytest.fixture
def activated(hearthd_factory):
    """A daemon that has not been started yet: systemd-socket-activate listens in its place."""
    hearthd = hearthd_factory(start=False, listen="")
    hearthd.runtime_dir.mkdir()
    notifications = Notifications(hearthd.base / "notify")
    environment = {f"NOTIFY_SOCKET={notifications.path}", "WATCHDOG_USEC=200000"}
    words = [word for pair in environment for word in ("-E", pair)]
    with open(hearthd.log_path, "ab") as log:
        hearthd.process = subprocess.Popen(
            [ACTIVATE, "--listen", str(hearthd.socket_path), "--fdname", "api", *words,
             *hearthd.command()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")})
    yield hearthd, notifications
    notifications.socket.close()


def test_it_tells_the_socket_that_systemd_has_made(hearthd_factory):
    hearthd = hearthd_factory(start=False, listen="")
    path = hearthd.base / "elsewhere.sock"
    with open(hearthd.log_path, "ab") as log:
        hearthd.process = subprocess.Popen(
            [ACTIVATE, "--listen", str(path), "--fdname", "api", *hearthd.command()], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=log, cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")})
    until(lambda: listens(path), hearthd.log)
    assert hearthd.process.stdout.readline().decode() == f"ready unix://{path}\n"


def test_the_first_request_starts_it_and_is_answered(activated):
    hearthd, notifications = activated
    until(lambda: listens(hearthd.socket_path), hearthd.log)
    with Client(f"unix://{hearthd.socket_path}") as client:
        assert client.get("/v1")["name"] == "hearth", "it waited in the socket until it was ready"
        notifications.until("READY=1")
        notifications.until("WATCHDOG=1")
        made = client.post("/v1/workspaces", {"environment": "debian:12"})
        told = client.post(f"/v1/workspaces/{made['workspace_id']}/exec", {"command": "env; ls /proc/self/fd"})
        assert told["exit_code"] == 0
        for inherited in ("NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"):
            assert inherited not in told["stdout"], "a guest could speak for the daemon"
    assert hearthd.socket_path.exists()
    assert hearthd.stop() == 0
    notifications.until("STOPPING=1")
    assert hearthd.socket_path.exists(), "the socket is systemd's: it waits for the next start"
