"""A real hearthd on directories of its own: started, killed, started again, and cleared away."""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

from . import leaks, node_tags
from .http import Client
from .replies import Replies

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("HEARTH_BIN", ROOT / "build/bin")).resolve()
DRIVER = os.environ.get("HEARTH_TEST_DRIVER", "auto")

READY_S = 60
STOP_S = 60


def flag_words(flags):
    """{"idle_exit_seconds": 5, "stop_guests": True} as command line words."""
    words = []
    for key, value in flags.items():
        if key == "stop_guests":
            words += ["--stop-guests"] if value else []
        elif key in ("listen", "driver", "transport", "config"):
            words += [f"--{key}", str(value)]
        else:
            words += ["--set", f"{key}={value}"]
    return words


def operations():
    """Every operation of hearthd's table, as its OpenAPI describes it."""
    told = subprocess.run([BIN / "hearthd", "--describe=json"], check=True, capture_output=True).stdout
    return [operation for methods in json.loads(told)["paths"].values() for operation in methods.values()]


class Hearthd:
    """One state directory and the daemon on it. `flags` are settings by their names; what is not
    said is what `hearthd --help` says, on 127.0.0.1:0. Replies that its clients see must be as
    /openapi.json describes them, unless check_replies is False. `programs` is where hearthd and what
    it runs are."""

    def __init__(self, image_dir, check_replies=True, programs=BIN, **flags):
        self.programs = programs
        # Short, because a Unix socket's path may have 107 bytes.
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="hearth-"))
        self.state_dir, self.runtime_dir = self.base / "state", self.base / "run"
        self.image_dir = pathlib.Path(image_dir)
        # IDs made here are told apart from those of any other daemon on this machine.
        self.node_tag, self._tag_holder = node_tags.claim()
        # A spare machine after each create is more than most tests need.
        self.flags = {"listen": "127.0.0.1:0", "driver": DRIVER, "node_tag": self.node_tag,
                      "pool_spare_seconds": 0, **flags}
        self.check_replies, self.observe = check_replies, None
        self.log_path = self.base / "hearthd.log"
        self.process = None
        self.url = None
        self.clients = []
        self.extra_environment = {}

    # Running

    def command(self, **more):
        return [str(self.programs / "hearthd"), "--state-dir", str(self.state_dir),
                "--runtime-dir", str(self.runtime_dir), "--image-dir", str(self.image_dir),
                *flag_words({**self.flags, **more})]

    def start(self, **more):
        """Returns when it has said that it is ready."""
        assert self.process is None
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("HEARTH_", "HEARTHD_"))} | self.extra_environment
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(**more), stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=log, cwd="/",
                                            env=environment)
        line = self._first_line(time.monotonic() + READY_S)
        assert line.startswith("ready"), f"hearthd said {line!r}; its log:\n{self.log()}"
        self.url = next((word for word in line.split() if "://" in word), None)
        if self.check_replies and self.observe is None:
            with Client(f"unix://{self.socket_path}") as client:
                self.observe = Replies(client.get("/openapi.json"))
        return self

    def _first_line(self, deadline):
        text = b""
        while b"\n" not in text:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"hearthd is not ready after {READY_S} s; its log:\n"
                                     f"{self.log()}")
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                status = self.process.wait()
                self.process = None
                raise AssertionError(f"hearthd ended with {status}; its log:\n{self.log()}")
            text += piece
        return text.decode().splitlines()[0]

    def start_with_environment(self, **variables):
        """start(), with these variables set for the daemon."""
        self.extra_environment = variables
        try:
            return self.start()
        finally:
            self.extra_environment = {}

    def wait(self):
        """The exit status of a daemon that ends by itself."""
        return self._ended()

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def _ended(self):
        status = self.process.wait(timeout=STOP_S)
        self.process.stdout.close()
        self.process = None
        for client in self.clients:
            client.close()
        return status

    def stop(self):
        """SIGTERM; gives the exit status. Guests stay unless it was started with stop_guests."""
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill9(self):
        self.process.kill()
        self._ended()

    def restart(self, **more):
        self.stop()
        return self.start(**more)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # What it keeps

    def rows(self, query, *values, database="state"):
        """What a query of one of its databases gives, whether or not it runs."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state_dir}/{database}.db?mode=ro", uri=True)) as opened:
            return opened.execute(query, values).fetchall()

    def guest_of(self, workspace_id):
        """The ID of the workspace's guest."""
        ((guest_id,),) = self.rows("SELECT guest_id FROM workspace WHERE workspace_id = ?", workspace_id)
        return guest_id

    # Talking to it

    @property
    def socket_path(self):
        return self.runtime_dir / "hearthd.sock"

    @property
    def token_path(self):
        return self.state_dir / "admin.token"

    @property
    def token(self):
        return self.token_path.read_text().strip()

    def client(self, token=None, **options):
        """Over loopback TCP, as the admin or whom the token names."""
        return self._keep(Client(self.url, token or self.token, observe=self.observe, **options))

    def unix_client(self, **options):
        return self._keep(Client(f"unix://{self.socket_path}", observe=self.observe, **options))

    def _keep(self, client):
        self.clients.append(client)
        return client

    # Its guests, found as the kernel has them

    def guest_pids(self):
        """PIDs of the guests' first processes."""
        return sorted(leaks.agents(self.node_tag))

    def kill_guests(self):
        for pid in self.guest_pids():
            with contextlib.suppress(ProcessLookupError):  # A child of the agent ends with it.
                os.kill(pid, signal.SIGKILL)

    # The end

    def destroy(self):
        """Ends the daemon and its guests and removes its directories; fails where anything that
        was its own is left."""
        try:
            if self.running:
                self.stop()
            elif self.process:
                self._ended()
            if self.state_dir.exists():
                self._delete_all()
            leaks.assert_nothing_left(self.base, self.node_tag)
        except BaseException:
            print(f"hearthd's log ({self.base}):\n{self.log()[-8000:]}")
            raise
        finally:
            if self.process:
                self.process.kill()
                self._ended()
            shutil.rmtree(self.base, ignore_errors=True)
            self._tag_holder.close()

    def _delete_all(self):
        self.start(stop_guests=True, idle_exit_seconds=0)
        client = self.unix_client()
        while rows := client.get("/v1/workspaces", limit=1000)["workspaces"]:
            for row in rows:
                client.request("DELETE", f"/v1/workspaces/{row['workspace_id']}")
        self.stop()


@contextlib.contextmanager
def running(image_dir, **settings):
    """A daemon that is up, and is ended with all that was its own."""
    hearthd = Hearthd(image_dir, **settings)
    try:
        yield hearthd.start()
    finally:
        hearthd.destroy()
