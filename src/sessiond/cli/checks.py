"""What `sessiond doctor` looks at. Each check finds one thing, and says what to do unless all is well."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec

from sessiond.assembly import DIALECTS
from sessiond.cli.agents import read_workspace_agents
from sessiond.cli.agents_file import read_agents
from sessiond.cli.database import open_as_it_is
from sessiond.cli.lacks import find_lacks
from sessiond.cli.show import hide_password
from sessiond.cli.workspaces import read_workspaces
from sessiond.core.errors import SessiondError
from sessiond.server import check_addresses, check_transport, check_workers
from sessiond.settings import ENVIRONMENT_PREFIX, FILE_VARIABLE, Settings, SettingsError, variable_of
from sessiond.sockets import ServeError
from sessiond.storage import clock
from sessiond.storage.engine import Engine
from sessiond.storage.open import sqlite_path

OK: Final = "ok"
WARN: Final = "warn"
BAD: Final = "bad"

CLOCK_WARN_SECONDS: Final = 1.0  # order never depends on a clock, but the times people read do
CLOCK_BAD_SECONDS: Final = 30.0  # keys would expire early or late
DISK_WARN_BYTES: Final = 1024**3
DISK_BAD_BYTES: Final = 64 * 1024**2  # the write-ahead log alone may take that between two checkpoints
ANSWER_SECONDS: Final = 2.0


class Finding(msgspec.Struct, frozen=True):
    check: str
    state: str
    found: str
    advice: str | None = None

    @property
    def text(self) -> str:
        return f"{self.found}: {self.advice}" if self.advice is not None else self.found


async def examine(settings: Settings) -> list[Finding]:
    """Return what was found, in the order in which a start would meet it."""
    findings = list(_settings(settings))
    try:
        path = sqlite_path(settings.database)
        findings.append(_workers(settings))
        if path is not None:
            findings += _folder(path)
        if path is None or path.exists():
            findings += [finding async for finding in _database(settings)]
        else:
            findings.append(Finding("database", WARN, f"there is no {path} yet", "sessiond serve or migrate makes it"))
    except SessiondError as error:
        findings.append(Finding("database", BAD, str(error), "give another --database, or see that this one answers"))
    except Exception as error:  # whatever the driver says: the one who asked is the one to read it
        findings.append(Finding("database", BAD, str(error) or repr(error), "see the database's own log"))
    transport = list(_transport(settings))
    findings += transport
    if not any(finding.state == BAD for finding in transport):
        findings.append(_address(settings))
    return findings


def _settings(settings: Settings) -> Iterator[Finding]:
    names, usable = [dialect.name for dialect in DIALECTS], True
    if settings.default_dialect is not None and settings.default_dialect not in names:
        known, usable = ", ".join(names), False
        yield Finding("settings", BAD, f"there is no dialect {settings.default_dialect!r}", f"use {known}, or none")
    try:
        read_agents(settings.agents_file)
    except SettingsError as error:
        usable = False
        yield Finding("settings", BAD, str(error), "docs/operate/workers.md shows such a file")
    if usable:
        yield Finding("settings", OK, "all can be used")
    known_variables = {FILE_VARIABLE, *map(variable_of, Settings.__struct_fields__)}
    for variable in sorted(os.environ):
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in known_variables:
            yield Finding("settings", WARN, f"the environment's {variable} is no setting", "is it spelled right?")


def _workers(settings: Settings) -> Finding:
    try:
        check_workers(settings)
    except ServeError as error:
        return Finding("workers", BAD, *_split(str(error)))
    return Finding("workers", OK, str(settings.workers))


def _folder(path: Path) -> Iterator[Finding]:
    folder = path.absolute().parent
    while not folder.exists():  # the first start makes what is missing
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield Finding("folder", OK, f"{folder} can be written")
    except OSError as error:
        yield Finding("folder", BAD, f"{folder} cannot be written ({error.strerror})", "let this user write there")
    free = shutil.disk_usage(folder).free
    state = BAD if free < DISK_BAD_BYTES else WARN if free < DISK_WARN_BYTES else OK
    yield Finding("disk", state, f"{free / 1024**3:.1f} GiB free", None if state == OK else "make room there")


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    async with open_as_it_is(settings) as engine:
        schema = await engine.schema()
        yield Finding("database", OK, f"{hide_password(settings.database)} answers")
        if schema.version > schema.newest:
            found = f"version {schema.version}, this sessiond knows {schema.newest}"
            yield Finding("schema", BAD, found, "run the newer sessiond")
        elif schema.version < schema.newest:
            found = f"version {schema.version}, needed is {schema.newest}"
            yield Finding("schema", WARN, found, "sessiond migrate, or the next start, brings it up to date")
        else:
            yield Finding("schema", OK, f"version {schema.version}")
            async for finding in _agents(settings, engine):
                yield finding
        yield await _clock(engine)


async def _agents(settings: Settings, engine: Engine) -> AsyncIterator[Finding]:
    if settings.runs_max == 0:
        yield Finding("agents", OK, "their runs are left to others")
        return
    count, lacking = 0, 0
    for workspace in await read_workspaces(engine):
        for agent in await read_workspace_agents(engine, workspace):
            count += 1
            for lack in find_lacks(agent):
                lacking += 1
                found = f"{agent.id} in {workspace.id}: {lack}"
                yield Finding("agents", WARN, found, "its runs fail where that is so")
    if not lacking:
        yield Finding("agents", OK, f"{count} registered, none lacks anything here")


async def _clock(engine: Engine) -> Finding:
    before_us = time.time_ns() // 1000
    theirs_us = await engine.read(clock.read_us)
    after_us = time.time_ns() // 1000
    # Between our two looks any time is right: only what lies outside is a difference.
    apart = max(before_us - theirs_us, theirs_us - after_us, 0) / 1_000_000
    if apart < CLOCK_WARN_SECONDS:
        return Finding("clock", OK, "the database's and ours agree")
    state = BAD if apart >= CLOCK_BAD_SECONDS else WARN
    return Finding("clock", state, f"the database's and ours are {apart:.1f} s apart", "set both by NTP")


def _transport(settings: Settings) -> Iterator[Finding]:
    try:
        check_transport(settings)
    except ServeError as error:
        yield Finding("transport", BAD, *_split(str(error)))
    else:
        if settings.tls_certificate is not None:
            yield Finding("transport", OK, "the certificate can be used")


def _address(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    try:
        check_addresses(settings)
    except ServeError as error:
        if _is_sessiond(settings):
            return Finding("address", OK, f"a sessiond answers on {where}")
        return Finding("address", BAD, *_split(str(error)))
    return Finding("address", OK, f"{where} is free" if settings.port else "any free port")


def _is_sessiond(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not to listen on
    if settings.tls_certificate is None:
        connection = http.client.HTTPConnection(host, settings.port, timeout=ANSWER_SECONDS)
    else:  # whose certificate it is does not matter, since nothing is told
        nobody = ssl.create_default_context()
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, settings.port, timeout=ANSWER_SECONDS, context=nobody)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == 200 and answer.headers["x-request-id"] is not None
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _split(reason: str) -> tuple[str, str]:
    """Return what is wrong, and what to do, of a sentence that says both."""
    found, _, advice = reason.partition(": ")
    return found, advice
