"""Fixtures: real daemons, real guests. A test that needs no daemon of its own shares one."""

import os
import pathlib
import tempfile

import pytest

from harness import daemon as harness_daemon
from harness import images as harness_images
from harness.network import Network
from harness.waiting import until


# A minute or more each, while other workers take the many small ones. What boots machines computes all
# the time and is put between what waits.
LONGEST = ["test_rootless", "test_cgroup_v2", "test_machine_transports", "test_environment_digest", "test_openapi", "test_machine_faults", "test_survival",
           "test_machine_suspend", "test_machine_fork", "test_example", "test_machine_survival", "test_network", "test_templates",
           "test_restored_pool"]


def is_left_out(item):
    """Tests that say so run in a container alone: what they show does not differ by the kind of guest, and takes
    long in an emulated one."""
    parameters = getattr(item, "callspec", None) and item.callspec.params
    return (parameters and parameters.get("either_daemon") == "machine_daemon"
            and item.get_closest_marker("in_a_container"))


def pytest_collection_modifyitems(config, items):
    """The longest files are begun first, so that no worker is left alone with one at the end."""
    config.hook.pytest_deselected(items=[item for item in items if is_left_out(item)])
    order = {name: place for place, name in enumerate(LONGEST)}
    items[:] = sorted((item for item in items if not is_left_out(item)),
                      key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What fails is shown with what the daemons that it used have logged."""
    report = yield
    if report.failed:
        for hearthd in item.funcargs.values():
            if isinstance(hearthd, harness_daemon.Hearthd):
                report.sections.append((f"hearthd's log ({hearthd.base})", hearthd.log()[-4000:]))
    return report


@pytest.fixture(scope="session")
def bin_dir():
    """Where hearthd, hearth and hearth-agent are."""
    return harness_daemon.BIN


@pytest.fixture(scope="session")
def images(pytestconfig):
    """A directory with debian:12, filled by the first run and shared by every daemon."""
    path = harness_images.directory()
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        harness_images.ensure(path)
    return path


@pytest.fixture(scope="session")
def daemon(images):
    """The shared hearthd, on 127.0.0.1 and its Unix socket. Not to be stopped by a test."""
    with harness_daemon.running(images) as hearthd:
        yield hearthd


@pytest.fixture
def hearthd_factory(images):
    """hearthd_factory(**settings) starts a daemon of one's own: .restart(), .kill9(), .start().
    Other options: image_dir, start=False."""
    made = []

    def make(*, image_dir=None, start=True, **settings):
        hearthd = harness_daemon.Hearthd(image_dir or images, **settings)
        made.append(hearthd)
        return hearthd.start() if start else hearthd

    yield make
    for hearthd in reversed(made):
        hearthd.destroy()


@pytest.fixture
def client(daemon):
    """The admin over loopback TCP."""
    with daemon.client() as made:
        yield made


@pytest.fixture
def anyones_path():
    """A directory that plain users reach: those above tmp_path are the tests' own user's alone."""
    with tempfile.TemporaryDirectory(prefix="hearth-") as path:
        os.chmod(path, 0o777)
        yield pathlib.Path(path)


class Workspace:
    """A workspace and the client that made it."""

    def __init__(self, client, **arguments):
        self.client = client
        self.created = client.post("/v1/workspaces", {"environment": harness_images.ENVIRONMENT,
                                                      **arguments})
        self.id = self.created["workspace_id"]
        self.path = f"/v1/workspaces/{self.id}"

    def status(self):
        return self.client.get(self.path)

    def wait_for(self, state, patience_s=120):
        """Its status, once it is in this state."""
        return until(lambda: (status := self.status())["state"] == state and status, self.status, patience_s)

    def exec(self, command, **arguments):
        return self.client.post(f"{self.path}/exec", {"command": command, **arguments})

    def write(self, path, text, **arguments):
        return self.client.put(f"{self.path}/files/content",
                               {"path": path, "text": text, **arguments})

    def read(self, path, /, **query):
        return self.client.get(f"{self.path}/files/content", path=path, **query)

    def delete(self):
        return self.client.request("DELETE", self.path)


@pytest.fixture
def workspace_factory(client):
    """workspace_factory(**arguments of create) makes workspaces; they are deleted after the
    test. `on=client` makes one on another daemon or for another tenant."""
    made = []

    def make(*, on=None, **arguments):
        made.append(Workspace(on or client, **arguments))
        return made[-1]

    yield make
    for workspace in reversed(made):
        if workspace.client is client:
            workspace.delete()


@pytest.fixture(scope="session")
def machine_daemon(images):
    """The shared hearthd whose workspaces are microVMs. Not to be stopped by a test."""
    with harness_daemon.running(images, driver="qemu") as hearthd:
        yield hearthd


@pytest.fixture(scope="module", params=["daemon", "machine_daemon"], ids=["container", "machine"])
def either_daemon(request):
    """The shared one whose workspaces are containers, then the one whose are microVMs."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A host and a world of a test file's own (harness/network.py); as root, with pasta."""
    made = Network(tmp_path_factory.mktemp("network"))
    yield made
    made.end()


@pytest.fixture
def machine_client(machine_daemon):
    with machine_daemon.client(timeout=300) as made:
        yield made


@pytest.fixture
def workspace(workspace_factory):
    return workspace_factory()
