"""hearthd as systemd's service, the system's and a user's: really started, by a systemd of the test's own."""

import pytest

from harness import guest_trees, leaks, node_tags, systemd
from harness.daemon import BIN
from harness.http import Client
from harness.user_daemon import HOME, UserDaemon
from harness.waiting import until

pytestmark = pytest.mark.skipif(bool(systemd.missing()), reason=str(systemd.missing()))


@pytest.fixture
def manager():
    made = systemd.Systemd()
    try:
        yield made
    finally:
        made.destroy()


@pytest.fixture
def tag():
    node_tag, holder = node_tags.claim()
    with holder:
        yield node_tag


def log_of(manager):
    path = manager.base / "hearthd.log"
    return manager.log() + (path.read_text() if path.exists() else "")


def main_pid(manager, *scope):
    return manager.systemctl(*scope, "show", "--value", "--property=MainPID", "hearthd.service").stdout.strip()


def state(manager, *scope):
    return manager.systemctl(*scope, "is-active", "hearthd.service").stdout.strip()


def answers(client, path):
    return client.post(f"{path}/exec", {"command": "cat kept || echo new >kept"})["stdout"]


@pytest.fixture
def system(manager, images, tag):
    """The system's manager with the socket started."""
    systemd.install(manager.units, "system", f"""StandardError=append:{manager.base}/hearthd.log
Environment=HEARTHD_NODE_TAG={tag} HEARTHD_LISTEN=127.0.0.1:0 HEARTHD_TEMPLATE=off
BindPaths={images}:/var/lib/hearth-images
BindReadOnlyPaths={BIN.parent}""")  # PrivateTmp hides what is built below /tmp
    manager.replace("group", "hearth:x:54320:")
    (manager.base / "var/lib/hearth").mkdir(mode=0o700)
    (manager.base / "var/lib/hearth/images").symlink_to("/var/lib/hearth-images")
    (manager.base / "var/lib/hearth-images").mkdir()
    manager.start()
    done = manager.systemctl("start", "hearthd.socket")
    assert done.returncode == 0, done.stderr + log_of(manager)
    yield manager
    print(log_of(manager))  # shown where the test failed


def test_the_systems_socket_starts_the_daemon_and_its_guests_outlive_it(system, tag):
    socket_path = system.path("/run/hearth/hearthd.sock")
    status = socket_path.stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o660, 54320)
    assert state(system) == "inactive"
    with Client(f"unix://{socket_path}") as client:
        assert client.request("GET", "/livez").status == 200, log_of(system)
        assert state(system) == "active"
        paths = ["/v1/workspaces/" + client.post("/v1/workspaces", {
            "environment": "debian:12", "mem_mib": 256, "isolation": isolation, "network_policy": "egress"})["workspace_id"]
            for isolation in ("container", "vm")]
        assert [answers(client, path) for path in paths] == ["", ""], log_of(system)
        before = sorted(leaks.agents(tag))
        assert len(before) == 2

        first = main_pid(system)
        done = system.systemctl("restart", "hearthd.service")
        assert done.returncode == 0, log_of(system)
        assert [answers(client, path) for path in paths] == ["new\n", "new\n"]
        second = main_pid(system)
        assert second != first

        system.systemctl("kill", "--signal=KILL", "--kill-whom=main", "hearthd.service")
        until(lambda: main_pid(system) not in ("0", second) and state(system) == "active", lambda: log_of(system))
        assert [answers(client, path) for path in paths] == ["new\n", "new\n"]
        assert sorted(leaks.agents(tag)) == before

        system.systemctl("stop", "hearthd.service")
        assert state(system) == "inactive"
        assert sorted(leaks.agents(tag)) == before, "a stop of the daemon ended its guests"
        for path in paths:  # the socket is there: the request starts it again
            client.delete(path)
        until(lambda: not list(leaks.agents(tag)), "guests are left")


def test_a_users_service_has_guests_without_root_that_outlive_it(manager, tag):
    user = UserDaemon(manager, tag)
    user.ok("systemctl", "--user", "start", "hearthd.socket")
    assert user.run("systemctl", "--user", "is-active", "hearthd.service").stdout == "inactive\n"
    (user.home / "rootfs.tar").write_bytes(guest_trees.tar(guest_trees.least_root("sh", "cat", "id")))
    user.hearth("env", "import", "least", HOME / "rootfs.tar")  # the socket has the daemon started
    assert user.hearth("run", "least", "--", "id", "-u") == "0\n"
    workspace = user.hearth("workspace", "create", "least", "--id-only").strip()
    user.hearth("workspace", "exec", workspace, "--", "sh", "-c", "echo here >kept")
    before = user.agents()
    assert len(before) == 1
    user.ok("systemctl", "--user", "restart", "hearthd.service")
    assert user.hearth("workspace", "exec", workspace, "--", "cat", "kept") == "here\n"
    assert user.agents() == before
    user.hearth("workspace", "delete", workspace)
    until(lambda: not user.agents(), "guests are left")
