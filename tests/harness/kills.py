"""A daemon that is killed while clients load it."""

import http.client
import threading
import time

# What a killed daemon does to a client: its replies end where they are, and kill9() closes its connection meanwhile.
CUT_OFF = (OSError, http.client.HTTPException, ValueError)


def kill_under(hearthd, loads, after_s):
    """Kills the daemon so long after the loads have begun, and starts it again once they have ended. A load is called in a
    thread of its own, with the event that tells it to end."""
    stop = threading.Event()
    threads = [threading.Thread(target=load, args=(stop,)) for load in loads]
    for thread in threads:
        thread.start()
    time.sleep(after_s)  # Not a wait for anything: where the kill falls.
    hearthd.kill9()
    stop.set()
    for thread in threads:
        thread.join()
    hearthd.start()
