"""What the native wire's query strings may say."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from sessiond.core.errors import InvalidInput
from sessiond.core.ids import SEQ_MAX
from sessiond.core.limits import FILTER_MAX_VALUES, LOG_PAGE_DEFAULT, OFFSET_MAX, PAGE_DEFAULT, PAGE_MAX
from sessiond.core.page import pack_cursor, unpack_cursor
from sessiond.core.run import RunStatus
from sessiond.core.session import Status
from sessiond.core.wait import WaitStatus, WaitType

T = TypeVar("T")

TYPE: Final = r"^[a-z0-9_]+(\.[a-z0-9_]+)*(\.?\*)?$|^\*$"

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]
Seq = Annotated[int, Meta(ge=0, le=2**63 - 1)]
WAIT_MAX_SECONDS: Final = 300.0  # proxies give up long before
Wait = Annotated[float, Meta(ge=0, le=WAIT_MAX_SECONDS, description="Seconds until the answer, at most.")]

Query = Annotated[str, Meta(description='Words, all of which must be there, and phrases in "quotation marks".')]
SEARCH_MAX: Final = 100  # each is opened and looked through
SearchLimit = Annotated[int, Meta(ge=1, le=SEARCH_MAX)]

INCLUDES: Final = frozenset({"inboxes", "waits"})
"""What a session can be asked for with."""

FILTERS: Final = frozenset(
    {
        *("session_id", "agent_id", "user_id", "task_id", "status"),
        *("created_after", "created_before", "type", "after", "before"),
        *("inbox_id", "active", "q"),
    }
)
"""What narrows a list. Without a value it is refused: an empty variable in a script must not ask for everything."""


class ListSessions(msgspec.Struct, frozen=True, kw_only=True):
    """Beside these, `metadata.<key>=` filters by a value in the metadata."""

    agent_id: list[str] = []
    user_id: list[str] = []
    task_id: list[str] = []
    status: list[Status] = []
    created_after: str | None = None
    created_before: str | None = None
    sort: Annotated[str, Meta(pattern="^(created|updated)$")] = "created"
    order: Annotated[str, Meta(pattern="^(asc|desc)$")] = "desc"
    limit: Limit = PAGE_DEFAULT
    offset: Offset = 0
    cursor: str | None = None
    include: list[str] = []


class ListLog(msgspec.Struct, frozen=True, kw_only=True):
    after: Seq | None = None
    before: Seq | None = None
    order: Annotated[str, Meta(pattern="^(asc|desc)$")] = "asc"
    limit: Limit = LOG_PAGE_DEFAULT
    offset: Offset = 0
    cursor: str | None = None
    include: list[str] = []


class ListMessages(ListLog, frozen=True, kw_only=True):
    q: Query | None = None


class ListEvents(ListLog, frozen=True, kw_only=True):
    type: list[Annotated[str, Meta(max_length=100, extra_json_schema={"pattern": TYPE})]] = []


class GetSession(msgspec.Struct, frozen=True, kw_only=True):
    include: list[str] = []

    def parse(self) -> frozenset[str]:
        """Return what is wanted beside the session; `include` holds names with commas between.

        Raises:
            InvalidInput: a name is not one of `INCLUDES`.
        """
        names = frozenset(name.strip() for names in self.include for name in names.split(",")) - {""}
        if not names <= INCLUDES:
            raise InvalidInput(f"include can be {' and '.join(sorted(INCLUDES))}", field="include")
        return names


class DeleteSession(msgspec.Struct, frozen=True, kw_only=True):
    erase: bool = False


class SearchSession(msgspec.Struct, frozen=True, kw_only=True):
    q: Query
    limit: SearchLimit = PAGE_DEFAULT
    cursor: str | None = None


class SearchMessages(SearchSession, frozen=True, kw_only=True):
    session_id: str | None = None
    agent_id: str | None = None
    user_id: str | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    limit: Limit = PAGE_DEFAULT
    cursor: str | None = None


class ListSessionRuns(msgspec.Struct, frozen=True, kw_only=True):
    agent_id: list[str] = []
    status: list[RunStatus] = []
    order: Annotated[str, Meta(pattern="^(asc|desc)$")] = "desc"
    limit: Limit = PAGE_DEFAULT
    cursor: str | None = None
    include: list[str] = []


class ListRuns(ListSessionRuns, frozen=True, kw_only=True):
    session_id: list[str] = []


class StartRun(msgspec.Struct, frozen=True, kw_only=True):
    wait: Wait = 0.0


class CancelRun(msgspec.Struct, frozen=True, kw_only=True):
    wait: Wait = 2.0


class ListMails(msgspec.Struct, frozen=True, kw_only=True):
    order: Annotated[str, Meta(pattern="^(asc|desc)$")] = "desc"
    limit: Limit = PAGE_DEFAULT
    offset: Offset = 0
    cursor: str | None = None
    include: list[str] = []


class ListInboxes(ListMails, frozen=True, kw_only=True):
    session_id: str | None = None
    active: bool | None = None
    """Whether they take mail."""


class ListExtractions(msgspec.Struct, frozen=True, kw_only=True):
    order: Annotated[str, Meta(pattern="^(asc|desc)$")] = "desc"
    limit: Limit = PAGE_DEFAULT
    cursor: str | None = None


class ListWaits(ListMails, frozen=True, kw_only=True):
    session_id: str | None = None
    inbox_id: str | None = None
    status: WaitStatus | None = None
    type: WaitType | None = None


class WaitFor(msgspec.Struct, frozen=True, kw_only=True):
    wait: Wait = 0.0


class Export(msgspec.Struct, frozen=True, kw_only=True):
    agent_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None


class StreamFrom(msgspec.Struct, frozen=True, kw_only=True):
    after: Seq | None = None
    deltas: bool = False
    """Whether the text of runs is wanted as it is said, too, before it is in the log."""


def check_values(values: list[T], field: str) -> tuple[T, ...]:
    """Return a filter's values, each once.

    Raises:
        InvalidInput: there are too many.
    """
    unique = tuple(dict.fromkeys(values))
    if len(unique) > FILTER_MAX_VALUES:
        raise InvalidInput(f"{field} takes at most {FILTER_MAX_VALUES} values", field=field)
    return unique


def check_types(values: list[str], field: str = "type") -> tuple[str, ...]:
    """Return the types of events that are wanted, each once.

    Raises:
        InvalidInput: one cannot be a type, or there are too many.
    """
    if not all(re.search(TYPE, value) for value in values):
        raise InvalidInput(f"{field} must be a type of event such as message.user, or its beginning and *", field=field)
    return check_values(values, field)


def check_offset(offset: int, cursor: str | None) -> int:
    if offset and cursor is not None:
        raise InvalidInput("send either cursor or offset", field="offset")
    return offset


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of a list by time ends."""

    descending: bool
    at_us: int
    id: str


def place_of(cursor: str | None, *, descending: bool) -> tuple[int, str] | None:
    """Return behind which time and id a list goes on.

    Raises:
        InvalidInput: the cursor is not one of ours, or was made for another order.
    """
    if cursor is None:
        return None
    place = unpack_cursor(cursor, Place)
    if place.descending != descending:
        raise InvalidInput("cursor was made for another order", field="cursor")
    return place.at_us, place.id


def cursor_behind(at_us: int, id: str, *, descending: bool) -> str:
    return pack_cursor(Place(descending, at_us, id))


def wants_total(include: list[str]) -> bool:
    for wanted in include:
        if wanted != "total":
            raise InvalidInput("include can only be total", field="include")
    return bool(include)


def parse_seq(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > SEQ_MAX:
        raise InvalidInput(f"{field} must be the id of an event of this stream, a number", field=field)
    return int(text)
