"""Mail by SMTP: who may send what to whom, and what they hear."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.policy import SMTPUTF8

import pytest

from sessiond.core.errors import NotFound, SessiondError, TooLarge, Unavailable
from sessiond.mail import listener as listener_module
from sessiond.mail.listener import MailListener
from sessiond.mail.smtp import network_of
from tests.mail.receiving import (
    DOMAIN,
    INBOX,
    LOOPS,
    OTHER,
    SECONDS,
    Delivered,
    Inboxes,
    Listening,
    connect,
    listening,
    wait_until,
)

MAIL = b"Subject: hello\r\n\r\nyour code is 123456\r\n"


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def listener(loop: str) -> Iterator[Listening]:
    with listening(loop) as running:
        yield running


def send(listener: Listening, *recipients: str, raw: bytes = MAIL, sender: str = "you@there.example") -> None:
    with smtplib.SMTP("127.0.0.1", listener.port, timeout=SECONDS) as client:
        client.sendmail(sender, list(recipients or (INBOX,)), raw)


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sessiond.mail"]


def test_a_mail_arrives_as_it_was_sent(listener: Listening) -> None:
    raw = b"Subject: caf\xc3\xa9\r\n\r\n.\r\n..\r\n.dot\r\n\r\n\r\nlatin \xe9\x00\r\n" + b"x" * 5_000 + b"\r\n"

    send(listener, raw=raw)

    assert listener.mails == [Delivered((INBOX,), raw, "you@there.example")]


def test_a_mail_without_a_line_is_a_mail(listener: Listening) -> None:
    with connect(listener) as client:
        client.begin()
        client.say(b".\r\nNOOP\r\n")
        assert [client.hear()[:3], client.hear()[:3]] == ["250", "250"]

    assert listener.mails == [Delivered((INBOX,), b"", "you@there")]


def test_several_mails_come_on_one_connection(listener: Listening) -> None:
    with smtplib.SMTP("127.0.0.1", listener.port, timeout=SECONDS) as client:
        for number in range(3):
            client.sendmail("", [INBOX], b"Subject: %d\r\n" % number)

    assert [mail.raw for mail in listener.mails] == [b"Subject: 0\r\n", b"Subject: 1\r\n", b"Subject: 2\r\n"]


def test_a_mail_sent_in_one_go_arrives_before_its_sender_has_heard_anything(listener: Listening) -> None:
    with connect(listener) as client:
        client.say(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<one@mail.example>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        codes = [answer[:3] for answer in client.hear_out()]

    assert codes == ["250", "250", "250", "354", "250", "221"]
    assert listener.mails == [Delivered((INBOX,), b"hello\r\n", "")]


def test_a_mail_goes_to_each_of_its_recipients_once(listener: Listening) -> None:
    send(listener, INBOX, OTHER, INBOX.upper())

    assert [mail.recipients for mail in listener.mails] == [(INBOX, OTHER)]


def test_nobody_as_sender_is_accepted(listener: Listening) -> None:
    send(listener, sender="")

    assert [mail.sender for mail in listener.mails] == [""]


def test_addresses_beyond_ascii_may_send_with_smtputf8(listener: Listening) -> None:
    message = EmailMessage(SMTPUTF8)
    message["Subject"] = "größe"
    message["From"] = "jürgen@münchen.example"
    message["To"] = INBOX
    with smtplib.SMTP("127.0.0.1", listener.port, timeout=SECONDS) as client:
        client.send_message(message)

    assert [mail.sender for mail in listener.mails] == ["jürgen@münchen.example"]
    assert "größe".encode() in listener.mails[0].raw
    with connect(listener) as plain:
        assert plain.ask(b"EHLO x", "MAIL FROM:<jürgen@münchen.example>".encode()).startswith("553 5.6.7")


@pytest.mark.parametrize("address", ["One@Mail.Example", "ONE@MAIL.EXAMPLE"])
def test_an_inbox_is_known_in_whatever_case(listener: Listening, address: str) -> None:
    send(listener, address)

    assert listener.inboxes.asked == [INBOX]
    assert [mail.recipients for mail in listener.mails] == [(INBOX,)]


@pytest.mark.parametrize(
    ("recipient", "answer"),
    [
        ("<nobody@mail.example>", "550 5.1.1"),
        ("<one+tag@mail.example>", "550 5.1.1"),
        ("<one@elsewhere.example>", "550 5.7.1"),
        ("<one@sub.mail.example>", "550 5.7.1"),
        ("<one@mail.example.>", "550 5.7.1"),
        ("<one@[127.0.0.1]>", "550 5.7.1"),
        ("<one@mail.example@elsewhere.example>", "553"),
        ("<@mail.example:a@elsewhere.example>", "553"),
        ("<@elsewhere.example:one@mail.example>", "553"),
        ("<@elsewhere.example,@other.example:one@mail.example>", "553"),
        ("<a%elsewhere.example@mail.example>", "550 5.1.1"),
        ("<elsewhere.example!a@mail.example>", "550 5.1.1"),
        ('<"a@elsewhere.example"@mail.example>', "550 5.1.1"),
        ('<"one"@mail.example>', "550 5.1.1"),
        ('<"one"@elsewhere.example>', "550 5.7.1"),
        ("<\u212aone@mail.example>", "550 5.7.1"),
        ("<one@mail.example(elsewhere.example)>", "550 5.7.1"),
        ("<(a)one@mail.example>", "550 5.1.1"),
        ("one@mail.example", "553"),
        ("<>", "550"),
        ("<postmaster>", "553"),
        ("<one@mail.example> NOTIFY=NEVER", "555"),
        ("<one@mail.example> <a@elsewhere.example>", "501"),
        ("<one@mail.example>,<a@elsewhere.example>", "553"),
        ("", "553"),
    ],
)
def test_nothing_is_relayed_and_nobody_unknown_gets_mail(listener: Listening, recipient: str, answer: str) -> None:
    with connect(listener) as client:
        refused = client.ask(b"EHLO x", b"MAIL FROM:<you@there>", b"RCPT TO:" + recipient.encode())

        assert refused.startswith(answer)
        assert client.ask(b"DATA").startswith("503")

    assert listener.mails == []
    assert set(listener.inboxes.asked) <= {"nobody@mail.example", "one+tag@mail.example"}


def test_those_who_are_known_get_a_mail_that_others_do_not(listener: Listening) -> None:
    with smtplib.SMTP("127.0.0.1", listener.port, timeout=SECONDS) as client:
        refused = client.sendmail("you@there", [INBOX, "nobody@mail.example", "a@elsewhere.example"], MAIL)

    assert {address: code for address, (code, _) in refused.items()} == {
        "nobody@mail.example": 550,
        "a@elsewhere.example": 550,
    }
    assert [mail.recipients for mail in listener.mails] == [(INBOX,)]


def test_who_is_there_is_not_told(listener: Listening) -> None:
    with connect(listener) as client:
        client.ask(b"EHLO x")
        known, unknown = client.ask(b"VRFY one@mail.example"), client.ask(b"VRFY nobody@mail.example")
        assert known == unknown
        assert known.startswith("252")
        assert client.ask(b"EXPN one").startswith("502")

    assert listener.inboxes.asked == []


def test_only_what_is_done_is_offered(listener: Listening) -> None:
    with connect(listener) as client:
        assert client.greeting == "220 mail.example ESMTP"
        assert client.ask(b"EHLO x").split("\n") == [
            "250-mail.example",
            "250-SIZE 1000000",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250 PIPELINING",
        ]
        for command in (b"AUTH PLAIN AHgAeQ==", b"ETRN mail.example", b"TURN", b"HELP", b"BDAT 5 LAST", b"XCLIENT a=b"):
            assert client.ask(command).startswith("502")
        assert client.ask(b"STARTTLS").startswith("454")
        assert client.ask(b"HELO x") == "250 mail.example"


def test_commands_out_of_turn_are_refused(listener: Listening) -> None:
    with connect(listener) as client:
        assert client.ask(b"MAIL FROM:<you@there>").startswith("503")
        assert client.ask(b"EHLO x", b"RCPT TO:<one@mail.example>").startswith("503")
        assert client.ask(b"DATA").startswith("503")
        assert client.ask(b"MAIL FROM:<you@there>", b"MAIL FROM:<you@there>").startswith("503")
        assert client.ask(b"RCPT TO:<one@mail.example>", b"DATA now").startswith("501")
        assert client.ask(b"RSET", b"DATA").startswith("503")
        assert client.ask(b"MAIL FROM:<you@there> BODY=BINARYMIME").startswith("501")


def test_no_more_recipients_than_the_limit(loop: str) -> None:
    inboxes = Inboxes(*(f"{number}@{DOMAIN}" for number in range(40)))
    with listening(loop, inboxes, recipients_max=5) as listener, connect(listener) as client:
        client.ask(b"EHLO x", b"MAIL FROM:<you@there>")
        answers = [client.ask(b"RCPT TO:<%d@mail.example>" % number)[:9] for number in range(40)]
        assert answers == ["250 2.1.5"] * 5 + ["452 4.5.3"] * 35
        client.say(b"DATA\r\nhello\r\n.\r\n")
        assert [client.hear()[:3], client.hear()[:3]] == ["354", "250"]

        assert [len(mail.recipients) for mail in listener.mails] == [5]


@pytest.mark.parametrize(
    ("parameter", "answer"),
    [("1000000", "250"), ("1000001", "552"), ("9" * 20, "552"), ("9" * 400, "501"), ("-1", "501"), ("²", "501")],
)
def test_the_size_that_is_announced_is_checked(listener: Listening, parameter: str, answer: str) -> None:
    with connect(listener) as client:
        assert client.ask(b"EHLO x", f"MAIL FROM:<you@there> SIZE={parameter}".encode()).startswith(answer)


def test_a_mail_over_the_limit_is_refused_and_the_next_is_taken(listener: Listening) -> None:
    exactly = b"x" * 999_998 + b"\r\n"
    with smtplib.SMTP("127.0.0.1", listener.port, timeout=SECONDS) as client:
        client.ehlo_or_helo_if_needed()
        del client.esmtp_features["size"]
        for raw in (b"x" + exactly, exactly * 3):
            with pytest.raises(smtplib.SMTPDataError, match=r"5\.3\.4") as refused:
                client.sendmail("you@there", [INBOX], raw)
            assert refused.value.smtp_code == 552
        client.sendmail("you@there", [INBOX], exactly)

    assert [mail.raw for mail in listener.mails] == [exactly]


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Unavailable("too many writes are waiting"), "451 4.3.0"),
        (NotFound("the inbox takes no more mail"), "550 5.1.1"),
        (TooLarge("the inbox is full"), "552 5.2.2"),
        (RuntimeError("secret"), "451 4.3.0"),
        (SessiondError("secret"), "451 4.3.0"),
    ],
)
def test_why_a_mail_was_not_stored_is_answered_and_the_next_is_taken(
    listener: Listening, error: Exception, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(listener) as client:
        client.begin()
        listener.inboxes.fails = error
        client.say(b"hello\r\n.\r\n")
        said = client.hear()
        listener.inboxes.fails = None
        client.begin()
        client.say(b"hello again\r\n.\r\n")
        assert client.hear().startswith("250")

    assert said.startswith(answer)
    assert "secret" not in said
    assert [mail.raw for mail in listener.mails] == [b"hello again\r\n"]
    bugs = [record for record in caplog.records if record.levelno > logging.WARNING]
    assert len(bugs) == (not isinstance(error, (Unavailable, NotFound, TooLarge)))


def test_what_goes_wrong_when_an_inbox_is_looked_up_is_answered_without_details(
    listener: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    listener.inboxes.fails = RuntimeError("secret")
    with connect(listener) as client:
        assert client.ask(b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<one@mail.example>") == (
            "451 4.3.0 not now, try again later"
        )
        listener.inboxes.fails = None
        assert client.ask(b"RCPT TO:<one@mail.example>").startswith("250")

    assert [record.exc_text is not None for record in caplog.records if record.levelno > logging.WARNING] == [True]


def test_each_mail_is_a_line_in_the_log_without_its_content_or_addresses(
    listener: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with connect(listener) as client:
        client.ask(b"EHLO there\x1b[31m\rmail: peer=forged", b"EHLO forged-name")
        client.ask(b"AUTH PLAIN c2VjcmV0", b"secret\x1b[31m", b"MAIL FROM:<secret@there>")
        client.ask(b"RCPT TO:<one@mail.example>", b"RCPT TO:<two@mail.example>", b"DATA")
        client.say(b"Subject: secret\r\n\r\n.\r\n")
        client.hear()
        client.begin()
        client.say(b"\n.\n\r\n.\r\n")
        client.hear()
        client.begin()
        client.say(b"half a mail")
    wait_until(lambda: len(lines_of(caplog)) == 3)

    assert lines_of(caplog) == [
        'mail: peer=127.0.0.1 bytes=19 recipients=2 answer="250 2.0.0 delivered"',
        'mail: peer=127.0.0.1 bytes=5 recipients=1 answer="554 5.6.0 a CR or LF stands alone, which some take for the'
        ' end of a line"',
        'mail: peer=127.0.0.1 bytes=0 recipients=1 answer="none"',
    ]
    assert [record.name for record in caplog.records if record.name == "mail.log"] == []


def test_no_more_mails_in_a_minute_than_the_limit(loop: str) -> None:
    with (
        listening(loop, mails_per_minute=3) as listener,
        connect(listener) as client,
        connect(listener, source="127.0.0.2") as neighbour,
    ):
        client.ask(b"EHLO x")
        answers = [client.ask(b"RSET") and client.ask(b"MAIL FROM:<>")[:9] for _ in range(7)]
        assert answers[:3] == ["250 2.1.0"] * 3
        assert answers[6] == "451 4.7.0"  # also where another minute has begun in between
        assert neighbour.ask(b"EHLO x", b"MAIL FROM:<>").startswith("250")


def test_no_more_connections_than_the_limit(loop: str) -> None:
    with (
        listening(loop, connections_max=3, connections_per_address_max=2) as listener,
        connect(listener) as first,
        connect(listener),
        connect(listener) as third,
    ):
        assert third.greeting.startswith("421")
        assert third.hear() == ""
        with connect(listener, source="127.0.0.2") as other, connect(listener, source="127.0.0.3") as fourth:
            assert other.greeting.startswith("220")
            assert fourth.greeting.startswith("421")
        assert first.ask(b"QUIT").startswith("221")
        assert first.hear() == ""
        wait_until(lambda: listener.open_connections == 1)
        with connect(listener) as again:
            assert again.greeting.startswith("220")


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        (("192.0.2.7", 25), "192.0.2.7"),
        (("::ffff:192.0.2.7", 25, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3::4", 25, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 25, 0, 2), "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_limits_count_an_ipv6_network_as_one(peer: object, network: str) -> None:
    assert network_of(peer) == network


def test_two_hundred_connections_at_once_do_not_stop_it(loop: str) -> None:
    def one(running: Listening) -> str:
        with connect(running) as client:
            if client.greeting.startswith("220"):
                client.begin()
                client.say(b"hello\r\n.\r\n")
                return client.hear()[:3]
            return client.greeting[:3]

    with listening(loop, connections_per_address_max=20) as listener:
        with ThreadPoolExecutor(50) as clients:
            answers = list(clients.map(one, [listener] * 200))
        send(listener)

        assert set(answers) <= {"250", "421", ""}
        assert len(listener.mails) == answers.count("250") + 1
        wait_until(lambda: listener.open_connections == 0)


def test_several_listeners_share_a_socket() -> None:
    async def main() -> int:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            inboxes = Inboxes()
            listeners = [MailListener(inboxes, domain=DOMAIN, max_bytes=1_000) for _ in range(2)]
            for each in listeners:
                await each.start(sock.dup())
            await listeners[0].stop()

            def client() -> None:
                with smtplib.SMTP("127.0.0.1", port, timeout=SECONDS) as smtp:
                    smtp.sendmail("", [INBOX], MAIL)

            await asyncio.to_thread(client)
            await listeners[1].stop()
            return len(inboxes.mails)

    assert asyncio.run(main()) == 1


def test_a_listener_that_was_never_started_can_be_stopped() -> None:
    asyncio.run(MailListener(Inboxes(), domain=DOMAIN, max_bytes=1_000).stop())


def test_a_stopping_listener_lets_a_mail_finish_and_takes_no_other(loop: str) -> None:
    with listening(loop) as listener, connect(listener) as idle, connect(listener) as asks, connect(listener) as sends:
        asks.ask(b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<one@mail.example>")
        sends.begin()
        sends.say(b"first line\r\n")
        listener.stop()
        assert [idle.hear()[:9], idle.hear()] == ["421 4.3.2", ""]
        assert asks.hear_out()[-1].startswith("421")
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", listener.port), timeout=SECONDS).close()
        sends.say(b"last line\r\n.\r\nMAIL FROM:<>\r\n")
        assert [sends.hear()[:3], sends.hear()[:3], sends.hear()] == ["250", "421", ""]

        assert [mail.raw for mail in listener.mails] == [b"first line\r\nlast line\r\n"]


def test_a_stopping_listener_lets_a_mail_be_stored(loop: str) -> None:
    inboxes = Inboxes()
    with listening(loop, inboxes) as listener, connect(listener) as client:
        inboxes.open.clear()
        client.begin()
        client.say(b"hello\r\n.\r\n")
        assert inboxes.delivering.wait(SECONDS)
        listener.stop()
        inboxes.open.set()
        assert [answer[:3] for answer in client.hear_out()] == ["250", "421"]

        assert len(listener.mails) == 1


def test_a_stopping_listener_does_not_wait_for_ever(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "STOP_SECONDS", 0.1)
    with listening(loop) as listener, connect(listener) as client:
        client.begin()
        client.say(b"first line\r\n")
        listener.stop()
        assert client.hear_out() == []

        assert listener.mails == []
