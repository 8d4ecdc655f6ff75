"""One request to the daemon: connections kept a thread, retries only where they are safe."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
import urllib.parse
import uuid
import weakref
from collections.abc import Container, Iterator
from typing import Any

from . import transport
from .errors import HearthError, Problem

RETRIES = 3
TIMEOUT_S = 600.0
SLACK_S = 60.0  # What an answer may take beside what was asked to take its time.


class _Kept:
    """A thread's HTTP connection, which ends with the thread."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Connection:
    """May be shared between threads: each has an HTTP connection of its own."""

    def __init__(self, url: str | None = None, token: str | None = None, timeout: float | None = None) -> None:
        """timeout: how long the daemon may be silent. None: ten minutes, and as long as a command may take."""
        self.url = url or transport.find_url()
        self.timeout = TIMEOUT_S if timeout is None else timeout
        self._grows = timeout is None
        self._token = token or transport.find_token()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._kept: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def close(self) -> None:
        with self._lock:
            for kept in self._kept:
                kept.connection.close()

    def _connection(self, takes: float | None) -> http.client.HTTPConnection:
        kept: _Kept | None = getattr(self._local, "kept", None)
        if kept is None:
            kept = self._local.kept = _Kept(transport.connect(self.url, self.timeout))
            with self._lock:
                self._kept.add(kept)
        elif not transport.usable(kept.connection):
            kept.connection.close()
        timeout = self._patience(takes)
        kept.connection.timeout = timeout
        if kept.connection.sock is not None:
            kept.connection.sock.settimeout(timeout)
        return kept.connection

    def _patience(self, takes: float | None) -> float:
        return max(self.timeout, takes + SLACK_S) if takes and self._grows else self.timeout

    def _headers(self, accept: str | None, content_type: str | None) -> dict[str, str]:
        headers = {"Accept": accept or "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if content_type:
            headers["Content-Type"] = content_type
        return headers

    def _broken(self, error: Exception) -> HearthError:
        return HearthError(f"talking to hearthd at {self.url}: {error}")

    def send(self, method: str, path: str, body: Any = None, *, query: dict[str, Any] | None = None,
             content_type: str | None = None, accept: str | None = None,
             retry: bool = True, takes: float | None = None) -> tuple[int, bytes]:
        """(status, body) of any answer. A GET is asked again where the connection broke, and so is what
        changes something: it carries an idempotency key, so that it is done once. A body that is read
        from a file cannot be sent twice: then it is not. takes: seconds that the answer may be due after."""
        headers = self._headers(accept, content_type)
        repeatable = retry and (body is None or isinstance(body, bytes))
        if method != "GET" and repeatable:
            headers["Idempotency-Key"] = uuid.uuid4().hex
        for attempt in range(RETRIES):
            connection = self._connection(takes)
            try:
                connection.request(method, with_query(path, query), body=body, headers=headers)
                response = connection.getresponse()
                answer = response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not repeatable or isinstance(error, TimeoutError) or attempt == RETRIES - 1:
                    raise self._broken(error) from error
            except BaseException:  # Ctrl-C, say: what is under way is given up, and its answer is not the next one's.
                connection.close()
                raise
            else:
                # The first try reached the daemon and is still under way there: its answer will come.
                if answer[0] != 409 or b'"idempotency_in_progress"' not in answer[1]:
                    return answer
                if attempt == RETRIES - 1:
                    return answer
            time.sleep(random.uniform(0.05, 0.15) * 2**attempt)
        raise AssertionError("unreachable")

    def request(self, method: str, path: str, arguments: dict[str, Any] | None = None,
                **options: Any) -> Any:
        """The JSON of a success; else raises Problem."""
        if arguments is not None:
            options.update(body=json.dumps(arguments).encode(), content_type="application/json")
        status, body = self.send(method, path, **options)
        return result_of(status, body)

    def stream(self, method: str, path: str, *, body: bytes | None = None,
               query: dict[str, Any] | None = None, content_type: str | None = None,
               accept: str | None = None, takes: float | None = None) -> "Stream":
        """An answer to be read as it comes, on a connection of its own; close it to hang up."""
        connection = transport.connect(self.url, self._patience(takes))
        try:
            connection.request(method, with_query(path, query), body=body,
                               headers=self._headers(accept, content_type))
            opened = connection.sock
            response = connection.getresponse()
            if not 200 <= response.status < 300:
                result_of(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._broken(error) from error
        except BaseException:
            connection.close()
            raise
        return Stream(connection, opened, response, self.url)


class Stream:
    """A success that is still coming. May be closed from any thread: whoever reads then sees the end."""

    def __init__(self, connection: http.client.HTTPConnection, opened: socket.socket,
                 response: http.client.HTTPResponse, url: str) -> None:
        self._connection, self._socket, self.response, self.url = connection, opened, response, url
        self.closed = False

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Around what reads of it: a connection that broke is told as such."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise HearthError(f"reading from hearthd at {self.url}: {error!r}") from error

    def close(self) -> None:
        self.closed = True
        with contextlib.suppress(OSError):  # Wakes a reader; not connected any more is fine.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Events(Iterator[dict[str, Any]]):
    """The objects of an NDJSON stream, the last of which is of a type in `ends`. Closing it, or leaving its
    `with`, hangs up."""

    def __init__(self, stream: Stream, ends: Container[str]) -> None:
        self._stream, self._ends, self._whole = stream, ends, False

    def __next__(self) -> dict[str, Any]:
        try:
            with self._stream.reading():
                for line in self._stream.response:
                    if line.strip():
                        event: dict[str, Any] = json.loads(line)
                        self._whole = event.get("type") in self._ends
                        return event
        except (HearthError, AttributeError, ValueError):
            # Closed by another thread, the response is gone in the middle of a read: that is its end.
            if not self._stream.closed:
                raise
        if not self._whole and not self._stream.closed:  # http.client tells no end of a connection from one of a body.
            self.close()
            raise HearthError(f"hearthd at {self._stream.url} ended the connection before the stream's end")
        self.close()
        raise StopIteration

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()


def with_query(path: str, query: dict[str, Any] | None) -> str:
    """Leaves out what is None; booleans are as JSON has them."""
    given = {name: json.dumps(value) if isinstance(value, bool) else value
             for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urllib.parse.urlencode(given, doseq=True)}" if given else path


def result_of(status: int, body: bytes) -> Any:
    try:
        result = json.loads(body) if body else None
    except ValueError as error:
        raise HearthError(f"hearthd answered {status} with something that is not JSON") from error
    if not 200 <= status < 300:
        raise Problem(status, result if isinstance(result, dict) else {})
    return result
