"""`sessiond erase`, with and without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.program import refusal, run, run_json, start


def test_a_user_is_erased_and_the_receipt_is_checked_without_a_database(database: str, tmp_path: Path) -> None:
    with start(database) as server:
        for number in range(2):
            server.post("/v1/sessions", {"id": f"s{number}", "user_id": "ada", "messages": [{"content": "x"}] * 600})
        server.post("/v1/sessions", {"id": "other", "user_id": "bob"})
    erasing = ("erase", "--user", "ada", "--database", database)

    receipt = run_json(*erasing)

    assert receipt["subject"]["id"] == "ada"
    assert (receipt["counts"]["sessions"], receipt["counts"]["messages"], receipt["purged"]) == (2, 1_200, True)
    assert receipt["by"] == "operator"
    with start(database) as server:
        key = run_json("keys", "create", "--database", database)["key"]
        assert [each["id"] for each in server.ask("/v1/sessions", key).json()["data"]] == ["other"]
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(receipt))
    said = run("erase", "--verify", str(file)).stdout
    assert "user ada" in said
    assert "is as it was signed" in said
    assert run_json("erase", "--verify", str(file), "--public-key", receipt["public_key"]) == receipt
    assert "another key" in refusal("erase", "--verify", str(file), "--public-key", "x")
    file.write_text(json.dumps(receipt | {"workspace": "another"}))
    assert "not as it was signed" in refusal("erase", "--verify", str(file))


def test_a_session_is_erased(database: str) -> None:
    with start(database) as server:
        server.post("/v1/sessions", {"id": "s", "messages": [{"content": "x"}]})

    said = run("erase", "--session", "s", "--yes", "--database", database).stdout

    assert "session s" in said
    assert "1 sessions" in said
    assert "no such session" in refusal("erase", "--session", "s", "--yes", "--database", database)
    assert "no workspace" in refusal("erase", "--user", "u", "--yes", "--workspace", "none", "--database", database)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--user", "a", "--session", "b"),
        ("--user", "a", "--public-key", "b"),
        ("--verify", "no such file"),
    ],
)
def test_what_is_asked_for_is_one_thing(arguments: tuple[str, ...]) -> None:
    run("erase", *arguments, status=2)
