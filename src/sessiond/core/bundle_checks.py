"""What each record of a bundle must be, wherever it stands: what the API would have taken, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from sessiond.core.agent import RUNNERS, AcpOptions, CommandOptions, program_of
from sessiond.core.bundle_records import (
    AgentRecord,
    AnyRecord,
    EventRecord,
    InboxRecord,
    JsonRecord,
    Record,
    RunRecord,
    SessionRecord,
    WaitRecord,
)
from sessiond.core.client_event import STEP_FIELDS, check_type
from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.event import MAIL_RECEIVED, MESSAGE_TYPES, RUN_QUEUED, RUN_TEXT, is_of_client
from sessiond.core.ids import parse_id
from sessiond.core.limits import (
    DATA_MAX_BYTES,
    METADATA_MAX_BYTES,
    METADATA_MAX_KEYS,
    NESTING_MAX,
    check_nesting,
    check_prose,
    check_text,
)
from sessiond.core.mail import ADDRESS_MAX_CHARS
from sessiond.core.message import Message, check_content
from sessiond.core.run import Answer, Ask, Failure
from sessiond.core.session import ENDED
from sessiond.core.wait import Terms

NESTED_MAX: Final = NESTING_MAX + 20  # what was sent stands a few levels further down in what the log says of it

_IDS: Final = frozenset(
    {"id", "agent_id", "user_id", "task_id", "parent", "run_id", "retry_of", "simulates", "wait_id", "inbox_id"}
)
_PROSE: Final = frozenset({"prompt"})
_ELSEWHERE: Final = frozenset({"hook_sha256", "kind", "sha256"})  # their types say all


class _Queued(msgspec.Struct):
    agent_id: str


class _Text(msgspec.Struct):
    text: str
    offset: int


class _Received(msgspec.Struct):
    mail_id: str


# What those who read a log take for granted.
_BODIES: Final[Mapping[str, Any]] = {RUN_QUEUED: _Queued, RUN_TEXT: _Text, MAIL_RECEIVED: _Received} | dict.fromkeys(
    MESSAGE_TYPES.values(), Message
)


def check_record(record: AnyRecord) -> None:
    """Check what a record says.

    Raises:
        InvalidInput, TooLarge: it says something that cannot be.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: what it holds is no JSON, or not of its shape.
    """
    _check_texts(record)
    if isinstance(record, JsonRecord):
        _check_json(record)
    check = _CHECKS.get(type(record))
    if check is not None:
        check(record)


def _check_texts(record: Record) -> None:
    for field in record.__struct_fields__:
        value = getattr(record, field)
        if not isinstance(value, str) or field in _ELSEWHERE:
            continue
        if field in _IDS:
            parse_id(value, field)
        elif field in _PROSE:
            check_prose(value, field)
        else:
            check_text(value, field)


def _check_json(record: JsonRecord) -> None:
    for field in record.__struct_fields__:
        if isinstance(getattr(record, field), Raw):
            value = record.must_json(field)
            msgspec.json.decode(value)
            check_nesting(value, most=NESTED_MAX)


def _check_agent(record: AgentRecord) -> None:
    kind = RUNNERS.get(record.runner)
    if kind is None:
        raise InvalidInput(f"runner must be one of {', '.join(RUNNERS)}", field="runner")
    if b"\\u0000" in bytes(record.options):
        raise InvalidInput("options contain a NUL character", field="options")
    options = msgspec.json.decode(record.options, type=kind)
    if isinstance(options, CommandOptions | AcpOptions):
        program_of(options.command)


def _check_session(record: SessionRecord) -> None:
    if (record.status in ENDED) != (record.completed_at_us is not None):
        raise InvalidInput("completed_at_us is there for a session that has ended, and for no other")
    if record.accept_terms not in (None, "true", "false"):
        raise InvalidInput("accept_terms must be true or false")
    _check_metadata(record)
    data = record.json("data")
    if data is not None:
        msgspec.json.decode(data, type=dict[str, Any])
        if len(data) > DATA_MAX_BYTES:
            raise TooLarge(f"data is larger than {DATA_MAX_BYTES} bytes", field="data")


def _check_metadata(record: JsonRecord) -> None:
    metadata = record.json("metadata")
    if metadata is None:
        return
    if len(msgspec.json.decode(metadata, type=dict[str, Any])) > METADATA_MAX_KEYS:
        raise TooLarge(f"metadata has more than {METADATA_MAX_KEYS} keys", field="metadata")
    if len(metadata) > METADATA_MAX_BYTES:
        raise TooLarge(f"metadata is larger than {METADATA_MAX_BYTES} bytes", field="metadata")


def _check_event(record: EventRecord) -> None:
    said = msgspec.json.decode(record.must_json("body"), type=_BODIES.get(record.kind, dict[str, Any]))
    if record.kind.startswith("message."):
        if not isinstance(said, Message) or MESSAGE_TYPES[said.role] != record.kind:
            raise InvalidInput("its kind is not that of its role", field="kind")
        check_content(said.content, "content")
    if is_of_client(record.kind):
        check_type(record.kind, "kind")
        if not all(isinstance(said.get(name, {}), dict) for name in STEP_FIELDS if record.action is not None):
            raise InvalidInput("its input and output must be objects", field="body")
    if record.action is not None and record.duration_us is None:
        raise InvalidInput("an action has a duration", field="duration_us")


def _check_run(record: RunRecord) -> None:
    if (record.completed_at_us is not None) != (record.status in ("completed", "failed", "cancelled")):
        raise InvalidInput("completed_at_us is there for a run that has ended, and for no other")
    kinds: dict[str, Any] = {"error": Failure, "ask": Ask, "answer": Answer}
    for field, kind in kinds.items():
        value = record.json(field)
        if value is not None:
            msgspec.json.decode(value, type=kind)
    given = record.json("input")
    if given is not None:
        check_content(Raw(given), "input")


def _check_inbox(record: InboxRecord) -> None:
    check_text(record.address, "address", max_chars=ADDRESS_MAX_CHARS)
    if "@" not in record.address or record.address != record.address.lower():
        raise InvalidInput("address must be a mail address in lower case", field="address")
    _check_metadata(record)


def _check_wait(record: WaitRecord) -> None:
    if (record.ended_at_us is not None) != (record.status != "pending"):
        raise InvalidInput("ended_at_us is there for a wait that has ended, and for no other")
    msgspec.json.decode(record.must_json("terms"), type=Terms)
    result = record.json("result")
    if result is not None:
        msgspec.json.decode(result, type=dict[str, Any])


_CHECKS: Final[Mapping[type, Callable[[Any], None]]] = {
    AgentRecord: _check_agent,
    SessionRecord: _check_session,
    EventRecord: _check_event,
    RunRecord: _check_run,
    InboxRecord: _check_inbox,
    WaitRecord: _check_wait,
}
