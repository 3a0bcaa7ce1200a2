"""How the agentinbox wire says no: in two words, what kind it is and what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sessiond.core import errors
from sessiond.core.errors import InvalidInput, NotFound, SessiondError, TooLarge, Unauthenticated
from sessiond.dialects.agentinbox import inboxes, messages, sessions, wait_shapes, waits
from sessiond.web.answers import Answer, json_answer
from sessiond.web.errors import Internal, MethodNotAllowed
from sessiond.web.routes import Handler, Problem


class ErrorOut(msgspec.Struct, frozen=True):
    error: str
    message: str


STATUS: Final[Mapping[type[SessiondError], int]] = {
    errors.InvalidInput: 400,
    errors.Locked: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.KeyReused: 409,
    errors.TooLarge: 413,
    errors.Damaged: 500,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    MethodNotAllowed: 405,
}
WORDS: Final[Mapping[int, str]] = {
    400: "Invalid request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Payload too large",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
}

# What a request is told whose body does not fit its shape, where the document has words for that.
_WRONG: Final[Mapping[str, str]] = {
    "ttlSeconds": "ttlSeconds must be a positive integer",
    "timeoutSeconds": f"timeoutSeconds must be between 1 and {wait_shapes.TIMEOUT_MAX_SECONDS}",
    "type": f"type must be one of {', '.join(wait_shapes.TYPES)}",
}
_MISSING: Final[Mapping[str, str]] = {
    "no such session": "Session not found",
    "no such inbox": "Inbox not found",
    "no such mail": "Message not found",
    "no such wait": "Wait not found",
}
_FAILED: Final[Mapping[Handler, str]] = {
    sessions.create_session: "Failed to create session",
    sessions.list_sessions: "Failed to list sessions",
    sessions.get_session: "Failed to retrieve session",
    sessions.complete_session: "Failed to complete session",
    sessions.complete_session_in_short: "Failed to complete session",
    sessions.get_timeline: "Failed to retrieve timeline",
    sessions.replay_session: "Failed to replay session",
    inboxes.create_inbox: "Failed to create inbox",
    inboxes.list_inboxes: "Failed to list inboxes",
    inboxes.get_inbox: "Failed to retrieve inbox",
    inboxes.delete_inbox: "Failed to delete inbox",
    inboxes.list_messages: "Failed to list messages",
    inboxes.list_extractions: "Failed to list extractions",
    messages.get_message: "Failed to retrieve message",
    messages.extract_message: "Failed to extract data",
    waits.create_wait: "Failed to create wait",
    waits.list_waits: "Failed to list waits",
    waits.get_wait: "Failed to retrieve wait",
    waits.cancel_wait: "Failed to cancel wait",
    waits.delete_wait: "Failed to cancel wait",
}


def status_of(error: SessiondError) -> int:
    if isinstance(error, TooLarge) and error.field != "body":
        return 400  # a field that is too long is one more that is wrong
    return STATUS.get(type(error), 500)


def render(problem: Problem) -> Answer:
    error = problem.error
    status, message = status_of(error), error.message
    match error:
        case Unauthenticated():
            message = "Invalid or missing API key"
        case NotFound():
            message = _MISSING.get(message, message)
        case InvalidInput(field=str(field)) if message.startswith(f"{field}: "):  # so says who decodes bodies
            message = _WRONG.get(field, message)
        case Internal() if problem.route is not None:
            message = _FAILED.get(problem.route.handler, message)
    return json_answer(ErrorOut(WORDS[status], message), status)
