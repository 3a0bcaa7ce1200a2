"""Waits: for a mail, a code, a link, an approval, an event, a time, a call from outside."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import wraps
from typing import Any, Final, Generic, Literal, overload

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from sessiond.client.call import Call, Page, body_of, headers_of, include_of, path_of, query_of, reads
from sessiond.client.errors import TimedOut, WaitCancelled
from sessiond.client.resource import Async, Iterated, Method, P, Sync

WaitType = Literal["email", "otp", "magic_link", "password_reset", "approval", "event", "timer", "webhook"]

HELD_SECONDS: Final = 60.0  # each asking; proxies cut what is silent for longer
MAIL_SECONDS: Final = 120.0  # mail that takes longer is not coming


class Wait(Struct, frozen=True, kw_only=True):
    """A wait as it was when it was read."""

    id: str
    type: str
    status: str
    """`pending`, `completed`, `timed_out` or `cancelled`."""
    session_id: str | None = None
    inbox_id: str | None = None
    run_id: str | None = None
    user_id: str | None = None
    critical: bool = False
    sender: str | None = field(name="from", default=None)
    subject_contains: str | None = None
    since: datetime | None = None
    events: list[str] = []
    title: str | None = None
    detail: Any = None
    result: dict[str, Any] | None = None
    """What it was completed with; which fields depends on its type."""
    reason: str | None = None
    created_at: datetime
    times_out_at: datetime | None = None
    ended_at: datetime | None = None
    hook_url: str | None = None
    """Completes a wait of type `webhook`: in what `create` returns, and nowhere else."""

    @property
    def ended(self) -> bool:
        return self.status != "pending"


class MailFound(Struct, frozen=True, kw_only=True):
    """What a wait for mail was completed with."""

    mail_id: str
    inbox_id: str
    sender: str = field(name="from")
    subject: str
    received_at: datetime
    value: str | None = None
    """The code."""
    url: str | None = None
    """The link."""
    confidence: float | None = None
    source: str | None = None

    def __str__(self) -> str:
        return self.value or self.url or self.mail_id


def create_wait(
    type: WaitType,
    *,
    session_id: str | None = None,
    inbox_id: str | None = None,
    sender: str | None = None,
    subject_contains: str | None = None,
    since: datetime | None = None,
    events: Sequence[str] | None = None,
    title: str | None = None,
    detail: Any = None,
    timeout_seconds: float | UnsetType | None = UNSET,
    at: datetime | None = None,
    critical: bool | None = None,
    wait_seconds: float | None = None,
    idempotency_key: str | None = None,
) -> Call[Wait]:
    """Make a wait. `wait_seconds`, up to 300, holds the answer back until it has ended.

    Of a wait for mail, `sender` and `subject_contains` are parts of what the mail must have, and `since` is the time
    from which on mails count: from now on unless given. An `event` needs `session_id` and `events`, types or beginnings
    of them with `*`. It times out after `timeout_seconds`: 3,600 unless given, never if None.

    Raises:
        Conflict: the session has ended, or the inbox takes no more mail.
    """
    body = body_of(
        type=type,
        timeout_seconds=msgspec.Raw(b"null") if timeout_seconds is None else timeout_seconds,
        session_id=session_id,
        inbox_id=inbox_id,
        subject_contains=subject_contains,
        since=since,
        events=list(events) if events is not None else None,
        title=title,
        detail=detail,
        at=at,
        critical=critical,
        **{"from": sender},
    )
    return Call(
        method="POST",
        path="/v1/waits",
        query=query_of(wait=wait_seconds),
        body=body,
        headers=headers_of(idempotency_key=idempotency_key),
        held_seconds=wait_seconds or 0.0,
        read=reads(Wait),
    )


def list_waits(
    *,
    session_id: str | None = None,
    inbox_id: str | None = None,
    status: str | None = None,
    type: WaitType | None = None,
    order: Literal["asc", "desc"] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
    include_total: bool = False,
) -> Call[Page[Wait]]:
    """Return a page of waits, the newest first."""
    query = query_of(
        session_id=session_id,
        inbox_id=inbox_id,
        status=status,
        type=type,
        order=order,
        limit=limit,
        offset=offset,
        cursor=cursor,
        include=include_of(total=include_total),
    )
    return Call(method="GET", path="/v1/waits", query=query, read=reads(Page[Wait]))


def get_wait(wait_id: str, *, wait_seconds: float | None = None) -> Call[Wait]:
    """Return a wait: at once, or when it has ended or `wait_seconds`, up to 300, are over.

    Raises:
        NotFound: there is none.
    """
    return Call(
        method="GET",
        path=path_of("waits", wait_id),
        query=query_of(wait=wait_seconds),
        held_seconds=wait_seconds or 0.0,
        read=reads(Wait),
    )


def complete_wait(wait_id: str, result: Mapping[str, Any] | None = None) -> Call[Wait]:
    """Complete an approval with any object.

    Raises:
        Conflict: it has ended, or waits for something else.
    """
    return Call(
        method="POST", path=path_of("waits", wait_id, "complete"), body=body_of(result=result), read=reads(Wait)
    )


def cancel_wait(wait_id: str, *, reason: str | None = None) -> Call[Wait]:
    """Cancel a wait. One that has ended stays as it is."""
    return Call(method="POST", path=path_of("waits", wait_id, "cancel"), body=body_of(reason=reason), read=reads(Wait))


def wait_for_email(
    inbox_id: str | None = None,
    *,
    session_id: str | None = None,
    sender: str | None = None,
    subject_contains: str | None = None,
    since: datetime | None = None,
    timeout_seconds: float = MAIL_SECONDS,
) -> Call[Wait]:
    """Wait for a mail to an inbox, or to any inbox of a session. Otherwise as `wait_for_otp`."""
    terms = _Terms(inbox_id, session_id, sender, subject_contains, since, timeout_seconds)
    return create_wait("email", **terms.fields())


def wait_for_otp(
    inbox_id: str | None = None,
    *,
    session_id: str | None = None,
    sender: str | None = None,
    subject_contains: str | None = None,
    since: datetime | None = None,
    timeout_seconds: float = MAIL_SECONDS,
) -> Call[Wait]:
    """Wait for a mail with a code to an inbox, or to any inbox of a session, and return it; the code is its `value`.

    `sender` and `subject_contains` are parts of what it must have. Mails count that come from now on, or that came at
    `since` or later.

    Raises:
        TimedOut: none came in `timeout_seconds`.
        WaitCancelled: the session or the inbox has ended.
    """
    terms = _Terms(inbox_id, session_id, sender, subject_contains, since, timeout_seconds)
    return create_wait("otp", **terms.fields())


def wait_for_magic_link(
    inbox_id: str | None = None,
    *,
    session_id: str | None = None,
    sender: str | None = None,
    subject_contains: str | None = None,
    since: datetime | None = None,
    timeout_seconds: float = MAIL_SECONDS,
) -> Call[Wait]:
    """Wait for a mail with a link to sign in; that is its `url`. Otherwise as `wait_for_otp`."""
    terms = _Terms(inbox_id, session_id, sender, subject_contains, since, timeout_seconds)
    return create_wait("magic_link", **terms.fields())


def wait_for_password_reset(
    inbox_id: str | None = None,
    *,
    session_id: str | None = None,
    sender: str | None = None,
    subject_contains: str | None = None,
    since: datetime | None = None,
    timeout_seconds: float = MAIL_SECONDS,
) -> Call[Wait]:
    """Wait for a mail with a link to set a password; that is its `url`. Otherwise as `wait_for_otp`."""
    terms = _Terms(inbox_id, session_id, sender, subject_contains, since, timeout_seconds)
    return create_wait("password_reset", **terms.fields())


class WaitedFor(Generic[P]):
    """A call that makes a wait for mail, as a method that returns what it was completed with, once it was."""

    def __init__(self, make: Callable[P, Call[Wait]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, resource: None, owner: type | None = None) -> Callable[P, Call[Wait]]: ...
    @overload
    def __get__(self, resource: Waits, owner: type | None = None) -> Callable[P, MailFound]: ...
    @overload
    def __get__(
        self, resource: AsyncWaits, owner: type | None = None
    ) -> Callable[P, Coroutine[Any, Any, MailFound]]: ...

    def __get__(self, resource: Waits | AsyncWaits | None, owner: type | None = None) -> Any:
        make = self._make
        if resource is None:
            return make
        if isinstance(resource, Waits):

            @wraps(make)
            def method(*args: P.args, **kwargs: P.kwargs) -> MailFound:
                return _found(resource.wait_for(resource._carrier.send(make(*args, **kwargs)).id))

            return method

        @wraps(make)
        async def async_method(*args: P.args, **kwargs: P.kwargs) -> MailFound:
            return _found(await resource.wait_for((await resource._carrier.send(make(*args, **kwargs))).id))

        return async_method


class WaitCalls:
    """What both clients can do with waits."""

    create = Method(create_wait)
    list = Method(list_waits)
    iterate = Iterated(list_waits)
    get = Method(get_wait)
    complete = Method(complete_wait)
    cancel = Method(cancel_wait)
    wait_for_email = WaitedFor(wait_for_email)
    wait_for_otp = WaitedFor(wait_for_otp)
    wait_for_magic_link = WaitedFor(wait_for_magic_link)
    wait_for_password_reset = WaitedFor(wait_for_password_reset)


class Waits(Sync, WaitCalls):
    """`client.waits`."""

    def wait_for(self, wait_id: str) -> Wait:
        """Return a wait when it is completed, however long that takes: it times out by itself.

        Raises:
            TimedOut: it has timed out.
            WaitCancelled: it was cancelled.
        """
        while not (wait := self.get(wait_id, wait_seconds=HELD_SECONDS)).ended:
            pass
        return _completed(wait)


class AsyncWaits(Async, WaitCalls):
    """`client.waits`."""

    async def wait_for(self, wait_id: str) -> Wait:
        """Return as `Waits.wait_for`."""
        while not (wait := await self.get(wait_id, wait_seconds=HELD_SECONDS)).ended:
            pass
        return _completed(wait)


class _Terms(Struct, frozen=True):
    """What mail is waited for, and for how long."""

    inbox_id: str | None
    session_id: str | None
    sender: str | None
    subject_contains: str | None
    since: datetime | None
    timeout_seconds: float

    def fields(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self)


def _completed(wait: Wait) -> Wait:
    if wait.status == "timed_out":
        raise TimedOut(f"the wait {wait.id} for {wait.type} has timed out")
    if wait.status == "cancelled":
        raise WaitCancelled(f"the wait {wait.id} for {wait.type} was cancelled: {wait.reason or 'no reason given'}")
    return wait


def _found(wait: Wait) -> MailFound:
    return msgspec.convert(wait.result, MailFound)
