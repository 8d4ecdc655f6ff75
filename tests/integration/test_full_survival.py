"""A killed daemon takes back all that runs in a guest of either kind: shells with what they hold, services that run, that
are yet to be ready and that wait for their next try, and published ports, also where another has one for a while."""

import contextlib
import re
import socket

import pytest

from harness.waiting import until
from test_ports import Published, connect, echo, is_refused
from test_shells import Shell

SECRET = "k3pt-over-a-kill"
FLAKY = "[ -e good ] || exit 3; exec sleep 1234"


@pytest.mark.parametrize("driver", ["oci", "qemu"])
def test_a_kill_leaves_shells_services_and_ports_as_they_were(hearthd_factory, driver):
    hearthd = hearthd_factory(driver=driver, template="off")
    made = Published(hearthd.client(timeout=300), mem_mib=256, secrets=[{"name": "KEY", "value": SECRET}])

    def service(name):
        return made.client.get(f"{made.path}/services/{name}")

    def told():
        events = made.client.get("/v1/events", workspace_id=made.workspace.id, kind="service", limit=1000)["events"]
        return [(event["kind"].removeprefix("service."), event["data"]["restarts"]) for event in events
                if event["data"]["service_name"] == "flaky"]

    shell = Shell(made.workspace, made.client, secret_env={"KEY": "KEY"})
    shell.until("hearth$ ")
    shell.type("word=kept; echo is-$word")
    before = shell.until("is-kept\r\n")
    port = made.start(ready_timeout_seconds=150)
    web = service("web")
    made.client.put(f"{made.path}/services/flaky", {"command": FLAKY, "restart": "on-failure"})
    made.client.put(f"{made.path}/services/over", {"command": "exit 5"})
    over = until(lambda: (row := service("over"))["state"] == "exited" and row)
    held = connect(port, "hold")
    until(lambda: [kind for kind, count in told()[-1:] if count >= 3] == ["restarting"], told)
    made.client.patch(made.path, {"name": "marked"})  # what was told before is written with it
    hearthd.kill9()
    with held, contextlib.suppress(ConnectionResetError):
        assert held.recv(1) == b""
    with socket.create_server(("127.0.0.1", port)):
        hearthd.start()
        made.client = shell.client = made.workspace.client = hearthd.client(timeout=300)
        assert service("web") == web
    until(lambda: not is_refused(port))
    assert echo(port, b"again") == b"again"
    assert shell.read()["output"].startswith(before)
    shell.type("echo still-$word-$KEY")
    shell.until("still-kept-[REDACTED]\r\n")
    assert {**service("over"), "ended_at": None} == {**over, "ended_at": None}
    # It goes on with its tries, later and later, and each is told of once.
    tries = service("flaky")["restarts"]
    assert until(lambda: service("flaky")["restarts"] > tries)
    made.workspace.write("good", "")
    # Each try runs for a moment: this is the one that stays.
    until(lambda: made.workspace.exec("pgrep -fx 'sleep 1234'", timeout_seconds=120)["exit_code"] == 0)
    flaky = until(lambda: (row := service("flaky"))["state"] == "running"
                  and told()[-1:] == [("started", row["restarts"])] and row, told)
    assert flaky["restarts"] > tries and flaky["exit_code"] is flaky["ended_at"] is None
    assert flaky["ready_at"] > service("over")["ended_at"]  # not its first run's
    tries = [count for kind, count in told() if kind == "restarting"]
    assert tries == sorted(set(tries)) and tries[:4] == [0, 1, 2, 3]
    assert made.stop()["state"] == "stopped" and is_refused(port)
    assert made.stop("flaky")["stop_reason"] == "stop_requested"
    assert SECRET not in re.sub(r"\s", "", str(made.client.get("/v1/events", limit=1000)))
    assert shell.close().json()["state"] == "stopped"
