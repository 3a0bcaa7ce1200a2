"""The agentinbox wire's routes: which handler answers what, and what its OpenAPI document says of it."""

from __future__ import annotations

from typing import Final

from sessiond.dialects.agentinbox import (
    detail,
    inbox_shapes,
    inboxes,
    log_shapes,
    message_shapes,
    messages,
    sessions,
    shapes,
    wait_shapes,
    waits,
)
from sessiond.dialects.agentinbox.lists import ListOut
from sessiond.dialects.agentinbox.problems import ErrorOut, render
from sessiond.web.routes import Dialect, Route

_ERRORS: Final = dict.fromkeys((400, 401, 403, 429, 503), ErrorOut)
_MAKES: Final = _ERRORS | dict.fromkeys((409, 413), ErrorOut)
_FINDS: Final = _ERRORS | {404: ErrorOut}
_CHANGES: Final = _MAKES | {404: ErrorOut}

ROUTES: Final = (
    Route(
        method="POST",
        path="/api/v1/sessions",
        handler=sessions.create_session,
        summary="Create a session",
        body=shapes.CreateSession,
        answers={201: shapes.SessionOut} | _MAKES,
    ),
    Route(
        method="GET",
        path="/api/v1/sessions",
        handler=sessions.list_sessions,
        summary="List sessions, newest first",
        query=shapes.ListSessions,
        answers={200: ListOut[shapes.SessionSummary]} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/api/v1/sessions/{id}",
        handler=sessions.get_session,
        summary="Get a session",
        query=shapes.GetSession,
        answers={200: (shapes.SessionOut, detail.SessionDetail)} | _FINDS,
    ),
    Route(
        method="POST",
        path="/api/v1/sessions/{id}/complete",
        handler=sessions.complete_session,
        summary="Complete a session",
        answers={200: shapes.Completed} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/api/v1/sessions/{id}",
        handler=sessions.complete_session_in_short,
        summary="Complete a session, as the published clients do it",
        answers={200: shapes.Completed} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/api/v1/sessions/{id}/timeline",
        handler=sessions.get_timeline,
        summary="Get what happened in a session",
        answers={200: log_shapes.Timeline} | _FINDS,
    ),
    Route(
        method="POST",
        path="/api/v1/sessions/{id}/replay",
        handler=sessions.replay_session,
        summary="Show what was done in a session, step by step",
        answers={200: log_shapes.Steps} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/api/v1/inboxes",
        handler=inboxes.create_inbox,
        summary="Create an inbox",
        body=inbox_shapes.CreateInbox,
        body_optional=True,
        answers={201: inbox_shapes.InboxOut} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/api/v1/inboxes",
        handler=inboxes.list_inboxes,
        summary="List inboxes, newest first",
        query=inbox_shapes.ListInboxes,
        answers={200: ListOut[inbox_shapes.InboxOut]} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/api/v1/inboxes/{inboxId}",
        handler=inboxes.get_inbox,
        summary="Get an inbox",
        answers={200: inbox_shapes.InboxOut} | _FINDS,
    ),
    Route(
        method="DELETE",
        path="/api/v1/inboxes/{inboxId}",
        handler=inboxes.delete_inbox,
        summary="Delete an inbox with its messages",
        answers={200: inbox_shapes.DeletedInbox} | _FINDS,
        reads=False,
    ),
    Route(
        method="GET",
        path="/api/v1/inboxes/{inboxId}/messages",
        handler=inboxes.list_messages,
        summary="List the messages in an inbox, newest first",
        query=message_shapes.ListMessages,
        answers={200: ListOut[message_shapes.MessageOut]} | _FINDS,
    ),
    Route(
        method="GET",
        path="/api/v1/inboxes/{inboxId}/extractions",
        handler=inboxes.list_extractions,
        summary="List what was found in an inbox's messages, newest first",
        query=message_shapes.ListExtractions,
        answers={200: ListOut[message_shapes.ExtractionOut]} | _FINDS,
    ),
    Route(
        method="GET",
        path="/api/v1/messages/{messageId}",
        handler=messages.get_message,
        summary="Get a message",
        answers={200: message_shapes.MessageWhole} | _FINDS,
    ),
    Route(
        method="POST",
        path="/api/v1/messages/{messageId}/extract",
        handler=messages.extract_message,
        summary="Look through a message once more",
        body=message_shapes.Extract,
        body_optional=True,
        answers={200: ListOut[message_shapes.ExtractionOut]} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/api/v1/waits",
        handler=waits.create_wait,
        summary="Wait for a message",
        query=wait_shapes.Hold,
        body=wait_shapes.CreateWait,
        answers={201: wait_shapes.WaitOut} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/api/v1/waits",
        handler=waits.list_waits,
        summary="List waits, newest first",
        query=wait_shapes.ListWaits,
        answers={200: ListOut[wait_shapes.WaitOut]} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/api/v1/waits/{waitId}",
        handler=waits.get_wait,
        summary="Get a wait",
        query=wait_shapes.Hold,
        answers={200: wait_shapes.WaitOut} | _FINDS,
    ),
    Route(
        method="DELETE",
        path="/api/v1/waits/{waitId}",
        handler=waits.delete_wait,
        summary="Cancel a wait, as the document has it",
        answers={200: wait_shapes.WaitOut} | _FINDS,
    ),
    Route(
        method="POST",
        path="/api/v1/waits/{waitId}/cancel",
        handler=waits.cancel_wait,
        summary="Cancel a wait, as the published clients do it",
        answers={200: wait_shapes.WaitOut} | _CHANGES,
    ),
)

DIALECT: Final = Dialect(
    name="agentinbox",
    title="AgentInbox sessions, inboxes and waits, by sessiond",
    prefix="/agentinbox",
    routes=ROUTES,
    render=render,
    error=ErrorOut,
)
