"""The daemon is killed while shells, services with ports and workspaces with secrets are made and ended: what it had
answered holds afterwards, what it had not is whole or not there, and nothing is left over."""

import functools
import random
import socket

import pytest

from harness.http import Problem
from harness.images import ENVIRONMENT
from harness.kills import CUT_OFF, kill_under
from harness.waiting import until

ROUNDS = {"oci": (8, 0.1, 1.5), "qemu": (3, 2, 7)}  # how many, and when the kill falls, in seconds
SEED = 7
ECHO = "python3 -u -c 'import socketserver as s\nclass H(s.StreamRequestHandler):\n    def handle(self): self.wfile.write(self.rfile.readline())\n" \
       "s.TCPServer.allow_reuse_address = True\ns.TCPServer((\"127.0.0.1\", {0}), H).serve_forever()'"
VALUE = "killed-in-the-middle-secret"


def echoes(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.sendall(b"there\n")
        return link.makefile().readline() == "there\n"


class Told:
    """What was answered."""

    def __init__(self):
        self.opened, self.closed, self.asked_to_close = set(), set(), set()
        self.running, self.stopped, self.unsure, self.made = {}, set(), set(), set()


def shells(client, path, told, pick):
    if told.opened - told.asked_to_close and pick.random() < 0.5:
        shell = pick.choice(sorted(told.opened - told.asked_to_close))
        if pick.random() < 0.5:
            client.post(f"{path}/shells/{shell}/input", {"input": "echo typed"})
            return
        told.asked_to_close.add(shell)
        client.request("DELETE", f"{path}/shells/{shell}")
        told.closed.add(shell)
    else:
        told.opened.add(client.post(f"{path}/shells", {"secret_env": {"KEY": "KEY"}})["shell_id"])


def services(client, path, told, pick):
    name = f"s{pick.randrange(4)}"
    told.unsure.add(name)
    told.stopped.discard(name)
    if name in told.running:
        told.running.pop(name)
        client.post(f"{path}/services/{name}/stop")
        told.stopped.add(name)
    else:
        port = 7000 + int(name[1:])
        made = client.put(f"{path}/services/{name}", {"command": ECHO.format(port), "ready_tcp": str(port),
                                                      "secret_env": {"KEY": "KEY"}, "published_ports": [{"guest_port": port}]})
        assert made["state"] == "running", made
        told.running[name] = made["published_ports"][0]["host_port"]
    told.unsure.discard(name)


def workspaces(client, _, told, pick):
    told.made.add(client.post("/v1/workspaces", {
        "environment": ENVIRONMENT, "mem_mib": 256, "secrets": [{"name": "KEY", "value": VALUE}]})["workspace_id"])


def work(hearthd, path, told, act, seed, stop):
    pick, client = random.Random(seed), hearthd.client(timeout=60)
    try:
        while not stop.is_set():
            act(client, path, told, pick)
    except (*CUT_OFF, Problem):
        pass  # It was killed.
    finally:
        client.close()


def check(client, path, told):
    listed = {shell["shell_id"]: shell for shell in client.get(f"{path}/shells")["shells"]}
    assert told.opened - told.asked_to_close <= listed.keys() and not [
        shell for shell in told.closed if listed.get(shell, {}).get("state") == "running"]
    for shell in sorted(told.opened - told.asked_to_close):
        client.post(f"{path}/shells/{shell}/input", {"input": "echo seen-$((1+1)) $KEY"})
        assert until(lambda: "seen-2 [REDACTED]" in client.get(f"{path}/shells/{shell}")["output"])
    for shell, state in listed.items():  # Nobody knows of those that were not answered.
        if state["state"] == "running":
            client.request("DELETE", f"{path}/shells/{shell}")
    told.opened.clear(), told.asked_to_close.clear(), told.closed.clear()
    for name, port in told.running.items():
        state = client.get(f"{path}/services/{name}")
        assert (state["state"], [row["host_port"] for row in state["published_ports"]]) == ("running", [port]) and echoes(port)
    for name in told.stopped:
        state = client.get(f"{path}/services/{name}")
        assert (state["state"], state["published_ports"]) == ("stopped", [])
    for name in sorted(told.unsure):
        reply = client.request("GET", f"{path}/services/{name}")
        if reply.status == 200:
            state = until(lambda: (now := client.get(f"{path}/services/{name}"))["state"] != "running" and now or now["ready_at"] and now)
            for row in state["published_ports"] if state["state"] == "running" else []:
                assert echoes(row["host_port"])
            client.post(f"{path}/services/{name}/stop")
            assert client.get(f"{path}/services/{name}")["published_ports"] == []
    told.unsure.clear()
    rows = {row["workspace_id"]: row for row in client.get("/v1/workspaces", limit=1000)["workspaces"]}
    assert told.made <= rows.keys()
    for workspace_id in rows.keys() - {path.rsplit("/", 1)[1]}:
        done = client.post(f"/v1/workspaces/{workspace_id}/exec", {"command": 'test "$K" = ' + f"{VALUE[:9]}''{VALUE[9:]}",
                                                                   "secret_env": {"KEY": "K"}})
        assert (rows[workspace_id]["state"], done["exit_code"]) == ("started", 0), done
        client.request("DELETE", f"/v1/workspaces/{workspace_id}")
    told.made.clear()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("driver", ROUNDS)
def test_what_was_answered_holds_over_kills(hearthd_factory, driver):
    hearthd, pick, told = hearthd_factory(driver=driver), random.Random(SEED), Told()
    rounds, soonest, latest = ROUNDS[driver]
    path = "/v1/workspaces/" + hearthd.client().post("/v1/workspaces", {
        "environment": ENVIRONMENT, "mem_mib": 256, "network_policy": "published-ports", "secrets": [{"name": "KEY", "value": VALUE}]})["workspace_id"]
    # What takes an emulated machine seconds may be cut off each time: it is whole or not there all the same.
    wanted, answered = 5 if driver == "oci" else 1, [0] * 5
    for turn in range(4 * rounds):
        if turn >= rounds and all(answered[:wanted]):
            break  # How much is answered in a round depends on the load.
        kill_under(hearthd, [functools.partial(work, hearthd, path, told, act, SEED * 1000 + turn)
                             for act in (shells, services, workspaces)], pick.uniform(soonest, latest))
        answered = [before + len(now) for before, now in zip(answered, (told.opened, told.closed, told.running, told.stopped, told.made))]
        check(hearthd.client(timeout=60), path, told)
    hearthd.client().request("DELETE", path)
    assert all(answered[:wanted]), answered
