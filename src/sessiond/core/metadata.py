"""JSON objects that callers hang on things: `metadata` (can be filtered by) and `data` (cannot)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.limits import DATA_MAX_BYTES, METADATA_FILTER_MAX_BYTES, METADATA_MAX_BYTES, METADATA_MAX_KEYS

JsonObject = dict[str, Any]

RawObject = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
"""A JSON object as its text; a schema shows what may stand there."""

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(JsonObject)


def pack_metadata(value: JsonObject | None) -> bytes | None:
    """Encode metadata, the empty object as None.

    Raises:
        TooLarge: more than 64 keys or 64 KiB.
    """
    if not value:
        return None
    if len(value) > METADATA_MAX_KEYS:
        raise TooLarge(f"metadata has more than {METADATA_MAX_KEYS} keys", field="metadata")
    packed = _encoder.encode(value)
    if len(packed) > METADATA_MAX_BYTES:
        raise TooLarge(f"metadata is larger than {METADATA_MAX_BYTES} bytes", field="metadata")
    return packed


def pack_data(value: JsonObject | None) -> bytes | None:
    """Encode data, the empty object as None.

    Raises:
        TooLarge: more than 1 MiB: patches could grow it without end.
    """
    packed = _encoder.encode(value) if value else None
    if packed is not None and len(packed) > DATA_MAX_BYTES:
        raise TooLarge(f"data is larger than {DATA_MAX_BYTES} bytes", field="data")
    return packed


def unpack(value: bytes | None) -> JsonObject:
    return _decoder.decode(value) if value else {}


def merge(old: JsonObject, patch: JsonObject) -> JsonObject:
    """Apply a JSON merge patch (RFC 7396): null removes, an object merges, anything else replaces."""
    merged = dict(old)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def filterable(value: bytes | None) -> dict[str, str]:
    """Return what `metadata.<key>=` can find: the scalars, written as a query string would write them."""
    found = {key: _scalar(scalar) for key, scalar in unpack(value).items()}
    return {key: text for key, text in found.items() if text is not None and _fits(key) and _fits(text)}


def check_filter(key: str, value: str) -> tuple[str, str]:
    """Return the pair to look for.

    Raises:
        InvalidInput: no session can hold it where it could be found.
    """
    if not key or not _fits(key) or not _fits(value):
        raise InvalidInput(
            f"metadata filters take a key and a value of up to {METADATA_FILTER_MAX_BYTES} bytes each",
            field="metadata",
        )
    return key, value


def _fits(text: str) -> bool:
    return len(text.encode()) <= METADATA_FILTER_MAX_BYTES and "\0" not in text


def _scalar(value: object) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return _encoder.encode(value).decode()
        case _:
            return None
