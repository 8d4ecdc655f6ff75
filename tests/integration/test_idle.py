"""A daemon that nobody asks anything sleeps: no thread of it wakes, whatever it keeps."""

import contextlib
import pathlib
import re
import time

from harness import daemon as harness_daemon
from harness.waiting import until

QUIET_S = 3


def wakeups(pid):
    """Of each of its threads; one that ends while they are listed is none."""
    counts = {}
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            counts[status.parent.name] = re.search(r"^voluntary_ctxt_switches:\s+(\d+)",
                                                   status.read_text(encoding="utf-8"), re.MULTILINE).group(1)
    return counts


def sleeps(pid):
    before = wakeups(pid)
    time.sleep(QUIET_S)  # What does not happen has no event to wait for.
    return wakeups(pid) == before


def test_a_daemon_with_nothing_to_do_sleeps(images):
    with harness_daemon.running(images, check_replies=False) as hearthd:
        until(lambda: sleeps(hearthd.pid), "an empty daemon wakes again and again")
        with hearthd.client() as client:
            workspace = client.post("/v1/workspaces", {"environment": "debian:12"})["workspace_id"]
            client.post(f"/v1/workspaces/{workspace}/exec", {"command": "true"})
            client.put(f"/v1/workspaces/{workspace}/services/web", {"command": "exec sleep 1000"})
        until(lambda: sleeps(hearthd.pid), "a daemon with an idle container wakes again and again")
