"""The manual pages, the shells' completions, and the command line's options beside the operation table."""

import os
import re
import subprocess

import pytest

from harness.daemon import BIN, ROOT, operations

COMPLETION = ROOT / "packaging/completion"
# Of the client alone: they change no operation's arguments.
CLIENT_SIDE = {"json", "help", "id-only", "exclude", "gitignore", "no-stdin", "output", "from", "seed-path", "secret-file",
               "follow", "follow-logs"}
# Options that say an argument in another way.
ARGUMENTS = {"secret-file": "secrets", "no-newline": "append_newline"}
# Nouns and verbs whose operation has another name.
OPERATIONS = {"run": "vm_run", "env pull": "environment_pull", "env import": "environment_import",
              "tenant token": "tenant_token_issue", "workspace file list": "workspace_file_list",
              "workspace exec status": "workspace_exec_read"}


@pytest.fixture(scope="module")
def environment(daemon):
    return {**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}", "HEARTH": str(BIN / "hearth"),
            "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(daemon.base)}


def hearth(*words, **options):
    return subprocess.run([BIN / "hearth", *words], check=True, text=True, capture_output=True,
                          **options).stdout


def commands():
    return [line.split("\t")[0] for line in hearth("--list-commands").splitlines()]


def fields():
    """{operation: names of its arguments}, from the table."""
    found = {}
    for operation in operations():
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        for media in operation.get("requestBody", {}).get("content", {}).values():
            names |= media.get("schema", {}).get("properties", {}).keys()
        found[operation["operationId"]] = names
    return found


def test_every_option_is_an_argument_of_its_operation():
    operations, looked_at = fields(), 0
    for command in commands():
        name = OPERATIONS.get(command, command.replace(" ", "_"))
        if name not in operations:
            continue
        for line in hearth(*command.split(), "--list-options").splitlines():
            option = line.split("\t")[0].removeprefix("--")
            if option in CLIENT_SIDE:
                continue
            words = ARGUMENTS.get(option, option).replace("-", "_")
            looked_at += 1
            assert any(field in (words, f"{words}s") or field.startswith(f"{words}_")
                       for field in operations[name]), f"{command} --{option}"
    assert looked_at > 20


@pytest.mark.parametrize("page, names", [
    ("hearth.1", ["hearth workspace exec", "--timeout SECONDS", "HEARTH_TOKEN_FILE"]),
    ("hearthd.8", ["--state-dir", "--stop-guests", "hearthd.sock"]),
    ("hearth.conf.5", ["history_entries", "max_upload_bytes"]),
])
def test_a_page_is_well_formed_and_names_what_there_is(page, names):
    path = BIN.parent / "packaging" / page
    done = subprocess.run(["man", "--warnings", "-E", "ascii", "-l", path], text=True, capture_output=True,
                          env={**os.environ, "MANWIDTH": "100", "MANPAGER": "cat"})
    assert done.returncode == 0 and not done.stderr, done.stderr
    text = re.sub(r"\s+", " ", done.stdout)
    assert [name for name in names if name not in text] == []
    if page == "hearth.1":
        assert [command for command in commands() if f"hearth {command}" not in text] == []


CASES = [
    ("hearth wo", {"workspace"}),
    ("hearth workspace file ", {"list", "read", "write"}),
    ("hearth workspace exec ", {"status", "cancel"}),
    ("hearth workspace create --i", {"--id-only", "--isolation"}),
    ("hearth vm ", {"create", "start", "exec", "network-info", "reap-expired"}),
    ("hearth vm create deb", {"debian:12"}),
    ("hearth run deb", {"debian:12", "debian:12-base", "debian:12-build"}),
]


def bash(line, environment):
    words = line.split(" ")
    script = (f"source {COMPLETION}/hearth.bash; COMP_WORDS=({' '.join(map(repr, words))});"
              f"COMP_CWORD={len(words) - 1}; _hearth; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    return subprocess.run(["bash", "-c", script], check=True, text=True, capture_output=True,
                          env=environment).stdout


def fish(line, environment):
    script = f"source {COMPLETION}/hearth.fish; complete -C {line!r}"
    return subprocess.run(["fish", "-c", script], check=True, text=True, capture_output=True,
                          env=environment).stdout


@pytest.mark.parametrize("line, wanted", CASES)
@pytest.mark.parametrize("shell", [bash, fish])
def test_a_shell_completes_from_the_programs_tables(environment, shell, line, wanted):
    offered = {found.split("\t")[0] for found in shell(line, environment).splitlines()}
    assert wanted <= offered
    assert all(found.startswith(line.rsplit(" ", 1)[1]) for found in offered)


def test_workspaces_are_offered_by_id(environment, client):
    created = client.post("/v1/workspaces", {"environment": "debian:12"})
    try:
        for shell in (bash, fish):
            assert created["workspace_id"] in shell("hearth workspace status ws_", environment)
            assert created["workspace_id"] in shell("hearth workspace exec ", environment)
    finally:
        client.delete(f"/v1/workspaces/{created['workspace_id']}")


def test_zsh_takes_its_file(environment):
    subprocess.run(["zsh", "-n", COMPLETION / "_hearth"], check=True)
