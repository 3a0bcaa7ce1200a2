"""What can go wrong with a call.

SessiondError
├── ApiError             the server said no: status, title, detail, field, request_id
│   ├── InvalidInput     400        ├── TooLarge            413
│   ├── Unauthenticated  401        ├── KeyReused           422
│   ├── Forbidden        403        ├── TooManyRequests     429
│   ├── NotFound         404        └── ServerError         500 and above
│   ├── Conflict         409            └── Unavailable     503
│   └── PreconditionFailed 412
├── ConnectionFailed     nobody answered, however often it was tried
├── TimedOut             no answer came in time, or what was waited for did not happen in time
├── UnexpectedAnswer     what came back is not of this API: is base_url right?
├── WaitCancelled        what was waited for was cancelled
└── ClientClosed         the client cannot be used any more, or not here
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sessiond.client.call import Response

SHOWN_BYTES: Final = 200


class SessiondError(Exception):
    """Everything that this client raises."""


class ConnectionFailed(SessiondError):
    """The server could not be reached, or hung up, at each try. Whether it did what was asked is not known."""


class TimedOut(SessiondError):
    """No answer came in time; or what was waited for did not happen in time."""


class UnexpectedAnswer(SessiondError):
    """What came back is not of this API: a redirect, somebody's page, nothing. Whether it was done is not known."""


class WaitCancelled(SessiondError):
    """What was waited for was cancelled."""


class ClientClosed(SessiondError):
    """The client was closed; or it was opened in another process, or on another event loop, and cannot be used here."""


class _Problem(msgspec.Struct, frozen=True):
    title: str = ""
    detail: str = ""
    request_id: str | None = None
    field: str | None = None


class ApiError(SessiondError):
    """The server refused: problem details (RFC 9457)."""

    def __init__(self, response: Response) -> None:
        try:
            problem = msgspec.json.decode(response.body, type=_Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # somebody's page
            problem = _Problem(title=f"refused by something else than sessiond: {beginning_of(response)}")
        self.status: Final = response.status
        self.title: Final = problem.title
        self.detail: Final = problem.detail
        self.field: Final = problem.field
        """What the server objects to: a field of the body, a parameter, or a header."""
        self.request_id: Final = problem.request_id or response.headers.get("x-request-id")
        """What the server's log calls this request."""
        self._response = Response(response.status, dict(response.headers), response.body)
        said = problem.detail or problem.title
        super().__init__(f"{said} (status {self.status}, request {self.request_id or 'unknown'})")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._response,)  # so that it gets out of a pool of processes


class InvalidInput(ApiError):
    """400: something that was sent cannot be used; `field` names it."""


class Unauthenticated(ApiError):
    """401: there is no key, or it is not good."""


class Forbidden(ApiError):
    """403: the key may not do that."""


class NotFound(ApiError):
    """404: there is no such thing, or it is another's."""


class Conflict(ApiError):
    """409: the state of things does not allow it, or the id is taken."""


class PreconditionFailed(ApiError):
    """412: it was changed since the version that `if_match` names."""


class TooLarge(ApiError):
    """413: the request is over the server's limit."""


class KeyReused(ApiError):
    """422: the idempotency key was used for another request."""


class TooManyRequests(ApiError):
    """429: too many of something, for now."""


class ServerError(ApiError):
    """500 and above."""


class Unavailable(ServerError):
    """503: not just now; it was tried several times."""


_KINDS: Final = {
    400: InvalidInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    422: KeyReused,
    429: TooManyRequests,
    503: Unavailable,
}


def error_of(response: Response) -> ApiError:
    """Return the error that an answer of status 400 or above is."""
    return _KINDS.get(response.status, ServerError if response.status >= 500 else ApiError)(response)


def unexpected(response: Response) -> UnexpectedAnswer:
    """Return the error that an answer is which means nothing."""
    if 300 <= response.status < 400:
        said = f"a redirect to {response.headers.get('location', 'nowhere')}, which is not followed"
    else:
        said = f"{response.headers.get('content-type', 'of no type')}: {beginning_of(response)}"
    return UnexpectedAnswer(f"the answer is not of this API; is base_url right? Status {response.status}, {said}")


def beginning_of(response: Response) -> str:
    """Return what somebody who looks for the reason wants to see of a body."""
    text = " ".join(response.body[:SHOWN_BYTES].decode("utf-8", "replace").split())
    return repr(text) if text else "an empty body"
