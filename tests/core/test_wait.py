"""Waits: what may be waited for, and which mails are what is waited for."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from sessiond.core.errors import InvalidInput, SessiondError, TooLarge
from sessiond.core.extraction import Extraction, ExtractionType, Source
from sessiond.core.ids import WorkspaceId
from sessiond.core.mail import Envelope, Mail
from sessiond.core.wait import (
    PENDING,
    TIMEOUT_MAX_SECONDS,
    TYPES_MAX,
    NewWait,
    Terms,
    Wait,
    WaitStatus,
    WaitType,
    find_in,
)

NOW: Final = 1_700_000_000_000_000
OTP: Final = Extraction(type=ExtractionType.OTP, value="482913", confidence=0.9, source=Source.TEXT)
LINK: Final = Extraction(
    type=ExtractionType.MAGIC_LINK, url="https://example.org/in", confidence=0.8, source=Source.HTML
)


def make_wait(type: WaitType = WaitType.EMAIL, *, terms: Terms | None = None, **said: Any) -> Wait:
    fields: dict[str, Any] = dict.fromkeys(Wait.__struct_fields__)
    fields |= {"workspace_id": WorkspaceId("here"), "id": "wait_1", "type": type, "status": PENDING, "critical": False}
    fields |= {"terms": msgspec.json.encode(terms or Terms()), "actor": "key_1", "created_at_us": NOW}
    return Wait(**(fields | said))


def make_mail(*extractions: Extraction, received_at_us: int = NOW, **said: Any) -> Mail:
    envelope = Envelope(
        sender="noreply@shop.example",
        sender_name=None,
        recipients=["a@localhost"],
        subject="Your Code",
        message_id=None,
        sent_at_us=None,
    )
    return Mail(
        workspace_id=WorkspaceId("here"),
        id="msg_1",
        inbox_id="inb_1",
        session_id=None,
        user_id=None,
        received_at_us=received_at_us,
        size=3,
        envelope=msgspec.structs.replace(envelope, **said),
        extractions=list(extractions),
    )


REFUSED: Final[list[tuple[dict[str, Any], type[SessiondError], str]]] = [
    ({"type": WaitType.TIMER}, InvalidInput, "timeout_seconds"),
    ({"type": WaitType.TIMER, "timeout_seconds": 0}, InvalidInput, "timeout_seconds"),
    ({"type": WaitType.APPROVAL, "timeout_seconds": -1}, InvalidInput, "timeout_seconds"),
    ({"type": WaitType.APPROVAL, "timeout_seconds": float("nan")}, InvalidInput, "timeout_seconds"),
    ({"type": WaitType.APPROVAL, "timeout_seconds": TIMEOUT_MAX_SECONDS + 1}, InvalidInput, "timeout_seconds"),
    ({"type": WaitType.EVENT}, InvalidInput, "events"),
    ({"type": WaitType.EVENT, "terms": Terms(events=["a"] * (TYPES_MAX + 1))}, TooLarge, "events"),
    ({"type": WaitType.EVENT, "terms": Terms(events=["a" * 101])}, TooLarge, "events"),
    ({"type": WaitType.EVENT, "terms": Terms(events=["a\0"])}, InvalidInput, "events"),
    ({"type": WaitType.OTP}, InvalidInput, "inbox_id"),
    ({"type": WaitType.APPROVAL, "inbox_id": "inb_1"}, InvalidInput, "no inbox"),
    ({"type": WaitType.EMAIL, "inbox_id": "i", "terms": Terms(sender="a\n")}, InvalidInput, "from"),
    ({"type": WaitType.EMAIL, "inbox_id": "i", "terms": Terms(subject_contains="x" * 1_001)}, TooLarge, "subject"),
    ({"type": WaitType.APPROVAL, "terms": Terms(title="\ud800")}, InvalidInput, "title"),
    ({"type": WaitType.APPROVAL, "terms": Terms(detail="x" * 65 * 1024)}, TooLarge, "detail"),
    ({"type": WaitType.APPROVAL, "user_id": "\0"}, InvalidInput, "user_id"),
]


@pytest.mark.parametrize(("said", "error", "field"), REFUSED)
def test_what_nothing_could_end_is_refused(said: dict[str, Any], error: type[SessiondError], field: str) -> None:
    with pytest.raises(error, match=field):
        NewWait(**said).checked()


def test_a_detail_is_not_nested_without_end() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]

    with pytest.raises(InvalidInput, match="nested"):
        NewWait(type=WaitType.APPROVAL, terms=Terms(detail=deep)).checked()


@pytest.mark.parametrize(
    "new",
    [
        NewWait(type=WaitType.TIMER, timeout_seconds=0.001),
        NewWait(type=WaitType.TIMER, timeout_seconds=TIMEOUT_MAX_SECONDS),
        NewWait(type=WaitType.APPROVAL, terms=Terms(title="pay?", detail={"eur": 9})),
        NewWait(type=WaitType.WEBHOOK),
        NewWait(type=WaitType.EVENT, session_id="s", terms=Terms(events=["message.*"])),
        NewWait(type=WaitType.OTP, session_id="s"),
        NewWait(type=WaitType.EMAIL, inbox_id="inb_1"),
    ],
)
def test_these_can_be_waited_for(new: NewWait) -> None:
    assert new.checked() is new


@pytest.mark.parametrize("status", WaitStatus)
def test_a_wait_has_ended_unless_it_is_pending(status: WaitStatus) -> None:
    assert make_wait(status=status).ended == (status is not PENDING)


@pytest.mark.parametrize(
    ("terms", "matches"),
    [
        (Terms(), True),
        (Terms(sender="SHOP.example"), True),
        (Terms(sender="noreply@shop.example"), True),
        (Terms(sender="<noreply@"), True),
        (Terms(sender="none"), False),
        (Terms(subject_contains="your code"), True),
        (Terms(subject_contains="invoice"), False),
        (Terms(sender="shop", subject_contains="invoice"), False),
        (Terms(since_us=NOW), True),
        (Terms(since_us=NOW + 1), False),
    ],
)
def test_a_mail_must_be_what_the_terms_say(terms: Terms, matches: bool) -> None:
    assert (find_in(make_wait(terms=terms), make_mail()) is not None) == matches


def test_a_sender_is_found_by_name_too() -> None:
    wait = make_wait(terms=Terms(sender="straße"))

    assert find_in(wait, make_mail(sender_name="Die STRASSE")) is not None


def test_a_mail_to_another_inbox_is_not_waited_for() -> None:
    assert find_in(make_wait(inbox_id="inb_2"), make_mail()) is None
    assert find_in(make_wait(inbox_id="inb_1"), make_mail()) is not None


def test_a_mail_that_came_while_it_waited_counts_whatever_two_clocks_say() -> None:
    assert find_in(make_wait(), make_mail(received_at_us=NOW - 1)) is not None


def test_what_was_extracted_is_found_by_its_type() -> None:
    mail = make_mail(LINK, OTP)

    code, link = find_in(make_wait(WaitType.OTP), mail), find_in(make_wait(WaitType.MAGIC_LINK), mail)

    assert code is not None
    assert link is not None
    assert (code.value, code.url, code.confidence, code.source) == ("482913", None, 0.9, "text")
    assert (link.value, link.url) == (None, "https://example.org/in")
    assert find_in(make_wait(WaitType.PASSWORD_RESET), mail) is None
    assert find_in(make_wait(WaitType.OTP), make_mail()) is None
