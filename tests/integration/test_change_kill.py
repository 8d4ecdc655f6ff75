"""kill -9 of the daemon while a patch or a sync push is put in place: all of it is there, or none."""

import threading
import time

import pytest

from test_sync import TAR, tar_of

FILES = 200
DELAYS = (0.0, 0.004, 0.012, 0.03)  # of the kill after the request: before, within and after it


def patch(old, new):
    return "".join(f"--- a/f{i}\n+++ b/f{i}\n@@ -1 +1 @@\n-{old}\n+{new}\n" for i in range(FILES))


def ask_patch(client, path, old, new):
    client.request("POST", f"{path}/patch", {"patch": patch(old, new)})


def ask_push(client, path, old, new):
    client.request("POST", f"{path}/sync", body=tar_of(*[(f"f{i}", f"{new}\n") for i in range(FILES)]), headers=TAR)


@pytest.mark.parametrize("ask", [ask_patch, ask_push])
def test_a_kill_leaves_all_of_it_or_nothing(hearthd_factory, workspace_factory, ask):
    hearthd = hearthd_factory()
    workspace = workspace_factory(on=hearthd.client())
    workspace.exec(f"for i in $(seq 0 {FILES - 1}); do echo 0 > f$i; done")
    version = "0"
    for turn, delay in enumerate(DELAYS, 1):
        client, answered = workspace.client.another(), []

        def change(client=client, old=version, new=str(turn), answered=answered):
            try:
                ask(client, workspace.path, old, new)
                answered.append(new)
            except OSError:
                pass

        thread = threading.Thread(target=change)
        thread.start()
        time.sleep(delay)
        hearthd.kill9()
        thread.join()
        hearthd.start()
        workspace.client = hearthd.client()
        # What the agent has begun to put in place it ends without the daemon.
        look = "while ls -A / | grep -q hearth-stage; do sleep 0.02; done; cat f* | sort | uniq -c; ls -A | wc -l"
        count, found, names = workspace.exec(look, timeout_seconds=60)["stdout"].split()
        assert (count, names) == (str(FILES), str(FILES))
        assert found in (version, str(turn)) and (not answered or found == str(turn))
        version = found
    ask(workspace.client, workspace.path, version, "last")
    assert workspace.exec("sort -u f*")["stdout"] == "last\n"
