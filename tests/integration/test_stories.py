"""The five stories, told over the SDK in real guests."""

import pytest

import hearth
from stories import runner


@pytest.fixture(scope="module")
def sdk(daemon):
    with hearth.Hearth(f"unix://{daemon.socket_path}") as made:
        yield made


@pytest.mark.parametrize("name", runner.STORIES)
def test_a_story_holds_in_containers(sdk, name):
    runner.tell(name, sdk, "debian:12", isolation="container")
