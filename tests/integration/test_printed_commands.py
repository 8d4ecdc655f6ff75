"""Every command that README.md and docs/ print is run by a test, or stands here with the reason why not."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from conftest import Workspace
from harness import ports
from harness.daemon import BIN, ROOT
from test_transcripts import PAGES

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")
COMMAND = re.compile(r" {4}(hearthd?|make|meson|curl|claude|systemctl|\.venv/bin/python) ")

# Pages whose blocks are all run elsewhere.
WHOLE = {**{f"docs/{page}": "test_transcripts.py" for page in PAGES},
         "docs/api-guide.md": "test_api_guide.py", "docs/python.md": "test_example.py"}

# A page's block, by how it begins: what runs it, or why nothing does.
NOT_HERE = {
    ("README.md", "make demo"): "test_example.py runs what `make demo` does; `make check` runs this",
    ("README.md", "claude mcp add"): "Claude Code is not there; test_mcp_clients.py runs the rest",
    ("docs/benchmarks.md", "meson setup build-release"): "minutes long, and no test by its figures",
    ("docs/ci.md", "examples/ci_matrix.sh"): "test_ci_example.py",
    ("docs/operations.md", "systemctl enable"): "there is no systemd; test_systemd_units.py checks units",
    ("docs/shells.md", "hearth workspace shell attach"): "test_shell_attach.py, which has terminals",
    ("docs/use-cases/README.md", "make smoke-use-cases"):
        "test_stories.py tells them; that make has the targets is tested below",
    ("examples/mcp_client_config.md", "claude mcp add"): "Claude Code is not there; as README.md",
}


def pages():
    found = [ROOT / "README.md", ROOT / "clients/python/README.md", *(ROOT / "docs").rglob("*.md"),
             *(ROOT / "examples").glob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page):
    """(language, text) of what a page says to run."""
    text = (ROOT / page).read_text()
    found = [(language, body) for language, body in FENCED.findall(text)
             if language in ("sh", "console", "python")]
    outside = FENCED.sub("", text)
    return found + [("sh", re.sub("^ {4}", "", body, flags=re.M)) for body in INDENTED.findall(outside)
                    if COMMAND.match(body)]


class Place:
    """Where a block is run: a directory, a daemon, a workspace."""

    def __init__(self, daemon, client, directory):
        self.daemon, self.client, self.directory = daemon, client, directory
        self.made = []
        self.environment = {**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}",
                            "PATH": f"{BIN}:{os.environ['PATH']}",
                            "PYTHONPATH": str(ROOT / "clients/python")}

    def workspace(self, **arguments):
        made = Workspace(self.client, **arguments)
        self.made.append(made)
        return made

    def over_http(self):
        self.environment.update(HEARTH_URL=self.daemon.url, HEARTH_TOKEN=self.daemon.token)

    def run(self, text, replaced=None, expect=0):
        for old, new in (replaced or {}).items():
            assert old in text, f"the block has no {old!r} any more"
            text = text.replace(old, str(new))
        done = subprocess.run(["bash", "-c", f"set -euo pipefail\n{text}"], cwd=self.directory, text=True,
                              capture_output=True, env=self.environment, stdin=subprocess.DEVNULL,
                              timeout=120)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout


# Blocks that are run, by how they begin.

def tour(place, text):
    port = ports.free()
    token = 'curl -H "Authorization: Bearer $(cat /tmp/hearth-tour/state/admin.token)" ' \
            "http://127.0.0.1:8420/v1/workspaces"
    assert token in (ROOT / "README.md").read_text()
    text = f"trap 'kill %1; wait %1' EXIT\nset -m\n{text}\n{token}\n"
    base = place.daemon.base / "tour"
    said = place.run(text, {"make build\n": "", "build/bin/": f"{BIN}/", "8420": port,
                            "/tmp/hearth-tour": base, "~/.cache/hearth/images": place.daemon.image_dir,
                            "--listen": f"--set node_tag={place.daemon.node_tag} --stop-guests --listen"})
    assert '"stdout":"42\\n"' in said and '"deleted":true' in said and said.endswith('"next_cursor":null}')


def one_shot(place, text):
    said = place.run(text, {"build/bin/": f"{BIN}/"})
    assert "Linux" in said and "driver" in said


def mcp_serve(place, text):
    assert place.run(text) == ""


def mcp_over_http(place, text):
    place.environment["TOKEN"] = place.daemon.token
    assert '"supportedVersions":["2026-07-28"]' in place.run(
        text, {"http://127.0.0.1:8420": place.daemon.url})


def tenants(place, text):
    create, issue, listing, revoke = text.splitlines()
    place.run(create)
    issued = place.run(issue.split("#")[0] + " --json")
    token_id = re.search(r'"token_id":"(\w+)"', issued)[1]
    assert "ci" in place.run(listing)
    place.run(revoke, {"TOKEN_ID": token_id})


def tenant_network(place, text):
    place.client.post("/v1/tenants", {"name": "printed"})
    place.run(text, {"NAME": "printed"})


def publish(place, text):
    workspace = place.workspace(network_policy="published-ports")
    place.run(text, {"WORKSPACE_ID": workspace.id})
    assert workspace.client.get(f"{workspace.path}/services/web")["state"] == "running"


def by_the_api(place, text):
    workspace = place.workspace()
    workspace.write("index.html", "served")
    place.client.put(f"{workspace.path}/services/web", {
        "command": "exec python3 -m http.server 8000", "ready_tcp": "8000"})
    place.over_http()
    place.environment["WORKSPACE_ID"] = workspace.id
    assert place.run(text) == "served"


def secrets_by_curl(place, text):
    place.environment["HEARTH_SOCKET"] = str(place.daemon.socket_path)
    made = re.search(r'"workspace_id":"(\w+)"', place.run(text))[1]
    place.client.delete(f"/v1/workspaces/{made}")


def secrets_by_hand(place, text):
    create, run = text.splitlines()
    key = place.directory / "key"
    key.write_text("the key\n")
    made = place.run(create + " --id-only", {"~/.ssh/deploy": key}).strip()
    place.run(f"printf '#!/bin/sh\\necho $API_TOKEN $KEY' | hearth workspace file write {made} publish"
              f" && hearth workspace exec {made} -- chmod +x publish")
    assert "[REDACTED]" in place.run(run, {"WORKSPACE_ID": made})
    place.client.delete(f"/v1/workspaces/{made}")


def remote(place, text):
    file = place.directory / "token"
    file.write_text(place.daemon.token)
    assert "driver" in place.run(text, {"http://127.0.0.1:8420": place.daemon.url,
                                        "/run/secrets/hearth-token": file})


def python(place, text):
    assert "Linux" in place.run(f"{sys.executable} -c {shlex.quote(text)}")


RUN = {
    ("README.md", "make build\n"): tour,
    ("README.md", "build/bin/hearth run"): one_shot,
    ("clients/python/README.md", "from hearth import"): python,
    ("docs/ci.md", "export HEARTH_URL"): remote,
    ("docs/mcp.md", "hearth mcp serve"): mcp_serve,
    ("docs/mcp.md", "curl -sS"): mcp_over_http,
    ("docs/network.md", "hearth tenant network"): tenant_network,
    ("docs/operations.md", "hearth tenant create"): tenants,
    ("docs/ports.md", "hearth workspace service start"): publish,
    ("docs/ports.md", "curl -H"): by_the_api,
    ("docs/secrets.md", "curl --unix-socket"): secrets_by_curl,
    ("docs/secrets.md", "hearth workspace create"): secrets_by_hand,
}


def key_of(page, text):
    return [key for key in (*RUN, *NOT_HERE) if key[0] == page and text.startswith(key[1])]


PRINTED = [(page, text) for page in pages() if page not in WHOLE for _, text in blocks(page)]


def test_each_printed_command_is_run_or_has_a_reason():
    unknown = [(page, text.splitlines()[0]) for page, text in PRINTED if not key_of(page, text)]
    assert unknown == [], "add them to RUN or, with a reason, to NOT_HERE"
    known = {key for page, text in PRINTED for key in key_of(page, text)}
    assert set(RUN) | set(NOT_HERE) == known, "what is not printed any more"
    for page, test in {**WHOLE, **NOT_HERE}.items():
        for name in re.findall(r"test_\w+\.py", test):
            assert (ROOT / "tests/integration" / name).exists(), (page, name)


@pytest.fixture
def place(daemon, client, tmp_path):
    made = Place(daemon, client, tmp_path)
    yield made
    for workspace in made.made:
        workspace.delete()


@pytest.mark.parametrize("page, text", [each for each in PRINTED
                                        if any(key in RUN for key in key_of(*each))],
                         ids=lambda value: value.splitlines()[0][:40])
def test_a_printed_block_works(place, page, text):
    [key] = key_of(page, text)
    RUN[key](place, text)


def test_make_has_every_target_that_is_printed():
    text = "".join((ROOT / page).read_text() for page in pages())
    targets = set(re.findall(r"`?(?:[A-Z_]+=\S+ )*\bmake ((?:smoke|dist|bench|stress|docs|demo|lint|fuzz|deps|build)"
                             r"[a-z-]*)", text))
    assert {"smoke-use-cases", "smoke-cold-start-validation", "smoke-repro-fix-loop",
            "smoke-parallel-workspaces", "smoke-untrusted-inspection", "smoke-review-eval"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_the_readme_leads_to_every_page_of_docs():
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in readme] == []


def test_every_link_leads_somewhere():
    for page in pages():
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
            if "://" not in target:
                assert ((ROOT / page).parent / target).exists(), (page, target)
