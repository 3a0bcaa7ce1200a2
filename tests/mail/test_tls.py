"""STARTTLS: offered where there is a certificate, and nothing said in the clear survives it."""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.mail.receiving import INBOX, LOOPS, SECONDS, Client, Listening, connect, listening, wait_until


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for `localhost`, in one file."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("certificate"))
    certificate.write_bytes(key.read_bytes() + certificate.read_bytes())
    return certificate


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


@pytest.fixture
def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def listener(loop: str, serving: ssl.SSLContext) -> Iterator[Listening]:
    with listening(loop, tls=serving) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_loud(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever clients do is no warning."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


def secure(client: Client, trusting: ssl.SSLContext) -> ssl.SSLSocket:
    return trusting.wrap_socket(client.sock, server_hostname="localhost")


def test_a_mail_comes_over_tls(listener: Listening, trusting: ssl.SSLContext) -> None:
    raw = b"Subject: hello\r\n\r\n" + b"x" * 500_000 + b"\r\n"
    with smtplib.SMTP("localhost", listener.port, timeout=SECONDS) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        client.starttls(context=trusting)
        client.ehlo()
        assert not client.has_extn("starttls")
        assert not client.has_extn("auth")
        client.sendmail("you@there", [INBOX], raw)

    assert [mail.raw for mail in listener.mails] == [raw]


def test_tls_is_no_must(listener: Listening) -> None:
    with smtplib.SMTP("localhost", listener.port, timeout=SECONDS) as client:
        client.sendmail("you@there", [INBOX], b"hello\r\n")

    assert len(listener.mails) == 1


def test_what_was_said_in_the_clear_is_forgotten(listener: Listening, trusting: ssl.SSLContext) -> None:
    with connect(listener) as client:
        client.ask(b"EHLO x", b"MAIL FROM:<evil@there>", b"RCPT TO:<one@mail.example>")
        client.say(b"STARTTLS\r\nNOOP\r\nEHLO evil\r\nMAIL FROM:<evil@there>\r\nRCPT TO:<one@mail.example>\r\nDATA\r\n")
        assert client.hear().startswith("220")
        with secure(client, trusting) as safe:
            safe.settimeout(SECONDS)
            # Each answer is to what was said over TLS, and the client has not even said hello.
            for command, answer in ((b"DATA", b"503"), (b"RCPT TO:<one@mail.example>", b"503"), (b"EHLO x", b"250")):
                safe.sendall(command + b"\r\n")
                assert safe.recv(1_000).startswith(answer)
            safe.sendall(b"DATA\r\n")
            assert b"503" in safe.recv(1_000)

    assert listener.mails == []


def test_tls_within_tls_is_refused(listener: Listening, trusting: ssl.SSLContext) -> None:
    with connect(listener) as client:
        client.ask(b"EHLO x", b"STARTTLS")
        with secure(client, trusting) as safe:
            safe.sendall(b"STARTTLS\r\n")
            assert safe.recv(1_000).startswith(b"503")
            safe.sendall(b"NOOP\r\n")
            assert safe.recv(1_000).startswith(b"250")


@pytest.mark.parametrize("said", [b"NOOP\r\nthis is no handshake", b"", b"\x16\x03\x01\x02"])
@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_handshake_that_fails_ends_the_connection(
    loop: str, serving: ssl.SSLContext, said: bytes, hangs_up: bool
) -> None:
    with listening(loop, tls=serving, idle_seconds=0.3) as listener, connect(listener) as client:
        client.ask(b"EHLO x", b"STARTTLS")
        client.say(said)
        if hangs_up:
            client.sock.close()
        wait_until(lambda: listener.open_connections == 0)


def test_who_ends_tls_without_a_word_is_forgotten(listener: Listening, trusting: ssl.SSLContext) -> None:
    for hard in (True, False):
        with connect(listener) as client:
            client.ask(b"EHLO x", b"STARTTLS")
            with secure(client, trusting) as safe:
                safe.sendall(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<one@mail.example>\r\nDATA\r\nhello")
                if hard:
                    safe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wait_until(lambda: listener.open_connections == 0)

    assert listener.mails == []


def test_a_stopping_listener_ends_tls_and_handshakes(listener: Listening, trusting: ssl.SSLContext) -> None:
    with connect(listener) as shaking, connect(listener) as client:
        shaking.ask(b"EHLO x", b"STARTTLS")
        client.ask(b"EHLO x", b"STARTTLS")
        with secure(client, trusting) as safe:
            safe.sendall(b"NOOP\r\n")
            assert safe.recv(1_000).startswith(b"250")
            listener.stop()
            assert safe.recv(1_000).startswith(b"421")
        assert shaking.hear_out() == []
