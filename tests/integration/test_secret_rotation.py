"""Another key for secrets, while all goes on: whatever comes between, every secret can be opened after."""

import concurrent.futures
import contextlib
import hashlib
import pathlib
import shutil
import sqlite3
import stat

import pytest

from harness.living import open_files
from harness.waiting import until
from test_cli import Cli

ROTATE = "/v1/secrets/key/rotate"
VALUE = "a-value-under-many-keys-{}"


def digest(value):
    return hashlib.sha256(value.encode()).hexdigest()


def make(client, number):
    made = client.post("/v1/workspaces", {"environment": "debian:12", "mem_mib": 256, "secrets": [
        {"name": "TOKEN", "value": VALUE.format(number)}, {"name": "OTHER", "value": "x" * 70 + str(number)}]})
    return f"/v1/workspaces/{made['workspace_id']}"


def opens(client, path, number):
    """A guest that starts is given what the rows hold."""
    client.post(f"{path}/stop")
    client.post(f"{path}/start")
    told = client.post(f"{path}/exec", {"command": 'printf %s "$T" | sha256sum | head -c 64',
                                        "secret_env": {"TOKEN": "T"}})["stdout"]
    return told == digest(VALUE.format(number))


def keys(hearthd):
    return (pathlib.Path(hearthd.state_dir) / "secret.keys").read_text().split()


@contextlib.contextmanager
def stored(hearthd):
    """Its database, closed after: what a process leaves open of one it shares with all it opens later."""
    with contextlib.closing(sqlite3.connect(pathlib.Path(hearthd.state_dir) / "state.db")) as db, db:
        yield db


def sealed_with(hearthd):
    with stored(hearthd) as db:
        return {bytes(row[0]).hex() for row in db.execute("SELECT substr(sealed, 1, 8) FROM secret")}


@pytest.fixture(scope="module")
def shared(images):
    """A daemon with two workspaces, whose key is changed by tests."""
    from harness import daemon
    with daemon.running(images) as hearthd:
        with hearthd.client() as client:
            hearthd.paths = [make(client, number) for number in range(2)]
        yield hearthd


def test_all_is_sealed_with_the_new_key_and_the_old_one_is_gone(shared, bin_dir):
    with shared.client() as client:
        [before] = keys(shared)
        told = client.post(ROTATE)
        [after] = keys(shared)
        assert before != after and told["secret_count"] == 4
        assert sealed_with(shared) == {told["key_id"]} and told["old_key_id"] != told["key_id"]
        assert stat.S_IMODE((pathlib.Path(shared.state_dir) / "secret.keys").stat().st_mode) == 0o600
        again = Cli(bin_dir, HEARTH_URL=f"unix://{shared.socket_path}").json("secret", "rotate")
        assert again["old_key_id"] == told["key_id"] and sealed_with(shared) == {again["key_id"]}
        shared.kill9()
        shared.start()
        for path, file in open_files(shared.state_dir):
            content = file.read()
            assert before.encode() not in content and bytes.fromhex(before) not in content, path
    with shared.client() as client:
        assert all(opens(client, path, number) for number, path in enumerate(shared.paths))


def test_it_is_an_administrators_and_noted(shared):
    with shared.client() as client:
        client.request("POST", "/v1/tenants", {"name": "rotator"})
        token = client.post("/v1/tenants/rotator/tokens", {"rights": "operate"})["token"]
        before = keys(shared)
        reply = shared.client(token).request("POST", ROTATE)
        assert (reply.status, reply.json()["code"]) == (403, "forbidden")
        assert keys(shared) == before
        told = client.post(ROTATE)
    with stored(shared) as db:
        until(lambda: db.execute("SELECT outcome FROM audit WHERE operation = 'secret_key_rotate' "
                                 "AND subject_id = ?", (told["key_id"],)).fetchall() == [("ok",)])


def test_a_file_that_cannot_be_written_leaves_all_as_it_was(shared):
    path = pathlib.Path(shared.state_dir) / "secret.keys"
    kept, before = path.read_text(), sealed_with(shared)
    path.unlink()
    (path / "in-the-way").mkdir(parents=True)
    with shared.client() as client:
        reply = client.request("POST", ROTATE)
        assert reply.status in (409, 500, 503) and reply.json()["code"] == "key_unusable"
        assert sealed_with(shared) == before
        shutil.rmtree(path)
        path.write_text(kept)
        path.chmod(0o600)
        assert opens(client, shared.paths[0], 0)
        client.post(ROTATE)
        assert opens(client, shared.paths[0], 0)


def test_what_is_made_meanwhile_can_be_opened_too(shared):
    """Creates and rotations at once, then a kill."""
    with concurrent.futures.ThreadPoolExecutor(5) as pool, shared.client() as client:
        def create(number):
            with shared.client() as own:
                return make(own, number)
        creating = [pool.submit(create, number) for number in range(10, 16)]
        answers = []
        while not all(one.done() for one in creating):
            answers.append(client.request("POST", ROTATE).status)
        paths = {number: one.result() for number, one in zip(range(10, 16), creating)}
    assert set(answers) == {200}
    shared.kill9()
    shared.start()
    with shared.client() as client:
        assert all(opens(client, path, number) for number, path in paths.items())
        for path in paths.values():
            client.delete(path)


def test_two_at_once_are_one_and_a_refusal(shared):
    with concurrent.futures.ThreadPoolExecutor(2) as pool, shared.client() as one, shared.client() as other:
        replies = list(pool.map(lambda client: client.request("POST", ROTATE), (one, other)))
    codes = sorted(reply.json().get("code", "") for reply in replies)
    assert codes in (["", ""], ["", "rotation_running"])


@pytest.mark.parametrize("point", ["rotate:written", "rotate:turned", "rotate:sealed", "rotate:forgotten"])
def test_a_daemon_killed_meanwhile_ends_it_at_its_next_start(shared, point):
    shared.stop()
    [before] = keys(shared)
    shared.start_with_environment(HEARTHD_CRASH_AT=point)
    with pytest.raises(Exception), shared.client() as client:
        client.post(ROTATE)
    shared.wait()
    assert len(keys(shared)) == (1 if point == "rotate:forgotten" else 2)
    new = keys(shared)[0]
    assert new != before
    shared.start()
    until(lambda: keys(shared) == [new])
    assert len(sealed_with(shared)) == 1
    with shared.client() as client:
        assert all(opens(client, path, number) for number, path in enumerate(shared.paths))
        assert client.post(ROTATE)["secret_count"] == 4


def test_the_old_key_is_kept_for_what_it_cannot_open(shared):
    with shared.client() as client:
        damaged = make(client, 20)
        client.put(f"{damaged}/files/content", {"path": "f", "text": "x"})
    shared.stop()
    with stored(shared) as db:
        db.execute("UPDATE secret SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || X'00' AS BLOB) "
                   "WHERE workspace_id = ? AND name = 'TOKEN'", (damaged.split("/")[-1],))
    shared.start()
    with shared.client() as client:
        reply = client.request("POST", ROTATE)
        assert (reply.status, reply.json()["code"]) == (500, "secret_unreadable")
        assert "hint" in reply.json() and len(keys(shared)) == 2
        assert damaged.split("/")[-1] in shared.log()
        for accept in ("application/json", "application/octet-stream"):
            reply = client.request("GET", f"{damaged}/files/content", query={"path": "f"}, headers={"Accept": accept})
            assert (reply.status, reply.json()["code"]) == (503, "secret_unreadable")
        assert all(opens(client, path, number) for number, path in enumerate(shared.paths))
        client.delete(damaged)
        assert client.post(ROTATE)["secret_count"] == 0
        assert len(keys(shared)) == 1
        assert all(opens(client, path, number) for number, path in enumerate(shared.paths))


def test_a_credential_is_not_the_daemons_to_change(hearthd_factory, tmp_path):
    (tmp_path / "hearth-secret-key").write_text("the same key, long enough")
    (tmp_path / "hearth-secret-key-old").write_text("the same key, long enough")
    hearthd = hearthd_factory(start=False)
    hearthd.start_with_environment(CREDENTIALS_DIRECTORY=str(tmp_path))
    with hearthd.client() as client:
        reply = client.request("POST", ROTATE)
        assert (reply.status, reply.json()["code"]) == (409, "key_is_credential")
        assert "hearth-secret-key-old" in reply.json()["hint"]
    assert not (pathlib.Path(hearthd.state_dir) / "secret.keys").exists()


@pytest.mark.parametrize("content", ["", "00" * 31 + "\n", "zz" * 32 + "\n", ("ab" * 32 + "\n") * 3])
def test_a_key_file_that_holds_something_else_is_refused_at_the_start(hearthd_factory, content):
    hearthd = hearthd_factory(start=False)
    hearthd.state_dir.mkdir()
    hearthd.state_dir.chmod(0o700)
    path = hearthd.state_dir / "secret.keys"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(AssertionError):
        hearthd.start()
    assert "secret.keys does not hold what it should" in hearthd.log()
    path.unlink()
