"""What the pages tell people to type works, and prints what they show.

Each page is one shell against a server of its own. Where a `json` or `text` block follows, it is what is printed: `…`
in it stands for anything, a time for any time, and in an object `"…"` for more fields.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.program import Started, make_environment, start
from tests.docs.pages import PAGES, ROOT, RUN, SHOWN, Block, blocks, name_of
from tests.postgres import PostgresServer

SECONDS: Final = 60
TIMED_OUT: Final = "28"  # how curl ends when --max-time cuts a stream off
REFUSED: Final = "22"  # how curl ends after a refusal; fine where the page shows it, and so means it
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

PRELUDE: Final = """\
set -uEo pipefail
trap 'code=$?; [[ " $fine " == *" $code "* ]] || { echo "failed: $BASH_COMMAND" >&2; exit $code; }' ERR
"""

RUNNING: Final = [page for page in PAGES if any(block.language in RUN for block in blocks(page))]


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_what_a_page_says_to_run_works_and_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    _try(page, f"sqlite:///{tmp_path}/sessiond.db", tmp_path)


def test_the_first_page_holds_on_postgresql(postgres: PostgresServer, tmp_path: Path) -> None:
    postgres.create_database("docs")

    _try(ROOT / "README.md", postgres.url("docs"), tmp_path)


def test_the_first_page_and_the_start_are_run() -> None:
    assert {"README.md", "docs/start.md", "docs/reference/native.md"} <= set(map(name_of, RUNNING))


def test_what_is_shown_as_output_follows_what_prints_it() -> None:
    for page in RUNNING:
        found = blocks(page)
        printing = [block.output for block in found if block.output is not None]
        shown = [block for block in found if block.language in SHOWN]
        assert shown == printing, name_of(page)


def _try(page: Path, database: str, folder: Path) -> None:
    run = [block for block in blocks(page) if block.language in RUN]

    with start(database, "--smtp-port", "0") as server:
        printed = _run(run, server, database, folder)

    for block, text in zip(run, printed, strict=True):
        if block.output is not None:
            wrong = _difference(block.output, text)
            assert not wrong, f"{name_of(page)}:{block.line} prints {wrong}:\n{text}"


def _run(run: list[Block], server: Started, database: str, folder: Path) -> list[str]:
    """Run blocks in one shell, and return what each printed on standard output."""
    outputs = [folder / f"output-{number}" for number in range(len(run))]
    parts = [
        f'fine="{TIMED_OUT} {REFUSED if block.output else ""}"\n{{\n{_command(block, folder, server)}\n}} > {output}\n'
        for block, output in zip(run, outputs, strict=True)
    ]
    # The pages name the address and the key as a reader finds them.
    script = "".join(parts).replace("http://127.0.0.1:8080", server.url).replace("sd_…", server.secret)
    (folder / ".curlrc").write_text("fail-with-body\n")
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{PRELUDE}{script}exit 0"],  # what went wrong has ended it already
        env=make_environment(
            {
                "PATH": tools,
                "CURL_HOME": str(folder),
                "XDG_CONFIG_HOME": str(folder),
                "SESSIOND_DATABASE": database,
            }
        ),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr + "".join(path.read_text() for path in outputs if path.exists())
    return [output.read_text() for output in outputs]


def _command(block: Block, folder: Path, server: Started) -> str:
    if block.language == "bash":
        return block.text
    script = folder / f"line_{block.line}.py"
    script.write_text(block.text.replace('"127.0.0.1", 2525', f'"127.0.0.1", {server.smtp_port}'))
    return f"{sys.executable} {script}"


def _difference(shown: Block, printed: str) -> str:
    """Return where `printed` is not what a page shows; empty when it is."""
    if shown.language == "text":
        wanted, lines = shown.text.strip().splitlines(), [line.rstrip() for line in printed.strip().splitlines()]
        if len(wanted) != len(lines):
            return f"{len(lines)} lines, not {len(wanted)}"
        return next(
            (f"{line!r}, not {want!r}" for want, line in zip(wanted, lines, strict=True) if not _like(want, line)), ""
        )
    return _json_difference(json.loads(shown.text), json.loads(printed), "$")


def _json_difference(want: Any, got: Any, place: str) -> str:
    if isinstance(want, dict) and isinstance(got, dict):
        fields = want.keys() - {"…"}
        if not fields <= got.keys() or ("…" not in want and fields != got.keys()):
            return f"the fields {sorted(got)} at {place}, not {sorted(want)}"
        found = (_json_difference(want[name], got[name], f"{place}.{name}") for name in fields)
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            return f"{len(got)} items at {place}, not {len(want)}"
        found = (_json_difference(one, other, f"{place}[]") for one, other in zip(want, got, strict=True))
    elif isinstance(want, str) and isinstance(got, str):
        return "" if _like(want, got) else f"{got!r} at {place}, not {want!r}"
    else:
        return "" if type(want) is type(got) and want == got else f"{got!r} at {place}, not {want!r}"
    return next(filter(None, found), "")


def _like(want: str, got: str) -> bool:
    pattern = re.escape(TIME.sub("\0", want)).replace("\0", TIME.pattern).replace("…", ".*")
    return re.fullmatch(pattern, got, re.DOTALL) is not None
