"""The transcripts in docs/, replayed and compared."""

import json
import os
import re
import subprocess
import sys

import pytest

from harness import transcript
from harness.daemon import BIN, ROOT
from harness.mcp import Stdio
from stories import projects

# Each page and the repository that it is about.
PAGES = {
    "first-run.md": None,
    "use-cases/cold-start-repo-validation.md": projects.inventory,
    "use-cases/repro-fix-loop.md": projects.scheduler,
    "use-cases/parallel-workspaces.md": projects.scheduler,
    "use-cases/untrusted-inspection.md": projects.installer,
    "use-cases/review-eval-workflows.md": projects.scheduler,
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_happens(hearthd_factory, tmp_path, page):
    hearthd = hearthd_factory()
    if make := PAGES[page]:
        make(tmp_path)
    environment = {**os.environ, "HEARTH_URL": f"unix://{hearthd.socket_path}",
                   "PATH": f"{BIN}:{os.environ['PATH']}"}
    transcript.replay((ROOT / "docs" / page).read_text(), tmp_path, environment)


STORIES = [page for page in PAGES if page.startswith("use-cases/")]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.S | re.M)


@pytest.mark.parametrize("page", STORIES)
def test_an_agent_can_follow_a_story(daemon, client, tmp_path, monkeypatch, page):
    """Every call of the page's, over MCP, from the directory that the repository is in."""
    PAGES[page](tmp_path)
    monkeypatch.chdir(tmp_path)
    before = client.get("/v1/workspaces")["count"]
    [calls] = blocks(page, "mcp")
    made = []
    with Stdio(f"unix://{daemon.socket_path}", "--profile", "workspace-full") as stdio:
        stdio.initialize()
        for line in calls.splitlines():
            tool, arguments = line.split(" ", 1)
            result = stdio.call(tool, json.loads(arguments.replace("$id", made[0] if made else "")))
            assert result["isError"] is False, (line, result)
            answer = result["structuredContent"]
            made += [each["workspace_id"] for each in (answer, *answer.get("workspaces", []))
                     if "workspace_id" in each and tool in ("workspace_create", "workspace_fork")]
    for workspace_id in set(made) - {made[0]}:
        client.delete(f"/v1/workspaces/{workspace_id}")
    assert client.get("/v1/workspaces")["count"] == before


@pytest.mark.parametrize("page", STORIES)
def test_a_program_can_run_a_story(daemon, client, tmp_path, page):
    PAGES[page](tmp_path)
    before = client.get("/v1/workspaces")["count"]
    [program] = blocks(page, "python")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
                          timeout=120, env={**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}",
                                            "PYTHONPATH": str(ROOT / "clients/python")})
    assert done.returncode == 0, done.stderr
    assert client.get("/v1/workspaces")["count"] == before


def test_what_differs_is_seen(tmp_path):
    page = "```console\n$ echo one; echo two\none\n…o\n$ true\n$ echo three\n{}\n```\n"
    transcript.replay(page.format("three"), tmp_path, os.environ)
    with pytest.raises(AssertionError, match="four"):
        transcript.replay(page.format("four"), tmp_path, os.environ)
