"""The commands that need no server, on databases in every state."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import apsw
import asyncpg
import pytest

from sessiond.actions import workspaces
from sessiond.actions.keys import MadeKey
from sessiond.cli.database import open_database
from sessiond.cli.routes import read_table
from sessiond.core.errors import NotFound
from sessiond.settings import Settings
from sessiond.storage import clock
from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate, sqlite_path
from tests.cli.program import SECRET, refusal, run, run_afresh, run_json

NEWER = "insert into schema_migrations values (9999, '9999_from_the_future', 0)"
UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"  # no server has ever listened on port 1


def execute(database: str, sql: str) -> None:
    """Run a statement behind sessiond's back."""
    path = sqlite_path(database)
    if path is not None:
        connection = apsw.Connection(str(path))
        connection.execute(sql)
        connection.close()
        return

    async def execute_there() -> None:
        connection = await asyncpg.connect(database)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(execute_there())


def start_first(database: str) -> MadeKey | None:
    """Do with the database what a first start does."""

    async def begin() -> MadeKey | None:
        async with open_database(Settings(database=database)) as engine:
            return await workspaces.begin(engine)

    return asyncio.run(begin())


def test_keys_create_on_an_empty_database_makes_all_it_needs(database: str) -> None:
    made = run_json(
        *("keys", "create", "--database", database, "--name", "app", "--scope", "sessions:read", "--scope", "admin"),
        *("--dialect", "viben", "--user", "ada", "--expires-in", "30d"),
    )

    assert SECRET.fullmatch(made.pop("key"))
    assert len(made.pop("database_id_hash")) == 64
    assert made.pop("id").startswith("key_")
    assert made.pop("created_at") < made.pop("expires_at")
    assert made == {
        "workspace": "default",
        "name": "app",
        "scopes": ["admin", "sessions:read"],
        "dialect": "viben",
        "user_id": "ada",
        "revoked_at": None,
        "last_used_at": None,
    }
    assert start_first(database) is None  # there is a key: another would not be the first


def test_looking_at_an_empty_database_leaves_the_first_key_to_the_first_start(database: str) -> None:
    assert [each["id"] for each in run_json("workspaces", "list", "--database", database)] == ["default"]
    assert run_json("keys", "list", "--database", database) == []

    assert start_first(database) is not None
    assert start_first(database) is None


def test_a_workspace_that_was_made_has_keys_of_its_own(database: str) -> None:
    made = run_json("workspaces", "create", "acme", "--database", database)
    key = run_json("keys", "create", "--workspace", "acme", "--database", database)

    assert key["workspace"] == "acme"
    assert key["database_id_hash"] == made["database_id_hash"]
    assert run("keys", "list", "--database", database).stdout.splitlines()[1:] == []
    run("keys", "revoke", key["id"], "--database", database)  # its id is enough
    listed = run("keys", "list", "--workspace", "acme", "--database", database).stdout
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [[key["id"], "-", "revoked"]]


def test_a_workspace_is_told_how_long_to_keep_what_has_ended(database: str) -> None:
    def retention(seconds: int | None) -> bool:
        listed = run_json("workspaces", "list", "--database", database)
        return bool({each["id"]: each["retention_seconds"] for each in listed}["acme"] == seconds)

    run_json("workspaces", "create", "acme", "--database", database)
    assert retention(None)

    assert run_json("workspaces", "set", "acme", "--retention", "36h", "--database", database)["id"] == "acme"
    assert retention(129_600)
    assert "36h" in run("workspaces", "list", "--database", database).stdout

    run("workspaces", "set", "acme", "--retention", "forever", "--database", database)
    assert retention(None)
    assert "no such workspace" in refusal("workspaces", "set", "nope", "--retention", "1d", "--database", database)


def test_what_is_piped_is_plain(database: str) -> None:
    printed = (
        run("keys", "create", "--database", database).stdout + run("workspaces", "list", "--database", database).stdout
    )

    assert "\x1b" not in printed
    assert "│" not in printed


def test_what_does_not_exist_is_refused_with_what_to_do(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/sessiond.db"

    assert "sessiond workspaces create" in refusal("keys", "create", "--workspace", "nope", "--database", database)
    assert "sessiond keys list" in refusal("keys", "revoke", "key_nope", "--database", database)


def test_a_taken_or_impossible_workspace_id_is_refused(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/sessiond.db"

    assert "exists" in refusal("workspaces", "create", "default", "--database", database)
    assert "workspace" in refusal("workspaces", "create", "a/b", "--database", database)


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "--dialect", "klingon"),
        ("keys", "create", "--expires-in", "soon"),
        ("keys", "create", "--scope", "everything"),
        ("serve", "--default-dialect", "klingon"),
        ("serve", "--port", "http"),
    ],
)
def test_what_is_called_wrongly_ends_with_2_and_makes_nothing(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*arguments, "--database", f"sqlite:///{tmp_path}/never.db", status=2)

    assert arguments[-2] in done.stderr
    assert not list(tmp_path.iterdir())


def test_migrate_says_what_ran_and_then_nothing(database: str) -> None:
    assert run_json("migrate", "--database", database)["ran"][0] == "0001_initial"
    assert run_json("migrate", "--database", database) == {"ran": []}


def test_a_newer_schema_is_refused_and_left_alone(database: str) -> None:
    asyncio.run(migrate(database))
    execute(database, NEWER)

    assert "newer sessiond" in refusal("serve", "--database", database, "--port", "0")
    assert "newer sessiond" in refusal("keys", "create", "--database", database)
    findings = run_json("doctor", "--database", database, "--port", "0", status=1)
    assert {each["check"] for each in findings if each["state"] == "bad"} == {"schema"}


def test_an_unknown_kind_of_database_is_refused() -> None:
    assert "sqlite:///" in refusal("keys", "list", "--database", "mysql://localhost/sessiond")


def test_a_database_that_cannot_be_reached_is_one_line() -> None:
    said = refusal("keys", "list", "--database", UNREACHABLE)

    assert "PostgreSQL" in said
    assert "see that --database" in said


def test_the_doctor_finds_a_good_database_good(database: str) -> None:
    asyncio.run(migrate(database))

    findings = run_json("doctor", "--database", database, "--port", "0")

    states = {each["check"]: each["state"] for each in findings}
    assert states.keys() >= {"settings", "workers", "database", "schema", "clock", "address"}
    assert states.pop("disk", "ok") in ("ok", "warn")  # how full the disk is, is not ours to say
    assert set(states.values()) == {"ok"}


async def test_the_clock_of_the_database_is_read(engine: Engine) -> None:
    before_us = time.time_ns() // 1000

    theirs_us = await engine.read(clock.read_us)

    # Both databases run on this machine; SQLite says milliseconds.
    assert before_us - 1000 <= theirs_us <= time.time_ns() // 1000


async def test_a_key_leads_to_its_workspace(engine: Engine) -> None:
    made = await workspaces.begin(engine)
    assert made is not None

    assert (await workspaces.get_by_key(engine, made.key.id)).id == workspaces.DEFAULT
    with pytest.raises(NotFound):
        await workspaces.get_by_key(engine, "key_nope")


def test_the_doctor_makes_no_database(tmp_path: Path) -> None:
    findings = run_json("doctor", "--database", f"sqlite:///{tmp_path}/never.db", "--port", "0")

    assert [each["state"] for each in findings if each["check"] == "database"] == ["warn"]
    assert not list(tmp_path.iterdir())


def test_the_doctor_says_what_to_do_about_a_database_that_does_not_answer() -> None:
    findings = run_json("doctor", "--database", UNREACHABLE, "--port", "0", status=1)

    (bad,) = (each for each in findings if each["state"] == "bad")
    assert bad["check"] == "database"
    assert bad["advice"]


def test_the_doctor_reports_a_setting_that_cannot_be_used() -> None:
    done = run("doctor", environment={"SESSIOND_PORT": "http"}, status=1)

    assert "bad    settings  SESSIOND_PORT cannot be 'http'" in done.stdout


def test_routes_shows_the_paths_that_two_wires_claim() -> None:
    contested = [each for each in run_json("routes") if each["contested"]]

    assert {(each["method"], each["path"].partition("{")[0]) for each in contested} == {
        ("GET", "/api/sessions"),
        ("GET", "/api/sessions/"),
        ("DELETE", "/api/sessions/"),
    }
    assert all(sorted(each["dialects"]) == ["operativus", "viben"] for each in contested)


def test_routes_names_each_path_and_method_once() -> None:
    names = [(each["path"], each["method"]) for each in read_table()]

    assert len(names) == len(set(names))
    assert ("/v1/sessions", "POST") in names


def test_help_and_version_import_nothing_that_is_slow() -> None:
    for arguments in (("--help",), ("version",), ("sessions", "tail", "--help")):
        loaded = run_afresh(*arguments, environment={"PYTHONPROFILEIMPORTTIME": "1"}).stderr

        imported = {line.rpartition("|")[2].strip() for line in loaded.splitlines()}
        assert "sessiond.cli" in imported
        assert not imported & {"asyncio", "asyncpg", "apsw", "httpx2", "rich", "sessiond.client", "sessiond.server"}
