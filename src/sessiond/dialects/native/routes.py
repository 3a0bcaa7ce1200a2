"""The native wire's routes: which handler answers what, and what its OpenAPI document says of it."""

from __future__ import annotations

from typing import Final

from sessiond.core.agent import RUNNERS
from sessiond.dialects.native import (
    agent_shapes,
    agents,
    keys,
    log_shapes,
    logs,
    queries,
    run_shapes,
    runs,
    sessions,
    shapes,
)
from sessiond.dialects.native.problems import ProblemOut, render
from sessiond.web import operations
from sessiond.web.routes import Dialect, Route

_ERRORS: Final = dict.fromkeys((400, 401, 403, 413, 503), ProblemOut)
_FINDS: Final = _ERRORS | {404: ProblemOut}
_CHANGES: Final = _FINDS | dict.fromkeys((409, 412, 422), ProblemOut)
_RUNNERS: Final = (
    f"`runner` is one of {', '.join(RUNNERS)}, and `options` are its own. What starts programs on the workers'"
    " machines, or reads their environment, needs a key with the scope `host`."
)

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions",
        handler=sessions.create_session,
        summary="Create a session",
        body=shapes.CreateSession,
        answers={201: shapes.SessionOut, 200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/sessions",
        handler=sessions.list_sessions,
        summary="List sessions",
        description="Any number of parameters `metadata.<key>` filter by a value in the metadata: a string, a number or"
        " a boolean, as JSON writes it but without quotation marks.",
        query=queries.ListSessions,
        answers={200: shapes.SessionPage} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}",
        handler=sessions.get_session,
        summary="Get a session",
        answers={200: shapes.SessionOut} | _FINDS,
    ),
    Route(
        method="PATCH",
        path="/v1/sessions/{session_id}",
        handler=sessions.patch_session,
        summary="Change a session (JSON merge patch)",
        body=shapes.PatchSession,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="DELETE",
        path="/v1/sessions/{session_id}",
        handler=sessions.delete_session,
        summary="Delete a session with its log",
        answers={204: None} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/complete",
        handler=sessions.complete_session,
        summary="End a session well",
        body=shapes.End,
        body_optional=True,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/fail",
        handler=sessions.fail_session,
        summary="End a session badly",
        body=shapes.End,
        body_optional=True,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/messages",
        handler=logs.append_messages,
        summary="Append one message, or a batch: all of it, in order",
        body=log_shapes.MessagesIn,
        answers={201: (log_shapes.MessageOut, log_shapes.MessageList)} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/messages",
        handler=logs.list_messages,
        summary="Read messages",
        query=queries.ListMessages,
        answers={200: log_shapes.MessagePage} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/messages/{message_id}",
        handler=logs.get_message,
        summary="Get a message",
        answers={200: log_shapes.MessageOut} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/events",
        handler=logs.list_events,
        summary="Read the log",
        query=queries.ListEvents,
        answers={200: log_shapes.EventPage} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/stream",
        handler=logs.stream_events,
        summary="Follow the log as Server-Sent Events",
        query=queries.StreamFrom,
        answers={200: bytes} | _FINDS,
        content_type="text/event-stream",
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/replay",
        handler=logs.replay_session,
        summary="Show what was done, step by step",
        answers={200: log_shapes.Steps, 422: ProblemOut} | _FINDS,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/runs",
        handler=runs.start_run,
        summary="Start a run of the session's agent",
        description="Over `input`, which is appended as the user's message, or over what was said before. With `wait`"
        " the answer is the run once it has ended or waits for an answer, or as it is after that time.",
        query=queries.StartRun,
        body=run_shapes.StartRun,
        body_optional=True,
        answers={201: run_shapes.RunOut} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/runs",
        handler=runs.list_session_runs,
        summary="List a session's runs",
        query=queries.ListSessionRuns,
        answers={200: run_shapes.RunPageOut} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/runs",
        handler=runs.list_runs,
        summary="List runs",
        query=queries.ListRuns,
        answers={200: run_shapes.RunPageOut} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}",
        handler=runs.get_run,
        summary="Get a run",
        answers={200: run_shapes.RunOut} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}/stream",
        handler=runs.stream_run,
        summary="Follow a run as Server-Sent Events",
        description="From its beginning, to its last event. Who comes back behind that is answered 204.",
        query=queries.StreamFrom,
        answers={200: bytes, 204: None} | _FINDS,
        content_type="text/event-stream",
    ),
    Route(
        method="POST",
        path="/v1/runs/{run_id}/cancel",
        handler=runs.cancel_run,
        summary="Cancel a run",
        description="With `wait` the answer is the run once it has ended, or as it is after that time.",
        query=queries.CancelRun,
        body=shapes.End,
        body_optional=True,
        answers={200: run_shapes.RunOut} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/runs/{run_id}/retry",
        handler=runs.retry_run,
        summary="Start a new run with what a failed or cancelled one was given",
        answers={201: run_shapes.RunOut} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/runs/{run_id}/respond",
        handler=runs.respond_to_run,
        summary="Answer a run that waits",
        body=run_shapes.Respond,
        answers={200: run_shapes.RunOut} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/agents",
        handler=agents.list_agents,
        summary="List the workspace's agents",
        query=queries.Listing,
        answers={200: agent_shapes.AgentPage} | _ERRORS,
    ),
    Route(
        method="POST",
        path="/v1/agents",
        handler=agents.create_agent,
        summary="Register an agent",
        description=_RUNNERS,
        body=agent_shapes.CreateAgent,
        answers={201: agent_shapes.AgentOut} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/agents/{agent_id}",
        handler=agents.get_agent,
        summary="Get an agent",
        answers={200: agent_shapes.AgentOut} | _FINDS,
    ),
    Route(
        method="PUT",
        path="/v1/agents/{agent_id}",
        handler=agents.put_agent,
        summary="Register an agent, or replace it",
        description=_RUNNERS,
        body=agent_shapes.PutAgent,
        answers={200: agent_shapes.AgentOut, 201: agent_shapes.AgentOut, 409: ProblemOut} | _ERRORS,
    ),
    Route(
        method="DELETE",
        path="/v1/agents/{agent_id}",
        handler=agents.delete_agent,
        summary="Remove an agent; what is queued for it fails",
        answers={204: None} | _FINDS,
    ),
    Route(method="GET", path="/v1/me", handler=keys.me, summary="Who am I", answers={200: shapes.Me} | _ERRORS),
    Route(
        method="GET",
        path="/v1/keys",
        handler=keys.list_keys,
        summary="List the workspace's keys",
        query=queries.Listing,
        answers={200: shapes.KeyPage} | _ERRORS,
    ),
    Route(
        method="POST",
        path="/v1/keys",
        handler=keys.create_key,
        summary="Create a key; its secret is shown once",
        body=shapes.CreateKey,
        answers={201: shapes.KeyOut} | _CHANGES,
    ),
    Route(
        method="DELETE",
        path="/v1/keys/{key_id}",
        handler=keys.revoke_key,
        summary="Revoke a key, within seconds everywhere",
        answers={204: None} | _FINDS,
    ),
)

DIALECT: Final = Dialect(
    name="native",
    title="sessiond",
    prefix="",
    routes=(*ROUTES, *operations.ROUTES),
    render=render,
    error=ProblemOut,
    error_content_type="application/problem+json",
)
