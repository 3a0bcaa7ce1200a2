"""Lists of the agentinbox wire: what may be asked of one, and how it is answered, by page or whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from sessiond.core.errors import InvalidInput
from sessiond.core.limits import OFFSET_MAX, PAGE_MAX
from sessiond.core.page import pack_cursor, unpack_cursor

T = TypeVar("T")

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]

FILTERS: Final = frozenset({"status", "type", "sessionId", "inboxId", "messageId"})
"""Without a value these are refused: an empty variable in a script must not ask for everything."""


class Pagination(msgspec.Struct, frozen=True):
    limit: int
    offset: int
    total: int


class ListOut(msgspec.Struct, Generic[T], frozen=True, kw_only=True, rename="camel"):
    """A page as the document has it, and what the published clients read beside it."""

    object: Literal["list"] = "list"
    data: Sequence[T]
    pagination: Pagination
    has_more: bool
    next_cursor: str | None


def page_out(
    data: Sequence[T], *, limit: int, offset: int, total: int, behind: tuple[object, ...] | None
) -> ListOut[T]:
    """Return a page; `behind` is the position of its last entry, None where nothing follows."""
    return ListOut(
        data=data,
        pagination=Pagination(limit, offset, total),
        has_more=behind is not None,
        next_cursor=pack_cursor(behind) if behind is not None else None,
    )


def position_in(cursor: str | None, kind: type[T], *, offset: int) -> T | None:
    """Return where a page begins, None for where `offset` says.

    Raises:
        InvalidInput: the cursor is not one of ours, or there is an offset too.
    """
    if cursor is None:
        return None
    if offset:
        raise InvalidInput("send either cursor or offset", field="offset")
    return unpack_cursor(cursor, kind)


async def joined(before: bytes, pages: AsyncIterator[Sequence[bytes]], after: bytes) -> AsyncIterator[bytes]:
    """Yield a JSON array of the elements in `pages` between `before` and `after`, a chunk a page."""
    opening = before
    async for page in pages:
        if page:
            yield opening + b",".join(page)
            opening = b","
    yield after if opening == b"," else before + after
