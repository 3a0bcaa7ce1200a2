"""A server for tests: the real site behind the real HTTP server on a real socket, in a thread of this process."""

from __future__ import annotations

import asyncio
import os
import smtplib
import ssl
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from email.message import EmailMessage
from tempfile import NamedTemporaryFile
from typing import Any, Final

import httpx
import msgspec
import uvloop

from sessiond import assembly, server
from sessiond.actions import encryption, keys, workspaces
from sessiond.actions.call import Call, itself
from sessiond.core.caller import ALL_SCOPES
from sessiond.crypto import make_master_key
from sessiond.integrations.mcp.wire import open_routes
from sessiond.settings import Settings
from sessiond.sockets import Places, read_proxies, reserve
from sessiond.web.connections import HttpServer
from sessiond.web.site import Site

MASTER_KEY: Final = make_master_key()
SEALED: Final = bool(os.environ.get("TESTS_SEALED"))
"""Whether workspaces of tests are sealed unless they say otherwise: all that is tested of a wire holds for them too."""

TLS: Final = ssl.create_default_context()  # nobody speaks it here, but a client that makes its own takes 25 ms to


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace on a server, and a key for it."""

    serving: Serving
    workspace: str
    database_id_hash: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "database-id-hash": self.database_id_hash}

    def client(self, prefix: str = "", *, headers: Mapping[str, str] | None = None) -> httpx.Client:
        """Return an HTTP client that holds the key and asks below `prefix`; close it."""
        return httpx.Client(
            base_url=f"{self.serving.url}{prefix}",
            headers=self.headers if headers is None else headers,
            timeout=30,
            verify=TLS,
        )

    def make_key(self, **new: Any) -> Tenant:
        """Return the same workspace with another key, made of `actions.keys.NewKey`'s fields."""
        made = self.serving.make_key(self.workspace, keys.NewKey(**new))
        return msgspec.structs.replace(self, key=made.secret)


class Serving:
    """A running server."""

    def __init__(self, places: Places, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self.url = places.url
        self.smtp = places.smtp or ""
        """Host and port that take mail for addresses at `localhost`."""
        self.site = site
        self._loop = loop

    @property
    def commits(self) -> int:
        """How many transactions the server has committed: while they are as many, nothing was stored."""
        return self.site.engine.load().commits

    def send(self, message: EmailMessage) -> None:
        """Send a mail to the addresses in its To, by SMTP."""
        host, _, port = self.smtp.rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=30) as client:
            client.send_message(message)

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the server's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def make_tenant(self, *, sealed: bool = SEALED) -> Tenant:
        """Return a new workspace with a key that may do everything in it, and names no dialect."""
        name = f"w-{uuid.uuid4().hex[:12]}"
        workspace = self.run(workspaces.create(self.site.engine, name))
        if sealed:
            self.run(encryption.begin(self.site.engine, workspace.id, encryption.Mode.SERVER))
            self.run(encryption.move(self.site.engine, workspace.id))
        made = self.make_key(name, keys.NewKey(scopes=ALL_SCOPES))
        return Tenant(serving=self, workspace=name, database_id_hash=workspace.database_id_hash, key=made.secret)

    def make_key(self, workspace_id: str, new: keys.NewKey) -> keys.MadeKey:
        async def make() -> keys.MadeKey:
            workspace = await workspaces.get(self.site.engine, workspace_id)
            return await keys.create(Call(self.site.engine, workspaces.operator(workspace)), new, itself)

        made: keys.MadeKey = self.run(make())
        return made


@contextmanager
def _master_key_file() -> Iterator[str]:
    with NamedTemporaryFile("w", suffix=".key") as file:
        file.write(MASTER_KEY)
        file.flush()
        yield file.name


@contextmanager
def open_serving(database: str, **settings: Any) -> Iterator[Serving]:
    """Serve a database, whose schema must be current, until the block ends."""
    ready, stop = threading.Event(), asyncio.Event()
    found: list[Serving] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        # Many tests send wrong keys, all from one address.
        fixed: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "smtp_port": 0, "auth_failures_max": 0}
        with _master_key_file() as file:
            wanted = Settings(database=database, master_key_file=file, **fixed | settings)
            async with _listening(wanted) as (places, site):
                found.append(Serving(places, site, asyncio.get_running_loop()))
                ready.set()
                await stop.wait()

    def run() -> None:
        try:
            uvloop.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="serving")
    thread.start()
    ready.wait(30)
    if failed:
        raise failed[0]
    try:
        yield found[0]
    finally:
        found[0]._loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        if failed:
            raise failed[0]


@asynccontextmanager
async def _listening(settings: Settings) -> AsyncIterator[tuple[Places, Site]]:
    held, ready = reserve(settings), asyncio.Event()
    async with (
        open_routes() as beside,
        assembly.open_site(settings, access=None, proxies=read_proxies(settings), beside=beside) as site,
        assembly.open_worker(settings, site.engine),
        server.open_listener(settings, site.engine, held),
    ):
        certificate = held.certificates.http
        tls = certificate.context if certificate is not None else None
        http = HttpServer(site, streams_max=settings.streams_max, ready=ready.set, tls=tls)
        running = asyncio.create_task(http.serve([held.http]))
        await ready.wait()
        try:
            yield held.places(), site
        finally:
            http.stop()
            site.close_streams()
            await asyncio.wait_for(running, 10)
