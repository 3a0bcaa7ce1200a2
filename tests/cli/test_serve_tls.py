"""`sessiond serve` with a certificate: what it prints, and how another takes its place while it serves."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.certificates import make_certificate
from tests.cli.program import Started, run_json, start, wait_until
from tests.postgres import PostgresServer


def flags(files: tuple[Path, Path]) -> list[str]:
    return ["--tls-certificate", str(files[0]), "--tls-certificate-key", str(files[1])]


def secure(started: Started) -> ssl.SSLSocket:
    """Return a new connection, whoever answers."""
    nobody = ssl.create_default_context()
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    address = urlsplit(started.url)
    return nobody.wrap_socket(socket.create_connection((address.hostname or "", address.port or 0), timeout=20))


def shown_certificate(started: Started) -> str:
    with closing(secure(started)) as made:
        shown = made.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown)


def ask_over(made: ssl.SSLSocket) -> bytes:
    """Ask over a connection that is kept alive; return the beginning of the answer."""
    made.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        more = made.recv(4096)
        assert more, answer
        answer += more
    return answer[:15]


@pytest.mark.parametrize(
    ("names", "addresses", "how"),
    [
        (("localhost",), (), "--resolve localhost:"),
        (("*.example.com", "agents.example.com"), (), "https://agents.example.com:"),
        (("agents.example.com",), ("127.0.0.1",), "https://127.0.0.1:"),
        (("*.example.com",), (), "--insecure https://127.0.0.1:"),
        ((), (), "--insecure https://127.0.0.1:"),
    ],
)
def test_the_curl_lines_work_as_printed_whatever_the_certificate_names(
    tmp_path: Path, names: tuple[str, ...], addresses: tuple[str, ...], how: str
) -> None:
    files = make_certificate(tmp_path / "it's mine", names=names, addresses=addresses)

    with start(f"sqlite:///{tmp_path}/sessiond.db", *flags(files)) as started:
        assert started.url.startswith("https://127.0.0.1:")
        assert how in started.curls[0]
        for line in started.curls:
            subprocess.run(["sh", "-c", f"{line} --fail"], capture_output=True, check=True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_new_certificate_is_shown_after_sighup_and_open_connections_go_on(
    tmp_path: Path, postgres: PostgresServer, workers: str
) -> None:
    postgres.create_database(f"cli_tls_{workers}")
    files = make_certificate(tmp_path / "kept")
    first = files[0].read_text()

    with (
        start(postgres.url(f"cli_tls_{workers}"), "--workers", workers, *flags(files)) as started,
        closing(secure(started)) as kept,
    ):
        assert ask_over(kept) == b"HTTP/1.1 200 OK"
        make_certificate(tmp_path / "kept")
        second = files[0].read_text()
        assert first == shown_certificate(started)

        started.process.send_signal(signal.SIGHUP)

        # Each of several processes hears of it in its own time.
        wait_until(lambda: {shown_certificate(started) for _ in range(12)} == {second}, 20)
        assert ask_over(kept) == b"HTTP/1.1 200 OK"
        assert started.stop() == 0


def test_files_that_cannot_be_used_leave_the_certificate_that_was(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path / "kept")
    first, good_key = certificate.read_text(), key.read_bytes()
    with start(f"sqlite:///{tmp_path}/sessiond.db", *flags((certificate, key))) as started:
        make_certificate(tmp_path / "kept")  # of which only the first file has arrived
        second, new_key = certificate.read_text(), key.read_bytes()
        key.write_bytes(good_key)

        started.process.send_signal(signal.SIGHUP)
        assert shown_certificate(started) == first

        key.write_bytes(new_key)
        started.process.send_signal(signal.SIGHUP)
        wait_until(lambda: shown_certificate(started) == second, 20)


def test_a_stopped_server_ends_its_streams_over_tls_too(tmp_path: Path) -> None:
    files = make_certificate(tmp_path / "kept", addresses=["127.0.0.1"])
    trusting = ssl.create_default_context(cafile=files[0])
    with start(f"sqlite:///{tmp_path}/sessiond.db", *flags(files)) as started:
        headers = {"Authorization": f"Bearer {started.secret}"}
        with httpx.Client(base_url=started.url, headers=headers, timeout=20, verify=trusting) as client:
            session = client.post("/v1/sessions", json={}).json()["id"]
            with client.stream("GET", f"/v1/sessions/{session}/stream") as stream:
                lines = stream.iter_lines()
                assert next(lines)

                ended = started.stop()

                for _ in lines:  # it ends as an answer does: httpx raises if it is cut off
                    pass
    assert ended == 0


def test_the_doctor_looks_at_the_certificate_and_knows_a_server_that_uses_it(tmp_path: Path) -> None:
    files, database = make_certificate(tmp_path / "kept"), f"sqlite:///{tmp_path}/sessiond.db"
    config = tmp_path / "sessiond.toml"
    with start(database, *flags(files)) as started:
        lines = [f'tls_certificate = "{files[0]}"', f'tls_certificate_key = "{files[1]}"', f"port = {started.port}"]
        config.write_text("\n".join(lines))

        findings = run_json("doctor", "--database", database, "--config", str(config))

    found = {each["check"]: each["found"] for each in findings}
    assert found["transport"] == "the certificate can be used"
    assert found["address"] == f"a sessiond answers on 127.0.0.1:{started.port}"


@pytest.mark.parametrize("line", ['tls_certificate = "none.pem"', 'trusted_proxies = "proxy"'])
def test_the_doctor_finds_a_bad_transport_bad(tmp_path: Path, line: str) -> None:
    config = tmp_path / "sessiond.toml"
    config.write_text(line)

    findings = run_json("doctor", "--database", f"sqlite:///{tmp_path}/never.db", "--config", str(config), status=1)

    assert [each["check"] for each in findings if each["state"] == "bad"] == ["transport"]
