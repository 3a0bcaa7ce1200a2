"""Of what is sealed nothing is found where it is kept, sent or logged, by who looks for its bytes."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator

import asyncpg
import httpx
import pytest

from sessiond.actions import encryption, workspaces
from sessiond.actions.encryption import Mode
from sessiond.storage.open import migrate, sqlite_path
from tests.end_to_end.filling import fill
from tests.end_to_end.tampering import ask
from tests.serving import Serving, Tenant, open_serving

STORAGE_KEY = "a storage key of some length"


@pytest.fixture
def server(database: str) -> Iterator[Serving]:
    asyncio.run(migrate(database))
    with open_serving(database, shutdown_seconds=1, mail_domain="localhost") as opened:
        yield opened


@pytest.fixture
def word() -> str:
    """A word that stands nowhere else."""
    return f"w{uuid.uuid4().hex}"


async def read_everything(database: str) -> bytes:
    """Return all that a copy of the database has: the files of SQLite, each column of each table of PostgreSQL."""
    path = sqlite_path(database)
    if path is not None:
        return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))
    tables = await ask(database, "select table_name from information_schema.tables where table_schema = 'public'")
    rows = [await ask(database, f'select * from "{table}"') for (table,) in tables]
    return b"\n".join(
        bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        for found in rows
        for row in found
        for value in row
    )


def check_nowhere(database: str, word: str) -> None:
    kept = asyncio.run(read_everything(database))
    assert len(kept) > 1_000
    for found in (word, word.upper()):
        at = kept.find(found.encode())
        assert at < 0, kept[max(0, at - 100) : at + 100]


@pytest.mark.parametrize("storage_key", [None, STORAGE_KEY], ids=["server", "client"])
def test_nothing_that_is_written_is_found(
    server: Serving, database: str, word: str, storage_key: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tenant = server.make_tenant(sealed=storage_key is None)
    headers = tenant.headers | ({"storage-key": storage_key} if storage_key is not None else {})
    with tenant.client(headers=headers) as client, Notified(database) as notified:
        made = fill(client, word, smtp=server)
        again = client.get(f"/v1/sessions/{made.session}").json()
        assert again["user_email"] == f"{word}@example.org"
        shown = client.get("/openagents/api/agent/echo/session", params={"query": word[3:20].upper()})
        assert word in shown.text
        client.patch(f"/v1/sessions/{made.session}", json={"name": word, "metadata": {word: word}}).raise_for_status()
        client.post(f"/v1/sessions/{made.session}/messages", json={"content": ["no", word]})

    check_nowhere(database, word)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("sessiond")]
    assert word not in "".join(said)
    assert word not in "".join(notified.payloads)
    if sqlite_path(database) is None:
        assert notified.payloads, "it was listened to"


class Notified:
    """What PostgreSQL tells its listeners."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.payloads: list[str] = []
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Notified:
        if sqlite_path(self._database) is None:
            self._connection = self._loop.run_until_complete(asyncpg.connect(self._database))
            for channel in ("sessiond_wakes", "sessiond_deltas"):
                self._loop.run_until_complete(self._connection.add_listener(channel, self._heard))
        return self

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.payloads.append(str(payload))

    def __exit__(self, *_error: object) -> None:
        if sqlite_path(self._database) is None:
            self._loop.run_until_complete(self._connection.fetch("select 1"))
            self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def test_nothing_is_left_of_what_was_there_before(server: Serving, database: str, word: str) -> None:
    tenant = server.make_tenant(sealed=False)
    with tenant.client() as client:
        made = fill(client, word, smtp=server)
        client.post(f"/v1/runs/{made.asking}/cancel").raise_for_status()
        assert word.encode() in asyncio.run(read_everything(database))
        workspace = server.run(workspaces.get(server.site.engine, tenant.workspace))

        server.run(encryption.begin(server.site.engine, workspace.id, Mode.SERVER))
        server.run(encryption.move(server.site.engine, workspace.id))

        check_nowhere(database, word)
        assert client.get(f"/v1/sessions/{made.session}").json()["user_email"] == f"{word}@example.org"
        assert word in client.get(f"/v1/mails/{made.mail}/raw").text


def test_two_workspaces_with_the_same_content_share_no_bytes(server: Serving, database: str, word: str) -> None:
    tenants = [server.make_tenant(sealed=True), server.make_tenant(sealed=True)]
    for tenant in tenants:
        with tenant.client() as client:
            _same(client, word)

    columns = {
        "events": ("body",),
        "session_details": ("sealed",),
        "session_metadata": ("value",),
        "inboxes": ("metadata",),
        "idempotency": ("answer", "fingerprint"),
        "seal_keys": ("wrapped",),
    }
    for table, names in columns.items():
        for name in names:
            kept = [asyncio.run(_kept(database, table, name, tenant)) for tenant in tenants]
            assert all(kept), table
            assert not set(kept[0]) & set(kept[1]), table
            if name not in ("value", "fingerprint"):  # and no text is sealed twice alike
                assert len(set(kept[0])) == len(kept[0])


def _same(client: httpx.Client, word: str) -> None:
    for number in range(2):
        said = {
            "id": f"s{number}",
            "name": word,
            "metadata": {"same": word},
            "messages": [{"role": "user", "content": word}],
        }
        made = client.post("/v1/sessions", json=said, headers={"Idempotency-Key": f"k{number}"})
        assert made.status_code == 201
        client.post("/v1/inboxes", json={"session_id": f"s{number}", "metadata": {"same": word}}).raise_for_status()


async def _kept(database: str, table: str, name: str, tenant: Tenant) -> list[object]:
    rows = await ask(database, f"select {name} from {table} where workspace_id = '{tenant.workspace}'")
    return [bytes(value) if not isinstance(value, str) else value for (value,) in rows]
