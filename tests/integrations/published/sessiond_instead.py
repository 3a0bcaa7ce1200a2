"""A pytest plugin, loaded beside the OpenAI Agents SDK's own tests: where they make a SQLiteSession, they get ours.

It runs in a process of its own, in the folder of those tests (`test_openai_agents_published.py`). TESTS_PLACES says
where sessions are kept, as JSON, by name: `{"database": …}`, or `{"url": …, "key": …}`.
"""

from __future__ import annotations

import inspect
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import agents
import agents.memory
import agents.memory.sqlite_session
import pytest

from sessiond import Client
from sessiond.integrations.openai_agents import SessiondSession

PLACES: Final[dict[str, dict[str, str]]] = json.loads(os.environ["TESTS_PLACES"])
EVERYWHERE: Final = {"test_session.py", "test_session_limit.py"}
"""The files that test sessions. Others use one to test something else, and do so in the first place only."""

MADE: Final = "SQLiteSession("
"""What stands in each test that makes a session. The others have nothing to do with us."""

INTERNALS: Final = {
    **dict.fromkeys(
        (
            "test_sqlite_session_close_closes_worker_thread_connections",
            "test_sqlite_session_reaps_connections_from_exited_worker_threads",
            "test_sqlite_session_closes_retired_connections_before_the_next_allocation",
            "test_sqlite_session_keeps_connections_of_live_worker_threads",
            "test_sqlite_session_rollback_failure_evicts_connection",
            "test_sqlite_session_close_retries_quarantined_connection",
            "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome",
            "test_settled_pop_failure_invalidates_response_chain",
            "test_settled_clear_failure_invalidates_response_chain",
        ),
        "looks into its set of connections to SQLite, or puts one into it",
    ),
    **dict.fromkeys(
        (
            "test_sqlite_session_pop_item_skips_corrupt_most_recent",
            "test_sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows",
            "test_sqlite_session_get_items_limit_skips_corrupt_newest_rows",
            "test_sqlite_session_get_items_session_settings_limit_skips_corrupt_rows",
        ),
        "writes broken JSON into its table, by its own connection",
    ),
    **dict.fromkeys(
        (
            "test_sqlite_session_failed_add_items_releases_write_lock",
            "test_sqlite_session_failed_clear_session_rolls_back",
            "test_sqlite_session_failed_pop_item_releases_write_lock",
        ),
        "opens its file to look into its tables, or to drop them",
    ),
    "test_sqlite_session_file_lock_is_shared_across_instances": "looks at its locks of files",
    "test_sqlite_session_closed_rejects_empty_add_items": "wants an error that says 'SQLiteSession is closed'",
    **dict.fromkeys(
        (
            "test_automatic_compaction_rollback_budget",
            "test_automatic_compaction_does_not_reload_unbounded_hidden_history",
            "test_backend_read_limit_cannot_hide_retained_history_from_compaction",
            "test_expired_read_overhead_does_not_authorize_hidden_history",
        ),
        "needs its _get_compaction_snapshot, which is no part of the protocol",
    ),
}
"""Tests of what a SQLiteSession has inside, each with what that is."""

_clients: Final[dict[str, Client]] = {}
_here = ""


class Instead(SessiondSession):
    """Ours, made as a SQLiteSession is: one in memory is nobody else's, and a file has sessions of its own."""

    def __init__(
        self,
        session_id: str,
        db_path: str | Path = ":memory:",
        sessions_table: str = "agent_sessions",
        messages_table: str = "agent_messages",
        session_settings: Any = None,
    ) -> None:
        del sessions_table, messages_table
        file = uuid.uuid4().hex if str(db_path) == ":memory:" else str(db_path)
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{file}\n{session_id}").hex
        super().__init__(name, _client(_here), session_settings=session_settings)


for module in (agents, agents.memory, agents.memory.sqlite_session):
    vars(module)["SQLiteSession"] = Instead


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = list(PLACES) if metafunc.definition.path.name in EVERYWHERE else list(PLACES)[:1]
    metafunc.parametrize("_place", names, indirect=True)


@pytest.fixture(autouse=True)
def _place(request: pytest.FixtureRequest) -> Iterator[None]:
    global _here
    _here = request.param
    yield
    _here = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    functions = [item for item in items if isinstance(item, pytest.Function)]
    unknown = set(INTERNALS) - {function.originalname for function in functions}
    assert not unknown, f"left out, and not there: {unknown}"
    left_out = [each for each in functions if each.originalname in INTERNALS or MADE not in _source(each)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [each for each in functions if each not in left_out]


def pytest_unconfigure() -> None:
    for client in _clients.values():
        client.close()


def _client(name: str) -> Client:
    if name not in _clients:
        place = PLACES[name]
        _clients[name] = Client.local(place["database"]) if "database" in place else Client(place["key"], place["url"])
    return _clients[name]


def _source(function: pytest.Function) -> str:
    return inspect.getsource(function.function)
