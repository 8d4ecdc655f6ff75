"""Machines that begin with another's memory draw that one's random numbers until they are given entropy: one that does
not take it is nobody's machine. What is drawn cannot tell that for sure, for a kernel takes some by itself after a
second. The agent here is the real one, but for what it asks of the kernel's generator."""

import pathlib
import shutil
import tempfile

import pytest

from conftest import Workspace
from harness import daemon as harness_daemon
from harness.waiting import until
from test_fork import names
from test_templates import draw, wait_for_log

PROGRAMS = ("hearthd", "hearth-agent", "hearth-launch", "hearth-archive", "hearth-disk", "hearth-net")
ADD, RESEED, NONE = 0x40085203, 0x5207, 0x400852FF  # ioctls of random(4); the last is none


def argument(request):
    """How a program for this processor says the second argument of a call."""
    return b"\xbe" + request.to_bytes(4, "little")


@pytest.fixture(scope="module")
def daemon_with(images):
    """Makes a daemon whose agent makes other requests than it would."""
    made = []

    def make(changes, **settings):
        programs = pathlib.Path(tempfile.mkdtemp(prefix="hearth-programs-"))
        made.append(lambda: shutil.rmtree(programs))
        programs.chmod(0o755)
        for name in PROGRAMS:
            shutil.copy(harness_daemon.BIN / name, programs)
        agent = (programs / "hearth-agent").read_bytes()
        for request, other in changes.items():
            if argument(request) not in agent:
                pytest.skip("this compiler writes it otherwise")
            agent = agent.replace(argument(request), argument(other))
        (programs / "hearth-agent").write_bytes(agent)
        hearthd = harness_daemon.Hearthd(images, programs=programs, driver="qemu", **settings)
        made.append(hearthd.destroy)
        return hearthd.start()

    yield make
    for end in reversed(made):
        end()


def make_template(hearthd, client):
    origin = Workspace(client, mem_mib=256)
    assert "template_made" in wait_for_log(hearthd, "template_made", "template_failed")
    return origin


def counts(client):
    return [client.metric(f"machine_{name}_total") for name in ("template_clones", "clone_failures", "template_failures")]


def test_one_that_takes_no_entropy_is_not_used(daemon_with):
    hearthd = daemon_with({ADD: NONE})
    with hearthd.client(timeout=300) as client:
        origin = make_template(hearthd, client)
        assert "event=entropy_not_added" in hearthd.log()  # of one that was booted: it has its own
        machine = Workspace(client, mem_mib=256)
        assert counts(client) == [1, 1, 1] and "event=clone_refused" in hearthd.log()
        assert machine.exec("cat /proc/uptime; ls")["exit_code"] == 0 and not set(draw(origin)) & set(draw(machine))
        before, pids = names(client), hearthd.guest_pids()
        reply = client.request("POST", f"{origin.path}/fork", {"memory": True})
        assert (reply.status, reply.json()["code"]) == (503, "not_reseeded") and reply.json()["hint"], reply.json()
        assert names(client) == before and origin.exec("echo on")["stdout"] == "on\n"
        until(lambda: hearthd.guest_pids() == pids, "a copy is left")


@pytest.mark.stress
def test_none_that_takes_no_entropy_waits_in_the_pool(daemon_with):
    hearthd = daemon_with({RESEED: NONE}, pool=1, pool_restored="on")
    with hearthd.client(timeout=300) as client:
        make_template(hearthd, client)
        until(lambda: "event=pool_boot_failed code=not_reseeded" in hearthd.log(), "none was refused")
        until(lambda: client.metric("guests_pooled") == 0 and len(hearthd.guest_pids()) == 1, "it waits all the same")
        assert Workspace(client, mem_mib=256).exec("echo up")["stdout"] == "up\n"
        assert counts(client)[1:] == [1, 1]
