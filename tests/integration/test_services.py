"""Services in real guests: ready or not, told at once how they end, over restarts and kills of the
daemon and stops of the workspace."""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import time

import pytest

from harness.daemon import BIN
from harness.http import Reply
from harness.waiting import until

SERVER = "exec python3 -u -m http.server --bind 127.0.0.1 "


class Services:
    def __init__(self, client):
        self.client = client
        self.workspace_id = client.post("/v1/workspaces",
                                        {"environment": "debian:12", "mem_mib": 256})["workspace_id"]
        self.workspace_path = f"/v1/workspaces/{self.workspace_id}"
        self.path = f"{self.workspace_path}/services"

    def start(self, name, command, **more):
        """With time enough for an emulated machine on a busy host."""
        patience = {"ready_timeout_seconds": 150} if any(key.startswith("ready_") for key in more) else {}
        return self.client.put(f"{self.path}/{name}", {"command": command, **patience, **more})

    def refused(self, name, **more):
        reply = self.client.request("PUT", f"{self.path}/{name}", more)
        assert reply.status >= 400
        return reply.status, reply.json()

    def status(self, name):
        return self.client.get(f"{self.path}/{name}")

    def stop(self, name):
        return self.client.post(f"{self.path}/{name}/stop")

    def logs(self, name, **query):
        return self.client.get(f"{self.path}/{name}/logs", **query)

    def run(self, command):
        return self.client.post(f"{self.workspace_path}/exec", {"command": command})

    def until(self, name, **wanted):
        """Its status, once it is as wanted."""
        return until(lambda: all((state := self.status(name))[key] == value for key, value in wanted.items()) and state,
                     lambda: self.status(name))


@pytest.fixture(scope="module")
def shared(either_daemon):
    with either_daemon.client(timeout=300) as client:
        services = Services(client)
        yield services
        client.delete(services.workspace_path)


def test_one_is_started_listed_read_and_stopped(shared):
    before = shared.client.get(shared.workspace_path)
    web = shared.start("web", SERVER + "8000", ready_http="http://localhost:8000/")
    assert web["state"] == "running" and web["ready_at"] >= web["started_at"]
    assert web["pid"] > 0 and web["ended_at"] is web["exit_code"] is web["stop_reason"] is None
    assert web["readiness"] == {"type": "http", "url": "http://localhost:8000/"}
    assert (web["cwd"], web["restart"], web["published_ports"]) == ("/workspace", "never", [])
    assert shared.run("python3 -c 'import urllib.request as r;"
                      "print(r.urlopen(\"http://127.0.0.1:8000\").status)'")["stdout"] == "200\n"
    after = shared.client.get(shared.workspace_path)
    assert after["last_activity_at"] > before["last_activity_at"]
    assert (after["service_count"], after["running_service_count"]) == (1, 1)
    assert shared.status("web") == web
    listed = shared.client.get(shared.path)
    assert listed["services"] == [web] and (listed["count"], listed["running_count"]) == (1, 1)
    row = next(row for row in shared.client.get("/v1/workspaces")["workspaces"]
               if row["workspace_id"] == shared.workspace_id)
    assert (row["service_count"], row["running_service_count"]) == (1, 1)
    seen = shared.client.get(shared.workspace_path)["last_activity_at"]
    logs = shared.logs("web")
    assert "GET / HTTP/1.1" in logs["stderr"] and logs["state"] == "running"
    assert shared.client.get(shared.workspace_path)["last_activity_at"] == seen

    stopped = shared.stop("web")
    assert (stopped["state"], stopped["exit_code"], stopped["stop_reason"]) == (
        "stopped", 143, "stop_requested")
    assert stopped["ended_at"] >= stopped["ready_at"] and stopped["pid"] is None
    assert shared.stop("web") == stopped
    assert "GET / HTTP/1.1" in shared.logs("web")["stderr"]
    assert shared.client.get(shared.workspace_path)["running_service_count"] == 0


@pytest.mark.parametrize("arguments, type_", [
    ({"command": SERVER + "8001", "ready_tcp": "8001"}, "tcp"),
    # What binds a name takes the first of its addresses: it is the one that ports and probes lead to.
    ({"command": "exec python3 -u -m http.server --bind localhost 8004", "ready_tcp": "8004", "ready_timeout_seconds": 60}, "tcp"),
    ({"command": "sleep 0.2; touch up; exec sleep 1000", "ready_file": "up"}, "file"),
    ({"command": "touch there; exec sleep 1000", "ready_command": "[ -e there ]",
      "ready_interval_ms": 20}, "command"),
])
def test_each_kind_of_readiness(shared, arguments, type_):
    service = shared.start("ready", **arguments)
    assert service["state"] == "running" and service["ready_at"]
    assert service["readiness"]["type"] == type_
    shared.stop("ready")


def test_a_start_that_dies_or_is_late_is_told_and_no_error(shared):
    died = shared.start("dies", "echo reason >&2; exit 9", ready_tcp="127.0.0.1:9",
                        ready_timeout_seconds=600)
    assert (died["state"], died["stop_reason"], died["exit_code"]) == (
        "failed", "exited_before_ready", 9)
    assert shared.logs("dies")["stderr"] == "reason\n"
    late = shared.start("late", "trap '' TERM; sleep 1000", ready_file="/nowhere",
                        ready_timeout_seconds=1)
    assert (late["state"], late["stop_reason"], late["ready_at"]) == (
        "failed", "readiness_timeout", None)


def test_an_exit_is_seen_at_once_and_is_an_event(shared):
    shared.start("ends", "while [ ! -e go ]; do sleep 0.02; done; exit 5")
    shared.run("touch go")
    ended = shared.until("ends", state="exited")
    assert (ended["exit_code"], ended["stop_reason"]) == (5, "exited")
    events = shared.client.get("/v1/events", workspace_id=shared.workspace_id, kind="service")
    told = [event for event in events["events"] if event["data"].get("service_name") == "ends"]
    assert [event["kind"] for event in told] == ["service.started", "service.exited"]
    assert told[1]["data"]["exit_code"] == 5


def test_failures_are_restarted(shared):
    shared.start("flaky", "echo run >>runs; [ $(wc -l <runs) -ge 3 ] || exit 1; exec sleep 1000",
                 restart="on-failure")
    state = shared.until("flaky", restarts=2, state="running")
    assert state["restart"] == "on-failure" and state["exit_code"] is None
    assert shared.stop("flaky")["state"] == "stopped"


def test_a_stop_takes_all_that_it_started_along(shared):
    shared.start("group", "trap '' TERM; (trap '' TERM; exec -a left-behind sleep 1000) & "
                          "echo up >group-up; while :; do sleep 1000; done", ready_file="group-up")
    assert shared.stop("group")["exit_code"] == 137
    assert shared.run("pgrep -f [l]eft-behind")["stdout"] == ""


def test_what_a_service_has_started_has_time_to_end_too(shared):
    """Its shell ends at once, and what that has started cleans up yet, says so, and is waited for."""
    shared.start("cleans", "(trap 'sleep 0.3; echo cleaned; touch cleaned; exit' TERM; touch cleans-up; while :; do sleep 0.05; done) & wait",
                 ready_file="cleans-up")
    stopped = shared.stop("cleans")
    assert (stopped["state"], stopped["exit_code"], stopped["stop_reason"]) == ("stopped", 143, "stop_requested")
    assert shared.run("ls cleaned")["exit_code"] == 0 and shared.logs("cleans")["stdout"] == "cleaned\n"


FORKS_TWICE = """python3 -c 'import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "deaf" else signal.SIG_DFL)
        os.chdir("/")
        open("/workspace/" + sys.argv[2], "w").write(str(os.getpid()))
        os.execvp("sleep", ["sleep", "1000"])
    os._exit(0)' """


def test_a_stop_takes_along_what_has_left_its_group(shared):
    """The usual two forks of a daemon, beside its service and after that has ended, also where it ignores TERM."""
    for number, (manner, ends) in enumerate((("obeys", "exec sleep 1000"), ("deaf", "exec sleep 1000"), ("deaf", "exit 0"))):
        name = f"far{number}"
        shared.start(name, f"{FORKS_TWICE} {manner} {name}; while [ ! -s {name} ]; do sleep 0.02; done; touch {name}-up; {ends}",
                     **({"ready_file": f"{name}-up"} if "sleep" in ends else {}))
        shared.until(name, state="running" if "sleep" in ends else "exited")
        until(lambda name=name: "HEARTH_SERVICE=" in shared.run(f"grep -z ^HEARTH_SERVICE= /proc/$(cat {name})/environ")["stdout"])
        shared.start("bystander", "exec sleep 1000")
        stopped = shared.stop(name)
        assert (stopped["state"], stopped["pid"]) == ("stopped" if "sleep" in ends else "exited", None)
        # It may not have been reaped yet: what is about to be gone has no environment any more.
        assert shared.run(f"grep -qz ^HEARTH_SERVICE= /proc/$(cat {name})/environ")["exit_code"] != 0
        assert shared.status("bystander")["state"] == "running"
        shared.stop("bystander")


def test_logs_are_cut_followed_and_bounded(shared):
    shared.start("logs", "seq 1 300; while [ ! -e more ]; do sleep 0.02; done; "
                         "echo extra; exec sleep 1000")
    shared.until("logs", state="running")
    logs = until(lambda: "300\n" in (logs := shared.logs("logs", tail_lines=2))["stdout"] and logs)
    assert (logs["stdout"], logs["tail_lines"], logs["truncated"]) == ("299\n300\n", 2, True)
    whole = shared.logs("logs", all="true")
    assert whole["stdout"] == "".join(f"{i}\n" for i in range(1, 301)) and not whole["truncated"]
    shared.run("touch more")
    more = shared.logs("logs", cursor=whole["cursor"], wait_ms=60000)
    assert more["stdout"] == "extra\n"
    shared.stop("logs")
    shared.start("logs", "echo anew; touch anew; exec sleep 1000", ready_file="anew")
    anew = until(lambda: (logs := shared.logs("logs", cursor=more["cursor"]))["stdout"] and logs)
    assert (anew["stdout"], anew["truncated"]) == ("anew\n", True), "a cursor of an earlier start hides nothing of this one"
    assert shared.logs("logs", cursor=anew["cursor"])["stdout"] == ""
    for cursor in ("0.0", more["cursor"] + ".0", more["cursor"].replace(".", ". "), more["cursor"].rpartition(".")[0]):
        reply = shared.client.request("GET", f"{shared.path}/logs/logs", query={"cursor": cursor})
        assert (reply.status, reply.json()["code"], reply.json()["field"]) == (422, "bad_cursor", "/cursor"), cursor
    shared.stop("logs")


def test_a_log_that_is_followed_takes_no_character_apart(shared):
    """What is printed of one is told with its rest, or in the end as what it is."""
    shared.start("letters", "printf 'a\\303'; while [ ! -e rest ]; do sleep 0.02; done; printf '\\251b\\360\\237'; "
                            "while [ ! -e last ]; do sleep 0.02; done; exit 0")
    while not (first := shared.logs("letters"))["stdout"]:
        pass
    assert first["stdout"] == "a"
    nothing = shared.logs("letters", cursor=first["cursor"], wait_ms=50)
    assert (nothing["stdout"], nothing["cursor"]) == ("", first["cursor"])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with shared.client.another() as own:
            waits = pool.submit(own.get, f"{shared.path}/letters/logs", cursor=first["cursor"], wait_ms=60000)
            shared.run("touch rest")
            second = waits.result()
    assert second["stdout"] == "\u00e9b"
    shared.run("touch last")
    assert shared.logs("letters", cursor=second["cursor"], wait_ms=60000)["stdout"] in ("\ufffd", "\ufffd\ufffd")


def test_one_that_forks_away_is_told_as_ended(shared):
    """What a service left in another session is not the service: nobody is told that it still runs. A stop ends it."""
    shared.start("daemon", "setsid sh -c 'echo $$ >forked; exec sleep 1000' & while [ ! -s forked ]; do sleep 0.02; "
                           "done; exit 0")
    ended = shared.until("daemon", state="exited")
    assert (ended["exit_code"], ended["stop_reason"], ended["pid"]) == (0, "exited", None)
    assert shared.run("kill -0 $(cat forked)")["exit_code"] == 0
    assert shared.stop("daemon") == ended
    assert shared.run("grep -qz ^HEARTH_SERVICE= /proc/$(cat forked)/environ")["exit_code"] != 0
    assert shared.stop("daemon") == ended
    # Another of its name ends what nobody could name any more.
    for turn in ("first", "second"):
        shared.start("daemon", f"setsid sh -c 'echo $$ >{turn}; exec sleep 1000' & while [ ! -s {turn} ]; do sleep 0.02; done; exit 0")
        shared.until("daemon", state="exited")
    until(lambda: shared.run("kill -0 $(cat first)")["exit_code"] == 1)
    assert shared.run("kill -0 $(cat second)")["exit_code"] == 0
    shared.stop("daemon")
    never = shared.start("forks", "setsid sleep 1000 & exit 0", ready_file="/nowhere")
    assert (never["state"], never["stop_reason"], never["exit_code"]) == ("failed", "exited_before_ready", 0)


def test_one_that_floods_its_log_costs_others_nothing(shared):
    shared.start("flood", "yes flood; true")
    for _ in range(20):
        assert shared.run("echo on")["stdout"] == "on\n"
        assert len(shared.logs("flood", all="true")["stdout"]) <= 256 << 10
    assert shared.status("flood")["state"] == "running"
    assert shared.stop("flood")["state"] == "stopped"
    logs = shared.logs("flood", all="true")
    assert logs["truncated"] and logs["stdout"].endswith("flood\n") and len(logs["stdout"]) <= 256 << 10


@pytest.mark.parametrize("arguments, status, code, field", [
    ({}, 422, "missing_argument", "/command"),
    ({"command": "true", "ready_tcp": "80", "ready_file": "x"}, 422, "conflicting_arguments",
     "/ready_tcp"),
    ({"command": "true", "ready_tcp": "example.org:80"}, 422, "bad_readiness", "/ready_tcp"),
    ({"command": "true", "ready_tcp": "127.0.0.1:0"}, 422, "bad_readiness", "/ready_tcp"),
    ({"command": "true", "ready_http": "https://127.0.0.1/"}, 422, "bad_readiness", "/ready_http"),
    ({"command": "true", "ready_http": "http://127.0.0.1/a b"}, 422, "bad_readiness",
     "/ready_http"),
    ({"command": "true", "published_ports": [{"guest_port": 80}]}, 422,
     "ports_not_allowed", "/published_ports"),
    ({"command": "true", "secret_env": {"a": "B"}}, 422, "unknown_secret", "/secret_env/a"),
])
def test_bad_starts_are_refused_and_leave_nothing(shared, arguments, status, code, field):
    known = shared.client.get(shared.path)["services"]
    got, problem = shared.refused("bad", **arguments)
    assert (got, problem["code"], problem.get("field")) == (status, code, field)
    assert problem["hint"]
    assert shared.client.get(shared.path)["services"] == known


def test_bad_names_and_unknown_services_are_refused(shared):
    for name in (".hidden", "a" * 65, "a%20b"):
        reply = shared.client.request("PUT", f"{shared.path}/{name}", {"command": "true"})
        assert reply.status == 422, name
    for method, path in (("GET", ""), ("GET", "/logs"), ("POST", "/stop")):
        reply = shared.client.request(method, f"{shared.path}/nobody{path}")
        assert reply.status == 404 and reply.json()["code"] == "service_not_found"


def test_a_name_that_runs_is_refused_until_it_is_stopped(shared):
    first = shared.start("once", "exec sleep 1000")
    status, problem = shared.refused("once", command="exec sleep 1000")
    assert (status, problem["code"]) == (409, "service_running")
    assert shared.status("once") == first
    shared.stop("once")
    assert shared.start("once", "exit 0")["started_at"] > first["started_at"]


@pytest.mark.in_a_container  # What the command line sends and shows does not depend on who answers.
def test_the_commands(shared, either_daemon):
    environment = {**os.environ, "HEARTH_URL": f"unix://{either_daemon.socket_path}"}

    def hearth(*words, status=0):
        done = subprocess.run([BIN / "hearth", "workspace", "service", *words], text=True,
                              capture_output=True, timeout=60, env=environment)
        assert done.returncode == status, done.stderr
        return done

    told = hearth("start", shared.workspace_id, "cli", "--ready-tcp", "8009", "--json", "--",
                  SERVER + "8009")
    assert json.loads(told.stdout)["state"] == "running"
    assert "cli" in hearth("list", shared.workspace_id).stdout
    assert "state: running" in hearth("status", shared.workspace_id, "cli").stdout
    shared.run("python3 -c 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:8009\")'")
    follower = subprocess.Popen([BIN / "hearth", "workspace", "service", "logs",
                                 shared.workspace_id, "cli", "-f"], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert "GET / HTTP/1.1" in follower.stderr.readline()
    assert "[service-stop]" in hearth("stop", shared.workspace_id, "cli").stderr
    follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert "service_not_found" in hearth("status", shared.workspace_id, "none", "--json",
                                         status=1).stdout


def test_they_outlive_the_daemon_and_not_the_workspaces_stop(hearthd_factory):
    hearthd = hearthd_factory()
    with hearthd.unix_client() as client:
        services = Services(client)
        stays = services.start("stays", SERVER + "8000", ready_tcp="localhost:8000")
        services.start("ends", "while [ ! -e go ]; do sleep 0.02; done; exit 4")
        services.start("done", "exit 0")
        done = services.until("done", state="exited")
    hearthd.kill9()
    hearthd.start()
    with hearthd.unix_client() as client:
        services.client = client
        assert services.status("stays") == stays
        # The agent tells its end again, by the clock of now, where no row was written.
        again = services.until("done", state="exited")
        assert done.pop("ended_at") - 1 < again.pop("ended_at") < time.time() + 1 and again == done
        services.run("touch go")
        assert services.until("ends", state="exited")["exit_code"] == 4
        assert "8000" in services.logs("stays")["stdout"]
        client.post(f"{services.workspace_path}/stop")
        stopped = services.status("stays")
        assert (stopped["state"], stopped["stop_reason"], stopped["pid"]) == (
            "stopped", "workspace_stopped", None)
        status, problem = services.refused("new", command="true")
        assert (status, problem["code"]) == (409, "workspace_not_started")
    hearthd.restart()
    with hearthd.unix_client() as client:
        services.client = client
        assert services.status("stays") == stopped
        client.post(f"{services.workspace_path}/start")
        assert services.status("stays") == stopped
        assert services.start("stays", SERVER + "8000", ready_tcp="8000")["state"] == "running"
        client.post(f"{services.workspace_path}/reset")
        listed = client.get(services.path)
        assert (listed["services"], listed["count"]) == ([], 0)  # another guest, that never had any
        assert client.get(services.workspace_path)["service_count"] == 0
        ended = client.get("/v1/events", kind="service.stopped", limit=1000)["events"][-1]["data"]
        assert (ended["service_name"], ended["reason"]) == ("stays", "workspace_reset")
        # Another agent counts anew: an exit is seen all the same.
        assert services.start("stays", "while [ ! -e go ]; do sleep 0.02; done; exit 6")[
            "state"] == "running"
        services.run("touch go")
        assert services.until("stays", state="exited")["exit_code"] == 6
        client.delete(services.workspace_path)


def test_what_they_printed_is_kept_over_the_workspaces_stop(hearthd_factory):
    """Also over a restart of the daemon, until the service begins anew or the workspace is reset."""
    hearthd = hearthd_factory()
    with hearthd.unix_client() as client:
        services = Services(client)
        services.start("chatty", "seq 1 300; echo problem >&2; touch up; exec sleep 1000", ready_file="up")
        services.start("quiet", "exec sleep 1000")
        services.start("floods", "head -c 400000 /dev/zero | tr '\\0' x; touch flooded; exec sleep 1000",
                       ready_file="flooded")
        before = services.logs("chatty", all="true")
        flooded = until(lambda: len(said := services.logs("floods", all="true")["stdout"]) >= 256 << 10 and said)
        client.post(f"{services.workspace_path}/stop")

        def told():
            logs = services.logs("chatty", all="true")
            assert (logs["state"], logs["stop_reason"]) == ("stopped", "workspace_stopped")
            assert [logs[key] for key in ("stdout", "stderr", "cursor")] == [
                before[key] for key in ("stdout", "stderr", "cursor")]
            cut = services.logs("chatty", tail_lines=2)
            assert (cut["stdout"], cut["truncated"]) == ("299\n300\n", True)
            past = services.logs("chatty", cursor=before["cursor"], wait_ms=60000)
            assert past["stdout"] == past["stderr"] == ""
            assert services.logs("quiet")["stdout"] == ""
            assert services.logs("floods", all="true")["stdout"] == flooded
        told()
    hearthd.kill9()
    hearthd.start()
    with hearthd.unix_client() as client:
        services.client = client
        told()
        client.post(f"{services.workspace_path}/start")
        told()
        client.post(f"{services.workspace_path}/stop")
        told()
        client.post(f"{services.workspace_path}/start")
        services.start("chatty", "echo anew; touch up2; exec sleep 1000", ready_file="up2")
        assert services.logs("chatty", all="true")["stdout"] == "anew\n"
        client.post(f"{services.workspace_path}/reset")
        reply = client.request("GET", f"{services.path}/chatty/logs")
        assert (reply.status, reply.json()["code"]) == (404, "service_not_found")
        services.start("chatty", "exec sleep 1000")
        assert services.logs("chatty", all="true")["stdout"] == ""
        client.delete(services.workspace_path)


def test_what_is_printed_while_the_workspace_stops_is_kept(either_daemon):
    with either_daemon.client(timeout=300) as client:
        services = Services(client)
        services.start("polite", "trap 'sleep 0.3; seq 1 300; echo problem >&2; exit 7' TERM; echo begun; touch up1; "
                                 "while :; do sleep 0.05; done", ready_file="up1")
        services.start("deaf", "trap 'echo not yet' TERM; echo begun; touch up2; while :; do sleep 0.05; done", ready_file="up2")
        services.start("restless", "exit 1", restart="on-failure")
        services.start("before", "trap 'echo asked; exit 0' TERM; touch up3; while :; do sleep 0.05; done", ready_file="up3")
        assert services.stop("before")["stop_reason"] == "stop_requested"
        assert services.logs("before")["stdout"] == "asked\n"
        client.post(f"{services.workspace_path}/stop")
        for started_again in (False, True):
            logs = services.logs("polite", all="true")
            assert logs["stdout"] == "begun\n" + "".join(f"{i}\n" for i in range(1, 301)) and logs["stderr"].endswith("problem\n")
            assert services.logs("deaf", all="true")["stdout"] == "begun\nnot yet\n"
            rows = {row["service_name"]: row for row in client.get(services.path)["services"]}
            assert {name: (row["state"], row["stop_reason"], row["pid"]) for name, row in rows.items()} == {
                "before": ("stopped", "stop_requested", None),
                **{name: ("stopped", "workspace_stopped", None) for name in ("polite", "deaf", "restless")}}
            assert {name: row["exit_code"] for name, row in rows.items() if name != "restless"} == {
                "before": 0, "polite": 7, "deaf": 137}
            if not started_again:
                client.post(f"{services.workspace_path}/start")
        client.delete(services.workspace_path)


def test_what_waits_is_told_that_its_guest_was_ended(either_daemon):
    """A start that is not ready yet, a look at a log and at a shell, when the workspace is reset or deleted meanwhile."""
    with either_daemon.client(timeout=300) as client:
        services = Services(client)

        def ask(method, path, body=None):
            """It is on its way when this is over. Gives what reads the answer."""
            connection = client.connect()
            connection.request(method, path, json.dumps(body) if body else None, {
                "Authorization": f"Bearer {client.token}", "Content-Type": "application/json"})

            def answer():
                with contextlib.closing(connection):
                    response = connection.getresponse()
                    reply = Reply(response.status, response.headers, response.read())
                client.observe(method, path, reply)
                return reply.status, reply.json()
            return answer

        for act in ("reset", "delete"):
            services.start("chatty", "exec sleep 1000")
            shell = client.post(f"{services.workspace_path}/shells", {"cwd": "/"})["shell_id"]
            client.post(f"{services.workspace_path}/shells/{shell}/input", {"input": "while sleep 0.05; do echo on; done"})
            cursor = services.logs("chatty")["cursor"]
            asked = [ask("GET", f"{services.workspace_path}/shells/{shell}?wait_for_idle_ms=9000"),
                     ask("GET", f"{services.path}/chatty/logs?cursor={cursor}&wait_ms=60000"),
                     ask("PUT", f"{services.path}/late", {
                         "command": "touch begun; exec sleep 1000", "ready_file": "/nowhere", "ready_timeout_seconds": 600})]
            until(lambda: services.run("[ -e begun ]")["exit_code"] == 0)
            if act == "reset":
                client.post(f"{services.workspace_path}/reset")
            else:
                client.delete(services.workspace_path)
            for answer in asked:
                status, body = answer()
                assert (status, body["code"]) == ((409, "workspace_reset") if act == "reset" else (404, "workspace_not_found"))
                assert body["hint"]


def test_a_kill_while_one_is_ended_ends_it_all_the_same(hearthd_factory):
    """By itself, and with its workspace: what is told after is true, and what it printed is there."""
    deaf = "trap ': >asked-{0}; echo asked' TERM; echo begun; : >up-{0}; while :; do sleep 0.05; done"
    hearthd = hearthd_factory()
    with hearthd.unix_client() as client:
        services = Services(client)
        for name in ("one", "other"):
            services.start(name, deaf.format(name), ready_file=f"up-{name}")
    stop = [BIN / "hearth", "workspace", "service", "stop", services.workspace_id, "one"]
    for command, asked in ((stop, "asked-one"), ([BIN / "hearth", "workspace", "stop", services.workspace_id], None)):
        stopping = subprocess.Popen(command, env={**os.environ, "HEARTH_URL": f"unix://{hearthd.socket_path}"}, stderr=subprocess.DEVNULL)
        with hearthd.unix_client() as client:
            services.client = client
            if asked:
                until(lambda: services.run(f"[ -e {asked} ]")["exit_code"] == 0)
            else:
                until(lambda: "asked" in services.logs("other", all="true")["stdout"])
        hearthd.kill9()
        stopping.wait(timeout=60)
        hearthd.start()
        if asked:
            with hearthd.unix_client() as client:
                services.client = client
                ended = services.until("one", state="stopped")
                assert (ended["stop_reason"], ended["exit_code"]) == ("stop_requested", 137)
                assert services.status("other")["state"] == "running"
    with hearthd.unix_client() as client:
        services.client = client
        assert until(lambda: client.get(services.workspace_path)["state"] == "stopped")
        assert services.status("one") == ended
        other = services.status("other")
        assert (other["state"], other["stop_reason"], other["pid"]) == ("stopped", "workspace_stopped", None)
        for name in ("one", "other"):
            assert services.logs(name, all="true")["stdout"] == "begun\nasked\n"
        client.delete(services.workspace_path)


def test_a_kill_in_the_middle_of_a_start_leaves_what_can_be_told(hearthd_factory):
    hearthd = hearthd_factory()
    with hearthd.unix_client() as client:
        services = Services(client)
        starting = subprocess.Popen(
            [BIN / "hearth", "workspace", "service", "start", services.workspace_id, "slow",
             "--ready-file", "/workspace/up", "--", "touch begun; exec sleep 1000"],
            env={**os.environ, "HEARTH_URL": f"unix://{hearthd.socket_path}"},
            stderr=subprocess.DEVNULL)
        until(lambda: services.run("[ -e begun ]")["exit_code"] == 0)
    hearthd.kill9()
    starting.wait(timeout=60)
    hearthd.start()
    with hearthd.unix_client() as client:
        services.client = client
        slow = services.status("slow")
        assert (slow["state"], slow["ready_at"]) == ("running", None)
        services.run("touch up")
        services.client.get(services.workspace_path)
        until(lambda: services.status("slow")["ready_at"])
        assert services.stop("slow")["state"] == "stopped"
        client.delete(services.workspace_path)
