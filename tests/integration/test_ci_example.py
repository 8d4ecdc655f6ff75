"""examples/ci_matrix.sh, as a CI job would run it."""

import os
import signal
import subprocess
import xml.etree.ElementTree

import pytest

from harness.daemon import BIN, ROOT
from stories import projects

SCRIPT = ROOT / "examples/ci_matrix.sh"


@pytest.fixture
def job(daemon):
    return {**os.environ, "HEARTH_URL": f"unix://{daemon.socket_path}",
            "PATH": f"{BIN}:{os.environ['PATH']}"}


def rows(report):
    suite = xml.etree.ElementTree.parse(report).getroot()
    return {case.get("name"): case.find("failure") for case in suite.iter("testcase")}, suite


def test_a_sound_project_passes_in_every_row(job, client, tmp_path):
    before = client.get("/v1/workspaces")["count"]
    project = projects.inventory(tmp_path)
    done = subprocess.run([SCRIPT, project, tmp_path / "report.xml"], env=job, timeout=150)
    cases, suite = rows(tmp_path / "report.xml")
    assert done.returncode == 0 and suite.get("tests") == "4" and suite.get("failures") == "0"
    assert cases == {"plain": None, "warnings": None, "optimised": None, "hash-seed": None}
    assert client.get("/v1/workspaces")["count"] == before


def test_a_broken_one_fails_with_the_tests_words(job, client, tmp_path):
    before = client.get("/v1/workspaces")["count"]
    project = projects.scheduler(tmp_path)
    done = subprocess.run([SCRIPT, project, tmp_path / "report.xml"], env=job, timeout=150)
    cases, suite = rows(tmp_path / "report.xml")
    assert done.returncode == 1 and suite.get("failures") == "4"
    assert all("a_short_meeting_within_a_long_one" in failure.text for failure in cases.values())
    assert client.get("/v1/workspaces")["count"] == before


def test_a_row_that_cannot_run_is_a_failure_with_its_problem(job, tmp_path):
    done = subprocess.run([SCRIPT, tmp_path / "nowhere", tmp_path / "report.xml"], env=job,
                          capture_output=True, text=True, timeout=150)
    assert done.returncode not in (0, None) and "nowhere" in done.stderr


def test_an_interrupted_job_leaves_nothing(job, client, tmp_path):
    before = client.get("/v1/workspaces")["count"]
    project = projects.inventory(tmp_path)
    (project / "tests/test_hang.py").write_text("import time\ntime.sleep(600)\n")
    with subprocess.Popen([SCRIPT, project, tmp_path / "report.xml"], env=job,
                          start_new_session=True) as process:
        while client.get("/v1/workspaces")["count"] < before + 4:
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert client.get("/v1/workspaces")["count"] == before
