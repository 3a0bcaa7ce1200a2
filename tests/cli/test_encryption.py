"""`sessiond encryption`: what it says, what it refuses, and what it does."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Final

import pytest

from sessiond.cli.encryption import NEW_STORAGE_KEY_VARIABLE
from sessiond.crypto import MASTER_KEY_VARIABLE, STORAGE_KEY_VARIABLE, make_master_key
from tests.cli.program import refusal, run, run_json

MASTER: Final = {MASTER_KEY_VARIABLE: make_master_key()}
KEY: Final = "a storage key of some length"
ANOTHER: Final = "another storage key of some length"


@pytest.fixture
def filled(tmp_path: Path) -> str:
    """A database with a workspace. Whose engine it is makes no difference to what is said and refused."""
    database = f"sqlite:///{tmp_path}/sessiond.db"
    run_json("keys", "create", "--database", database)
    return database


def ask(database: str, *words: str, **environment: str) -> Any:
    return run_json("encryption", *words, "--database", database, environment=MASTER | environment)


def test_a_new_key_is_32_bytes_in_base64_and_never_the_same() -> None:
    made = [run("encryption", "new-key").stdout.strip() for _ in range(2)]

    assert len({*made}) == 2
    assert [len(base64.b64decode(each)) for each in made] == [32, 32]


def test_a_workspace_goes_through_all_changes(database: str, tmp_path: Path) -> None:
    run_json("keys", "create", "--database", database)
    (tmp_path / "old.key").write_text(f"{KEY}\n")
    (tmp_path / "new.key").write_text(f"{ANOTHER}\n")
    old, new = ("--storage-key-file", f"{tmp_path}/old.key"), ("--new-storage-key-file", f"{tmp_path}/new.key")

    assert (ask(database, "status")["mode"], ask(database, "status")["keys"]) == ("off", [])
    first = ask(database, "enable")
    assert (first["mode"], first["changed"], first["changing"]) == ("server", True, False)
    assert ask(database, "enable")["changed"] is False
    rotated = ask(database, "rotate")
    assert (rotated["mode"], rotated["changed"]) == ("server", True)
    assert [key["kind"] for key in rotated["keys"]] == ["server"]
    assert rotated["key_id"] != first["key_id"]
    assert ask(database, "enable", *old)["mode"] == "client"
    changed = ask(database, "rotate", *old, *new)
    assert (changed["mode"], len(changed["keys"])) == ("client", 1)
    assert ask(database, "disable", **{STORAGE_KEY_VARIABLE: ANOTHER})["mode"] == "off"
    by_environment = {STORAGE_KEY_VARIABLE: KEY, NEW_STORAGE_KEY_VARIABLE: ANOTHER}
    assert ask(database, "enable", "--client", **by_environment)["mode"] == "client"
    assert ask(database, "rotate", **by_environment)["changed"] is True
    assert ask(database, "disable", **{STORAGE_KEY_VARIABLE: ANOTHER})["changed"] is True


def test_it_says_what_it_has_done(filled: str) -> None:
    words = ("--database", filled)

    enabled = run("encryption", "enable", *words, environment=MASTER)
    again = run("encryption", "enable", *words, environment=MASTER)
    status = run("encryption", "status", *words, environment=MASTER)

    assert "the workspace default is now: server" in enabled.stdout
    assert "is kept so already: server" in again.stdout
    assert "nothing is kept yet" in enabled.stdout
    assert [enabled.stderr, again.stderr] == ["", ""]  # no bar where nobody looks
    assert "server" in status.stdout
    assert "none" in status.stdout


@pytest.mark.parametrize("command", ["enable", "disable", "rotate", "status", "new-key"])
def test_each_has_a_help_with_an_example(command: str) -> None:
    assert f"sessiond encryption {command}" in run("encryption", command, "--help").stdout


def test_without_a_master_key_it_says_how_to_make_one(filled: str) -> None:
    assert "sessiond encryption new-key" in refusal("encryption", "enable", "--database", filled)
    bad = {MASTER_KEY_VARIABLE: "no key"}
    refused = refusal("encryption", "enable", "--database", filled, environment=bad, status=2)
    assert "must be 32 bytes in base64" in refused
    assert "no key" not in refused


def test_another_master_key_is_told_from_none(filled: str) -> None:
    ask(filled, "enable")

    for environment, words in (
        ({}, "started without"),
        ({MASTER_KEY_VARIABLE: make_master_key()}, "another master key"),
    ):
        assert words in refusal("encryption", "disable", "--database", filled, environment=environment)
    assert ask(filled, "status")["mode"] == "server"


def test_a_wrong_storage_key_changes_nothing_and_is_not_shown(filled: str) -> None:
    ask(filled, "enable", "--client", **{STORAGE_KEY_VARIABLE: KEY})

    for words in (("disable",), ("rotate",)):
        environment = MASTER | {STORAGE_KEY_VARIABLE: ANOTHER}
        refused = refusal("encryption", *words, "--database", filled, environment=environment)
        assert "not the storage key" in refused
        assert ANOTHER not in refused
    assert ask(filled, "status")["mode"] == "client"


def test_what_is_missing_is_asked_for_on_a_terminal_only(filled: str, tmp_path: Path) -> None:
    words = ("--database", filled)
    assert "--storage-key-file" in refusal("encryption", "enable", "--client", *words)
    ask(filled, "enable", "--client", **{STORAGE_KEY_VARIABLE: KEY})

    assert "--storage-key-file" in refusal("encryption", "disable", *words)
    assert "--storage-key-file" in refusal("encryption", "rotate", *words)
    has_old = {STORAGE_KEY_VARIABLE: KEY}
    assert "--new-storage-key-file" in refusal("encryption", "rotate", *words, environment=has_old)
    short = has_old | {NEW_STORAGE_KEY_VARIABLE: "short"}
    assert "16 to 1024" in refusal("encryption", "rotate", *words, environment=short)
    (tmp_path / "empty").write_text("\n")
    for name, said in (("missing", "cannot be read: FileNotFoundError"), ("empty", "is empty")):
        assert said in refusal("encryption", "disable", *words, "--storage-key-file", f"{tmp_path}/{name}")


def test_what_is_not_there_is_refused(filled: str) -> None:
    for command in ("enable", "disable", "rotate", "status"):
        words = ("encryption", command, "--workspace", "nobody", "--database", filled)
        assert "nobody" in refusal(*words, environment=MASTER)
    assert "use sessiond encryption enable" in refusal("encryption", "rotate", "--database", filled, environment=MASTER)


def test_other_commands_open_what_clients_seal_with_the_storage_key_of_the_environment(
    filled: str, tmp_path: Path
) -> None:
    (tmp_path / "the.key").write_text(KEY)
    bundle = tmp_path / "bundle.jsonl"
    bundle.write_text(run("export", "--database", filled).stdout)
    ask(filled, "enable", "--storage-key-file", f"{tmp_path}/the.key")
    session = ("replay", "s", "--database", filled)

    refused = refusal(*session)
    wrong = refusal(*session, environment={STORAGE_KEY_VARIABLE: ANOTHER})
    unknown = refusal(*session, environment={STORAGE_KEY_VARIABLE: KEY})

    assert "there is no session" in refused
    assert "not the storage key" in wrong
    assert "there is no session" in unknown
    assert run_json("encryption", "save-keys", f"{tmp_path}/keys", "--database", filled)["keys"] == 1
    assert run_json("encryption", "restore-keys", f"{tmp_path}/keys", "--database", filled)["restored"] == 0
    assert "saved 1 keys" in run("encryption", "save-keys", f"{tmp_path}/keys", "--database", filled).stdout
    assert "restored 0 keys" in run("encryption", "restore-keys", f"{tmp_path}/keys", "--database", filled).stdout
