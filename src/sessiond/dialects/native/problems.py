"""How the native wire says no: problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sessiond.core import errors
from sessiond.web.answers import Answer, encode
from sessiond.web.errors import MethodNotAllowed
from sessiond.web.routes import Problem


class ProblemOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    field: str | None = None


# What a route may answer beside what it is for: any, one that looks for something, one that changes something.
ERRORS: Final = dict.fromkeys((400, 401, 403, 413, 429, 503), ProblemOut)
FINDS: Final = ERRORS | {404: ProblemOut}
CHANGES: Final = FINDS | dict.fromkeys((409, 412, 422), ProblemOut)

STATUS: Final[Mapping[type[errors.SessiondError], int]] = {
    errors.InvalidInput: 400,
    errors.Locked: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.KeyReused: 422,
    errors.Damaged: 500,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    MethodNotAllowed: 405,
}
TITLES: Final = {
    400: "Invalid input",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    422: "Idempotency key reused",
    429: "Too many requests",
    500: "Internal server error",
    503: "Unavailable",
}


def render(problem: Problem) -> Answer:
    """Return an error as problem details (RFC 9457)."""
    error = problem.error
    status = STATUS.get(type(error), 500)
    title = TITLES[status]
    body = ProblemOut(
        type=f"urn:sessiond:problem:{title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=error.message,
        request_id=problem.request_id,
        field=error.field,
    )
    return Answer(status, encode(body), "application/problem+json")
