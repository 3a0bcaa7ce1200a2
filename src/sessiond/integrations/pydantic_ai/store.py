"""The framework's own interface for stores of conversations, over sessions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from pydantic import TypeAdapter
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from sessiond.client import AsyncClient, Client, Conflict, Found, FoundPage, Message, NotFound, Page, PreconditionFailed
from sessiond.client.sessions import Session
from sessiond.integrations.log import BATCH, PAGE, TRIES, Asker, Log, settled
from sessiond.integrations.pydantic_ai.shapes import MARK, as_entries, entry_messages, link_of

SCOPE: Final = "pydantic_ai_scope"
"""The key of a session's metadata that has its record's scope, to find it by.

`MARK` is the key of its data that has the record, as JSON, and of its metadata that says that it has one.
"""

FEW: Final = 50
SEARCH_PAGES_MAX: Final = 100  # for one entry, which is in one message and, where it was forked, in a few
SEARCH_WORDS_MAX: Final = 32
SEARCH_PAUSES_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # when so much was just said that it is not all indexed
SCOPE_MAX_BYTES: Final = 512  # longer values of metadata are kept, and not found by
PLACES_MAX: Final = 10_000

_records: Final = TypeAdapter(ConversationRecord)


class SessiondConversationStore(ConversationStore):
    """Conversations, each a session of that id: its entries are messages, its record is in the session's `data`.

    A record and its new entries are one transaction. A fork copies the entries before it into its own session, under
    their ids, and so needs nothing of the conversation that it was made from: `delete` removes a conversation with all
    that was ever said in it, branches too, and no other loses anything.

    A conversation's id must be one of a session: up to 200 characters, without a slash. What others add to the session
    is no part of the conversation.
    """

    def __init__(self, client: Client | AsyncClient) -> None:
        """A `Client` may be used from any number of threads and event loops, an `AsyncClient` on one loop."""
        self._asker = Asker(client)
        self._ask = self._asker.ask
        self._client = client
        self._places: dict[str, str] = {}
        """In which session the end of a history is, of records that were read or written. Others are searched for."""

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, or None."""
        session = await self._find(conversation_id)
        return self._record_of(session) if session is not None else None

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        """Return records, or those of a scope, the last saved first; at most `limit`.

        With a limit they are the last by the server's clock, in the order of `updated_at`.
        """
        records = list[ConversationRecord]()
        metadata: dict[str, str | float | bool] = {MARK: True}
        if scope is not None and len(scope.encode()) <= SCOPE_MAX_BYTES and "\0" not in scope:
            metadata[SCOPE] = scope
        cursor: str | None = None
        while limit is None or len(records) < limit:
            page: Page[Session] = await self._ask(
                self._client.sessions.list,
                metadata=metadata,
                sort="updated",
                order="desc",
                limit=100 if limit is None else min(100, limit),
                cursor=cursor,
            )
            found = [record for session in page.data if (record := self._record_of(session)) is not None]
            records += [record for record in found if scope is None or record.scope == scope]
            cursor = page.next_cursor
            if cursor is None:
                break
        return sorted(records[:limit], key=lambda record: record.updated_at, reverse=True)

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Write a record and its new entries where the stored one has `expected_revision`; None: where there is none.

        Up to 1,000 entries are written in the transaction of the record. Of more, the first stay, unseen, if it fails.

        Raises:
            ConversationConflict: another revision is stored, or the head's history is not.
            Conflict: the session has ended.
        """
        await settled(self._write(record, new_entries, expected_revision))

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete the conversation's session, and with it all its entries. Forks have copies of theirs.

        Raises:
            ConversationConflict: there is no record of that revision.
        """
        await settled(self._delete(conversation_id, expected_revision))

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry. It is searched for among all messages that the key may see.

        Raises:
            LookupError: there is none.
        """
        return (await self._search(entry_id))[1]

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """Return the entries up to `head_id`, or the last `limit` of them, the oldest first.

        Raises:
            LookupError: one of them is not there.
        """
        if head_id is None or limit == 0:
            return []
        if (place := self._places.get(head_id)) is not None:
            history = await self._read_chain(place, head_id, limit)
            if history is not None:
                return history
        place, _ = await self._search(head_id)
        history = await self._read_chain(place, head_id, limit)
        if history is None:
            raise LookupError(f"the history of entry {head_id!r} is not complete")
        return history

    async def _write(
        self, record: ConversationRecord, new_entries: Sequence[ConversationEntry], expected: str | None
    ) -> None:
        for _ in range(TRIES):
            session, stored = await self._read_expected(record.conversation_id, expected)
            entries = [*await self._missing(record, new_entries, stored, session), *new_entries]
            if len(entries) > BATCH:
                # Entries that no record names are seen by nobody.
                await Log(self._asker, record.conversation_id).append(entry_messages(entries[:-BATCH]))
                session, _ = await self._read_expected(record.conversation_id, expected)
                entries = entries[-BATCH:]
            if await self._try_to_write(record, entries, session):
                self._remember(record)
                return
        raise ConversationConflict(record.conversation_id)

    async def _try_to_write(
        self, record: ConversationRecord, entries: Sequence[ConversationEntry], session: Session | None
    ) -> bool:
        """Write to the session as it was read; False: it is another by now."""
        conversation_id, messages = record.conversation_id, entry_messages(entries)
        data = {MARK: _records.dump_json(record).decode()}
        metadata = {MARK: True} | ({SCOPE: record.scope} if record.scope is not None else {})
        sessions = self._client.sessions
        try:
            if session is None:
                await self._ask(sessions.create, id=conversation_id, data=data, metadata=metadata, messages=messages)
                return True
            if any(session.metadata.get(name) != value for name, value in metadata.items()):
                session = await self._ask(sessions.update, conversation_id, metadata=metadata, if_match=session.etag)
            if messages:
                append = self._client.messages.append_batch
                await self._ask(append, conversation_id, messages, data=data, start_run=False, if_match=session.etag)
            else:
                await self._ask(sessions.update, conversation_id, data=data, if_match=session.etag)
        except (PreconditionFailed, NotFound):
            return False
        except Conflict:
            if session is not None:
                raise
            return False
        return True

    async def _missing(
        self,
        record: ConversationRecord,
        new_entries: Sequence[ConversationEntry],
        stored: ConversationRecord | None,
        session: Session | None,
    ) -> Sequence[ConversationEntry]:
        """Return the entries before the new ones that the conversation's session has not: those of another, of a fork.

        Raises:
            ConversationConflict: nobody has them.
        """
        parents = {entry.id: entry.parent_id for entry in new_entries}
        root = record.head_id
        while root in parents:
            root = parents.pop(root)
        if root is None or (stored is not None and root in (stored.head_id, *stored.branches)):
            return []
        if session is not None and await self._read_chain(session.id, root, 1) is not None:
            return []
        try:
            return await self.read_history(root)
        except LookupError:
            raise ConversationConflict(record.conversation_id) from None

    async def _delete(self, conversation_id: str, expected: str) -> None:
        for _ in range(TRIES):
            session, _ = await self._read_expected(conversation_id, expected)
            if session is None:
                break
            try:
                return await self._ask(self._client.sessions.delete, conversation_id, if_match=session.etag)
            except (PreconditionFailed, NotFound):
                continue
        raise ConversationConflict(conversation_id)

    async def _read_expected(
        self, conversation_id: str, expected: str | None
    ) -> tuple[Session | None, ConversationRecord | None]:
        """Return a conversation's session and record, as they are now.

        Raises:
            ConversationConflict: the record is of another revision; None: there is one.
        """
        session = await self._find(conversation_id)
        stored = self._record_of(session) if session is not None else None
        if (stored.revision if stored is not None else None) != expected:
            raise ConversationConflict(conversation_id)
        return session, stored

    async def _find(self, conversation_id: str) -> Session | None:
        try:
            return await self._ask(self._client.sessions.get, conversation_id)
        except NotFound:
            return None

    def _record_of(self, session: Session) -> ConversationRecord | None:
        kept = session.data.get(MARK)
        if not isinstance(kept, str):
            return None
        record = _records.validate_json(kept)
        self._remember(record)
        return record

    def _remember(self, record: ConversationRecord) -> None:
        if len(self._places) > PLACES_MAX:
            self._places.clear()
        for entry_id in (record.head_id, *record.branches):
            if entry_id is not None:
                self._places[entry_id] = record.conversation_id

    async def _read_chain(self, session_id: str, head_id: str, limit: int | None) -> list[ConversationEntry] | None:
        """Return the entries up to `head_id` of a session, the last `limit` of them; None: they are not all in it."""
        chain, wanted = list[Message](), head_id
        cursor: str | None = None
        while True:
            try:
                page: Page[Message] = await self._ask(
                    self._client.messages.list,
                    session_id,
                    order="desc",
                    limit=PAGE if limit is None else min(PAGE, max(limit, FEW)),
                    cursor=cursor,
                )
            except NotFound:
                return None
            for message in page.data:  # from the last to the first: an entry stands behind the one that it follows
                entry_id, parent_id = link_of(message)
                if entry_id != wanted:
                    continue
                chain.append(message)
                if parent_id is None or len(chain) == limit:
                    return as_entries(chain[::-1])
                wanted = parent_id
            cursor = page.next_cursor
            if cursor is None:
                return None

    async def _search(self, entry_id: str) -> tuple[str, ConversationEntry]:
        """Return an entry, and the session that it is in.

        Raises:
            LookupError: there is none, or none is found yet: the server has not come to it for seconds.
        """
        words = re.findall(r"\w+", entry_id)
        if not 0 < len(words) <= SEARCH_WORDS_MAX:
            raise LookupError(f"there is no entry {entry_id!r}")
        for pause_seconds in SEARCH_PAUSES_SECONDS:
            found, complete = await self._search_once(entry_id, f'"{" ".join(words)}"')
            if found is not None:
                return found.session_id, as_entries([found])[0]
            if complete:
                raise LookupError(f"there is no entry {entry_id!r}")
            await asyncio.sleep(pause_seconds)
        raise LookupError(f"the server is still indexing, and has found no entry {entry_id!r}")

    async def _search_once(self, entry_id: str, q: str) -> tuple[Found | None, bool]:
        """Return the message that is an entry, and whether all messages were looked through for it."""
        cursor: str | None = None
        complete = True
        for _ in range(SEARCH_PAGES_MAX):
            page: FoundPage = await self._ask(self._client.messages.search, q, limit=100, cursor=cursor)
            for found in page.data:
                if link_of(found)[0] == entry_id:
                    return found, True
            complete = complete and page.complete
            cursor = page.next_cursor
            if cursor is None:
                break
        return None, complete
