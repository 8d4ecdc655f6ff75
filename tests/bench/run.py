"""Figures of hearthd beside those of the peers that are installed: `make bench`, or
`run.py --bin BUILD/bin [--quick]`. Ours and the peer's are taken in turn, some times each, and what
is compared are medians: a busy machine slows both. What is said to be a target is a ratio wherever
there is a peer."""

import argparse
import contextlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tarfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(ROOT / "clients/python"))

# The harness takes the programs from where this says.
if "--bin" in sys.argv[:-1]:
    os.environ["HEARTH_BIN"] = sys.argv[sys.argv.index("--bin") + 1]

import link_times  # noqa: E402
import machine_times  # noqa: E402
import mcp_times  # noqa: E402
import neighbour_times  # noqa: E402
import peers  # noqa: E402
import port_times  # noqa: E402
import sdk_times  # noqa: E402
import service_times  # noqa: E402
import tree_times  # noqa: E402
from harness import daemon as harness_daemon  # noqa: E402
from harness import images  # noqa: E402
from harness.mcp import Stdio  # noqa: E402

LARGE = 64 << 20
KNOWN = 2000
TOGETHER = 20
CREATE = ("POST", "/v1/workspaces", '{"environment":"debian:12"}')
EXEC_TRUE = ("POST", "/v1/workspaces/{id}/exec", '{"argv":["true"]}')
DELETE = ("DELETE", "/v1/workspaces/{id}", "")


VERDICTS = {None: "no peer", True: "met", False: "MISSED"}


class Bench:
    def __init__(self, build, quick, only=""):
        self.build, self.repeats = build, 3 if quick else 7
        self.quick, self.only = quick, only
        self.rows, self.notes = [], []

    def row(self, figure, ours, peer, ratio, target, met):
        """Ratio is ours / peer's, or None; met None where there is nothing to compare with."""
        self.rows.append((figure, ours, peer, "" if ratio is None else f"{ratio:.2f}", target,
                          VERDICTS[met]))
        print(f"  {figure}: {ours}: {VERDICTS[met]}", file=sys.stderr)

    def note(self, text):
        self.notes.append(text)

    def attempt(self, figure, *arguments):
        """A figure that cannot be taken, for a peer that is broken say, costs no other."""
        if not self.is_wanted(figure):
            return
        try:
            figure(*arguments)
        except (OSError, AssertionError, LookupError, ValueError,
                subprocess.SubprocessError) as problem:
            name = figure.__name__.replace("_", " ")
            self.note(f"{name} could not be measured: {type(problem).__name__}: {problem}")

    def is_wanted(self, figure):
        """By the name of the figure or its file; a file's `measure` by those of all its figures."""
        if self.only in f"{figure.__module__}.{figure.__qualname__}":
            return True
        return figure.__name__ == "measure" and any(
            self.only in name for name in vars(sys.modules[figure.__module__]))

    def pairs(self, ours, peer, repeats=None):
        """Medians of both, taken in turn. A peer that is None is left out."""
        results = [], []
        for i in range(repeats or self.repeats):
            for side in ((0, 1), (1, 0))[i % 2]:
                if (ours, peer)[side]:
                    results[side].append((ours, peer)[side]())
        return [statistics.median(values) if values else None for values in results]

    def times(self, program, *words, private=False):
        command = [str(self.build / "tests/bench" / program), *map(str, words)]
        done = subprocess.run(peers.in_private_mounts(command) if private else command,
                              stdout=subprocess.PIPE, text=True, check=True, timeout=120)
        return json.loads(done.stdout)

    def spawn(self, rounds, threads, *command, **options):
        return self.times("spawn_times", rounds, threads, *command, **options)


def milliseconds(microseconds):
    return "" if microseconds is None else f"{microseconds / 1000:.2f} ms"


def mebibytes(kib):
    return f"{kib / 1024:.1f} MiB"


def proc_kib(pid, file, key):
    text = pathlib.Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8")
    return int(re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)[1])


class Figures:
    def __init__(self, bench, daemon, tree):
        self.bench, self.daemon, self.tree = bench, daemon, tree

    def http(self, rounds, threads, *requests, together=False):
        words = [word for request in requests for word in request]
        return self.bench.times("http_times", *(["--together"] if together else []),
                                self.daemon.socket_path, rounds, threads, *words)

    @contextlib.contextmanager
    def workspace(self):
        with self.daemon.unix_client() as client:
            path = "/v1/workspaces/" + client.post("/v1/workspaces", json.loads(CREATE[2]))[
                "workspace_id"]
            yield path
            client.request("DELETE", path)

    def exec(self):
        with self.workspace() as path:
            request = ("POST", f"{path}/exec", EXEC_TRUE[2])
            self.http(20, 1, request)
            ours, peer = self.bench.pairs(
                lambda: self.http(100, 1, request)["whole"]["median_us"],
                lambda: self.bench.spawn(100, 1, "/bin/true")["whole"]["median_us"])
            self.bench.row("exec of true; posix_spawn and wait", milliseconds(ours),
                           milliseconds(peer), ours / peer, "1.6 x + 0.3 ms",
                           ours <= 1.6 * peer + 300)
            has_bwrap = shutil.which("bwrap")
            if not has_bwrap:
                self.bench.note("bwrap is not installed")
            ours, peer = self.bench.pairs(
                lambda: self.http(60, 8, request)["per_second"],
                has_bwrap and (lambda: self.bench.spawn(
                    20, 8, *peers.bwrap(self.tree))["per_second"]))
            self.bench.row("8 execs at a time; bwrap", f"{ours:.0f}/s",
                           f"{peer:.0f}/s" if peer else "", ours / peer if peer else None,
                           ">= 3.43 x", ours / peer >= 1200 / 350 if peer else None)

    def lives(self, runtime):
        ours, peer = self.bench.pairs(
            lambda: self.http(5, 1, CREATE, EXEC_TRUE, DELETE)["whole"]["median_us"],
            runtime and (lambda: self.bench.spawn(5, 1, *runtime.life(), private=True)["whole"][
                "median_us"]))
        self.bench.row(f"create, exec, delete; {name(runtime)}", milliseconds(ours),
                       milliseconds(peer), ours / peer if peer else None, "<= 1.5 x",
                       ours <= 1.5 * peer if peer else None)

        def together():
            wall = self.http(1, TOGETHER, CREATE, DELETE, together=True)["steps"][0]["wall_us"]
            self.settle(0)
            return wall

        ours, peer = self.bench.pairs(
            together, runtime and (lambda: self.bench.times(
                "spawn_times", "--together", 1, TOGETHER, *runtime.life(), private=True)["steps"][
                    0]["wall_us"]))
        self.bench.row(f"{TOGETHER} creates at once; {name(runtime)}", milliseconds(ours),
                       milliseconds(peer), ours / peer if peer else None, "<= 2 x",
                       ours <= 2 * peer if peer else None)

    def settle(self, pooled):
        """Until no guest is left but so many that wait in the pool."""
        deadline = time.monotonic() + 20
        with self.daemon.unix_client() as client:
            while time.monotonic() < deadline:
                metrics = client.request("GET", "/metrics").body.decode()
                if (f"guests_pooled {pooled}\n" in metrics
                        and len(self.daemon.guest_pids()) == pooled):
                    return
                time.sleep(0.02)
        raise AssertionError(f"there are not {pooled} guests in the pool")

    def pooled(self, runtime):
        with self.workspace():  # from now on the pool knows what to hold
            pass

        def life():
            self.settle(4)
            return self.http(1, 1, CREATE, EXEC_TRUE, DELETE)["whole"]["median_us"]

        ours, peer = self.bench.pairs(
            life, runtime and (lambda: self.bench.spawn(3, 1, *runtime.life(), private=True)[
                "whole"]["median_us"]), repeats=3 * self.bench.repeats)
        self.bench.row(f"the same from the pool; {name(runtime)}", milliseconds(ours),
                       milliseconds(peer), ours / peer if peer else None, "<= 0.2 x",
                       ours <= 0.2 * peer if peer else None)

    def small_file(self):
        with self.workspace() as path:
            content = f"{path}/files/content"
            write = ("PUT", content, json.dumps({"path": "small", "text": "x" * 4096}))
            read = ("GET", f"{content}?path=small", "")
            status = ("GET", path, "")
            ours, peer = self.bench.pairs(
                lambda: self.http(100, 1, write, read)["whole"]["median_us"],
                lambda: self.http(100, 1, status, status)["whole"]["median_us"])
            self.bench.row("write and read 4 KiB; two status calls", milliseconds(ours),
                           milliseconds(peer), ours / peer, "+ 1 ms", ours <= peer + 1000)

    def large_file(self, podman):
        data = random.randbytes(LARGE)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("large")
            member.size = LARGE
            tar.addfile(member, io.BytesIO(data))
        archive = archive.getvalue()
        with self.workspace() as path, self.daemon.unix_client() as client:
            def ours():
                begun = time.monotonic()
                reply = client.request("PUT", f"{path}/files/content", body=data,
                                       query={"path": "large"},
                                       headers={"Content-Type": "application/octet-stream"})
                assert reply.status == 200, reply
                reply = client.request("GET", f"{path}/files/content", query={"path": "large"},
                                       headers={"Accept": "application/octet-stream"})
                taken = time.monotonic() - begun
                assert reply.body == data, "another file came back"
                return taken * 1e6

            def peer():
                begun = time.monotonic()
                where = "/v4.0.0/libpod/containers/bench/archive?path=/"
                status, reply = podman.request("PUT", where + "root", archive)
                assert status == 200, reply
                status, reply = podman.request("GET", where + "root/large")
                taken = time.monotonic() - begun
                assert status == 200 and len(reply) > LARGE
                return taken * 1e6

            ours, peer = self.bench.pairs(ours, podman and peer, repeats=3)
            self.bench.row("64 MiB in and out; podman archive", milliseconds(ours),
                           milliseconds(peer), ours / peer if peer else None, "<= 0.5 x",
                           ours <= 0.5 * peer if peer else None)

    def requests(self):
        if not shutil.which("wrk"):
            self.bench.note("wrk is not installed: no requests per second")
            return
        seconds = 1 if self.bench.quick else 2

        def rate(url, *words):
            done = subprocess.run(["wrk", "-t1", "-c32", f"-d{seconds}s", *words, url],
                                  capture_output=True, text=True, check=True)
            assert "Non-2xx" not in done.stdout, done.stdout
            return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])

        with self.workspace() as path, \
                peers.bare_mhd(self.bench.build / "tests/bench/bare_mhd") as bare:
            token = f"Authorization: Bearer {self.daemon.token}"
            ours, peer = self.bench.pairs(lambda: rate(self.daemon.url + path, "-H", token),
                                          lambda: rate(bare), repeats=min(5, self.bench.repeats))
            self.bench.row("status, 32 connections; libmicrohttpd", f"{ours:.0f}/s",
                           f"{peer:.0f}/s", ours / peer, ">= 0.33 x, 20000/s",
                           ours >= peer / 3 and ours >= 20000)

    def command_line(self):
        with self.workspace() as path:
            url = f"unix://{self.daemon.socket_path}"
            hearth = ["env", f"HEARTH_URL={url}", str(self.bench.build / "bin/hearth"),
                      "workspace", "status", path.rsplit("/", 1)[1]]
            curl = ["env", f"HEARTH_URL={url}", "curl", "--silent", "--fail", "--unix-socket",
                    str(self.daemon.socket_path), f"http://localhost{path}"]
            ours, peer = self.bench.pairs(
                lambda: self.bench.spawn(15, 1, *hearth)["whole"]["median_us"],
                lambda: self.bench.spawn(15, 1, *curl)["whole"]["median_us"])
            self.bench.row("hearth workspace status; curl", milliseconds(ours),
                           milliseconds(peer), ours / peer, "< 3 x", ours < 3 * peer)

    def mcp(self):
        url = f"unix://{self.daemon.socket_path}"
        hearth = str(self.bench.build / "bin/hearth")
        ours, version = self.bench.pairs(lambda: mcp_times.ready([hearth, "mcp", "serve"], url),
                                         lambda: mcp_times.version(hearth), repeats=15)
        self.bench.row("mcp serve, spawn to tools/list; hearth --version", milliseconds(ours),
                       milliseconds(version), ours / version, "< 3 x", ours < 3 * version)
        if peer_command := mcp_times.peer_command():
            ours, peer = self.bench.pairs(lambda: mcp_times.ready([hearth, "mcp", "serve"], url),
                                          lambda: mcp_times.ready(peer_command))
            self.bench.row("the same; FastMCP's hello", milliseconds(ours), milliseconds(peer),
                           ours / peer, "< 0.05 x", ours < peer / 20)
        else:
            self.bench.note("no mcp 1.x for a FastMCP server: make deps")
        with self.workspace() as path, Stdio(url) as stdio, self.daemon.unix_client() as client:
            workspace_id = path.rsplit("/", 1)[1]
            stdio.initialize()
            ours, peer = self.bench.pairs(lambda: mcp_times.call(stdio, workspace_id),
                                          lambda: mcp_times.rest_call(client, workspace_id),
                                          repeats=300)
            self.bench.row("status by tools/call; by REST", milliseconds(ours), milliseconds(peer),
                           ours / peer, "+ 0.5 ms", ours < peer + 500)
            pinged, last = (statistics.median(values) for values in zip(
                *(mcp_times.together(url, workspace_id) for _ in range(3))))
            self.bench.row("ping beside two `sleep 1` by MCP", milliseconds(pinged), "", None,
                           "< 50 ms", pinged < 50000)
            self.bench.row("the two `sleep 1`", milliseconds(last), "", None, "< 1200 ms",
                           last < 1200000)

    def memory(self, what, limit_mib, pid, file="status", key="VmRSS"):
        kib = proc_kib(pid, file, key)
        self.bench.row(what, mebibytes(kib), "", None, f"< {limit_mib} MiB",
                       kib < limit_mib * 1024)

    def guest_memory(self):
        with self.workspace():
            pid = self.daemon.guest_pids()[0]
            self.memory("agent, resident", 3, pid)
            # Of an idle guest the agent is the only process.
            self.memory("idle container, PSS", 4, pid, "smaps_rollup", "Pss")

    def many(self):
        """With KNOWN workspaces in the database; takes them out again. Daemon is stopped."""
        database = self.daemon.state_dir / "state.db"
        fill(database, self.daemon.node_tag)
        self.daemon.start()
        self.memory(f"hearthd with {KNOWN} workspaces, resident", 24, self.daemon.pid)
        with self.daemon.unix_client() as client:
            page = client.get("/v1/workspaces", limit=100)["workspaces"]
        assert len(page) == 100
        status = ("GET", f"/v1/workspaces/{page[0]['workspace_id']}", "")
        everything = ("GET", "/v1/workspaces?limit=100", "")
        ours, peer = self.bench.pairs(
            lambda: self.http(300, 1, everything)["whole"]["p99_us"],
            lambda: self.http(300, 1, status)["whole"]["median_us"])
        self.bench.row(f"list 100 of {KNOWN}, p99; status, p50", milliseconds(ours),
                       milliseconds(peer), ours / peer, "< 4 x", ours < 4 * peer)
        self.daemon.stop()
        with contextlib.closing(sqlite3.connect(database)) as connection:
            with connection:
                connection.execute("DELETE FROM workspace")


def fill(database, node_tag):
    """KNOWN stopped workspaces of the first tenant."""
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    now = int(time.time() * 1e6)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        tenant = connection.execute("SELECT tenant_id FROM tenant").fetchone()[0]
        values = {
            "tenant_id": tenant, "kind": "workspace", "environment": "debian:12",
            "environment_version": "0" * 64, "vcpu_count": 1, "mem_mib": 1024, "disk_mib": 4096,
            "ttl_us": 86400 * 10**6, "network_policy": "off", "isolation": "container",
            "allow_host_compat": 0, "created_at": now, "last_activity_at": now,
            "state": "stopped", "seed_entry_count": 0, "seed_bytes": 0, "command_count": 3,
            "exec_sequence": 3, "reset_count": 0, "last_reset_at": 0}
        names = ["workspace_id", "name", *values]
        with connection:
            for i in range(KNOWN):
                unique = f"ws_{node_tag}" + "".join(random.choices(alphabet, k=14))
                connection.execute(
                    f"INSERT INTO workspace ({', '.join(names)}) "
                    f"VALUES ({', '.join('?' * len(names))})",
                    [unique, f"workspace-{i}", *values.values()])


def version_of(image_dir, name):
    record = (image_dir / "environments" / f"{name}.ref").read_text(encoding="utf-8")
    return re.search(r"^version (\S+)$", record, re.MULTILINE)[1]


def name(runtime):
    return pathlib.Path(runtime.path).name if runtime else "no OCI runtime"


def measure(bench, stack):
    image_dir = images.directory()
    images.ensure(image_dir)
    tree = image_dir / "versions" / version_of(image_dir, "debian:12") / "tree"
    runtime = podman = None
    if path := peers.runtime():
        state = stack.enter_context(peers.volatile_directory())
        runtime = peers.Runtime(path, tree, state)
        stack.callback(runtime.close)
    else:
        bench.note("neither crun nor runc is installed")
    daemon = harness_daemon.Hearthd(image_dir, check_replies=False)
    daemon.runtime_dir = pathlib.Path(stack.enter_context(peers.volatile_directory())) / "run"
    stack.callback(daemon.destroy)
    figures = Figures(bench, daemon.start(), tree)
    figures.memory("hearthd idle, resident", 12, daemon.pid)
    for figure, *arguments in (
            (figures.exec,), (figures.lives, runtime), (figures.small_file,), (figures.requests,),
            (figures.command_line,), (figures.mcp,), (figures.guest_memory,)):
        bench.attempt(figure, *arguments)
    try:
        podman = peers.Podman(tree)
        stack.callback(podman.close)
    except OSError as problem:
        bench.note(f"no podman: {problem}")
    bench.attempt(figures.large_file, podman)
    bench.attempt(sdk_times.measure, bench, daemon)
    bench.attempt(tree_times.measure, bench, daemon)
    with daemon.client() as client:
        bench.attempt(port_times.measure, bench, daemon, client)
    bench.attempt(neighbour_times.measure, bench, daemon)
    bench.attempt(service_times.measure, bench, daemon)
    daemon.restart(pool=4)
    bench.attempt(figures.pooled, runtime)
    daemon.restart(stop_guests=True)
    daemon.stop()
    bench.attempt(figures.many)
    bench.attempt(machine_times.measure, bench, image_dir)
    bench.attempt(link_times.measure, bench, image_dir)


def print_table(bench):
    head = ("figure; peer", "ours", "peer", "ratio", "target", "")
    widths = [max(len(row[i]) for row in [head, *bench.rows]) for i in range(len(head))]
    for row in [head, *bench.rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
    for note in bench.notes:
        print(f"note: {note}")
    verdicts = [row[-1] for row in bench.rows]
    print(", ".join(f"{verdicts.count(word)} {word}" for word in VERDICTS.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="where hearthd is")
    parser.add_argument("--quick", action="store_true", help="fewer runs, rougher figures")
    parser.add_argument("--only", default="", metavar="WORD",
                        help="the figures alone whose name, or whose file's, has this in it")
    arguments = parser.parse_args()
    build = arguments.bin.resolve().parent
    subprocess.run(["ninja", "-C", build, *(f"tests/bench/{program}" for program in
                                            ("spawn_times", "http_times", "bare_mhd",
                                             "bare_agent"))],
                   check=True, stdout=subprocess.DEVNULL)
    bench = Bench(build, arguments.quick, arguments.only)
    with contextlib.ExitStack() as stack:
        measure(bench, stack)
    print_table(bench)


if __name__ == "__main__":
    main()
