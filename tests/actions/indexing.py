"""Indexing and searching for the tests, without a sweeper: when it happens is the test's to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sessiond.actions import search
from sessiond.actions.call import Call
from sessiond.actions.indexing import START, Indexer
from sessiond.actions.search import FoundPage, Place, Wanted
from sessiond.core.caller import Caller
from sessiond.core.ids import WorkspaceId
from sessiond.core.message import unpack_message
from sessiond.core.search import text_in
from sessiond.storage import search as rows
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import HERE, ME
from tests.storage.making import query


async def index_all(engine: Engine, *, name: str = "test") -> int:
    """Index until nothing is left to be indexed; return how many events that were."""
    indexer, total = Indexer(engine, name=name), 0
    while True:
        indexed, behind, done = 0, START, False
        while not done:
            looked = await indexer.look(behind)
            if looked.tails:
                indexed += await indexer.index(looked.tails)
                while await indexer.merge(looked.tails[0].workspace_id):
                    pass
            behind, done = looked.behind, looked.done
        if not indexed:
            return total
        total += indexed


async def clean_all(engine: Engine, *, kept_us: int = 0) -> None:
    """Write anew what has messages that are gone, and remove what was written before."""
    indexer, behind = Indexer(engine, name="test"), ("", 0)
    while (cleaned := await indexer.clean(behind)) is not None:
        behind = cleaned

    async def sweep(tx: Tx) -> int:
        return await rows.sweep(tx, now_us=2**60, kept_us=kept_us)

    while await engine.write(sweep):
        pass


async def drop(engine: Engine, session_id: str, *, workspace: WorkspaceId = HERE, limit: int = 3) -> int:
    """Remove a session from the index, a piece at a time; return how many pieces that took."""

    async def remove(tx: Tx) -> int:
        return await rows.remove_some(tx, workspace, session_id, limit=limit)

    pieces = 1
    while await engine.write(remove):
        pieces += 1
    return pieces


async def look_for(
    engine: Engine, asked: str, *, by: Caller = ME, limit: int = 100, behind: Place | None = None, **where: Any
) -> FoundPage:
    return await search.read_page(Call(engine, by), Wanted(query=asked, **where), behind=behind, limit=limit)


async def page_through(engine: Engine, asked: str, *, limit: int, **where: Any) -> list[tuple[str, int]]:
    """Return what is found, page after page, as sessions and seqs."""
    found: list[tuple[str, int]] = []
    behind: Place | None = None
    while True:
        page = await look_for(engine, asked, limit=limit, behind=behind, **where)
        assert len(page.found) <= limit
        found += places(page)
        if page.next is None:
            return found
        assert behind is None or page.next < behind
        behind = page.next


def places(page: FoundPage) -> list[tuple[str, int]]:
    return [(each.message.session_id, each.message.seq) for each in page.found]


def texts(page: FoundPage) -> list[str]:
    return [text_in(unpack_message(each.message.body).content) for each in page.found]


async def tokens_of(database: str) -> Sequence[Any]:
    """Return what the database has of the index, whatever it is of."""
    return await query(
        database, "select workspace_id, entries from search_postings order by workspace_id, segment, bucket"
    )
