"""Canaries: secrets of a workspace that goes through all there is, and then a search for them, in every form, in every
file, row, log line, export and command line of the host."""

import base64
import os
import pathlib
import sqlite3
import subprocess
import tempfile
import threading
import urllib.parse

import pytest

from harness.daemon import BIN
from harness.images import ENVIRONMENT
from harness.living import open_files
from harness.mcp import Stdio
from harness.waiting import until
from test_cli import Cli

RAW = "C4n/ry+of=\"all\"-families-7381"
FILE = "f1le-c4nary-0192837465-of-all"
LINES = "first-line-of-a-c4nary-key\nsecond-line-of-a-c4nary-key\n"
SECRETS = [{"name": "TOKEN", "value": RAW}, {"name": "KEY_2", "value": FILE, "file_path": "/x/key"},
           {"name": "LINES", "value": LINES}]
ENV = {"TOKEN": "API_TOKEN", "LINES": "LINES"}


def forms():
    for value in (RAW, FILE, *LINES.split()):
        raw = value.encode()
        yield raw
        yield raw.hex().encode()
        yield raw.hex().upper().encode()
        for before in (b"", b"x", b"xy"):  # All but what belongs to its neighbours too.
            coded = base64.b64encode(before + raw)
            yield coded[4 if before else 0:len(coded) // 4 * 4 - 4]
            yield coded[4 if before else 0:len(coded) // 4 * 4 - 4].translate(bytes.maketrans(b"+/", b"-_"))
        yield urllib.parse.quote(value, safe="").encode()
        yield urllib.parse.quote_plus(value).encode()


FORMS = list(dict.fromkeys(forms()))


def found_in(content):
    return [form for form in FORMS if form in content]


def is_hidden_in_file(what, file, looked_for=None):
    """The same for an open file that may be a disk: grep looks for all forms at once."""
    with tempfile.NamedTemporaryFile() as patterns:
        patterns.write(b"\n".join(looked_for or FORMS))
        patterns.flush()
        done = subprocess.run(["grep", "--text", "--only-matching", "--fixed-strings", "--file", patterns.name, "-"],
                              stdin=file, capture_output=True, env={**os.environ, "LC_ALL": "C"})
    assert (done.returncode, done.stdout) == (1, b""), (what, done)


def is_hidden(what, content):
    content = content if isinstance(content, bytes) else str(content).encode()
    assert not found_in(content), (what, found_in(content))


def test_the_search_finds_what_is_there():
    assert found_in(b"..." + RAW.encode() + b"...") and found_in(base64.b64encode(b"12" + FILE.encode() + b"3"))
    assert not found_in(b"nothing")
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0" * 5000 + LINES.encode() + b"\n\0")
        file.seek(0)
        with pytest.raises(AssertionError):
            is_hidden_in_file("a file", file)


class Tour:
    """One workspace, and a call of each family in which a secret could be left somewhere. What is answered must not
    show one either."""

    def __init__(self, hearthd, isolation):
        self.hearthd, self.isolation = hearthd, isolation
        self.client = hearthd.client(timeout=300)
        self.made = self.do("POST", "/v1/workspaces", {
            "environment": ENVIRONMENT, "isolation": isolation, "mem_mib": 256, "disk_mib": 1024, "secrets": SECRETS, "name": "tour"},
            headers={"Idempotency-Key": "canary-create"})
        self.path = f"/v1/workspaces/{self.made['workspace_id']}"
        self.exports = []

    def do(self, method, path, body=None, wanted=range(200, 300), **options):
        reply = self.client.request(method, path, body, **options)
        is_hidden((method, path), reply.body)
        assert reply.status in wanted, (method, path, reply)
        return reply.json() if "json" in reply.headers.get("Content-Type", "") else reply.body

    def on(self, method, rest, body=None, **options):
        return self.do(method, self.path + rest, body, **options)

    def fresh_client(self):
        self.client = self.hearthd.client(timeout=300)

    def again(self):
        """They are still there, and still hidden."""
        for name in ("TOKEN", "KEY_2"):
            told = self.on("POST", "/exec", {"command": f"cat /run/hearth/secrets/{name}; wc -c </run/hearth/secrets/{name}"})
            assert told["stdout"].split() == [f"[REDACTED]{len(RAW if name == 'TOKEN' else FILE)}"]

    def commands(self):
        show = 'echo "$API_TOKEN"; echo "$LINES" >&2; printf %s "$API_TOKEN" | base64; echo ' + FILE
        for more in ({}, {"detach": True}, {"wait_ms": 1}, {"encoding": "base64"}):
            self.on("POST", "/exec", {"command": show, "secret_env": ENV, **more},
                    headers={"Idempotency-Key": "canary-" + "-".join(more)})
        self.on("POST", "/exec", {"argv": ["/bin/echo", RAW, FILE], "env": {"GIVEN": RAW}, "stdin": FILE,
                                  "cwd": "/tmp"})
        self.on("POST", "/exec", {"argv": [f"/none/{FILE}"]}, wanted=range(200, 500))
        self.on("POST", "/exec", {"command": "true", "cwd": f"/none/{FILE}"}, wanted=range(200, 500))
        self.on("POST", "/exec", {"command": f"exit {FILE}", "secret_env": {FILE: "X"}}, wanted=(422,))
        self.on("POST", "/exec", {"command": "true", "secret_env": {"TOKEN": RAW}}, wanted=(422,))
        streamed = self.client.stream("POST", f"{self.path}/exec", {"command": show, "secret_env": ENV, "stream": True})
        is_hidden("stream", repr(list(streamed)))
        begun = self.on("POST", "/exec", {"command": f"sleep 600; echo {FILE}", "detach": True, "timeout_seconds": 900})
        self.on("DELETE", f"/execs/{begun['exec_id']}")
        self.on("GET", "/logs")

    def shells(self):
        shell = self.on("POST", "/shells", {"secret_env": ENV})["shell_id"]
        self.on("POST", f"/shells/{shell}/input", {"input": f'echo "$API_TOKEN$LINES"; : {FILE}; echo do""ne'})
        seen = ""
        while "done" not in seen:
            seen = self.on("GET", f"/shells/{shell}", query={"wait_for_idle_ms": 200, "plain": "true"})["output"]
        self.on("GET", f"/shells/{shell}/recording")
        self.on("POST", f"/shells/{shell}/signal", {"signal_name": "INT"})
        self.on("DELETE", f"/shells/{shell}")
        self.on("POST", "/shells", {"cwd": f"/none/{FILE}"}, wanted=range(400, 500))
        self.on("POST", "/shells", {"secret_env": ENV})  # Open when the daemon is killed.

    def services(self):
        self.on("PUT", "/services/loud", {
            "command": f'echo "$API_TOKEN$LINES"; echo {FILE} >&2; touch /tmp/up; sleep 600', "secret_env": ENV,
            "ready_command": f"test -e /tmp/up # {FILE}", "restart": "on-failure"})
        self.on("PUT", "/services/dead", {"command": f'echo {FILE}; exit 3', "ready_tcp": "9"})
        self.on("PUT", "/services/not", {"command": "true", "secret_env": {"TOKEN": RAW}}, wanted=(422,))
        for name in ("loud", "dead"):
            self.on("GET", f"/services/{name}/logs")
        self.on("GET", "/services")

    def files(self):
        self.on("PUT", "/files/content", {"path": "kept", "text": "kept\n"})
        self.on("GET", "/files/content", query={"path": f"none/{FILE}"}, wanted=(404,))
        self.on("POST", "/files/search", {"pattern": FILE})
        self.on("POST", "/patch", {"patch": f"--- a/none\n+++ b/none\n@@ -1 +1 @@\n-{FILE}\n+x\n"}, wanted=(404,))
        self.on("GET", "/files", query={"path": "/workspace"})
        # A tree that has it is the user's own; it is shown by nothing, and gone again before the search.
        self.on("POST", "/exec", {"command": 'echo "$API_TOKEN" >leak; echo "$LINES" >>leak', "secret_env": ENV})
        self.on("GET", "/diff")
        self.on("GET", "/files/content", query={"path": "leak"})
        self.on("GET", "/files/content", query={"path": "leak"}, headers={"Accept": "application/octet-stream"})
        self.on("POST", "/files/search", {"pattern": "c4nary"})
        self.on("POST", "/exec", {"command": "shred -u leak; sync"})

    def trees(self):
        self.on("POST", "/snapshots", {"snapshot_name": "s"})
        self.on("GET", "/snapshots")
        self.exports.append(self.on("GET", "/export", query={"path": "/workspace"}))
        fork = self.on("POST", "/fork", {"count": 1})["workspaces"][0]
        told = self.do("POST", f"/v1/workspaces/{fork['workspace_id']}/exec", {
            "command": 'printf %s "$API_TOKEN" | wc -c', "secret_env": {"TOKEN": "API_TOKEN"}})
        assert told["stdout"].strip() == str(len(RAW))
        self.do("DELETE", f"/v1/workspaces/{fork['workspace_id']}")
        self.on("POST", "/reset", {"snapshot": "s"})

    def others(self):
        self.on("GET", "")
        self.on("GET", "/summary")
        self.do("GET", "/v1/workspaces")
        self.do("GET", "/v1/events", query={"limit": 1000})
        self.do("GET", "/metrics")
        self.do("POST", "/v1/secrets/key/rotate")
        self.on("PATCH", "", {"labels": {"k": "v"}})
        with Stdio(f"unix://{self.hearthd.socket_path}", "--profile", "workspace-full") as stdio:
            stdio.initialize()
            told = stdio.call("workspace_exec", {"workspace_id": self.made["workspace_id"], "command": f"echo {FILE}",
                                                 "secret_env": [{"name": "TOKEN", "value": "T"}]})
            is_hidden("mcp", repr(told))
        hearth = Cli(BIN, HEARTH_URL=f"unix://{self.hearthd.socket_path}")
        done = hearth.ok("workspace", "exec", self.made["workspace_id"], "--secret-env", "TOKEN", "--", 'echo "$TOKEN"')
        is_hidden("cli", done.stdout + done.stderr)

    def console(self):
        """What a machine's kernel and agent said is told with its end, where a secret would be masked: there is none."""
        told = self.on("POST", "/exec", {"command": 'dmesg | grep -cF -e "$API_TOKEN" -e "$KEY"', "secret_env": {
            "TOKEN": "API_TOKEN", "KEY_2": "KEY"}})
        assert told["stdout"] == "0\n"
        self.on("POST", "/exec", {"command": "echo o >/proc/sysrq-trigger; sleep 600", "detach": True})
        failed = until(lambda: (made := self.on("GET", ""))["state"] == "failed" and made)
        assert "console" in str(failed["metadata"]) and "[REDACTED]" not in str(failed), failed
        self.on("POST", "/start")

    def disks(self):
        self.on("POST", "/stop")
        self.on("GET", "/disk/list", query={"path": "/", "recursive": "true"})
        self.on("GET", "/disk/read", query={"path": "/etc/hostname"})
        with tempfile.NamedTemporaryFile() as image:
            hearth = Cli(BIN, HEARTH_URL=f"unix://{self.hearthd.socket_path}")
            hearth.ok("workspace", "disk", "export", self.made["workspace_id"], "--output", image.name + ".img")
            pathlib.Path(image.name + ".img").replace(image.name)
            with open(image.name, "rb") as disk:
                assert os.fstat(disk.fileno()).st_size > 1 << 20
                is_hidden_in_file("disk", disk)


def hosts_processes():
    """Those of this PID namespace: what a guest's own processes are given is theirs."""
    own = os.readlink("/proc/self/ns/pid")
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/pid") == own and int(process.name) != os.getpid():
                yield process, (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue


def search_processes():
    for process, words, environment in hosts_processes():
        is_hidden(f"{process}/cmdline", words)
        is_hidden(f"{process}/environ", environment)


class Onlooker:
    """Looks at the host's processes all the time: what is in their words and environment for a moment too."""

    def __init__(self):
        self.over, self.looks, self.found = threading.Event(), 0, None
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(0.02) and not self.found:
            try:
                search_processes()
                self.looks += 1
            except AssertionError as found:
                self.found = found

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        assert not self.found and self.looks, self.found  # how often it looks depends on the load


def search_files(hearthd):
    searched = 0
    for path, file in open_files(hearthd.state_dir, hearthd.runtime_dir):
        is_hidden_in_file(path, file)
        is_hidden(path, str(path))
        searched += 1
    assert searched > 10
    is_hidden("log", pathlib.Path(hearthd.log_path).read_bytes())


def search_rows(hearthd):
    for name in ("state.db", "history.db"):
        db = sqlite3.connect(f"file:{hearthd.state_dir}/{name}?mode=ro", uri=True)
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute(f'SELECT * FROM "{table}"'):
                is_hidden((name, table), repr(row))
                for value in row:
                    if isinstance(value, bytes):
                        is_hidden((name, table), value)
        db.close()


@pytest.mark.parametrize("isolation", ["container", "vm"])
def test_nothing_of_the_host_has_them(hearthd_factory, isolation):
    hearthd = hearthd_factory(driver="oci" if isolation == "container" else "qemu")
    tour = Tour(hearthd, isolation)
    with Onlooker():
        for part in (tour.commands, tour.shells, tour.services, tour.files, tour.others):
            part()
    if isolation == "vm":
        tour.console()
    search_rows(hearthd)
    hearthd.kill9()
    hearthd.start()
    tour.fresh_client()
    tour.again()
    tour.on("GET", "/logs")
    tour.on("GET", "/services")
    tour.trees()
    tour.again()
    tour.commands()
    tour.disks()
    search_rows(hearthd)
    search_processes()
    hearthd.stop()
    search_files(hearthd)
    for export in tour.exports:
        assert len(export) > 1000
        is_hidden("export", export)
    hearthd.start()
    tour.fresh_client()
    tour.on("POST", "/start")
    tour.again()
    tour.on("DELETE", "")
