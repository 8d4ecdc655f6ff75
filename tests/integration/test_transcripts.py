"""The transcripts in docs/, replayed and compared."""

import os

import pytest

from harness import transcript
from harness.daemon import BIN, ROOT
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


def test_what_differs_is_seen(tmp_path):
    page = "```console\n$ echo one; echo two\none\n…o\n$ true\n$ echo three\n{}\n```\n"
    transcript.replay(page.format("three"), tmp_path, os.environ)
    with pytest.raises(AssertionError, match="four"):
        transcript.replay(page.format("four"), tmp_path, os.environ)
