"""Cursors: ours read back, and nothing else does."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from sessiond.core.errors import InvalidInput
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.page import LogPosition, Position, pack_cursor, position_of, unpack_cursor, unpack_position
from sessiond.core.session import NewSession, Sort

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
columns = st.integers(-(2**63), 2**63 - 1)


@given(st.sampled_from(Sort), st.booleans(), st.booleans(), texts, texts, columns)
def test_a_position_in_a_list_reads_back(
    sort: Sort, descending: bool, backwards: bool, text: str, session_id: str, at_us: int
) -> None:
    begun = NewSession(user_name=text, user_email=text or None).begin(
        WorkspaceId("w"), SessionId(session_id), at_us=at_us
    )
    position = position_of(begun, sort, descending=descending, backwards=backwards)

    cursor = pack_cursor(position)

    assert unpack_position(cursor, sort, descending=descending) == position
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?# "), "a cursor stands in a URL as it is"


@given(columns, st.booleans(), st.booleans())
def test_a_position_in_a_log_reads_back(seq: int, descending: bool, backwards: bool) -> None:
    position = LogPosition(seq, descending, backwards)

    assert unpack_cursor(pack_cursor(position), LogPosition) == position


def as_cursor(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


# What a client may make up that is MessagePack, and of almost the right shape.
made_up = st.builds(
    pack_cursor,
    st.lists(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.sampled_from(Sort), max_size=6
    ),
)
DEEP = as_cursor(b"\x96\xa7created\xc3\xc2\x00\xa1a" + b"\x91" * 100_000)


@given(st.text() | st.binary().map(as_cursor) | made_up)
@example("")
@example("====")
@example("é")
@example("\ud800")
@example(DEEP)
@example(pack_cursor(("created", True, False, 2**64 - 1, "s")))
@example(pack_cursor(("created", True, False, 0, "s\0")))
@example(pack_cursor(("created", True, False, "text", "s")))
@example(pack_cursor(("user_name", True, False, 1, "s")))
@example(pack_cursor((2**64 - 1, True, False)))
def test_whatever_is_sent_as_a_cursor_is_a_position_or_refused(cursor: str) -> None:
    for kind in (Position, LogPosition, tuple[int, str]):
        try:
            values: Any = msgspec.to_builtins(unpack_cursor(cursor, kind))
        except InvalidInput:
            continue
        assert all(not isinstance(value, int) or -(2**63) <= value < 2**63 for value in values)
        assert all(not isinstance(value, str) or "\0" not in value for value in values)
    try:
        position = unpack_position(cursor, Sort.CREATED, descending=True)
    except InvalidInput:
        return
    assert isinstance(position.value, int)


def test_a_cursor_is_good_for_its_own_order_only() -> None:
    begun = NewSession().begin(WorkspaceId("w"), SessionId("s"), at_us=1)
    cursor = pack_cursor(replace(position_of(begun, Sort.CREATED, descending=True)))

    for sort, descending in ((Sort.CREATED, False), (Sort.UPDATED, True)):
        with pytest.raises(InvalidInput, match="another order"):
            unpack_position(cursor, sort, descending=descending)
