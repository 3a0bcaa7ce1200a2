"""Commands at work on a database, whether or not a server is running on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from sessiond.actions import workspaces
from sessiond.actions.encryption import unlock
from sessiond.core.caller import Workspace
from sessiond.core.errors import Conflict, NotFound, Unavailable
from sessiond.crypto import STORAGE_KEY_VARIABLE, load_master
from sessiond.settings import Settings, load_settings
from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate, open_engine

T = TypeVar("T")

ADVICE: Final = "see that --database (SESSIOND_DATABASE) is right and answers, or ask sessiond doctor"


def run(work: Callable[[Engine], Awaitable[T]], *, database: str | None, config: Path | None) -> T:
    """Run `work` on the database, which gets its schema and the workspace `default` if it has none yet."""
    return run_on(load_settings({"database": database}, file=config), work)


def run_on(settings: Settings, work: Callable[[Engine], Awaitable[T]]) -> T:
    """Run `work` on the database of these settings; see `run`."""

    async def run_on_engine() -> T:
        async with open_database(settings) as engine:
            await _begin(engine)
            return await work(engine)

    return asyncio.run(run_on_engine())


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Engine]:
    """Bring the schema up to date, and open the database until the block ends.

    Raises:
        Unavailable: it does not answer; the message says what to do.
    """
    try:
        await migrate(settings.database)
    except Unavailable as error:
        raise Unavailable(f"{error}: {ADVICE}") from error
    async with open_as_it_is(settings) as engine:
        yield engine


@asynccontextmanager
async def open_as_it_is(settings: Settings) -> AsyncIterator[Engine]:
    """Open the database, whatever its schema, until the block ends."""
    engine = await open_engine(
        settings.database,
        queue_max=settings.write_queue_max,
        pool_max=2,
        command_timeout_seconds=settings.command_timeout_seconds,
        master=load_master(os.environ, file=settings.master_key_file),
    )
    try:
        yield engine
    finally:
        await engine.close()


async def get_workspace(engine: Engine, workspace_id: str, *, opens: bool = True) -> Workspace:
    """Return a workspace; `opens` it with the storage key of the environment, where clients hold its key.

    Raises:
        NotFound: there is none of that id; the message says how to make it.
        Forbidden: it is sealed with another storage key.
    """
    try:
        found = await workspaces.get(engine, workspace_id)
        storage_key = os.environ.get(STORAGE_KEY_VARIABLE)
        if opens and storage_key:
            await unlock(engine, found.id, storage_key)
        return found
    except NotFound as error:
        raise NotFound(
            f"there is no workspace {workspace_id!r}: make it with sessiond workspaces create, or see workspaces list"
        ) from error


async def _begin(engine: Engine) -> None:
    """Make the workspace `default` without its first key: the first start makes that, and shows it."""
    try:
        await workspaces.get(engine, workspaces.DEFAULT)
    except NotFound:
        with suppress(Conflict):  # somebody else was faster
            await workspaces.create(engine, workspaces.DEFAULT)
