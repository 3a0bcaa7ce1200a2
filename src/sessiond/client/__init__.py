"""The Python SDK: the calls of `/v1`, for threads that wait and for coroutines.

One definition of each call (`sessions.py`, `messages.py`, …: what to send, how to read the answer, no I/O), two
carriers that send it (`client.py`), and what gets it there (`transport.py`, and `sessiond.local` without a server).
"""

from sessiond.client.agents import Agent
from sessiond.client.audit import AuditEntry, Receipt
from sessiond.client.call import Page
from sessiond.client.client import AsyncClient, Client
from sessiond.client.errors import (
    ApiError,
    ClientClosed,
    Conflict,
    ConnectionFailed,
    Forbidden,
    InvalidInput,
    KeyReused,
    NotFound,
    PreconditionFailed,
    ServerError,
    SessiondError,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    WaitCancelled,
)
from sessiond.client.events import Event, Timeline
from sessiond.client.following import Delta
from sessiond.client.inboxes import Attachment, Candidate, Extraction, Inbox, Mail
from sessiond.client.keys import Key, Me
from sessiond.client.messages import Found, FoundPage, Message
from sessiond.client.runs import Failure, Run
from sessiond.client.sessions import Comparison, Replay, Rerun, Session, Step, Summary
from sessiond.client.waits import MailFound, Wait

__all__ = [
    "Agent",
    "ApiError",
    "AsyncClient",
    "Attachment",
    "AuditEntry",
    "Candidate",
    "Client",
    "ClientClosed",
    "Comparison",
    "Conflict",
    "ConnectionFailed",
    "Delta",
    "Event",
    "Extraction",
    "Failure",
    "Forbidden",
    "Found",
    "FoundPage",
    "Inbox",
    "InvalidInput",
    "Key",
    "KeyReused",
    "Mail",
    "MailFound",
    "Me",
    "Message",
    "NotFound",
    "Page",
    "PreconditionFailed",
    "Receipt",
    "Replay",
    "Rerun",
    "Run",
    "ServerError",
    "Session",
    "SessiondError",
    "Step",
    "Summary",
    "TimedOut",
    "Timeline",
    "TooLarge",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "Wait",
    "WaitCancelled",
]
