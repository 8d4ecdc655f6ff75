"""What a host can do wrong: no runtime, a full disk, a damaged or newer database. Each is said clearly, and nothing is left."""

import concurrent.futures
import contextlib
import http.client
import os
import sqlite3
import subprocess
import time

import pytest

from harness import disks, leaks
from harness.waiting import until

ENVIRONMENT = "debian:12"


def create(client, **arguments):
    return client.request("POST", "/v1/workspaces", {"environment": ENVIRONMENT, **arguments})


def test_without_a_runtime_it_serves_and_says_what_to_install(hearthd_factory, bin_dir):
    hearthd = hearthd_factory(runtime="/no/such/runtime", qemu="/no/such/qemu")
    client = hearthd.client()
    ready = client.request("GET", "/readyz", query={"verbose": "true"})
    assert ready.status == 503
    assert any(driver["name"] == "oci" and not driver["usable"] and driver["reason"] for driver in ready.json()["drivers"])
    reply = create(client)
    assert reply.status == 503 and reply.json()["code"] == "no_driver"
    assert "doctor" in reply.json()["hint"]
    doctor = subprocess.run([bin_dir / "hearth", "doctor"], capture_output=True, text=True,
                            env={**os.environ, "HEARTH_URL": f"unix://{hearthd.socket_path}"})
    assert doctor.returncode == 1 and doctor.stderr == ""
    assert "no    driver oci" in doctor.stdout and "install: apt-get" in doctor.stdout
    assert client.get("/v1/workspaces")["count"] == 0


def test_a_vm_that_is_demanded_is_never_a_container(hearthd_factory):
    client = hearthd_factory().client()
    reply = create(client, isolation="vm")
    if reply.status == 201:
        assert reply.json()["isolation"] == "vm"
    else:
        assert (reply.status, reply.json()["code"], reply.json()["field"]) == (
            503, "isolation_unavailable", "/isolation")


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    path = tmp_path / "disk"
    path.mkdir()
    with disks.small(path, "size=16m,mode=0700"):
        yield path


def test_a_full_disk_fails_a_create_and_nothing_else(hearthd_factory, small_disk):
    hearthd = hearthd_factory(start=False)
    hearthd.state_dir = small_disk / "state"
    hearthd.start()
    client = hearthd.client()
    kept = create(client).json()["workspace_id"]
    hog = small_disk / "hog"
    with open(hog, "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    refused = []
    for _ in range(20):
        reply = create(client)
        if reply.status != 201:
            refused.append(reply)
            break
    assert refused and refused[0].status in (500, 503, 507), refused
    assert refused[0].headers["Content-Type"] == "application/problem+json"
    assert client.get(f"/v1/workspaces/{kept}")["state"] == "started"
    assert client.request("POST", f"/v1/workspaces/{kept}/exec", {"command": "echo on"}).json()["stdout"] == "on\n"
    hog.unlink()
    until(lambda: create(client).status == 201)
    for row in client.get("/v1/workspaces")["workspaces"]:
        client.request("DELETE", f"/v1/workspaces/{row['workspace_id']}")
    hearthd.stop()
    left = list((hearthd.state_dir / "guests").iterdir()) if (hearthd.state_dir / "guests").exists() else []
    assert not left


@contextlib.contextmanager
def unwritable(hearthd):
    """Nothing can be written to the daemon's state meanwhile; reading goes on."""
    with contextlib.closing(sqlite3.connect(hearthd.state_dir / "state.db", isolation_level=None)) as database:
        until(lambda: begun(database))
        yield
        database.execute("ROLLBACK")


def begun(database):
    with contextlib.suppress(sqlite3.OperationalError):
        return bool(database.execute("BEGIN IMMEDIATE"))


@pytest.mark.parametrize("act", ["stop", "delete", "start", "resume"])
def test_what_cannot_be_written_is_not_done(hearthd_factory, act):
    """The guest runs on, with what runs in it; one that was stopped or saved is so still."""
    # Without a template: the machine that is booted for one would be among its guests for a while.
    hearthd = hearthd_factory(driver="qemu" if act == "resume" else "oci", template="off")
    client = hearthd.client(timeout=120)
    path = f"/v1/workspaces/{create(client).json()['workspace_id']}"
    command = client.post(f"{path}/exec", {"command": "echo a; while [ ! -e go ]; do sleep 0.05; done; echo b",
                                           "detach": True}) if act in ("stop", "delete") else None
    if act == "start":
        client.post(f"{path}/stop")
    elif act == "resume":
        client.post(f"{path}/exec", {"command": "echo in memory >/dev/shm/kept"})
        client.post(f"{path}/suspend")
    state, pids = client.get(path)["state"], hearthd.guest_pids()
    with unwritable(hearthd):
        reply = (client.request("DELETE", path) if act == "delete" else
                 client.request("POST", f"{path}/exec", {"command": "true"}) if act == "resume" else
                 client.request("POST", f"{path}/{act}", {}))
        assert reply.status in (409, 503), reply.json()
    assert client.get(path)["state"] == state and hearthd.guest_pids() == pids
    assert [row["state"] for row in client.get("/v1/workspaces")["workspaces"]] == [state]
    if command:
        client.put(f"{path}/files/content", {"path": "go", "text": ""})
        final = client.get(f"{path}/execs/{command['exec_id']}", wait_ms=60000)
        assert (final["exit_code"], final["stdout"]) == (0, "a\nb\n")
    elif act == "resume":
        assert client.post(f"{path}/exec", {"command": "cat /dev/shm/kept"})["stdout"] == "in memory\n"
    else:
        assert client.post(f"{path}/start")["state"] == "started"
        assert len(hearthd.guest_pids()) == 1


def test_a_create_that_cannot_be_written_leaves_nothing(hearthd_factory):
    """It has taken a guest that waited, and was there for a moment."""
    hearthd = hearthd_factory(driver="oci", pool=1)
    client = hearthd.client(timeout=60)
    kept = create(client).json()["workspace_id"]
    until(lambda: client.metric("guests_pooled") == 1 and client.metric("guests_pool_making") == 0)
    before = set(hearthd.guest_pids())
    with unwritable(hearthd):
        assert create(client).status == 503
        assert [row["workspace_id"] for row in client.get("/v1/workspaces")["workspaces"]] == [kept]
    until(lambda: len(before & set(hearthd.guest_pids())) == 1)


def test_an_end_that_could_not_be_written_is_written_later(hearthd_factory):
    """Else the next daemon would find a stop under way, and stop what was started since."""
    hearthd = hearthd_factory(driver="oci")
    client = hearthd.client(timeout=60)
    path = f"/v1/workspaces/{create(client).json()['workspace_id']}"
    client.post(f"{path}/exec", {"command": "trap '' TERM; echo up; while :; do sleep 0.1; done", "timeout_seconds": 600,
                                 "wait_ms": 500})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(client.request, "POST", f"{path}/stop", {})
        until(lambda: hearthd.rows("SELECT 1 FROM operation WHERE kind = 'stop'"))
        with unwritable(hearthd):
            assert stopping.result().status == 503
    until(lambda: client.request("POST", f"{path}/start", {}).status == 200)
    until(lambda: not hearthd.rows("SELECT 1 FROM operation"))
    pids = hearthd.guest_pids()
    hearthd.kill9()
    hearthd.start()
    client = hearthd.client()
    assert client.get(path)["state"] == "started" and hearthd.guest_pids() == pids


def test_a_guest_that_dies_while_it_waits_leaves_no_row(hearthd_factory):
    """By which the next daemon would give away what another guest has by then: its user IDs."""
    hearthd = hearthd_factory(driver="oci", pool=1)
    client = hearthd.client()
    create(client)
    until(lambda: client.metric("guests_pooled") == 1 and client.metric("guests_pool_making") == 0)
    ((waiting,),) = hearthd.rows("SELECT guest_id FROM guest WHERE workspace_id IS NULL")
    hearthd.kill_guests()
    until(lambda: (waiting,) not in hearthd.rows("SELECT guest_id FROM guest"), "the row stays")


def test_a_delete_that_goes_on_after_a_kill_ends_the_commands(hearthd_factory):
    hearthd = hearthd_factory(driver="oci", max_running_execs=1)
    client = hearthd.client()
    path = f"/v1/workspaces/{create(client).json()['workspace_id']}"
    client.post(f"{path}/exec", {"command": "sleep 600", "timeout_seconds": 600, "detach": True})
    hearthd.kill9()
    hearthd.start_with_environment(HEARTHD_CRASH_AT="delete:remove")
    with contextlib.suppress(OSError):
        hearthd.client().request("DELETE", path)
    assert hearthd.wait() == 137
    hearthd.start()
    client = hearthd.client()
    until(lambda: not hearthd.guest_pids())
    until(lambda: b"hearth_execs_running 0" in client.request("GET", "/metrics").body)
    other = create(client).json()["workspace_id"]
    assert client.post(f"/v1/workspaces/{other}/exec", {"command": "echo on"})["stdout"] == "on\n"


@pytest.mark.parametrize("damage, says", [
    (lambda path: sqlite3.connect(path).executescript("PRAGMA user_version=9999"), "database_newer"),
    (lambda path: path.write_bytes(b"no database at all" * 1000), "database_corrupt"),
])
def test_a_database_that_cannot_be_used_is_refused_and_left_as_it_is(hearthd_factory, damage, says):
    hearthd = hearthd_factory()
    hearthd.stop()
    path = hearthd.state_dir / "state.db"
    good = path.read_bytes()
    damage(path)
    with pytest.raises(AssertionError, match=says):
        hearthd.start()
    path.write_bytes(good)
    for name in ("state.db-wal", "state.db-shm"):
        (hearthd.state_dir / name).unlink(missing_ok=True)
    hearthd.start()
    assert hearthd.client().get("/v1/workspaces")["count"] == 0


def test_the_token_and_the_databases_are_private(hearthd_factory):
    hearthd = hearthd_factory()
    assert hearthd.state_dir.stat().st_mode & 0o777 == 0o700
    for name in ("admin.token", "state.db", "history.db"):
        assert (hearthd.state_dir / name).stat().st_mode & 0o777 == 0o600
    secret = hearthd.token.split("_")[2]
    for path in hearthd.state_dir.iterdir():
        if path.is_file() and path.name != "admin.token":
            assert secret.encode() not in path.read_bytes()
    assert secret not in hearthd.log()


def test_what_is_awaited_past_the_drain_does_not_trouble_the_end(hearthd_factory):
    """Who works for a request that was cut off says so to nobody, and the daemon ends in order."""
    hearthd = hearthd_factory(start=False, driver="oci").start_with_environment(MALLOC_PERTURB_="165")
    path = f"/v1/workspaces/{create(hearthd.client()).json()['workspace_id']}"
    slow = {"command": "sleep 600", "timeout_seconds": 600}
    asked = [("PUT", f"{path}/services/late", {"command": "sleep 600", "ready_file": "/none", "ready_timeout_seconds": 600}),
             ("POST", f"{path}/exec", slow), ("POST", f"{path}/exec", {**slow, "wait_ms": 600000})]

    def ask(request):
        with contextlib.suppress(OSError, http.client.HTTPException):
            hearthd.client().request(*request)

    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        for request in asked:
            pool.submit(ask, request)
        client = hearthd.client()
        until(lambda: client.get(f"{path}/services")["count"] == 1 and
              b"hearth_execs_running 2" in client.request("GET", "/metrics").body)
        assert hearthd.stop() == 0, hearthd.log()
    hearthd.start()
    assert hearthd.client().get(path)["state"] == "started"
    # Nobody has left: the commands go on, as over a kill.
    client = hearthd.client()
    until(lambda: b"hearth_execs_running 2" in client.request("GET", "/metrics").body)


def processes_of_guests(node_tag):
    """How many there are. Not by their command lines: to read that of one that is held up takes until it is not."""
    found = 0
    for group in leaks.cgroups(node_tag):
        with contextlib.suppress(OSError), open(f"{group.removeprefix('cgroup: ')}/cgroup.procs") as members:
            found = max(found, len(members.readlines()))
    return found


@pytest.mark.in_a_container  # A machine's are its QEMU's.
def test_a_delete_ends_a_fork_bomb(hearthd_factory, workspace_factory):
    hearthd = hearthd_factory()
    workspace = workspace_factory(on=hearthd.client(), mem_mib=256)
    workspace.exec("bomb() { bomb | bomb & }; bomb", detach=True)
    until(lambda: processes_of_guests(hearthd.node_tag) > 1000)
    time.sleep(5)  # held to one processor they do nothing but wait for it
    workspace.delete()
    until(lambda: not processes_of_guests(hearthd.node_tag), patience_s=10)
