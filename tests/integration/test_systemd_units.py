"""The units: systemd itself reads them without a complaint, and says how exposed they are."""

import re
import shutil
import subprocess

import pytest

from harness import systemd

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"),
                                reason="systemd-analyze is not installed")

# What `systemd-analyze security` may say at most, in tenths. A daemon that makes guests needs
# mounts, namespaces and uids; others of its kind that ship with Debian stand at 96.
EXPOSURE_MAX = 60


@pytest.fixture(params=["system", "user"])
def manager(request):
    return request.param


@pytest.fixture
def units(manager, tmp_path):
    systemd.install(tmp_path, manager)
    return tmp_path


def analyze(manager, *words, runtime_dir):
    scope = ["--user"] if manager == "user" else ["--system"]
    return subprocess.run(["systemd-analyze", *scope, *map(str, words)], capture_output=True,
                          text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(runtime_dir),
                                          "XDG_RUNTIME_DIR": str(runtime_dir)})


def settings(unit):
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.M))


def test_systemd_finds_no_fault_in_the_units(manager, units, tmp_path):
    found = analyze(manager, "verify", "--man=no", units / "hearthd.service", units / "hearthd.socket",
                    runtime_dir=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("manager", ["system"], indirect=True)
def test_the_system_service_is_no_more_exposed_than_it_must_be(units, manager, tmp_path):
    found = analyze(manager, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}",
                    units / "hearthd.service", runtime_dir=tmp_path)
    assert found.returncode == 0, found.stdout[-300:] + found.stderr


def test_a_restart_leaves_guests_and_their_sockets_alone(units):
    service = settings(units / "hearthd.service")
    assert service["KillMode"] == "process"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["Delegate"] == "yes"
    assert service["Type"] == "notify"


def test_nothing_is_forbidden_that_a_guest_inherits_and_needs(units):
    service = settings(units / "hearthd.service")
    for setting in ("MemoryDenyWriteExecute", "ProtectKernelTunables", "ProtectKernelLogs",
                    "ProtectControlGroups", "ProtectHostname", "ProtectProc", "RestrictSUIDSGID",
                    "RestrictNamespaces", "LockPersonality", "PrivateDevices"):
        assert setting not in service


@pytest.mark.parametrize("manager", ["user"], indirect=True)
def test_a_users_service_can_use_setuid_newuidmap(units):
    assert "NoNewPrivileges" not in settings(units / "hearthd.service")


def test_the_socket_is_where_hearth_looks_for_it(units, manager):
    socket = settings(units / "hearthd.socket")
    assert socket["ListenStream"] == {"system": "/run/hearth/hearthd.sock",
                                      "user": "%t/hearth/hearthd.sock"}[manager]
    assert socket["SocketMode"] == {"system": "0660", "user": "0600"}[manager]
