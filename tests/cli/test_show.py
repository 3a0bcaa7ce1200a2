from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from rich.cells import cell_len

from sessiond.cli import show


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@one,two/name?a=b", "postgresql://ada:***@one,two/name?a=b"),
        ("postgresql://ada:s@cret@host/name", "postgresql://ada:***@host/name"),
        ("postgresql://host/name?password=secret&user=ada", "postgresql://host/name?password=***&user=ada"),
        ("postgresql://ada@host/name", "postgresql://ada@host/name"),
        ("sqlite:////var/lib/a:b@c.db", "sqlite:////var/lib/a:b@c.db"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert show.hide_password(url) == shown


def test_a_table_is_as_wide_as_what_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300

    show.print_table(("ID", "NAME"), [("1", long), ("23", "-")])

    assert capsys.readouterr().out.splitlines() == ["ID  NAME", f"1   {long}", "23  -"]


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        show.fail("first\n  second", status=2)

    assert ended.value.code == 2
    assert capsys.readouterr().err == "sessiond: first second\n"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Größe, 世界, a\tb\nc", "Größe, 世界, a\tb\nc"),
        ("mail\r\nlines", "mail\nlines"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31mred\x7f\r", "\\x9b31mred\\x7f\\r"),
        ("abc\u202etxt.exe\u2066", "abc\\u202etxt.exe\\u2066"),
    ],
)
def test_what_would_drive_a_terminal_is_shown_as_an_escape(said: str, shown: str) -> None:
    assert show.escape(said) == shown


def test_no_way_of_printing_lets_a_terminal_be_driven(capsys: pytest.CaptureFixture[str]) -> None:
    bad = "\x1b[31m\x9b1m\u202e\n\x00"

    show.print_table(("NAME",), [(bad,)])
    show.print_record({"name": bad})
    show.print_json({"name": bad})
    show.print_json_array(iter([bad, bad]))
    show.warn(bad)

    printed = capsys.readouterr()
    assert not {"\x1b", "\x9b", "\u202e", "\x00"} & {*(printed.out + printed.err)}
    assert [len(printed.out.splitlines()), len(printed.err.splitlines())] == [5, 1]
    assert msgspec.json.decode(printed.out.splitlines()[-1]) == [bad, bad]


def test_in_a_terminal_a_table_is_as_wide_as_that(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")  # rich takes a dumb one to be 80 wide
    rows = [("sess_1", "a name that goes on and on and on and on", "12"), ("sess_2", "世界" * 20, "3")]

    show.print_table(("ID", "NAME", "MESSAGES"), rows, cut=("NAME",))

    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= 40
    assert lines[1].startswith("sess_1  a name that")
    assert "…" in lines[1]
    assert "…" in lines[2]
    assert [line.split()[-1] for line in lines] == ["MESSAGES", "12", "3"]


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert show.coloured("x", "red") == "x"

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert show.coloured("x", "red") == "\x1b[31mx\x1b[0m"

    monkeypatch.setenv("NO_COLOR", "1")
    assert show.coloured("x", "red") == "x"


def test_a_time_is_how_long_ago_it_was_where_people_look(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    ages = (0, 59, 61, 7_200, 200_000, -3_600)
    times = [now - timedelta(seconds=age) for age in ages]
    assert show.when(times[1], now) == "2026-11-30 11:59:01Z"

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    shown = [show.when(each, now) for each in times]
    assert shown == ["just now", "59 s ago", "1 min ago", "2 h ago", "2 d ago", "2026-11-30 13:00:00Z"]
    assert show.when(None) == "-"
