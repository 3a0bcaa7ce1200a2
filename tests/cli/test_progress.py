from __future__ import annotations

import sys

import pytest

from sessiond.cli.progress import bar


def test_what_is_printed_beside_a_bar_goes_to_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    with bar("reading") as shown:
        for done in range(3):
            shown.update(done, 3)
            sys.stdout.write(f"{done}\n")

    printed = capsys.readouterr()
    assert printed.out == "0\n1\n2\n"
    assert "reading" in printed.err
