"""The error tree. What a client may see of a failure is decided here and nowhere else.

ScoreboardError                  an expected failure: an HTTP status, a stable code and a detail that shows the value
├── MalformedJson 400 · BadRequest 400
├── Unauthenticated 401
├── Forbidden 403
├── NotFound 404
├── MethodNotAllowed 405
├── RequestTimeout 408
├── BoardNotEmpty 409
├── TooLarge 413
├── UnsupportedMediaType 415
├── Invalid 422 · Inapplicable 422 · UnknownAction 422 · ActionDisabled 422 · IdempotencyMismatch 422
├── RateLimited 429 (ErasedLately, TooManyFailures, TooManyMisses) · Cooldown 429 · DailyCap 429
├── InternalError 500
└── Unavailable 503 · UnknownTimezone 503 · Overloaded 503 (TooManyConnections)
StartupError                     why the command can't run, for the terminal; exit code 2
RanksUnavailable                 Redis did not answer, or its answer was lost: callers go on without ranks

Source: RFC 9457 (problem details), RFC 6750 (bearer challenges).
"""

from collections.abc import Mapping, Sequence
from math import ceil

UNAVAILABLE_RETRY_AFTER_S = 1
EXIT_CANNOT_RUN = 2
"""The exit status of a command or worker that could not do its work."""


class ScoreboardError(Exception):
    """An expected failure that is part of the interface.

    :param detail: one sentence that names the value that was wrong.
    """

    status = 500
    code = "internal"
    title = "Internal server error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers that belong to this failure."""
        return {}

    @property
    def problem(self) -> dict[str, object]:
        """The members of the problem document."""
        return {
            "type": f"/docs#{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }


class InternalError(ScoreboardError):
    """Something that should not have happened; the log has the rest."""


class MalformedJson(ScoreboardError):
    status, code, title = 400, "malformed_json", "The body is not one strict JSON object"


class BadRequest(ScoreboardError):
    status, code, title = 400, "bad_request", "The request is not valid HTTP"


class Unauthenticated(ScoreboardError):
    """No token, or one that is not accepted.

    :param token_was_sent: whether the challenge says ``invalid_token``.
    """

    status, code, title = 401, "unauthenticated", "A valid bearer token is needed"

    def __init__(self, detail: str, *, token_was_sent: bool = True) -> None:
        super().__init__(detail)
        self.token_was_sent = token_was_sent

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": 'Bearer error="invalid_token"' if self.token_was_sent else "Bearer"}


class Forbidden(ScoreboardError):
    status, code, title = 403, "forbidden", "The token does not allow this"


class NotFound(ScoreboardError):
    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ScoreboardError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"

    def __init__(self, detail: str, *, allowed: Sequence[str]) -> None:
        super().__init__(detail)
        self._allowed = allowed

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Allow": ", ".join(sorted(self._allowed))}


class RequestTimeout(ScoreboardError):
    status, code, title = 408, "request_timeout", "The request did not arrive in time"


class BoardNotEmpty(ScoreboardError):
    status, code, title = 409, "board_not_empty", "The board has events already"


class TooLarge(ScoreboardError):
    status, code, title = 413, "too_large", "The request is too large"


class UnsupportedMediaType(ScoreboardError):
    status, code, title = 415, "unsupported_media_type", "The body must be application/json"


class Invalid(ScoreboardError):
    """Well-formed but not acceptable.

    :param field: what was wrong: a field of the body, a query parameter, a header.
    :param message: why, with its value.
    """

    status, code, title = 422, "invalid", "The request is not acceptable"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self._error = {"field": field, "message": message}

    @property
    def problem(self) -> dict[str, object]:
        return super().problem | {"errors": [self._error]}


class Inapplicable(Invalid):
    """What the board, as it is, rules out: a store had to be asked."""


class UnknownAction(ScoreboardError):
    status, code, title = 422, "unknown_action", "The board has no such action"


class ActionDisabled(ScoreboardError):
    status, code, title = 422, "action_disabled", "The action is disabled"


class IdempotencyMismatch(ScoreboardError):
    status, code, title = 422, "idempotency_mismatch", "The key was used for another submission"


class _RetryLater(ScoreboardError):
    """A failure that names the seconds after which trying again makes sense."""

    def __init__(self, detail: str, *, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = max(1, ceil(retry_after_s))

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after_s)}


class _Limited(_RetryLater):
    """A 429, described by the limit that refused.

    :param policy: name of the limit; ``quota`` requests in ``window_s`` seconds.
    Source: draft-ietf-httpapi-ratelimit-headers-10.
    """

    status = 429
    policy = "limit"

    def __init__(self, detail: str, *, retry_after_s: float, quota: int, window_s: int) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self._quota, self._window_s = quota, window_s

    @property
    def headers(self) -> Mapping[str, str]:
        return {
            **super().headers,
            "RateLimit-Policy": f'"{self.policy}";q={self._quota};w={self._window_s}',
            "RateLimit": f'"{self.policy}";r=0;t={self.retry_after_s}',
        }


class RateLimited(_Limited):
    code, title, policy = "rate_limited", "Too many requests", "user"


class TooManyFailures(RateLimited):
    """An address sent too many tokens that were not accepted."""

    policy = "authentication"


class TooManyMisses(RateLimited):
    """An address asked too often for what does not exist."""

    policy = "misses"


class ErasedLately(RateLimited):
    policy = "erase"


class Cooldown(_Limited):
    code, title, policy = "cooldown", "The action is cooling down", "cooldown"


class DailyCap(_Limited):
    code, title, policy = "daily_cap", "The action's daily cap is reached", "daily-cap"


class Unavailable(_RetryLater):
    """PostgreSQL can't be reached, or the outcome of a commit is unknown; the request may be repeated with its key."""

    status, code, title = 503, "unavailable", "The database is unavailable"

    def __init__(self, detail: str, *, retry_after_s: float = UNAVAILABLE_RETRY_AFTER_S) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class UnknownTimezone(Unavailable):
    """The database does not know a board's time zone, so it can't tell the board's days. Another zone mends it."""


class Overloaded(_RetryLater):
    status, code, title = 503, "overloaded", "The server is overloaded"

    def __init__(self, detail: str, *, retry_after_s: float = UNAVAILABLE_RETRY_AFTER_S) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class TooManyConnections(Overloaded):
    title = "Too many connections are open"


def reason_of(exc: BaseException) -> str:
    """What an exception says, or its name where it says nothing, as that of a timeout does."""
    return str(exc) or type(exc).__name__


class StartupError(Exception):
    """A command can't run; the message says why and what to mend."""


class RanksUnavailable(Exception):
    """Redis did not answer, or its answer was lost."""
