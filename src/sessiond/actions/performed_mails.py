"""The inboxes, mails and waits of a recorded session while it is run again: made, filled and ended once more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec

from sessiond.actions import inboxes, mails, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.performed_runs import WAIT_MAX_SECONDS
from sessiond.core.event import Event
from sessiond.core.ids import SessionId
from sessiond.core.inbox import NewInbox
from sessiond.core.metadata import JsonObject, pack_metadata
from sessiond.core.wait import NewWait, Terms, Wait, WaitType

RECEIVE_MAIL: Final = "receive_mail"

_MARGIN_SECONDS: Final = 10.0  # the sweeper looks once a second, and the machine may be busy
_TERMS: Final = frozenset(Terms.__struct_fields__)

Act = Callable[[Event, JsonObject], Coroutine[Any, Any, JsonObject]]
"""Does a step again, given its event and what that says, and returns what replay shows of its output."""


class CannotBeDone(Exception):  # a sentence, as a `SessiondError` has one
    """A step cannot be done again; the message says why."""


class Mailing:
    """What a recording has of mail, done again in another session."""

    def __init__(
        self,
        call: Callable[[], Call],
        read_mail: Callable[[str], Awaitable[bytes | None]],
        *,
        session_id: SessionId,
        domain: str,
        renamed: dict[str, str],
        waits: dict[str, str],
    ) -> None:
        """`renamed` and `waits` are told what the recorded ids and addresses, and those of waits, are now."""
        self._call = call
        self._read_mail = read_mail
        self._session_id = session_id
        self._domain = domain
        self._renamed = renamed
        self._waits = waits
        self._inboxes = dict[str, str]()
        self._arrivals = list[tuple[int, int]]()
        """When each mail came, then and now."""
        self.hooks = dict[str, str]()
        """What stands in the URLs of waits, by their recorded ids."""
        self.longest_seconds = dict[str, float]()
        """How long waits may last that end by themselves, by their recorded ids."""
        self.acts: Final[Mapping[str, Act]] = {
            "create_inbox": self._create_inbox,
            "delete_inbox": self._delete_inbox,
            RECEIVE_MAIL: self._receive_mail,
            "create_wait": self._create_wait,
            "complete_wait": self._complete_wait,
            "cancel_wait": self._cancel_wait,
        }

    async def _create_inbox(self, _event: Event, body: JsonObject) -> JsonObject:
        said = body.get("input", {})
        new = NewInbox(
            session_id=self._session_id,
            purpose=said.get("purpose"),
            metadata=pack_metadata(said.get("metadata")),
            ttl_seconds=said.get("ttl_seconds"),
        )
        made = await inboxes.create(self._call(), new, itself, domain=self._domain)
        self._inboxes[body["inbox_id"]] = made.id
        self._renamed |= {body["inbox_id"]: made.id, body["address"]: made.address}
        return {"id": made.id}

    async def _delete_inbox(self, _event: Event, body: JsonObject) -> JsonObject:
        gone = await inboxes.delete(self._call(), self._inbox(body["inbox_id"]), itself)
        return {"id": gone.id}

    async def _receive_mail(self, event: Event, body: JsonObject) -> JsonObject:
        raw = await self._read_mail(body["mail_id"])
        if raw is None:
            raise CannotBeDone("the mail is gone")
        mail = await mails.receive(self._call(), self._inbox(body["inbox_id"]), raw, itself)
        self._renamed[body["mail_id"]] = mail.id
        self._arrivals.append((event.created_at_us, mail.received_at_us))
        return {"id": mail.id}

    async def _create_wait(self, _event: Event, body: JsonObject) -> JsonObject:
        said, inbox_id = body.get("input", {}), body.get("inbox_id")
        terms = msgspec.convert({name: each for name, each in said.items() if name in _TERMS}, Terms)
        if terms.since_us is not None:
            terms = msgspec.structs.replace(terms, since_us=self._since(terms.since_us))
        new = NewWait(
            type=WaitType(body["type"]),
            session_id=self._session_id,
            inbox_id=self._inbox(inbox_id) if inbox_id is not None else None,
            timeout_seconds=said.get("timeout_seconds"),
            critical=said.get("critical", False),
            terms=terms,
        )
        made = await waits.create(self._call(), new, itself)
        self._waits[body["wait_id"]] = self._renamed[body["wait_id"]] = made.wait.id
        longest_seconds = (new.timeout_seconds or 0.0) + _MARGIN_SECONDS
        self.longest_seconds[body["wait_id"]] = min(longest_seconds, WAIT_MAX_SECONDS)
        if made.hook is not None:
            self.hooks[body["wait_id"]] = made.hook
        return {"id": made.wait.id}

    async def _complete_wait(self, _event: Event, body: JsonObject) -> JsonObject:
        result = body.get("input", {}).get("result")
        if not isinstance(result, dict) or result.keys() == {"shortened", "bytes"}:
            raise CannotBeDone("the recording has only the beginning of the result")
        return _told(await waits.complete(self._call(), self._wait(body["wait_id"]), result, itself))

    async def _cancel_wait(self, _event: Event, body: JsonObject) -> JsonObject:
        wait_id = self._wait(body["wait_id"])
        return _told(await waits.cancel(self._call(), wait_id, itself, reason=body.get("reason")))

    def _since(self, recorded_us: int) -> int:
        """Return the time now since which the same mails count as then."""
        before = [now_us for then_us, now_us in self._arrivals if then_us < recorded_us]
        return max(before) + 1 if before else 0

    def _inbox(self, recorded_id: str) -> str:
        if recorded_id not in self._inboxes:
            raise CannotBeDone("its inbox is not of this session, or was not made again")
        return self._inboxes[recorded_id]

    def _wait(self, recorded_id: str) -> str:
        if recorded_id not in self._waits:
            raise CannotBeDone("its wait is not of this session, or was not made again")
        return self._waits[recorded_id]


def _told(wait: Wait) -> JsonObject:
    return {"id": wait.id, "status": wait.status}
