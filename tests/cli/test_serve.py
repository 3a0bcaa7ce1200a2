"""`sessiond serve` as people start it, with keys made and revoked beside it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.certificates import make_certificate
from tests.cli.program import SECRET, Started, refusal, run, run_json, start, wait_until
from tests.conftest import make_database
from tests.postgres import PostgresServer

REVOKED_SECONDS = 5.0


@pytest.fixture(scope="module")
def shared(engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """The database of the server that many tests ask."""
    return make_database(engine_name, tmp_path_factory.mktemp("shared"), request)


@pytest.fixture(scope="module")
def first(shared: str) -> Iterator[Started]:
    """A first start."""
    with start(shared) as started:
        yield started


def test_the_first_start_prints_a_key_that_may_do_everything(first: Started) -> None:
    me = first.ask("/v1/me").json()

    assert me["workspace"] == "default"
    assert set(me["scopes"]) == {"admin", "host", "sessions:read", "sessions:write"}


def test_the_curl_lines_of_the_first_start_work_as_printed(first: Started) -> None:
    say, read = (f"{line} --fail" for line in first.curls)

    subprocess.run(["sh", "-c", say], capture_output=True, check=True)

    def said() -> list[tuple[str, str]]:
        done = subprocess.run(["sh", "-c", read], capture_output=True, text=True, check=True)
        return [(each["role"], each["content"]) for each in json.loads(done.stdout)["data"]]

    wait_until(lambda: len(said()) == 2, 5)
    assert said() == [("user", "Hello!"), ("assistant", "Hello!")]


def test_a_key_made_beside_a_running_server_works_at_once(first: Started, shared: str) -> None:
    made = run_json("keys", "create", "--database", shared)

    me = first.ask("/v1/me", made["key"])
    assert me.status_code == 200
    assert me.json()["key_id"] == made["id"]
    assert me.json()["workspace"] == made["workspace"] == "default"
    assert me.json()["database_id_hash"] == made["database_id_hash"]


def test_a_revoked_key_stops_working_within_five_seconds(first: Started, shared: str) -> None:
    made = run_json("keys", "create", "--database", shared)
    assert first.ask("/v1/me", made["key"]).status_code == 200

    run("keys", "revoke", made["id"], "--database", shared)

    wait_until(lambda: first.ask("/v1/me", made["key"]).status_code == 401, REVOKED_SECONDS)


def test_the_list_says_when_a_key_was_last_used(first: Started, shared: str) -> None:
    made = run_json("keys", "create", "--database", shared)
    first.ask("/v1/me", made["key"])

    def used() -> bool:
        listed = first.ask("/v1/keys?limit=1000").json()["data"]
        return any(key["id"] == made["id"] and key["last_used_at"] for key in listed)

    wait_until(used, 10)

    (listed,) = (key for key in run_json("keys", "list", "--database", shared) if key["id"] == made["id"])
    assert listed["last_used_at"] >= listed["created_at"]


def test_a_port_in_use_is_refused_before_a_database_is_made(first: Started, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/never.db"

    said = refusal("serve", "--database", database, "--port", first.port)

    assert f"cannot listen on 127.0.0.1:{first.port}" in said
    assert "--port" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (["--smtp-certificate", "none.pem"], "the certificate none.pem cannot be used: [Errno 2]"),
        (["--smtp-certificate", "{certificate}"], "cannot be used: [SSL]"),
        (["--smtp-certificate", "{certificate}", "--smtp-certificate-key", "none.pem"], "with the key none.pem cannot"),
        (["--smtp-certificate", "{certificate}", "--smtp-certificate-key", "{key}"], "the key has a password"),
        (["--smtp-certificate-key", "{key}"], "of no use without a certificate: name one with --smtp-certificate"),
        (["--tls-certificate", "none.pem"], "the certificate none.pem cannot be used: [Errno 2]"),
        (["--tls-certificate", "{certificate}", "--tls-certificate-key", "{key}"], "the key has a password"),
        (["--tls-certificate-key", "{key}"], "of no use without a certificate: name one with --tls-certificate"),
        (["--trusted-proxies", "127.0.0.1,proxy"], "trusted_proxies cannot be used: 'proxy' does not"),
    ],
)
def test_a_transport_that_cannot_be_used_is_refused_before_a_database_is_made(
    tmp_path: Path, files: list[str], why: str
) -> None:
    kept = tmp_path / "kept"
    certificate, key = make_certificate(kept, password="secret")
    flags = [flag.format(certificate=certificate, key=key) for flag in files]

    said = refusal("serve", "--database", f"sqlite:///{tmp_path}/never.db", "--port", "0", "--smtp-port", "0", *flags)

    assert why in said
    assert list(tmp_path.iterdir()) == [kept]


def test_the_doctor_knows_a_running_server(first: Started, shared: str) -> None:
    findings = run_json("doctor", "--database", shared, "--port", first.port)

    assert [each["found"] for each in findings if each["check"] == "address"] == [
        f"a sessiond answers on 127.0.0.1:{first.port}"
    ]


def test_a_stopped_server_closes_its_streams_and_ends_with_0(database: str) -> None:
    with start(database) as started:
        headers = {"Authorization": f"Bearer {started.secret}"}
        with httpx.Client(base_url=started.url, headers=headers, timeout=20) as client:
            session = client.post("/v1/sessions", json={}).json()["id"]
            with client.stream("GET", f"/v1/sessions/{session}/stream") as stream:
                assert stream.status_code == 200
                lines = stream.iter_lines()
                assert next(lines)

                ended = started.stop()

                for _ in lines:  # it ends as an answer does: httpx raises if it is cut off
                    pass
    assert ended == 0


def test_a_later_start_prints_how_to_make_a_key_and_none(database: str) -> None:
    with start(database) as started:
        assert len(SECRET.findall(started.greeting)) == 3  # by itself, and in the curl lines

    with start(database) as again:
        assert "sessiond keys create" in again.greeting
        assert not SECRET.search(again.greeting)


def test_many_workers_print_the_first_key_once_and_end_with_0(postgres: PostgresServer) -> None:
    postgres.create_database("cli_workers")

    with start(postgres.url("cli_workers"), "--workers", "2") as started:
        assert started.ask("/v1/me").status_code == 200
        assert started.process.stdout is not None
        ended = started.stop()
        rest = started.process.stdout.read()

    assert ended == 0
    assert not SECRET.search(rest)


def test_any_of_many_workers_answers_for_the_metrics_of_all(postgres: PostgresServer) -> None:
    postgres.create_database("cli_metrics")

    with start(postgres.url("cli_metrics"), "--workers", "2") as started:
        for _ in range(40):  # a connection each, so that both are asked
            assert started.ask("/v1/me").status_code == 200

        def counted() -> bool:
            lines = started.ask("/metrics").text.splitlines()
            return any(
                line.startswith("sessiond_request_seconds_count") and "/v1/me" in line and line.endswith(" 40.0")
                for line in lines
            )

        wait_until(counted, 10)
        assert started.stop() == 0


def test_many_workers_on_sqlite_are_refused_with_the_reason(tmp_path: Path) -> None:
    said = refusal("serve", "--database", f"sqlite:///{tmp_path}/never.db", "--workers", "2", "--port", "0")

    assert "SQLite has one writer" in said
    assert not list(tmp_path.iterdir())
