"""What can go wrong: the daemon says no (Problem), or it cannot be asked (HearthError)."""


class HearthError(Exception):
    """No answer: no daemon there, a connection that broke, a configuration that names none."""


class Problem(HearthError):
    """The daemon's problem+json (RFC 9457) as an exception: `code` is stable, `field` is a JSON
    pointer to the argument to blame, `hint` says what to do next."""

    def __init__(self, status, members):
        self.status = status
        self.members = members
        self.code = members.get("code", f"http_{status}")
        self.detail = members.get("detail") or members.get("title") or f"status {status}"
        self.field = members.get("field")
        self.hint = members.get("hint")
        self.request_id = members.get("request_id")
        self.retryable = bool(members.get("retryable"))
        super().__init__(f"{self.detail} ({self.hint})" if self.hint else self.detail)
