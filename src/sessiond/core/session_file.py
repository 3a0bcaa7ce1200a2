"""A recorded session as a file: JSON lines that say all that running it again needs, and none of its agents' secrets.

The first line is the head, each other an event of the log, in order, or a mail as it was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from sessiond.core.errors import InvalidInput
from sessiond.core.event import Event
from sessiond.core.ids import SessionId
from sessiond.core.limits import check_nesting
from sessiond.core.metadata import unpack
from sessiond.core.session import Session

FORMAT: Final = 1
SUFFIX: Final = ".session.jsonl"


class UsedAgent(msgspec.Struct, frozen=True):
    """An agent that worked in the session. What it is set to is not said: that may hold secrets."""

    id: str
    runner: str | None
    """None: it was not registered any more."""


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="session"):
    format: int
    session: dict[str, Any]
    """The session's fields."""
    agents: list[UsedAgent]

    @property
    def session_id(self) -> SessionId:
        return SessionId(str(self.session["id"]))


class _EventLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="event"):
    seq: int
    type: str
    at_us: int
    actor: str
    run_id: str | None = None
    action: str | None = None
    duration_us: int | None = None
    body: msgspec.Raw


class _MailLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="mail"):
    id: str
    raw: bytes
    """In base64, as JSON has bytes."""


class SessionFile(msgspec.Struct, frozen=True, kw_only=True):
    head: Head
    events: list[Event]
    mails: Mapping[str, bytes]
    """The raw mails, by id."""


_lines: Final = msgspec.json.Decoder(Head | _EventLine | _MailLine)
_encoder: Final = msgspec.json.Encoder()


def head_line(session: Session, agents: list[UsedAgent]) -> bytes:
    fields = {name: getattr(session, name) for name in Session.__struct_fields__ if name != "workspace_id"}
    fields |= {"metadata": unpack(session.metadata), "data": unpack(session.data)}
    return _line(Head(format=FORMAT, session=fields, agents=agents))


def event_line(event: Event) -> bytes:
    return _line(
        _EventLine(
            seq=event.seq,
            type=event.type,
            at_us=event.created_at_us,
            actor=event.actor,
            run_id=event.run_id,
            action=event.action,
            duration_us=event.duration_us,
            body=msgspec.Raw(event.body),
        )
    )


def mail_line(mail_id: str, raw: bytes) -> bytes:
    return _line(_MailLine(id=mail_id, raw=raw))


def read_session_file(lines: Iterable[bytes]) -> SessionFile:
    """Return what the lines of a file say.

    Raises:
        InvalidInput: they are no recorded session, or not all of one; the message says which line is wrong.
    """
    head: Head | None = None
    events, mails = list[Event](), dict[str, bytes]()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            read = _lines.decode(line)
            check_nesting(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidInput) as error:
            raise InvalidInput(f"line {number} is none of a recorded session: {error}") from error
        if isinstance(read, Head):
            head = _checked(read) if head is None else head
        elif head is None:
            raise InvalidInput("its first line does not say whose recording it is")
        elif isinstance(read, _MailLine):
            mails[read.id] = read.raw
        elif read.seq != len(events) + 1:
            raise InvalidInput(f"line {number} is event {read.seq}, where {len(events) + 1} was to come")
        else:
            events.append(_event(read, head.session_id))
    if head is None:
        raise InvalidInput("it is empty")
    if len(events) < int(head.session["last_seq"]):
        raise InvalidInput(f"it ends early: it has {len(events)} of {head.session['last_seq']} events")
    return SessionFile(head=head, events=events, mails=mails)


def _checked(head: Head) -> Head:
    if head.format != FORMAT:
        raise InvalidInput(f"it has format {head.format}, and this release reads {FORMAT}")
    if not isinstance(head.session.get("id"), str) or not isinstance(head.session.get("last_seq"), int):
        raise InvalidInput("its first line does not say whose recording it is")
    return head


def _event(line: _EventLine, session_id: SessionId) -> Event:
    body = bytes(line.body)
    return Event(
        session_id, line.seq, line.type, line.at_us, line.actor, line.run_id, line.action, line.duration_us, body
    )


def _line(value: object) -> bytes:
    # What a client wrote keeps its line breaks between parts; in a string there are none.
    return _encoder.encode(value).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"
