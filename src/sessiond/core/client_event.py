"""What a client logs itself, in words of its own: what happened, or what it did, which replay shows as a step."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from sessiond.core.errors import InvalidInput
from sessiond.core.event import OWN_WORDS, Entry
from sessiond.core.limits import check_text

TYPE: Final = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$"
TYPE_MAX_CHARS: Final = 100  # as long as a filter or a wait can name
DURATION_MAX_MS: Final = 366 * 86_400_000.0  # nothing is waited for longer
STEP_FIELDS: Final = ("input", "output")
"""Where in its body a step says what went in and what came out."""

EMPTY: Final = msgspec.Raw(b"{}")

_objects: Final = msgspec.json.Decoder(dict[str, Any])


def check_type(type: str, field: str) -> str:
    """Return `type` if a client's event can be of it.

    Raises:
        InvalidInput: it is no words with dots between, too long, or begins like the types of the log's own.
    """
    if len(type) > TYPE_MAX_CHARS or re.fullmatch(TYPE, type) is None:
        raise InvalidInput(
            f"{field} must be lower-case words with dots between, such as tool.called, of at most {TYPE_MAX_CHARS}"
            " characters",
            field=field,
        )
    word = type.partition(".")[0]
    if word in OWN_WORDS:
        raise InvalidInput(f"{field} must not begin with {word}: such events are the log's own", field=field)
    return type


def check_object(value: msgspec.Raw, field: str) -> dict[str, Any]:
    """Return what a JSON object says that is kept as it came.

    Raises:
        InvalidInput: it is something else, or not in valid Unicode.
    """
    try:
        return _objects.decode(value)
    except msgspec.ValidationError as error:
        if "out of range" in str(error):
            raise InvalidInput(f"{field} contains a number that is out of range", field=field) from error
        raise InvalidInput(f"{field} must be an object", field=field) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Raw JSON is passed over, not read, until here.
        raise InvalidInput(f"{field} is not valid Unicode", field=field) from error


def client_entry(type: str, data: msgspec.Raw = EMPTY, *, field: str = "") -> Entry:
    """Return an event that tells of something. `field` stands before the names of what is refused.

    Raises:
        InvalidInput: it cannot be of that type, or `data` is no object.
    """
    check_type(type, f"{field}type")
    check_object(data, f"{field}data")
    return Entry(type=type, body=bytes(data))


def step_entry(
    type: str,
    data: msgspec.Raw = EMPTY,
    *,
    action: str,
    input: msgspec.Raw = EMPTY,
    output: msgspec.Raw = EMPTY,
    duration_us: int = 0,
    field: str = "",
) -> Entry:
    """Return an event that is a step: `input` and `output`, objects too, stand behind `data` in its body.

    Raises:
        InvalidInput: as `client_entry`; the action has no name, or `data` has an input or output of its own.
        TooLarge: the action's name is too long.
    """
    check_type(type, f"{field}type")
    said = check_object(data, f"{field}data")
    if not check_text(action, f"{field}action"):
        raise InvalidInput(f"{field}action is empty: leave it out, or give it a value", field=f"{field}action")
    for name, value in zip(STEP_FIELDS, (input, output), strict=True):
        if name in said:
            raise InvalidInput(f"{field}data has an {name}: a step's stands beside data", field=f"{field}data.{name}")
        check_object(value, f"{field}{name}")
    # All of it is kept as it came, byte for byte.
    body = b'%b%b"input":%b,"output":%b}' % (bytes(data)[:-1], b"," if said else b"", input, output)
    return Entry(type=type, body=body, action=action, duration_us=duration_us)
