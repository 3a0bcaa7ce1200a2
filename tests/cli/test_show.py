from __future__ import annotations

import pytest

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
