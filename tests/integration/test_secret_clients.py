"""Secrets from each client: read where it runs, given as they are, and told to nobody else."""

import asyncio
import hashlib
import json
import os
import pathlib
import socket
import subprocess

import pytest

import hearth as sdk
from harness.images import ENVIRONMENT
from harness.mcp import Stdio
from harness.waiting import until
from test_cli import Cli

LITERAL = "lit=eral of clients-5501"
FILES = {"LINE": ("a-token-of-one-line\n", "a-token-of-one-line"),
         "DOS": ("a-token-from-elsewhere\r\n", "a-token-from-elsewhere"),
         "LINES": ("-----BEGIN-----\nbody\n-----END-----\n",) * 2,
         "BARE": ("no end of line, ä", "no end of line, ä")}
WANTED = {"LITERAL": LITERAL, **{name: after for name, (_, after) in FILES.items()}}
KINDS = {"LITERAL": "literal", **dict.fromkeys(FILES, "file")}


@pytest.fixture(scope="module")
def url(daemon):
    return f"unix://{daemon.socket_path}"


@pytest.fixture(scope="module")
def hearth(bin_dir, url):
    return Cli(bin_dir, HEARTH_URL=url)


@pytest.fixture
def given(tmp_path):
    """The secrets as objects, with paths of this host."""
    for name, (content, _) in FILES.items():
        (tmp_path / name).write_bytes(content.encode())
    return [{"name": "LITERAL", "value": LITERAL},
            *({"name": name, "file_path": str(tmp_path / name)} for name in FILES)]


def by_cli(url, hearth, given):
    words = [word for secret in given for word in (
        ("--secret", f"{secret['name']}={secret['value']}") if "value" in secret
        else ("--secret-file", f"{secret['name']}={secret['file_path']}"))]
    return hearth.json("workspace", "create", ENVIRONMENT, *words)


def by_sdk(url, hearth, given):
    with sdk.Hearth(url) as client:
        return client.create_workspace(ENVIRONMENT, secrets=given)


def by_async_sdk(url, hearth, given):
    async def create():
        async with sdk.AsyncHearth(url) as client:
            return await client.create_workspace(ENVIRONMENT, secrets=given)
    return asyncio.run(create())


def by_mcp(url, hearth, given):
    with Stdio(url, "--profile", "workspace-full") as stdio:
        stdio.initialize()
        return stdio.call("workspace_create", {"environment": ENVIRONMENT, "secrets": given})["structuredContent"]


@pytest.mark.parametrize("create", [by_cli, by_sdk, by_async_sdk, by_mcp])
def test_each_client_reads_its_files_and_the_guest_has_what_was_in_them(client, url, hearth, given, create):
    status = create(url, hearth, given)
    path = f"/v1/workspaces/{status['workspace_id']}"
    try:
        assert {one["name"]: one["source_kind"] for one in status["secrets"]} == KINDS
        told = client.post(f"{path}/exec", {"command": "cd /run/hearth/secrets; sha256sum *"})["stdout"]
        assert {name: digest for digest, name in map(str.split, told.splitlines())} == {
            name: hashlib.sha256(value.encode()).hexdigest() for name, value in WANTED.items()}
    finally:
        client.delete(path)


@pytest.fixture(scope="module")
def workspace_id(daemon):
    with daemon.client() as client:
        made = client.post("/v1/workspaces", {"environment": ENVIRONMENT,
                                              "secrets": [{"name": "TOKEN", "value": LITERAL}]})
        yield made["workspace_id"]
        client.delete(f"/v1/workspaces/{made['workspace_id']}")


def digest_of(variable):
    """A command that prints it."""
    return 'printf %s "$' + variable + '" | sha256sum | head -c 64'


ONE = hashlib.sha256(LITERAL.encode()).hexdigest()


@pytest.mark.parametrize("word, variable", [("TOKEN", "TOKEN"), ("TOKEN=OTHER", "OTHER")])
def test_the_command_line_gives_them_as_variables(hearth, workspace_id, word, variable):
    told = hearth.ok("workspace", "exec", workspace_id, "--secret-env", word, "--", digest_of(variable)).stdout
    assert told == ONE
    assert hearth.ok("workspace", "exec", workspace_id, "--secret-env", word, "--",
                     f'echo "${variable}"').stdout == "[REDACTED]\n"
    shell = hearth.ok("workspace", "shell", "open", workspace_id, "--secret-env", word).stdout.strip()
    hearth.ok("workspace", "shell", "write", workspace_id, shell, digest_of(variable))
    until(lambda: ONE in hearth.ok("workspace", "shell", "read", workspace_id, shell, "--plain", "--wait-for-idle-ms", "200").stdout)
    hearth.ok("workspace", "shell", "close", workspace_id, shell)
    hearth.ok("workspace", "service", "start", workspace_id, "teller", "--secret-env", word,
              "--ready-command", "test -e said", "--", f"{digest_of(variable)} >told; cat told; touch said; sleep 600")
    logs = hearth.ok("workspace", "service", "logs", workspace_id, "teller").stdout
    hearth.ok("workspace", "service", "stop", workspace_id, "teller")
    hearth.ok("workspace", "exec", workspace_id, "--", "rm told said")
    assert logs == ONE


def test_the_python_client_and_mcp_give_them_as_variables(url, workspace_id):
    with sdk.Hearth(url) as client, Stdio(url, "--profile", "workspace-full") as stdio:
        stdio.initialize()
        ran = client.exec_workspace(workspace_id, command=digest_of("OTHER"), secret_env={"TOKEN": "OTHER"})
        assert ran["stdout"] == ONE
        for mapping in ({"TOKEN": "OTHER"}, [{"name": "TOKEN", "value": "OTHER"}]):
            ran = stdio.call("workspace_exec", {"workspace_id": workspace_id, "command": digest_of("OTHER"),
                                                "secret_env": mapping})
            assert ran["structuredContent"]["stdout"] == ONE


@pytest.mark.parametrize("words", [
    ("create", ENVIRONMENT, "--secret", "ONLY-A-NAME"), ("create", ENVIRONMENT, "--secret", "=hush-hush"),
    ("create", ENVIRONMENT, "--secret-file", "NAME="),
    ("exec", "ws_x", "--secret-env", "=A", "--", "true"), ("exec", "ws_x", "--secret-env", "TOKEN=", "--", "true"),
    ("shell", "open", "ws_x", "--secret-env", "=A"), ("service", "start", "ws_x", "s", "--secret-env", "=A", "true")])
def test_wrong_words_are_told_without_what_they_hold(bin_dir, words):
    done = Cli(bin_dir, HEARTH_URL="unix:///nonexistent")("workspace", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage" in done.stderr and "hush" not in done.stderr and "ONLY" not in done.stderr


@pytest.mark.parametrize("content, code", [(None, "bad_path"), (b"", "bad_length"), (b"a\0b", "bad_secret"),
                                           (b"\xff\xfe", "bad_secret"), (b"v" * 65537, "bad_length")])
def test_a_file_that_cannot_be_taken_makes_no_workspace(client, url, hearth, tmp_path, content, code):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    before = client.get("/v1/workspaces", limit=1000)["count"]
    done = hearth("workspace", "create", ENVIRONMENT, "--secret-file", f"KEY={path}", "--json")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, code)
    assert str(path) in done.stderr
    with Stdio(url, "--profile", "workspace-full") as stdio:
        stdio.initialize()
        result = stdio.call("workspace_create", {"environment": ENVIRONMENT, "secrets": [
            {"name": "A", "value": "fine"}, {"name": "KEY", "file_path": str(path)}]})
    problem = json.loads(result["content"][0]["text"])
    assert (result["isError"], problem["code"], problem["field"]) == (True, code, "/secrets/1/file_path")
    assert client.get("/v1/workspaces", limit=1000)["count"] == before


def test_the_longest_file_fits_with_its_end_of_line(client, hearth, tmp_path):
    (tmp_path / "long").write_bytes(b"v" * 65536 + b"\r\n")
    made = hearth.json("workspace", "create", ENVIRONMENT, "--secret-file", f"KEY={tmp_path / 'long'}")
    path = f"/v1/workspaces/{made['workspace_id']}"
    told = client.post(f"{path}/exec", {"command": "wc -c </run/hearth/secrets/KEY"})["stdout"]
    client.delete(path)
    assert told == "65536\n"


def test_a_value_is_gone_from_the_command_line_before_anything_is_asked(bin_dir, tmp_path):
    """Against a server that takes the connection and says nothing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        process = subprocess.Popen([bin_dir / "hearth", "workspace", "create", ENVIRONMENT, "--secret",
                                    f"TOKEN={LITERAL}"], stderr=subprocess.DEVNULL,
                                   env={**os.environ, "HEARTH_URL": f"unix://{tmp_path / 's'}"})
        try:
            server.settimeout(60)
            with server.accept()[0]:
                words = pathlib.Path(f"/proc/{process.pid}/cmdline").read_bytes()
                limits = pathlib.Path(f"/proc/{process.pid}/limits").read_text()
        finally:
            process.kill()
            process.wait()
    assert b"TOKEN=***" in words and LITERAL.encode() not in words
    [core] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
