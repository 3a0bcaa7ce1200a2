"""Sealed columns, and what is done to them behind sessiond's back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw
import asyncpg

from sessiond.storage.open import sqlite_path

SPOTS: Final = (0, 3, 12, 21, -1)
"""A byte of each part of a sealed text: version, key id, nonce, text, tag."""
PLAIN: Final = b'{"role":"user","content":"forged"}'


class Column:
    """A sealed column of one row."""

    def __init__(self, database: str, table: str, column: str, where: str) -> None:
        self.database, self.table, self.column, self.where = database, table, column, where

    async def read(self) -> bytes:
        ((kept,),) = await ask(self.database, f"select {self.column} from {self.table} where {self.where}")
        assert kept is not None, (self.table, self.column)
        return bytes(kept)

    async def write(self, kept: bytes) -> None:
        blob = f"x'{kept.hex()}'" if sqlite_path(self.database) is not None else f"'\\x{kept.hex()}'::bytea"
        await ask(self.database, f"update {self.table} set {self.column} = {blob} where {self.where}")


async def ask(database: str, sql: str) -> Sequence[Any]:
    path = sqlite_path(database)
    if path is None:
        server = await asyncpg.connect(database)
        try:
            return [tuple(row) for row in await server.fetch(sql)]
        finally:
            await server.close()
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(10_000)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def flipped(kept: bytes) -> list[bytes]:
    """Return a sealed text with one bit changed, in each of its parts."""
    changed = []
    for spot in SPOTS:
        text = bytearray(kept)
        text[spot] ^= 1
        changed.append(bytes(text))
    return changed
