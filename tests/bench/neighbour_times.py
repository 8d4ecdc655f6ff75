"""What a tenant notices of another that floods: the p99 of its status, asked for one after the other by a small C
program, beside a service that floods its log, ports that are pulled, an exec and a shell that flood. The floods' own
clients are few and do as little as can be done with bytes. A p99 is the first thing that anything else on the machine spoils,
and only ever upwards: of some pairs taken in turn the least of either side are compared. What the machine's scheduler
alone makes of two programs that only compute is told beside it."""

import contextlib
import json
import pathlib
import subprocess

ROUNDS = 10_000
DOWNLOADS = 4
SERVER = pathlib.Path(__file__).parent.parent.joinpath("harness/guest_server.py")


class Neighbours:
    """One tenant that floods, and another whose status is asked for."""

    def __init__(self, bench, daemon, client):
        self.bench, self.daemon, self.client = bench, daemon, client
        self.loud = self.path(client.post("/v1/workspaces", {"environment": "debian:12",
                                                             "network_policy": "published-ports"}))
        self.token = client.new_tenant("quiet-neighbour")
        with daemon.client(self.token) as other:
            self.quiet = self.path(other.post("/v1/workspaces", {"environment": "debian:12"}))

    def path(self, created):
        return f"/v1/workspaces/{created['workspace_id']}"

    def p99(self):
        return self.bench.times("http_times", "--token", self.token, self.daemon.socket_path, ROUNDS, 1, "GET", self.quiet,
                                "")["whole"]["p99_us"]

    def beside(self, what, flood):
        usual, loaded = [], []
        for _ in range(self.bench.repeats):
            usual.append(self.p99())
            with flood():
                loaded.append(self.p99())
        return what, min(loaded), min(usual)

    def row(self, what, ours, alone):
        self.bench.row(f"another tenant's status, p99, beside {what}; beside nothing", f"{ours / 1000:.2f} ms",
                       f"{alone / 1000:.2f} ms", ours / alone, "2", ours / alone < 2)

    # Floods: each goes on while its context lasts.

    @contextlib.contextmanager
    def children(self, *commands):
        started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE)
                   for command in commands]
        try:
            yield started
        finally:
            for child in started:
                child.kill()
                child.wait()
                child.stdin.close()

    @contextlib.contextmanager
    def service(self, command, **more):
        yield self.client.put(f"{self.loud}/services/flood", {"command": command, **more})
        self.client.post(f"{self.loud}/services/flood/stop")

    def log(self):
        return self.service("exec yes")

    @contextlib.contextmanager
    def downloads(self):
        with self.service("exec python3 server.py 8124 load", ready_tcp="8124",
                          published_ports=[{"guest_port": 8124}]) as service:
            port = service["published_ports"][0]["host_port"]
            with self.children(*[["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}; echo send {1 << 40} >&3; exec cat <&3"]
                                 ] * DOWNLOADS):
                yield

    @contextlib.contextmanager
    def exec(self):
        body = json.dumps({"argv": ["timeout", "60", "yes"], "stream": True, "timeout_seconds": 90})
        with self.children(["curl", "-sN", "--unix-socket", self.daemon.socket_path, "-H", "Content-Type: application/json",
                            "-H", "Accept: application/x-ndjson", "-d", body, f"http://localhost{self.loud}/exec"]):
            yield

    @contextlib.contextmanager
    def shell(self):
        shell = f"{self.loud}/shells/{self.client.post(f'{self.loud}/shells', {})['shell_id']}"
        self.client.post(f"{shell}/input", {"input": "yes"})
        yield
        self.client.delete(shell)

    def control(self):
        return self.children(["yes"], ["yes"])


def neighbours(bench, daemon, client):
    made = Neighbours(bench, daemon, client)
    client.put(f"{made.loud}/files/content", {"path": "server.py", "text": SERVER.read_text()})
    for what, flood in (("a service that floods its log", made.log), (f"{DOWNLOADS} downloads by ports", made.downloads),
                        ("an exec that floods a client that reads", made.exec), ("a shell that floods", made.shell)):
        made.row(*made.beside(what, flood))
    what, ours, alone = made.beside("two programs of the host that only compute", made.control)
    bench.row(f"the same beside {what}, for comparison", f"{ours / 1000:.2f} ms", f"{alone / 1000:.2f} ms", ours / alone,
              "", None)
    client.delete(made.loud)
    with daemon.client(made.token) as other:
        other.delete(made.quiet)


def measure(bench, daemon):
    with daemon.unix_client() as client:
        bench.attempt(neighbours, bench, daemon, client)
