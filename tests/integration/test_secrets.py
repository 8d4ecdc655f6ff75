"""Secrets: in the guest they are files and variables, everywhere else they are not to be found."""

import base64
import urllib.parse

import pytest

from harness.waiting import until

RAW = "C4n/ry+token=\"of\"-tests-7381"
FILE = "f1le-canary-0192837465"
SECRETS = [{"name": "TOKEN", "value": RAW}, {"name": "KEY_2", "value": FILE, "file_path": "/x/key"}]
ENV = {"TOKEN": "API_TOKEN"}


def forms(value):
    raw = value.encode()
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield base64.b64encode(raw).rstrip(b"=")
    yield base64.b64encode(b"x" + raw)[4:-4]
    yield base64.b64encode(b"xy" + raw)[4:-4]
    yield urllib.parse.quote(value, safe="").encode()


def is_hidden(text):
    text = text if isinstance(text, bytes) else text.encode()
    for value in (RAW, FILE):
        for form in forms(value):
            assert form not in text, form


@pytest.fixture(scope="module")
def client(daemon):
    with daemon.client() as made:
        yield made


@pytest.fixture(scope="module")
def workspace(client):
    created = client.post("/v1/workspaces", {"environment": "debian:12", "secrets": SECRETS})
    yield f"/v1/workspaces/{created['workspace_id']}"
    client.delete(f"/v1/workspaces/{created['workspace_id']}")


def run(client, path, command, **more):
    return client.post(f"{path}/exec", {"command": command, **more})


def test_the_status_names_them_and_no_more(client, workspace):
    status = client.get(workspace)
    assert status["secrets"] == [{"name": "TOKEN", "source_kind": "literal"},
                                 {"name": "KEY_2", "source_kind": "file"}]
    is_hidden(client.request("GET", workspace).body)


def test_they_are_private_files_on_a_tmpfs(client, workspace):
    told = run(client, workspace, "cd /run/hearth/secrets && ls && stat -c '%a %u' . TOKEN && "
               "stat -f -c %T . && wc -c < TOKEN")["stdout"]
    assert told.split() == ["KEY_2", "TOKEN", "700", "0", "600", "0", "tmpfs", str(len(RAW))]


def test_a_variable_is_there_where_it_was_asked_for(client, workspace):
    told = run(client, workspace, 'printf %s "$API_TOKEN" | wc -c; env | grep -c API_TOKEN',
               secret_env=ENV, env={"API_TOKEN": "of no use"})
    assert told["stdout"].split() == [str(len(RAW)), "1"]
    assert run(client, workspace, "env | grep -c API_TOKEN")["stdout"] == "0\n"
    listed = run(client, workspace, 'printf %s "$K" | wc -c',
                 secret_env=[{"name": "KEY_2", "value": "K"}])
    assert listed["stdout"].strip() == str(len(FILE))


@pytest.mark.parametrize("command", [
    'echo "<$API_TOKEN>"', 'echo "<$API_TOKEN>" >&2', 'printf %s "$API_TOKEN" | base64 -w0',
    'printf "x%s" "$API_TOKEN" | base64 -w0', 'printf "xy%s" "$API_TOKEN" | base64 -w0',
    'printf %s "$API_TOKEN" | od -An -v -tx1 | tr -d " \\n"', 'cat /run/hearth/secrets/*',
    'python3 -c "import os,urllib.parse as u;print(u.quote(os.environ[\'API_TOKEN\']))"',
    'printf %s "$API_TOKEN" | head -c 9; sleep 0.2; printf %s "$API_TOKEN" | tail -c +10',
])
def test_output_hides_them(client, workspace, command):
    answer = run(client, workspace, command, secret_env=ENV)
    assert "[REDACTED]" in answer["stdout"] + answer["stderr"]
    is_hidden(repr(answer["stdout"] + answer["stderr"]))
    is_hidden(answer["stdout"] + answer["stderr"])


def test_logs_and_detached_reads_hide_them(client, workspace):
    begun = run(client, workspace, 'echo "$API_TOKEN"', secret_env=ENV, detach=True)
    read = client.get(f"{workspace}/execs/{begun['exec_id']}", wait_ms=20000)
    assert read["stdout"] == "[REDACTED]\n" and read["stdout_bytes"] == len("[REDACTED]\n")
    logs = client.request("GET", f"{workspace}/logs").body
    assert b"[REDACTED]" in logs
    is_hidden(logs)


def test_a_command_that_holds_one_is_not_told_again(client, workspace):
    answer = run(client, workspace, f"echo {FILE} | wc -c")
    assert answer["stdout"].strip() == str(len(FILE) + 1) and "[REDACTED]" in answer["command"]
    missing = client.post(f"{workspace}/exec", {"argv": [f"/{FILE}"]})
    assert "[REDACTED]" in missing["command"]
    is_hidden(str(missing))


def test_files_and_diffs_hide_them(client, workspace):
    run(client, workspace, 'echo "key=$API_TOKEN" > leaked', secret_env=ENV)
    read = client.get(f"{workspace}/files/content", path="leaked")
    assert read["content"] == "key=[REDACTED]\n"
    diff = client.get(f"{workspace}/diff")
    assert "+key=[REDACTED]" in diff["patch"]
    is_hidden(client.request("GET", f"{workspace}/diff").body)
    run(client, workspace, "rm leaked")


def test_a_shell_has_them_and_hides_them(client, workspace):
    shell = client.post(f"{workspace}/shells", {"secret_env": ENV})
    path = f"{workspace}/shells/{shell['shell_id']}"
    client.post(f"{path}/input", {"input": 'printf "[%s]\\n" "$API_TOKEN" | tee /dev/stderr | wc -c; printf "\\ndo""ne\\n"'})
    for plain in ("false", "true"):
        output, cursor = "", 0
        while "done\n" not in output.replace("\r", ""):
            read = client.get(path, cursor=cursor, plain=plain, wait_for_idle_ms=300)
            output, cursor = output + read["output"], read["next_cursor"]
            if plain == "true":
                break
        assert "[[REDACTED]]" in output and str(len(RAW) + 3) in output
        is_hidden(output)
    client.delete(path)


def test_a_shells_plain_output_hides_what_its_sequences_have_cut(client, workspace):
    shell = client.post(f"{workspace}/shells", {"secret_env": ENV})
    path = f"{workspace}/shells/{shell['shell_id']}"
    client.post(f"{path}/input", {"input": 'echo "<$API_TOKEN>" | grep --color=always token; echo "<${API_TOKEN%-*}x" | tr -d "\\n"; '
                                           'printf "\\b-%s>\\n" "${API_TOKEN##*-}"; echo do""ne'})
    while "done\n" not in (read := client.get(path, plain="true", wait_for_idle_ms=100)["output"]):
        pass
    assert read.count("<[REDACTED]>") == 2, read
    is_hidden(read)
    client.delete(path)


def test_a_service_has_them_and_hides_them(client, workspace):
    started = client.put(f"{workspace}/services/s", {"command": 'echo "<$API_TOKEN>"; sleep 60', "secret_env": ENV,
                                                     "ready_command": 'test -n "$API_TOKEN"', "ready_timeout_seconds": 60})
    assert started["state"] == "running", "what asks whether it is ready has what it has"
    assert until(lambda: "\n" in (told := client.get(f"{workspace}/services/s/logs")["stdout"]) and told) == "<[REDACTED]>\n"
    client.post(f"{workspace}/services/s/stop", {})


@pytest.mark.parametrize("where, body", [
    ("exec", {"command": "true"}), ("shells", {}), ("services/x", {"command": "true"})])
def test_one_that_was_not_given_is_refused(client, workspace, where, body):
    method = "PUT" if where.startswith("services") else "POST"
    reply = client.request(method, f"{workspace}/{where}", {**body, "secret_env": {"OTHER": "A"}})
    problem = reply.json()
    assert (reply.status, problem["code"], problem["field"]) == (422, "unknown_secret",
                                                                 "/secret_env/OTHER")
    assert "TOKEN" in problem["hint"]
    bad = client.request(method, f"{workspace}/{where}", {**body, "secret_env": {"TOKEN": "A=B"}})
    assert (bad.status, bad.json()["code"]) == (422, "bad_variable")


@pytest.mark.parametrize("secrets, code, field", [
    ([{"name": "9x", "value": "v"}], "bad_secret", "/secrets/0/name"),
    ([{"name": "A", "value": "v"}, {"name": "A", "value": "w"}], "bad_secret", "/secrets/1/name"),
    ([{"name": "A"}], "missing_argument", "/secrets/0/value"),
    ([{"name": "A", "file_path": "/etc/passwd"}], "host_path_forbidden", "/secrets/0/file_path"),
    ([{"name": "A", "value": "v" * 65537}], "bad_length", "/secrets/0/value"),
])
def test_bad_ones_are_refused(client, secrets, code, field):
    reply = client.request("POST", "/v1/workspaces", {"environment": "debian:12",
                                                      "secrets": secrets})
    assert (reply.status, reply.json()["code"], reply.json()["field"]) == (422, code, field)


def test_a_changed_credential_seals_anew_and_the_old_one_may_go(hearthd_factory, tmp_path):
    def credentials(name, **keys):
        directory = tmp_path / name
        directory.mkdir()
        for file, key in keys.items():
            (directory / file.replace("_", "-")).write_text(key)
        return str(directory)

    first, second = "the first key, long enough", "another key, long enough too"
    hearthd = hearthd_factory(start=False)
    hearthd.start_with_environment(CREDENTIALS_DIRECTORY=credentials("a", hearth_secret_key=first))
    client = hearthd.client()
    path = "/v1/workspaces/" + client.post("/v1/workspaces", {
        "environment": "debian:12", "secrets": [{"name": "TOKEN", "value": "kept-over-keys"}]})["workspace_id"]
    for name, keys in (("b", {"hearth_secret_key": second, "hearth_secret_key_old": first}),
                       ("c", {"hearth_secret_key": second})):
        hearthd.stop()
        hearthd.start_with_environment(CREDENTIALS_DIRECTORY=credentials(name, **keys))
        client = hearthd.client()
        client.post(f"{path}/stop")
        client.post(f"{path}/start")  # The agent is given them anew.
        ran = client.post(f"{path}/exec", {"command": "printf %s \"$T\" | tr a-z A-Z", "secret_env": {"TOKEN": "T"}})
        assert ran["stdout"] == "KEPT-OVER-KEYS", (name, ran)
    hearthd.stop()
    hearthd.start_with_environment(CREDENTIALS_DIRECTORY=credentials("d", hearth_secret_key=first))
    client = hearthd.client()
    client.request("POST", f"{path}/stop")
    assert client.request("POST", f"{path}/start").json()["code"] == "secret_unreadable"
