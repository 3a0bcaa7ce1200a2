"""A message: who said what. Its content is kept exactly as it came, a JSON string or a list of parts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from sessiond.core.errors import InvalidInput


class Role(StrEnum):
    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


Part = dict[str, Any]
Content = str | list[Part]

CONTENT_SCHEMA: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
RawContent = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=CONTENT_SCHEMA)]
"""Content as its JSON text; a schema shows what may stand there."""

NO_METADATA: Final = msgspec.Raw(b"{}")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What the body of a `message.*` event holds. `content` and `metadata` are JSON, as sent."""

    role: Role
    content: msgspec.Raw
    metadata: msgspec.Raw = NO_METADATA


_encoder: Final = msgspec.json.Encoder()
_messages: Final = msgspec.json.Decoder(Message)
_contents: Final = msgspec.json.Decoder(Content)


def make_message(role: Role, content: Content) -> Message:
    return Message(role=role, content=msgspec.Raw(_encoder.encode(content)))


def pack_message(message: Message) -> bytes:
    return _encoder.encode(message)


def unpack_message(body: bytes) -> Message:
    return _messages.decode(body)


def check_content(content: msgspec.Raw, field: str) -> msgspec.Raw:
    """Return `content` if it is a JSON string or a list of objects, in valid Unicode.

    Raises:
        InvalidInput: it is something else.
    """
    try:
        _contents.decode(content)
    except msgspec.ValidationError as error:
        if "out of range" in str(error):
            raise InvalidInput(f"{field} contains a number that is out of range", field=field) from error
        raise InvalidInput(f"{field} must be a string or a list of parts (objects)", field=field) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Raw JSON is passed over, not read, until here.
        raise InvalidInput(f"{field} is not valid Unicode", field=field) from error
    return content


def text_of(content: msgspec.Raw) -> str:
    """Return content as plain text, for wires that know no parts: the texts of its parts, a line each.

    Where no part has any, the JSON of each: what was said is never nothing.
    """
    decoded = _contents.decode(content)
    if isinstance(decoded, str):
        return decoded
    texts = [part["text"] for part in decoded if isinstance(part.get("text"), str)]
    return "\n".join(texts if any(texts) else (_encoder.encode(part).decode() for part in decoded))
