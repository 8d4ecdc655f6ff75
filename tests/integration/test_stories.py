"""The five stories, told over the SDK in real guests."""

import pytest

import hearth
from harness.daemon import BIN
from stories import runner


@pytest.fixture(scope="module")
def sdk(daemon):
    with hearth.Hearth(f"unix://{daemon.socket_path}") as made:
        yield made


@pytest.fixture(autouse=True)
def program(monkeypatch):
    monkeypatch.setenv("HEARTH_CLI", str(BIN / "hearth"))


@pytest.mark.parametrize("name", runner.STORIES)
def test_a_story_holds_in_containers(sdk, name):
    runner.tell(name, sdk, "debian:12", isolation="container")


# The others boot nothing more: make smoke-use-cases with USE_CASE_ISOLATION=vm tells them all.
@pytest.mark.parametrize("name", ["cold-start-repo-validation", "untrusted-inspection"])
def test_a_story_holds_in_machines(sdk, name):
    runner.tell(name, sdk, "debian:12", isolation="vm")
