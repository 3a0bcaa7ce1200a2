"""Inboxes: until when they take mail, and what may be said of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sessiond.core.errors import InvalidInput, SessiondError, TooLarge
from sessiond.core.ids import WorkspaceId
from sessiond.core.inbox import TTL_MAX_SECONDS, Inbox, NewInbox


def make_inbox(**said: Any) -> Inbox:
    fields: dict[str, Any] = dict.fromkeys(Inbox.__struct_fields__)
    fields |= {"workspace_id": WorkspaceId("here"), "id": "inb_1", "address": "a@localhost", "actor": "key_1"}
    return Inbox(**(fields | {"mail_count": 0, "mail_bytes": 0, "created_at_us": 1} | said))


def test_an_inbox_takes_mail_until_its_time_is_over() -> None:
    inbox = make_inbox(expires_at_us=10)

    assert inbox.takes_mail(9)
    assert not inbox.takes_mail(10)
    assert make_inbox().takes_mail(2**62)


def test_an_inbox_whose_end_was_noticed_takes_none_whatever_the_clock_says() -> None:
    assert not make_inbox(expires_at_us=10, expired_at_us=11).takes_mail(9)


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (NewInbox(ttl_seconds=0), InvalidInput),
        (NewInbox(ttl_seconds=-5), InvalidInput),
        (NewInbox(ttl_seconds=TTL_MAX_SECONDS + 1), InvalidInput),
        (NewInbox(purpose="a\0b"), InvalidInput),
        (NewInbox(user_id="\ud800"), InvalidInput),
        (NewInbox(purpose="x" * 1_001), TooLarge),
    ],
)
def test_what_cannot_be_said_of_an_inbox_is_refused(new: NewInbox, error: type[SessiondError]) -> None:
    with pytest.raises(error):
        new.checked()


def test_what_can_be_said_stays_as_it_is() -> None:
    new = NewInbox(purpose="to sign up", ttl_seconds=TTL_MAX_SECONDS, user_id="u")

    assert new.checked() == msgspec.structs.replace(new)
