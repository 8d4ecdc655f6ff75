"""What can go wrong: the daemon says no (Problem), or it cannot be asked (HearthError)."""

from __future__ import annotations

from typing import Any


class HearthError(Exception):
    """No answer: no daemon there, a connection that broke, a configuration that names none."""


class Problem(HearthError):
    """The daemon's problem+json (RFC 9457) as an exception: `code` is stable, `field` is a JSON
    pointer to the argument to blame, `hint` says what to do next. The subclasses are by status."""

    def __new__(cls, status: int, members: dict[str, Any]) -> "Problem":
        return super().__new__(_KINDS.get(status, cls) if cls is Problem else cls)

    def __init__(self, status: int, members: dict[str, Any]) -> None:
        self.status = status
        self.members = members
        self.code: str = members.get("code", f"http_{status}")
        self.detail: str = members.get("detail") or members.get("title") or f"status {status}"
        self.field: str | None = members.get("field")
        self.hint: str | None = members.get("hint")
        self.request_id: str | None = members.get("request_id")
        self.retryable = bool(members.get("retryable"))
        super().__init__(f"{self.detail} ({self.hint})" if self.hint else self.detail)

    def __reduce__(self) -> tuple[Any, ...]:
        return Problem, (self.status, self.members)


class InvalidArgument(Problem):
    """422: an argument is wrong; `field` names it."""


class NotAllowed(Problem):
    """401 or 403: no token, or one without the right."""


class NotFound(Problem):
    """404: it is not there, or not yours."""


class Conflict(Problem):
    """409: its state forbids it."""


class QuotaExceeded(Problem):
    """429: less at one time, or a larger quota."""


class Unavailable(Problem):
    """503 or 504: the same request may succeed later."""


_KINDS: dict[int, type[Problem]] = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict,
                                    422: InvalidArgument, 429: QuotaExceeded, 503: Unavailable,
                                    504: Unavailable}
