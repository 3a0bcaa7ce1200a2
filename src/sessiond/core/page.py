"""Pages of lists, and the cursors that say where one ends. A cursor is opaque to clients and pure to us."""

from __future__ import annotations

import base64
import binascii
from typing import Generic, TypeVar

import msgspec

from sessiond.core.errors import InvalidInput
from sessiond.core.event import Event, StoredMessage
from sessiond.core.limits import TIME_MAX_US
from sessiond.core.session import Session, Sort

T = TypeVar("T")
E = TypeVar("E", Event, StoredMessage)


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of sessions ends. `backwards`: the page before it is wanted."""

    sort: Sort
    descending: bool
    backwards: bool
    value: int | str
    id: str


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a list of sessions, and whether there is more at either end."""

    sessions: list[Session]
    more_after: bool = False
    more_before: bool = False
    total: int | None = None
    """How many the list has; None unless it was asked for."""


class LogPosition(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of a log ends. `backwards`: the page before it is wanted."""

    seq: int
    descending: bool
    backwards: bool


class LogPage(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """A stretch of a session's log, events or messages, and whether there is more behind it."""

    session: Session
    events: list[E]
    more: bool


def pack_cursor(position: object) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(position)).rstrip(b"=").decode()


def unpack_cursor(cursor: str, kind: type[T]) -> T:
    """Return the position that a cursor names: a `kind`, a tuple or an array-like struct.

    Raises:
        InvalidInput: it is not one of ours.
    """
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = msgspec.msgpack.decode(packed, type=kind)
    except (binascii.Error, ValueError, RecursionError) as error:  # a MsgspecError is a ValueError
        raise InvalidInput("cursor is not one that this server made", field="cursor") from error
    values: list[object] = msgspec.to_builtins(position)
    if not all(map(_fits_a_column, values)):
        raise InvalidInput("cursor is not one that this server made", field="cursor")
    return position


def unpack_position(cursor: str, sort: Sort, *, descending: bool) -> Position:
    """Return the position that a cursor names in a list of sessions.

    Raises:
        InvalidInput: it is not one of ours, or it was made for another order.
    """
    position = unpack_cursor(cursor, Position)
    if (position.sort, position.descending) != (sort, descending):
        raise InvalidInput("cursor was made for another order", field="cursor")
    textual = sort in (Sort.USER_NAME, Sort.USER_EMAIL)
    if isinstance(position.value, str) != textual:
        raise InvalidInput("cursor is not one that this server made", field="cursor")
    return position


def position_of(session: Session, sort: Sort, *, descending: bool, backwards: bool = False) -> Position:
    """Return where a session stands in a list of that order."""
    values: dict[Sort, int | str] = {
        Sort.CREATED: session.created_at_us,
        Sort.UPDATED: session.updated_at_us,
        Sort.USER_NAME: session.user_name or "",
        Sort.USER_EMAIL: session.user_email or "",
    }
    return Position(sort, descending, backwards, values[sort], session.id)


def end_of(sort: Sort, *, descending: bool) -> Position:
    """Return the place behind the last session of a list in order of a time, from where to go backwards."""
    assert sort in (Sort.CREATED, Sort.UPDATED), "names have no greatest one"
    return Position(sort, descending, True, 0 if descending else TIME_MAX_US, "")


def _fits_a_column(value: object) -> bool:
    """Whether both databases can compare a column with `value`."""
    if isinstance(value, str):
        return "\0" not in value
    return not isinstance(value, int) or -(2**63) <= value < 2**63
