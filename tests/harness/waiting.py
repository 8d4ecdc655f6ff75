"""Waits for what comes by itself, with a patience that no slow machine uses up."""

import time


def until(condition, what=None, patience_s=60):
    """What condition gives, once that is something; what: said where nothing comes, or what gives that."""
    deadline = time.monotonic() + patience_s
    while not (result := condition()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)
    return result
