"""The OpenAI Agents SDK's own tests of sessions, as its authors publish them, with ours in place of theirs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sessiond.storage.open import migrate
from tests.postgres import PostgresServer
from tests.serving import open_serving

PUBLISHED: Final = Path(__file__).parents[2] / ".venv" / "published"  # where `make test` unpacks them
PLUGIN: Final = Path(__file__).parent / "published"
FILES: Final = (
    "test_session.py",
    "test_session_limit.py",
    "test_compaction_model_visibility.py",
    "test_openai_responses_compaction_session.py",
)
LEAST: Final = 190  # tests that are to pass: none is lost unnoticed


@pytest.mark.timeout(300)  # 12 seconds alone, of which 5 are for the framework's imports
def test_the_published_tests_pass_with_our_session_in_all_places(tmp_path: Path, postgres: PostgresServer) -> None:
    assert PUBLISHED.exists(), "the published tests are not there: make test fetches them"
    postgres.create_database("published")
    databases = (f"sqlite:///{tmp_path}/served.db", postgres.url("published"))
    for database in databases:
        asyncio.run(migrate(database))

    with open_serving(databases[0]) as sqlite_server, open_serving(databases[1]) as postgres_server:
        places = {
            "embedded": {"database": str(tmp_path / "embedded.db")},
            "sqlite": {"url": sqlite_server.url, "key": sqlite_server.make_tenant().key},
            "postgres": {"url": postgres_server.url, "key": postgres_server.make_tenant().key},
        }
        done = _run(places)

    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= LEAST, done.stdout


def _run(places: dict[str, dict[str, str]]) -> subprocess.CompletedProcess[str]:
    ours = {"TESTS_PLACES": json.dumps(places), "PYTHONPATH": str(PLUGIN), "OPENAI_API_KEY": "none"}
    without = ("sessiond", "langsmith_plugin", "cacheprovider", "xdist", "rerunfailures")
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "sessiond_instead"),
            *(word for name in without for word in ("-p", f"no:{name}")),
            *(f"tests/memory/{file}" for file in FILES),
        ],
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))} | ours,
        cwd=PUBLISHED,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
