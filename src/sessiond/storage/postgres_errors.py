"""What PostgreSQL and its driver raise, and what comes of it: another attempt, "not now", or a bug without content."""

from __future__ import annotations

import logging
from typing import Final

import asyncpg

from sessiond.core.errors import Unavailable

log: Final = logging.getLogger("sessiond.storage")

# The server, or the way to it, was lost: unless it was committing, nothing of a transaction has happened.
LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server has said goodbye to an idle connection, and the driver still lends it
    asyncpg.OperatorInterventionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,  # no room on the disk, in memory or for another connection
    asyncpg.ReadOnlySQLTransactionError,  # a primary that was demoted: the next connection finds the new one
    OSError,
    TimeoutError,
)
# It took too long; another attempt would too. Which of the two gives up first, driver or server, is chance.
TOO_LONG: Final = (TimeoutError, asyncpg.QueryCanceledError)
# What another attempt settles: two transactions stood in each other's way.
CONTENDED: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)


class PostgresRefusedError(Exception):
    """PostgreSQL refused a statement of ours: a bug."""


def without_content(error: asyncpg.PostgresError) -> PostgresRefusedError:
    """Return a bug as the log may show it: PostgreSQL's details quote rows, and with them what people said."""
    refused = PostgresRefusedError(f"{type(error).__name__} ({error.sqlstate}): {error.args[0]}")
    return refused.with_traceback(error.__traceback__)


def unavailable(error: BaseException) -> Unavailable:
    log.warning("the database did not answer as it should: %s", type(error).__name__)
    return Unavailable("the database cannot do this now")
