"""One client's connection, and those who mean it no good."""

from __future__ import annotations

import gc
import logging
import socket
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.mail import smtp
from sessiond.mail.smtp import COMMANDS_MAX, ERRORS_MAX, Content
from tests.mail.receiving import (
    INBOX,
    LOOPS,
    Client,
    Inboxes,
    Listening,
    connect,
    listening,
    wait_until,
)

MIB = 1024 * 1024
SMUGGLED = b"MAIL FROM:<evil@there>\r\nRCPT TO:<two@mail.example>\r\nDATA\r\nsmuggled\r\n.\r\n"


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def listener(loop: str) -> Iterator[Listening]:
    with listening(loop) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_loud(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever clients do is no warning."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n\n.\r\n", b"\r\n\x00.\n", b"\r.\n"]
)
@pytest.mark.parametrize("in_pieces", [True, False])
def test_no_other_end_than_crlf_dot_crlf_ends_a_mail_and_such_a_mail_is_refused(
    listener: Listening, end: bytes, in_pieces: bool
) -> None:
    with connect(listener) as client:
        client.begin()
        said = b"Subject: hello\r\n\r\nhello" + end + SMUGGLED
        for piece in (said[at : at + 1] for at in range(len(said))) if in_pieces else [said]:
            client.say(piece)
        assert client.hear().startswith("554 5.6.0")
        assert client.ask(b"NOOP").startswith("250")

    assert listener.mails == []


@pytest.mark.parametrize("alone", [b"a\nb", b"a\rb", b"\n", b"\r", b"a\r\r\nb", b"a\n\r\nb", b"a\r\n\rb"])
def test_a_mail_with_a_lone_cr_or_lf_is_refused(listener: Listening, alone: bytes) -> None:
    with connect(listener) as client:
        client.begin()
        client.say(alone + b"\r\n.\r\n")
        assert client.hear().startswith("554 5.6.0")

    assert listener.mails == []


def test_a_line_of_one_dot_more_is_text(listener: Listening) -> None:
    with connect(listener) as client:
        client.begin()
        client.say(b"..\r\n...\r\n.\0\r\n. \r\n.x\r\n" + SMUGGLED)
        assert client.hear().startswith("250")

    assert [mail.raw for mail in listener.mails] == [
        b".\r\n..\r\n\0\r\n \r\nx\r\n" + SMUGGLED.removesuffix(b".\r\n"),
    ]


def test_what_stands_behind_the_end_is_the_next_command(listener: Listening) -> None:
    with connect(listener) as client:
        client.begin()
        client.say(b"one\r\n.\r\n" + SMUGGLED + b"NOOP\r\n")
        assert [client.hear()[:3] for _ in range(6)] == ["250", "250", "250", "354", "250", "250"]

    assert [(mail.sender, mail.raw) for mail in listener.mails] == [
        ("you@there", b"one\r\n"),
        ("evil@there", b"smuggled\r\n"),
    ]


@given(
    lines=st.lists(st.sampled_from([b"", b".", b"..", b"x", b".x", b"\r\r", b"x\n", b"x.", b"\0"]), max_size=8),
    cuts=st.lists(st.integers(0, 40), max_size=8),
)
def test_a_mail_is_the_same_in_whatever_pieces_it_comes(lines: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(line + b"\r\n" for line in lines)
    sent = b"\r\n" + b"".join((b"." + line if line[:1] == b"." else line) + b"\r\n" for line in lines)
    content = Content()

    at = 0
    for cut in [*sorted(cuts), len(sent)]:
        content.add(sent[at : max(at, cut)])
        at = max(at, cut)

    assert content.ambiguous == any(byte in raw.replace(b"\r\n", b"") for byte in b"\r\n")
    assert content.size == len(raw)
    assert content.finish() == raw


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"EHLO x\n", "500 5.5.2"),
        (b"EHLO x\rNOOP\r\n", "500 5.5.2"),
        (b"EHLO \xff\r\n", "500 5.5.2"),
        (b"EHLO \x00\r\n", "500 5.5.2"),
        (b"EHLO \x1b[31m\r\n", "500 5.5.2"),
        ("EHLO \u2028x\r\n".encode(), "500 5.5.2"),
        (b"\r\n", "502"),
        (b"GET / HTTP/1.1\r\n", "502"),
        (b"EHLO\r\n", "501"),
        (b"EHLO " + b"x" * 1_000 + b"\r\n", "500 5.5.2"),
        (b"x" * 60_000 + b"\r\n", "500 5.5.2"),
    ],
)
def test_a_line_that_is_no_command_is_refused_and_the_next_is_served(
    listener: Listening, line: bytes, answer: str
) -> None:
    with connect(listener) as client:
        client.say(line)
        assert client.hear().startswith(answer)
        assert client.ask(b"EHLO x").startswith("250")


def test_a_command_without_end_is_cut_off(listener: Listening) -> None:
    tracemalloc.start()
    try:
        with connect(listener) as client:
            _pour(client, b"x" * 65_536, times=1_000)
            peak = tracemalloc.get_traced_memory()[1]
        wait_until(lambda: listener.open_connections == 0)
    finally:
        tracemalloc.stop()

    assert peak < 4 * MIB


@pytest.mark.parametrize("unit", [b"x" * 1_000, b"x" * 998 + b"\r\n", b"\r\n" * 500, b"\r\n.\r" * 250])
def test_a_mail_without_end_takes_no_more_memory_than_the_limit_allows_and_is_cut_off(loop: str, unit: bytes) -> None:
    with listening(loop, max_bytes=MIB) as listener:
        tracemalloc.start()
        try:
            with connect(listener) as client:
                client.begin()
                _pour(client, unit * 64, times=1_000)
                answers = client.hear_out()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        wait_until(lambda: listener.open_connections == 0)

        assert peak < 4 * MIB
        # What it still had to send was never read, so that the last words may be lost on the way.
        assert {answer[:3] for answer in answers} <= {"552", "554", "421"}
        assert listener.mails == []


def test_mails_that_are_coming_in_share_a_bound_of_memory(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "HELD_MAX_BYTES", 600_000)
    inboxes = Inboxes()
    with listening(loop, inboxes, max_bytes=500_000) as listener:
        inboxes.open.clear()
        with connect(listener) as first, connect(listener) as second:
            first.begin()
            first.say(b"x" * 400_000 + b"\r\n.\r\n")
            assert inboxes.delivering.wait(10)
            second.begin()
            second.say(b"x" * 400_000 + b"\r\n.\r\n")
            assert second.hear().startswith("452 4.3.1")
            inboxes.open.set()
            assert first.hear().startswith("250")
            second.begin()
            second.say(b"x" * 400_000 + b"\r\n.\r\n")
            assert second.hear().startswith("250")


def test_too_many_errors_end_a_connection(listener: Listening) -> None:
    with connect(listener) as client:
        client.say(b"NONSENSE\r\n" * 100)
        answers = client.hear_out()

    # The rest was never read, so that the last words may be lost on the way.
    assert [answer[:3] for answer in answers] in (["502"] * ERRORS_MAX + ["421"], ["502"] * len(answers))
    assert len(answers) <= ERRORS_MAX + 1


def test_trying_out_addresses_is_an_error_and_a_delivered_mail_makes_up_for_it(listener: Listening) -> None:
    with connect(listener) as client:
        for _ in range(2):
            client.ask(b"EHLO x", b"MAIL FROM:<you@there>")
            for number in range(ERRORS_MAX - 2):
                assert client.ask(b"RCPT TO:<try%d@mail.example>" % number).startswith("550")
            client.ask(b"RCPT TO:<one@mail.example>", b"DATA")
            client.say(b"hello\r\n.\r\n")
            assert client.hear().startswith("250")
        client.ask(b"MAIL FROM:<you@there>")
        for _ in range(ERRORS_MAX):
            client.ask(b"RCPT TO:<nobody@mail.example>")
        assert [client.hear()[:9], client.hear()] == ["421 4.7.0", ""]


def test_commands_that_come_to_nothing_end_a_connection(listener: Listening) -> None:
    with connect(listener) as client:
        answers = [client.ask(b"NOOP")[:3] for _ in range(COMMANDS_MAX)]
        assert answers == ["250"] * COMMANDS_MAX
        assert client.hear().startswith("421 4.7.0")


@pytest.mark.parametrize(
    "said", [b"", b"EHL", b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<one@mail.example>\r\nDATA\r\nhello"]
)
def test_who_says_nothing_for_too_long_is_sent_away(loop: str, said: bytes) -> None:
    with listening(loop, idle_seconds=0.2) as listener, connect(listener) as client:
        client.say(said)
        assert client.hear_out()[-1].startswith("421 4.4.2")

        wait_until(lambda: listener.open_connections == 0)
        assert listener.mails == []


def test_who_is_slow_is_not_idle_in_a_mail_nor_while_it_is_stored(loop: str) -> None:
    inboxes = Inboxes()
    with listening(loop, inboxes, idle_seconds=0.3) as listener, connect(listener) as client:
        client.begin()
        for _ in range(6):
            client.sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.sock.recv(1)
            client.say(b"x")
        client.sock.settimeout(10)
        inboxes.open.clear()
        client.say(b"\r\n.\r\n")
        assert inboxes.delivering.wait(10)
        client.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
        client.sock.settimeout(10)
        inboxes.open.set()
        assert client.hear().startswith("250")


def test_who_stays_too_long_has_to_come_again(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "CONNECTION_SECONDS", 0.2)
    with listening(loop) as listener, connect(listener) as client:
        assert client.hear().startswith("421 4.4.2")


def test_storing_has_a_bound(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "WORK_SECONDS", 0.1)
    inboxes = Inboxes()
    with listening(loop, inboxes) as listener, connect(listener) as client:
        inboxes.open.clear()
        client.begin()
        client.say(b"hello\r\n.\r\n")
        assert client.hear().startswith("451")
        inboxes.open.set()
        assert client.ask(b"NOOP").startswith("250")


def test_who_does_not_take_the_answers_is_cut_off(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(smtp, "COMMANDS_MAX", 1_000_000)
    with listening(loop, idle_seconds=0.3) as listener, connect(listener, receive_bytes=2_048) as client:
        client.sock.settimeout(0.2)
        with pytest.raises((TimeoutError, ConnectionError)):
            client.say(b"VRFY x\r\n" * 10_000_000)

        wait_until(lambda: listener.open_connections == 0)


def test_who_hangs_up_in_a_mail_has_sent_none(listener: Listening) -> None:
    for said in (b"", b"hello", b"hello\r\n", b"hello\r\n.", b"hello\r\n.\r"):
        for half in (True, False):
            with connect(listener) as client:
                client.begin()
                client.say(said)
                if half:
                    client.sock.shutdown(socket.SHUT_WR)
                    assert client.hear() == ""
    wait_until(lambda: listener.open_connections == 0)

    assert listener.mails == []


def test_who_hangs_up_hard_is_no_warning(listener: Listening) -> None:
    for said in (b"", b"NOOP\r\n" * 1_000, b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<one@mail.example>\r\nDATA\r\nhello"):
        with connect(listener) as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.say(said)
    wait_until(lambda: listener.open_connections == 0)


@pytest.mark.parametrize("end", [b"", b"\r\n.\r\n"], ids=["in the mail", "while it is stored"])
def test_who_hangs_up_leaves_no_mail_in_memory(loop: str, end: bytes) -> None:
    with listening(loop) as running:
        running.inboxes.open.clear()
        gc.collect()
        gc.disable()  # it comes as it likes, and does not know how much is kept
        tracemalloc.start()
        try:
            for _ in range(10):
                with connect(running) as client:
                    client.begin()
                    client.say(b"x" * 900_000 + end)
                    wait_until(lambda: any(one.held_bytes > 800_000 for one in running.listener.connections.open))
                    if end:
                        wait_until(running.inboxes.delivering.is_set)
                        running.inboxes.delivering.clear()
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                wait_until(lambda: running.open_connections == 0)
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()

    assert left < 2 * MIB


@pytest.mark.parametrize("unit", [b"\r\n", b"x\r\n", b"..\r\n", b"x" * 76 + b"\r\n", b"x" * 1_000])
def test_ten_mebibytes_at_once_do_not_hold_up_the_loop(
    loop: str, unit: bytes, record_property: Callable[[str, object], None]
) -> None:
    with listening(loop, max_bytes=10 * MIB, watched=True) as listener, connect(listener) as client:
        client.begin()
        client.say(unit * (10 * MIB // len(unit) - 1) + b"\r\n.\r\n")
        assert client.hear().startswith("250")

        record_property("held_up_ms", round(listener.held_up_seconds * 1_000, 1))
        assert listener.held_up_seconds < 1.0  # milliseconds, on a machine that has nothing else to do


def test_commands_poured_in_do_not_hold_up_the_loop(loop: str, record_property: Callable[[str, object], None]) -> None:
    with listening(loop, watched=True) as listener, connect(listener) as client:
        client.say(b"RSET\r\n" * (COMMANDS_MAX - 1))
        assert [client.hear()[:3] for _ in range(COMMANDS_MAX - 1)] == ["250"] * (COMMANDS_MAX - 1)
        assert client.ask(b"RSET").startswith("250")

        record_property("held_up_ms", round(listener.held_up_seconds * 1_000, 1))
        assert listener.held_up_seconds < 1.0


def _pour(client: Client, piece: bytes, *, times: int) -> None:
    """Send much, until the other side has enough of it."""
    try:
        for _ in range(times):
            client.say(piece)
    except ConnectionError:
        pass
    else:
        pytest.fail(f"all of it was taken for {INBOX}")
