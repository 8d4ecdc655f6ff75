"""A secret passes through the daemon and the link; what it passed through is wiped, and nobody's core dump has it."""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess

import pytest

from harness.agent import running
from harness.daemon import BIN
from harness.images import ENVIRONMENT
from harness.mcp import Http, Stdio
from harness.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root reads another process's memory")
PIECE = 1 << 20


def mappings(pid):
    """(from, to, flags) of all that the process may write."""
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            if header := re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line):
                begin, end = (int(number, 16) for number in header.groups())
            elif line.startswith("VmFlags:") and begin is not None:
                yield begin, end, line.split()[1:]
            elif re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                begin = None


def found(pid, canary):
    """Where it stands in ordinary memory. What is locked and left out of dumps keeps what is looked for."""
    places = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for begin, end, flags in mappings(pid):
            if "lo" in flags and "dd" in flags:
                continue
            for at in range(begin, end, PIECE):
                try:
                    memory.seek(at)
                    content = memory.read(min(PIECE + len(canary), end - at))
                except OSError:  # Gone meanwhile.
                    break
                places += [hex(at + match.start()) for match in re.finditer(re.escape(canary), content)]
    return places


def test_the_search_finds_what_is_there():
    kept = os.urandom(16).hex().encode()
    assert found(os.getpid(), kept)


def canary():
    return "c4nary-" + os.urandom(12).hex()


def secrets_of(value):
    """A short one, and one that no buffer takes in one piece."""
    return [{"name": "SHORT", "value": value}, {"name": "LONG", "value": f"{value}, " * 1600}]


def in_chunks(client, body):
    text = json.dumps(body).encode()
    return client.request("POST", "/v1/workspaces", body=iter([text[at:at + 1000] for at in range(0, len(text), 1000)]),
                          headers={"Content-Type": "application/json"}).json()


def over_mcp(client, body):
    _, answer = Http(client, "workspace-full").modern("tools/call", {"name": "workspace_create", "arguments": body})
    return answer["result"]["structuredContent"]


WAYS = {
    "rest": lambda client, body: client.post("/v1/workspaces", body),
    "rest-with-a-key": lambda client, body: client.request(
        "POST", "/v1/workspaces", body, headers={"Idempotency-Key": os.urandom(8).hex()}).json(),
    "in-chunks": in_chunks,
    "tool": lambda client, body: client.post("/v1/tools/workspace_create/call", body),
    "mcp": over_mcp,
}


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("way", WAYS)
def test_what_brought_a_secret_is_wiped(daemon, client, way):
    value = canary()
    secrets = secrets_of(value)
    made = WAYS[way](client, {"environment": ENVIRONMENT, "secrets": secrets})
    path = f"/v1/workspaces/{made['workspace_id']}"
    told = client.post(f"{path}/exec", {"command": "cd /run/hearth/secrets; sha256sum SHORT LONG"})["stdout"]
    assert found(daemon.pid, value.encode()) == []
    client.request("DELETE", path)
    assert told.split()[::2] == [sha256(secret["value"]) for secret in secrets]


def test_one_that_comes_over_stdio_is_wiped(daemon):
    value = canary()
    with Stdio(f"unix://{daemon.socket_path}", "--profile", "workspace-full") as stdio:
        stdio.initialize()
        made = stdio.call("workspace_create", {"environment": ENVIRONMENT, "secrets": secrets_of(value)})["structuredContent"]
        stdio.request("ping")  # The turn in which it was answered is over.
        assert found(daemon.pid, value.encode()) == []
        stdio.call("workspace_delete", {"workspace_id": made["workspace_id"]})


def test_one_that_is_read_from_a_file_is_wiped(daemon, client, tmp_path):
    value = canary()
    secrets = [{"name": secret["name"], "file_path": str(tmp_path / secret["name"])} for secret in secrets_of(value)]
    for secret in secrets_of(value):
        (tmp_path / secret["name"]).write_text(secret["value"])
    client.post("/v1/tenants", {"name": "of-files", "host_roots": [str(tmp_path)]})
    with daemon.client(token=client.post("/v1/tenants/of-files/tokens", {})["token"]) as tenant:
        made = tenant.post("/v1/workspaces", {"environment": ENVIRONMENT, "secrets": secrets})
        tenant.get("/livez")
        assert found(daemon.pid, value.encode()) == []
        tenant.request("DELETE", f"/v1/workspaces/{made['workspace_id']}")


def test_one_that_is_refused_is_wiped(daemon, client):
    value = canary()
    body = {"environment": ENVIRONMENT, "secrets": secrets_of(value)}
    for bad in ({**body, "environment": "none:1"}, {**body, "vcpu_count": 99}, {**body, "name": value * 90}, {"secrets": value},
                {**body, "secrets": [{"name": value, "value": value}]}, {**body, "unknown": value}):
        assert client.request("POST", "/v1/workspaces", bad).status in (404, 409, 422)
    cut = client.request("POST", "/v1/workspaces", body=json.dumps(body).encode()[:-1], headers={"Content-Type": "application/json"})
    assert cut.status == 400
    client.get("/livez")
    assert found(daemon.pid, value.encode()) == []


def test_one_of_a_machine_is_wiped_after_it_was_sent(machine_daemon, machine_client):
    value = canary()
    made = machine_client.post("/v1/workspaces", {"environment": ENVIRONMENT, "mem_mib": 256, "secrets": secrets_of(value)})
    machine_client.get("/livez")
    assert found(machine_daemon.pid, value.encode()) == []
    machine_client.request("DELETE", f"/v1/workspaces/{made['workspace_id']}")


def ends_without_a_dump(process):
    """Ends a child of ours by a signal that dumps core, where nothing but the program itself forbids that."""
    limits = resource.prlimit(process.pid, resource.RLIMIT_CORE)
    resource.prlimit(process.pid, resource.RLIMIT_CORE, (limits[1], limits[1]))
    os.kill(process.pid, signal.SIGABRT)
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT).si_code == os.CLD_KILLED


def test_the_daemon_leaves_no_core_dump(hearthd_factory):
    hearthd = hearthd_factory()
    assert resource.prlimit(hearthd.pid, resource.RLIMIT_CORE) == (0, 0)
    assert ends_without_a_dump(hearthd.process)
    hearthd.kill9()


def test_no_program_of_the_host_is_given_one_either(anyones_path):
    """The kernel asks no limit before it gives a dump to a program. What is not dumpable shows it by whose its /proc is."""
    shutil.copy(BIN / "hearthd", anyones_path)
    os.mkfifo(anyones_path / "config", 0o666)
    process = subprocess.Popen([anyones_path / "hearthd", "--config", anyones_path / "config"], user=65534, group=65534, extra_groups=[])
    try:
        until(lambda: "hearthd" in os.readlink(f"/proc/{process.pid}/exe") and os.stat(f"/proc/{process.pid}/environ").st_uid == 0)
    finally:
        process.kill()
        process.wait()


def test_the_agent_leaves_no_core_dump(tmp_path):
    with running(tmp_path) as agent:
        assert ends_without_a_dump(agent.process)
