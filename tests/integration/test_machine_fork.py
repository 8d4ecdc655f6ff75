"""workspace_fork with memory: copies of a running machine, with all that runs in it and an identity of their own."""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import signal
import subprocess
import time
import urllib.request

import pytest

from conftest import Workspace
from harness import daemon as harness_daemon
from harness import disks, waiting
from harness.living import matching, open_files
from test_fork import Copy, names
from test_templates import draw

until = functools.partial(waiting.until, patience_s=120)
# A count that is in this process's memory alone, told now and then with something that the kernel drew.
COUNTER = """import os, time
count = 0
while True:
    count += 1
    with open("/dev/shm/new", "w") as file:
        file.write(f"{count} {os.getpid()} {os.getrandom(16).hex()}")
    os.rename("/dev/shm/new", "/dev/shm/count")
    time.sleep(0.05)
"""


PORT = 8000
SECRET = "canary-" + os.urandom(12).hex()
DISK_MIB = 512  # of the state directory


@pytest.fixture(scope="module")
def forking_daemon(images, tmp_path_factory):
    """As root its state directory is small enough to be filled."""
    hearthd = harness_daemon.Hearthd(images, driver="qemu", template="off")
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            small = tmp_path_factory.mktemp("disk")
            stack.enter_context(disks.small(small, f"size={DISK_MIB}m,mode=0700"))
            hearthd.state_dir = small / "state"
        stack.callback(hearthd.destroy)
        yield hearthd.start()


@pytest.fixture
def client(forking_daemon):
    with forking_daemon.client(timeout=300) as made:
        yield made


@pytest.fixture(scope="module")
def origin(forking_daemon):
    """A machine in which a process counts."""
    with forking_daemon.client(timeout=300) as client:
        machine = Workspace(client, mem_mib=256, name="origin", ttl_seconds=777, network_policy="published-ports",
                            secrets=[{"name": "TOKEN", "value": SECRET}])
        machine.write("count.py", COUNTER)
        machine.write("note", "of the origin\n")
        machine.exec("nohup python3 count.py >/dev/null 2>&1 & echo installed > /etc/elsewhere; "
                     "until [ -e /dev/shm/count ]; do sleep 0.1; done", timeout_seconds=120)
        yield machine
        machine.delete()


@pytest.fixture
def forks(client, origin):
    made = []

    def make(**arguments):
        rows = client.post(f"{origin.path}/fork", {"memory": True, **arguments})["workspaces"]
        made.extend(Copy(client, row) for row in rows)
        return made[-len(rows):]

    yield make
    for copy in made:
        client.request("DELETE", copy.path)


def counted(machine):
    """How far it counts, and the process."""
    told = machine.exec("cat /dev/shm/count", timeout_seconds=120)
    count, pid, drawn = told["stdout"].split() or [told, None, None]
    return int(count), int(pid), drawn


def test_copies_run_on_with_an_identity_of_their_own(forking_daemon, client, origin, forks):
    pids, before, activity = forking_daemon.guest_pids(), counted(origin), origin.status()["last_activity_at"]
    copies = forks(count=2, names=["one", "two"], labels={"try": "1"})
    assert origin.status()["last_activity_at"] == activity
    assert set(pids) <= set(forking_daemon.guest_pids())
    for copy, name in zip(copies, ["one", "two"]):
        status = copy.created
        assert (status["name"], status["labels"], status["state"], status["ttl_seconds"], status["mem_mib"]) == (
            name, {"try": "1"}, "started", 777, 256)
        assert (status["workspace_seed"]["mode"], status["workspace_seed"]["seed_path"]) == ("memory_fork", origin.id)
        assert status["command_count"] == 0 and client.get(f"{copy.path}/logs")["count"] == 0
        assert copy.exec("cat note /etc/elsewhere")["stdout"] == "of the origin\ninstalled\n"
    machines, seen = [origin, *copies], set()
    for machine in machines:  # The same process everywhere, and it goes on from where it was.
        first = counted(machine)
        assert first[1] == before[1] and first[0] >= before[0]
        assert until(lambda machine=machine, first=first: counted(machine)[0] > first[0], "it does not count on")
        seen |= {first[2], counted(machine)[2]}
    assert len(seen) == 2 * len(machines)
    drawn = [draw(machine) for machine in machines]
    assert len({word for words in drawn for word in words}) == 7 * len(machines), drawn
    for machine in machines:
        assert machine.exec("hostname; cat /etc/hostname")["stdout"] == f"{machine.id[3:19]}\n" * 2
        assert its_clock_is_right(machine)
    # Each has a disk and a baseline of its own.
    copies[0].exec("echo mine > note; echo mine > /etc/elsewhere")
    assert [entry["path"] for entry in client.get(f"{copies[0].path}/diff")["entries"]] == ["note"]
    for machine in (origin, copies[1]):
        assert machine.exec("cat note /etc/elsewhere")["stdout"] == "of the origin\ninstalled\n"
    for machine in machines:
        assert machine.exec("dmesg | grep -c 'EXT4-fs error'")["stdout"] == "0\n"
    # And is a workspace as any other.
    assert client.post(f"{copies[0].path}/stop")["state"] == "stopped"
    assert client.post(f"{copies[0].path}/start")["state"] == "started"
    assert copies[0].exec("cat note; ls /dev/shm")["stdout"] == "mine\n"
    (grandchild,) = client.post(f"{copies[1].path}/fork", {"memory": True})["workspaces"]
    grandchild = Copy(client, grandchild)
    assert counted(grandchild)[1] == before[1]
    assert client.request("DELETE", grandchild.path).status == 200


def check_copies(client, origin, forks, count, each):
    """So many, some at a time, which draw nothing in common: neither new processes nor the one that runs in them."""
    seen, made = {counted(origin)[2], *draw(origin)}, 0
    while made < count:
        copies = forks(count=each)
        for copy in copies:
            words = {counted(copy)[2], *draw(copy)}
            assert len(words) == 8 and not seen & words, (made, words)
            seen |= words
            assert client.request("DELETE", copy.path).status == 200
        made += each


def test_copies_share_nothing_random(client, origin, forks):
    check_copies(client, origin, forks, 10, 5)


@pytest.mark.stress
def test_fifty_copies_share_nothing_random(client, origin, forks):
    check_copies(client, origin, forks, 50, 5)


@pytest.mark.parametrize("arguments, code, status, field", [
    ({"snapshot": "baseline"}, "fork_memory_of_snapshot", 422, "/memory"),
    ({"names": ["a", "b"]}, "bad_names", 422, "/names"),
    ({"memory": "yes"}, None, 422, "/memory"),
])
def test_what_cannot_be_is_refused_and_changes_nothing(client, origin, arguments, code, status, field):
    before = (names(client), origin.status())
    reply = client.request("POST", f"{origin.path}/fork", {"memory": True, **arguments})
    assert (reply.status, reply.json()["field"]) == (status, field) and reply.json()["hint"], reply.json()
    assert code in (None, reply.json()["code"])
    assert (names(client), origin.status()) == before


def test_a_stopped_machine_has_no_memory_to_copy(forking_daemon, client, origin):
    """The copy is made on the command line."""
    made = subprocess.run([harness_daemon.BIN / "hearth", "workspace", "fork", origin.id, "--memory", "--id-only"],
                          check=True, capture_output=True, text=True,
                          env={**os.environ, "HEARTH_URL": f"unix://{forking_daemon.socket_path}"}).stdout.strip()
    copy = Copy(client, client.get(f"/v1/workspaces/{made}"))
    assert counted(copy)[1] == counted(origin)[1]
    client.post(f"{copy.path}/stop")
    reply = client.request("POST", f"{copy.path}/fork", {"memory": True})
    assert (reply.status, reply.json()["code"], reply.json()["field"]) == (409, "workspace_not_started", "/memory")
    assert "start it" in reply.json()["hint"]
    client.request("DELETE", copy.path)


def test_services_run_on_under_their_names_with_ports_of_their_own(client, origin, forks):
    command = f"exec python3 -u -m http.server {PORT} --bind 127.0.0.1"
    before = client.put(f"{origin.path}/services/web", {
        "command": command, "ready_tcp": str(PORT), "published_ports": [{"guest_port": PORT}], "ready_timeout_seconds": 60})
    assert before["state"] == "running", before
    client.put(f"{origin.path}/services/over", {"command": "true"})
    until(lambda: client.get(f"{origin.path}/services/over")["state"] == "exited", "it does not end")
    (copy,) = forks()
    (service,) = client.get(f"{copy.path}/services")["services"]  # What had ended is not in it.
    assert {**service, "workspace_id": origin.id, "published_ports": None} == {**before, "published_ports": None}
    (port,) = service["published_ports"]
    assert port["guest_port"] == PORT and port["host_port"] != before["published_ports"][0]["host_port"]
    copy.exec("echo of the copy > note")
    for machine, told in ((copy, service), (origin, before)):
        url = f"http://127.0.0.1:{told['published_ports'][0]['host_port']}/note"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.read().decode() == machine.exec("cat note")["stdout"]
        assert "GET /note" in client.get(f"{machine.path}/services/web/logs")["stderr"]
    assert client.post(f"{copy.path}/services/web/stop")["state"] == "stopped"
    assert client.get(f"{origin.path}/services/web")["state"] == "running"
    assert client.post(f"{origin.path}/services/web/stop")["state"] == "stopped"


def test_shells_and_commands_go_on(client, origin, forks):
    shell = client.post(f"{origin.path}/shells", {})["shell_id"]
    client.post(f"{origin.path}/shells/{shell}/input", {"input": "word=kept"})
    client.get(f"{origin.path}/shells/{shell}", wait_for_idle_ms=200)
    running = origin.exec("until [ -e go ]; do sleep 0.1; done; cat go > went; sleep 1000", detach=True,
                          timeout_seconds=600)["exec_id"]
    (copy,) = forks()
    assert [row["shell_id"] for row in client.get(f"{copy.path}/shells")["shells"]] == [shell]
    client.post(f"{copy.path}/shells/{shell}/input", {"input": "echo copy-$word"})

    def shown(machine):
        return client.get(f"{machine.path}/shells/{shell}", wait_for_idle_ms=200)["output"]

    until(lambda: "copy-kept" in shown(copy), "the shell does not answer")
    assert "copy-kept" not in shown(origin)
    assert client.request("DELETE", f"{copy.path}/shells/{shell}").status == 200
    client.post(f"{origin.path}/shells/{shell}/input", {"input": "echo origin-$word"})
    until(lambda: "origin-kept" in shown(origin), "the origin's shell does not answer")
    assert client.request("DELETE", f"{origin.path}/shells/{shell}").status == 200
    # Its processes go on; it is the origin's to be asked for.
    assert client.request("GET", f"{copy.path}/execs/{running}").status == 404
    copy.exec("echo gone > go")
    assert until(lambda: copy.exec("cat went")["stdout"] == "gone\n", "the command does not go on")
    assert origin.exec("ls went")["exit_code"] != 0
    assert client.get(f"{origin.path}/execs/{running}")["running"]
    client.request("DELETE", f"{origin.path}/execs/{running}")


def test_secrets_are_in_the_copy_and_in_no_file(forking_daemon, client, origin, forks):
    (copy,) = forks()
    assert copy.created["secrets"] == origin.status()["secrets"]
    told = copy.exec('echo "$GIVEN"; printf %s "$GIVEN" | sha256sum', secret_env={"TOKEN": "GIVEN"})["stdout"].split()
    assert told == ["[REDACTED]", hashlib.sha256(SECRET.encode()).hexdigest(), "-"]
    for path, file in open_files(forking_daemon.state_dir):
        assert SECRET.encode() not in file.read(), path


def its_clock_is_right(machine):
    before, now, after = time.time(), float(machine.exec("date +%s.%N")["stdout"]), time.time()
    return before - 5 < now < after + 5


def goes_on(machine):
    first = counted(machine)[0]
    return until(lambda: counted(machine)[0] > first, "it does not count on")


def test_a_full_disk_fails_the_fork_alone(forking_daemon, client, origin):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    before = names(client)
    hog = forking_daemon.state_dir.parent / "hog"
    (disk,) = until(lambda: len(found := list(forking_daemon.state_dir.glob("machines/gu_*/disk.qcow2"))) == 1 and found)
    disks.fill(hog, disk.stat().st_blocks * 512 // 2)
    reply = client.request("POST", f"{origin.path}/fork", {"memory": True})
    hog.unlink()
    # What is copied may find room that the disk of a copy does not.
    assert reply.status == 507 and reply.json()["code"] in ("fork_failed", "prepare_failed"), reply.json()
    assert names(client) == before and goes_on(origin)
    assert not matching(forking_daemon.state_dir, "machines/gu_*/copied*")


@pytest.mark.parametrize("point", ["fork:carry-on", "create:baseline"])
def test_a_daemon_killed_meanwhile_leaves_whole_copies_or_none_and_nothing_paused(forking_daemon, origin, point):
    """At the first the origin is paused, at the second its copies are made."""
    with forking_daemon.client() as client:
        before = names(client)
    pids = forking_daemon.guest_pids()
    forking_daemon.stop()
    forking_daemon.start_with_environment(HEARTHD_CRASH_AT=point)
    with forking_daemon.client(timeout=120) as client, pytest.raises(OSError):
        print(client.request("POST", f"{origin.path}/fork", {"memory": True, "count": 2}).json())
    forking_daemon.wait()
    forking_daemon.start()
    with forking_daemon.client(timeout=300) as client:
        origin.client = client
        assert goes_on(origin)
        assert its_clock_is_right(origin)
        assert names(client) == before and client.post("/v1/store/verify")["whole"]
        until(lambda: set(forking_daemon.guest_pids()) <= set(pids), "a copy is left")
        (row,) = client.post(f"{origin.path}/fork", {"memory": True})["workspaces"]
        assert counted(Copy(client, row))
        client.request("DELETE", f"/v1/workspaces/{row['workspace_id']}")


def test_where_memory_is_short_nothing_is_made(forking_daemon, origin):
    forking_daemon.restart(pool_reserve_mib=1048576)
    with forking_daemon.client(timeout=300) as client:
        before, origin.client = names(client), client
        reply = client.request("POST", f"{origin.path}/fork", {"memory": True})
        problem = reply.json()
        assert (reply.status, problem["code"], problem["field"]) == (503, "memory_short", "/memory") and problem["hint"]
        assert names(client) == before and goes_on(origin)


def test_an_origin_that_dies_is_told(forking_daemon, origin):
    """One fork at a time: what comes meanwhile is told so."""
    forking_daemon.restart()
    with forking_daemon.client(timeout=300) as client:
        before, origin.client = names(client), client
        origin.exec("sync", timeout_seconds=120)
        pids = forking_daemon.guest_pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

        def fork():
            with forking_daemon.client(timeout=300) as own:
                return own.request("POST", f"{origin.path}/fork", {"memory": True})

        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            asked = [threads.submit(fork) for _ in range(2)]
            (busy,) = concurrent.futures.wait(asked, return_when=concurrent.futures.FIRST_COMPLETED).done
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            (other,) = set(asked) - {busy}
            assert (busy.result().status, busy.result().json()["code"]) == (409, "workspace_busy")
            assert other.result().json()["code"] in ("guest_died", "monitor_failed"), other.result().json()
        until(lambda: origin.status()["state"] == "failed", "it is not told as dead")
        assert names(client) == before
        assert client.post(f"{origin.path}/start")["state"] == "started"
        assert origin.read("note")["content"] == "of the origin\n"
