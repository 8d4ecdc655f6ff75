"""A plain user's daemon: an environment pulled by that user, and what containers and machines can do in it."""

import json

import pytest

from harness import node_tags, systemd
from harness.user_daemon import HOME, UserDaemon

pytestmark = pytest.mark.skipif(bool(systemd.missing()), reason=str(systemd.missing()))

ENVIRONMENT = "debian:12-base"


@pytest.fixture(scope="module")
def user():
    manager = systemd.Systemd()
    node_tag, holder = node_tags.claim()
    try:
        made = UserDaemon(manager, node_tag)
        project = made.home / "project"
        project.mkdir(mode=0o755)
        (project / "run.sh").write_text("echo one\n")
        (project / "run.sh").chmod(0o755)
        (project / "link").symlink_to("run.sh")
        made.ok("systemctl", "--user", "start", "hearthd.service")
        made.hearth("env", "pull", ENVIRONMENT, timeout=1200)
        yield made
    finally:
        manager.destroy()
        holder.close()


@pytest.fixture(params=["container", "vm"])
def workspace(user, request):
    """With outbound network, from a directory of the user's."""
    created = user.hearth("workspace", "create", ENVIRONMENT, "--isolation", request.param, "--mem-mib", "256",
                          "--seed-path", HOME / "project", "--network-policy", "egress+published-ports", "--id-only")
    yield created.strip()
    user.hearth("workspace", "delete", created.strip())


def run(user, workspace, script):
    return user.hearth("workspace", "exec", workspace, "--", "sh", "-c", script)


def test_root_in_a_guest_is_the_user_and_has_other_users_beside(user, workspace):
    assert run(user, workspace, "id -u; stat -c %u /bin/sh run.sh") == "0\n0\n0\n"
    assert run(user, workspace, "touch x && chown 33:33 x && stat -c %u:%g x") == "33:33\n"
    assert run(user, workspace, "ls -d /dev/null /proc/self; stat -c %a .; ./run.sh; readlink link") == (
        "/dev/null\n/proc/self\n755\none\nrun.sh\n")


def test_changes_are_told_kept_and_taken_back(user, workspace):
    run(user, workspace, "echo 'echo two' >>run.sh")
    assert "+echo two\n" in user.hearth("workspace", "diff", workspace)
    user.hearth("workspace", "snapshot", "create", workspace, "mine")
    run(user, workspace, "rm -r run.sh link; echo other >new")
    user.hearth("workspace", "reset", workspace, "--snapshot", "mine")
    assert run(user, workspace, "ls; ./run.sh") == "link\nrun.sh\none\ntwo\n"
    copy = json.loads(user.hearth("workspace", "fork", workspace, "--json"))["workspaces"][0]["workspace_id"]
    assert run(user, copy, "./run.sh") == "one\ntwo\n"
    user.hearth("workspace", "delete", copy)
    if json.loads(user.hearth("workspace", "status", workspace, "--json"))["isolation"] == "vm":
        run(user, workspace, "echo remembered >/dev/shm/word")
        copy = user.hearth("workspace", "fork", workspace, "--memory", "--id-only").strip()
        assert run(user, copy, "cat /dev/shm/word; ./run.sh") == "remembered\none\ntwo\n"
        user.hearth("workspace", "delete", copy)


def test_a_stop_keeps_what_was_written_and_shows_it(user, workspace):
    run(user, workspace, "echo kept >file")
    user.hearth("workspace", "stop", workspace)
    assert "/workspace/file" in user.hearth("workspace", "disk", "list", workspace, "/workspace")
    user.hearth("workspace", "start", workspace)
    assert run(user, workspace, "cat file") == "kept\n"


def test_a_service_is_ready_and_its_port_published(user, workspace):
    command = ("exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 9, LocalAddr => \"127.0.0.1:8000\") or die; "
               "while ($c = $s->accept) { $_ = <$c>; print $c \"HTTP/1.0 200 OK\\r\\n\\r\\nhello\"; close $c }'")
    told = json.loads(user.hearth("workspace", "service", "start", workspace, "web", "--ready-tcp", "8000", "--publish",
                                  "8000", "--json", "--", command))
    assert told["state"] == "running"
    assert user.ok("curl", "-s", f"http://127.0.0.1:{told['published_ports'][0]['host_port']}/") == "hello"


def test_the_tenants_list_holds_for_its_guests(user, workspace):
    """What is not to be reached is refused at once, by what stands between the guest and the host."""
    asked = run(user, workspace, "perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(PeerAddr=>\"169.254.169.254:80\","
                                 "Timeout=>20) ? \"reached\" : \"refused\"'")
    assert asked == "refused"
    assert "169.254.169.254" in user.hearth("workspace", "network-log", workspace)
