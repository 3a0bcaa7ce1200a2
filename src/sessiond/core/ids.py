"""What identifies things, and the form it has. New ids are made where there is chance: `actions/call.py`."""

from __future__ import annotations

from typing import Final, NewType

from sessiond.core.errors import InvalidInput
from sessiond.core.limits import ID_MAX_CHARS, check_text

WorkspaceId = NewType("WorkspaceId", str)
KeyId = NewType("KeyId", str)
SessionId = NewType("SessionId", str)
RunId = NewType("RunId", str)

EVENT: Final = "evt"
MESSAGE: Final = "msg"

SEQ_MAX: Final = 2**63 - 1  # what both databases keep in a bigint


def parse_id(value: str, field: str) -> str:
    """Return `value` if it can be an id: 1 to 200 characters that can stand between two slashes of a URL.

    Raises:
        InvalidInput: it cannot.
        TooLarge: it is longer.
    """
    check_text(value, field, max_chars=ID_MAX_CHARS)
    if value == "":
        raise InvalidInput(f"{field} is required", field=field)
    if "/" in value or value in {".", ".."} or value != value.strip():
        raise InvalidInput(f"{field} must not contain '/', begin or end with a space, or be '.' or '..'", field=field)
    return value


def make_event_id(prefix: str, session_id: str, seq: int) -> str:
    """Return the id of an event: it says where the event is, so no index is needed to find it again."""
    return f"{prefix}_{seq}.{session_id}"


def parse_event_id(value: str) -> tuple[SessionId, int] | None:
    """Return the session and seq that an event's or message's id names, or None when it is not one."""
    prefix, _, rest = value.partition("_")
    if prefix not in (EVENT, MESSAGE):
        return None
    seq, _, session_id = rest.partition(".")
    if not session_id or not seq.isascii() or not seq.isdigit() or len(seq) > 19 or seq != str(int(seq)):
        return None
    if int(seq) > SEQ_MAX:
        return None
    return SessionId(session_id), int(seq)
