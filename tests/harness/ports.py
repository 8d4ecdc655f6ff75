"""Ports to be listened on later, by another program."""

import contextlib
import random
import socket


def free():
    """Not of those that the kernel gives to whoever asks for any: nobody else is given it meanwhile."""
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", random.randrange(12000, 30000)))
            return listener.getsockname()[1]
