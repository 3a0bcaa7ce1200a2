"""`sessiond audit`, on databases and on files."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sessiond.actions import agents, keys, workspaces
from sessiond.actions.call import Call, itself
from sessiond.actions.keys import NewKey
from sessiond.cli import audit_file
from sessiond.cli.database import open_database
from sessiond.core.agent import NewAgent
from sessiond.core.audit import Why
from sessiond.core.errors import InvalidInput
from sessiond.settings import Settings
from tests.cli.program import PROGRAM, make_environment, refusal, run, run_json
from tests.storage.making import execute

ADDED: Final = "insert into audit (workspace_id, seq, at_us, actor, event, record_locator) values {}"


async def make_logs(database: str) -> None:
    """Do what leaves five entries in the workspace `default`, and one in `acme`."""
    async with open_database(Settings(database=database)) as engine:
        for workspace_id in ("default", "acme"):
            await workspaces.create(engine, workspace_id)
        here, acme = [
            Call(engine, workspaces.operator(await workspaces.get(engine, name))) for name in ("default", "acme")
        ]
        await agents.register(here, "a", NewAgent(runner="echo"), itself)
        await agents.remove(here, "a", itself)
        await workspaces.set_retention(engine, "default", 30 * 86_400)
        await workspaces.set_audit_reads(engine, "default", wanted=True)
        for call in (here, acme):
            await keys.create(call, NewKey(), itself)


@pytest.fixture
def logged(database: str) -> str:
    """A database in which things were done; see `make_logs`."""
    asyncio.run(make_logs(database))
    return database


def by_hand(database: str, sql: str) -> None:
    asyncio.run(execute(database, sql))


def test_what_was_done_is_listed_newest_first(logged: str) -> None:
    entries = run_json("audit", "list", "--database", logged)

    assert [entry["event"] for entry in entries] == [
        "createKey",
        "updateWorkspace",
        "updateWorkspace",
        "deleteAgent",
        "createAgent",
    ]
    assert {(entry["actor"], entry["address"], entry["result"]) for entry in entries} == {("operator", None, "ok")}
    assert entries[2]["record"] == {"id": "default", "retention_seconds": 30 * 86_400}
    some = run_json(
        *("audit", "list", "--event", "createKey", "--event", "deleteAgent", "--limit", "1"), "--database", logged
    )
    assert some == entries[:1]
    assert run_json("audit", "list", "--actor", "key_none", "--database", logged) == []
    lines = run("audit", "list", "--workspace", "acme", "--database", logged).stdout.splitlines()
    assert lines[0].split() == ["SEQ", "AT", "ACTOR", "FROM", "EVENT", "RESULT", "RECORD"]
    assert len(lines) == 2
    assert "no workspace" in refusal("audit", "list", "--workspace", "none", "--database", logged)


def test_a_log_that_nobody_touched_is_verified(logged: str) -> None:
    lines = run("audit", "verify", "--database", logged).stdout.splitlines()
    checked = run_json("audit", "verify", "--database", logged)

    assert [line.split()[:3] for line in lines] == [
        ["WORKSPACE", "STATE", "ENTRIES"],
        ["acme", "ok", "1"],
        ["default", "ok", "5"],
    ]
    assert [(each["workspace"], each["ok"], each["fault"]) for each in checked] == [
        ("acme", True, None),
        ("default", True, None),
    ]
    newest = run_json("audit", "list", "--limit", "1", "--database", logged)[0]
    assert checked[1]["last"] == f"5:{newest['hash']}"


def test_the_first_entry_that_is_wrong_is_named_and_the_command_fails(logged: str) -> None:
    by_hand(logged, "update audit set actor = 'nobody' where workspace_id = 'default' and seq in (2, 4)")

    said = run("audit", "verify", "--database", logged, status=1).stdout
    checked = run_json("audit", "verify", "--workspace", "default", "--database", logged, status=1)

    assert "default    bad    1 " in said
    assert "entry 2: its hash is not" in said
    assert (checked[0]["ok"], checked[0]["fault"]["seq"], checked[0]["fault"]["why"]) == (False, 2, "changed")
    run("audit", "verify", "--workspace", "acme", "--database", logged)


def test_a_log_that_was_written_anew_is_found_by_a_hash_that_was_kept(logged: str) -> None:
    last = run_json("audit", "verify", "--workspace", "default", "--database", logged)[0]["last"]
    expect = ("audit", "verify", "--workspace", "default", "--database", logged, "--expect")
    run(*expect, last)

    assert "was noted" in run(*expect, f"5:{'0' * 64}", status=1).stdout
    assert "was removed" in run(*expect, f"6:{'0' * 64}", status=1).stdout
    for wrong in ("5", "5:xyz", f"0:{'0' * 64}"):
        assert "number and hash" in run(*expect, wrong, status=2).stderr
    assert "--workspace or --file" in run("audit", "verify", "--expect", last, "--database", logged, status=2).stderr


def test_an_older_releases_log_is_said_to_be_unchained(logged: str) -> None:
    by_hand(logged, "update audit set hash = null where workspace_id = 'default'")
    by_hand(logged, "update workspaces set audit_chained = 0, audit_hash = null where id = 'default'")

    said = run("audit", "verify", "--workspace", "default", "--database", logged).stdout
    checked = run_json("audit", "verify", "--workspace", "default", "--database", logged)

    assert "5 of an older release, not in the chain yet" in said
    assert (checked[0]["ok"], checked[0]["unchained"], checked[0]["last"]) == (True, 5, None)


def test_an_exported_log_is_verified_without_the_database(logged: str, tmp_path: Path) -> None:
    file = str(tmp_path / "audit.jsonl")

    said = run("audit", "export", "--output", file, "--database", logged)
    printed = run("audit", "export", "--database", logged)

    assert said.stdout == f"exported 5 entries to {file}\n"
    assert Path(file).read_text() == printed.stdout
    assert Path(file).stat().st_mode & 0o077 == 0
    on_database = run_json("audit", "verify", "--workspace", "default", "--database", logged)
    on_file = run_json("audit", "verify", "--file", file)
    assert on_file == on_database
    run("audit", "verify", "--file", file, "--expect", on_database[0]["last"])
    assert "exists" in refusal("audit", "export", "--output", file, "--database", logged)
    assert run_json("audit", "export", "--output", f"{file}2", "--workspace", "acme", "--database", logged) == {
        "workspace": "acme",
        "entries": 1,
        "file": f"{file}2",
    }


def test_what_cannot_be_is_refused(logged: str, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none" / "audit.jsonl")

    assert "cannot be written" in refusal("audit", "export", "--output", nowhere, "--database", logged)
    assert "cannot be read" in refusal("audit", "verify", "--file", nowhere)
    assert "needs --output" in run("audit", "export", "--json", "--database", logged, status=2).stderr
    assert "whose log" in run("audit", "verify", "--file", nowhere, "--workspace", "x", status=2).stderr
    assert "no workspace" in refusal(
        "audit", "export", "--output", str(tmp_path / "x"), "--workspace", "none", "--database", logged
    )
    assert not (tmp_path / "x").exists()
    assert "say what to set" in run("workspaces", "set", "default", "--database", logged, status=2).stderr
    assert (
        "on or off" in run("workspaces", "set", "default", "--audit-reads", "x", "--database", logged, status=2).stderr
    )


def test_whoever_reads_only_the_beginning_of_an_export_ends_it(logged: str) -> None:
    rows = ", ".join(f"('acme', {seq}, 1, 'k', '{'e' * 200}', {_blob(logged)})" for seq in range(2, 3_000))
    by_hand(logged, ADDED.format(rows))
    by_hand(logged, "update workspaces set audit_seq = 2999 where id = 'acme'")
    command = [*PROGRAM, "audit", "export", "--workspace", "acme", "--database", logged]

    with subprocess.Popen(command, env=make_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        status = process.wait(30)

    assert (status, said) == (1, b"")


def _blob(database: str) -> str:
    return "x'7b7d'" if database.startswith("sqlite") else "'\\x7b7d'::bytea"


Change = Callable[[list[bytes]], list[bytes]]
CHANGES: Final[dict[str, tuple[Change, tuple[int, Why]]]] = {
    "a word": (lambda lines: [line.replace(b"deleteAgent", b"updateAgent") for line in lines], (2, Why.CHANGED)),
    "a time": (lambda lines: [*lines[:3], lines[3].replace(b"Z", b"1Z"), *lines[4:]], (3, Why.CHANGED)),
    "a field": (lambda lines: [*lines[:3], lines[3].replace(b"{", b'{"x":1,', 1), *lines[4:]], (3, Why.CHANGED)),
    "no JSON": (lambda lines: [*lines[:3], b"nothing\n", *lines[4:]], (3, Why.CHANGED)),
    "a line removed": (lambda lines: [*lines[:3], *lines[4:]], (3, Why.MISSING)),
    "the end removed": (lambda lines: lines[:-1], (5, Why.MISSING)),
    "cut short": (lambda lines: [*lines[:-1], lines[-1][:20]], (5, Why.CHANGED)),
    "a line twice": (lambda lines: [*lines[:3], lines[2], *lines[3:]], (2, Why.INSERTED)),
    "two swapped": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], (2, Why.MISSING)),
    "a line more": (lambda lines: [*lines, lines[5].replace(b'"seq":5', b'"seq":6')], (6, Why.INSERTED)),
    "another workspace": (lambda lines: [lines[0].replace(b"default", b"another"), *lines[1:]], (1, Why.CHANGED)),
    "the number of entries": (
        lambda lines: [lines[0].replace(b'"entries":5', b'"entries":4'), *lines[1:]],
        (4, Why.HEAD),
    ),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("exported")
    database = f"sqlite:///{folder}/sessiond.db"
    asyncio.run(make_logs(database))
    return run("audit", "export", "--database", database).stdout.encode().splitlines(keepends=True)


def check(path: Path, lines: list[bytes]) -> Any:
    path.write_bytes(b"".join(lines))
    with path.open("rb") as file:
        return audit_file.verify(file, noted=None, progress=lambda _done, _total: None)[1]


def test_an_untouched_export_is_good_whatever_its_last_line_ends_with(exported: list[bytes], tmp_path: Path) -> None:
    assert check(tmp_path / "file", exported).fault is None
    assert check(tmp_path / "file", [*exported[:-1], exported[-1].rstrip()]).fault is None


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_changed_in_an_export_is_found_where_it_was_changed(
    exported: list[bytes], tmp_path: Path, what: str
) -> None:
    change, expected = CHANGES[what]
    lines = change(exported)
    assert lines != exported

    fault = check(tmp_path / "file", lines).fault

    assert (fault.seq, fault.why) == expected


@pytest.mark.parametrize(
    "line",
    [b"", b"nothing", b"{}", b'{"format":"x","workspace":"w","entries":0,"chained":0,"hash":null}', b"\xff\n"],
)
def test_what_is_no_export_is_refused(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(InvalidInput):
        check(tmp_path / "file", [line])


def test_a_change_by_hand_that_is_no_json_or_no_time_is_exported_and_found(logged: str, tmp_path: Path) -> None:
    no_json = "x'00'" if logged.startswith("sqlite") else "'\\x00'::bytea"
    for number, change in enumerate(("at_us = -5", f"record_locator = {no_json}", f"at_us = {2**63 - 1}")):
        by_hand(logged, f"update audit set {change} where workspace_id = 'default' and seq = 3")
        file = tmp_path / f"{number}"

        run("audit", "export", "--output", str(file), "--database", logged)

        lines = file.read_bytes().splitlines()
        assert len(lines) == 6
        assert all(isinstance(msgspec.json.decode(line), dict) for line in lines)
        assert run_json("audit", "verify", "--file", str(file), status=1)[0]["fault"]["seq"] == 3
        assert run_json("audit", "verify", "--database", logged, status=1)[1]["fault"]["seq"] == 3
        assert len(run_json("audit", "list", "--database", logged)) == 5
        assert len(run("audit", "list", "--database", logged).stdout.splitlines()) == 6
