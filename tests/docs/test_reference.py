"""The reference says what the code does: routes, statuses, types of events, how states follow one another."""

from __future__ import annotations

import re
from typing import Final

import pytest

from sessiond.assembly import DIALECTS
from sessiond.core import errors, event
from sessiond.core.errors import SessiondError
from sessiond.core.session import NEXT
from sessiond.dialects.native.routes import ROUTES
from sessiond.web.errors import Internal, MethodNotAllowed
from sessiond.web.routes import Problem
from tests.docs.pages import PAGES, ROOT, blocks, name_of, rows

NATIVE: Final = ROOT / "docs" / "reference" / "native.md"
FOLDER: Final = ROOT / "src" / "sessiond" / "dialects" / "native" / "README.md"
ERRORS: Final = ROOT / "docs" / "reference" / "errors.md"

_SECTION: Final = re.compile(r"^### `([A-Z]+) (\S+)`$", re.MULTILINE)


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _native_routes() -> list[tuple[str, str]]:
    return [(route.method, route.path.replace("session_id", "id")) for route in ROUTES]


def test_every_native_route_has_its_section_and_no_other_has() -> None:
    assert sorted(_SECTION.findall(NATIVE.read_text())) == sorted(_native_routes())


def test_every_native_route_has_an_example_that_is_run() -> None:
    text, asked = NATIVE.read_text(), list[int]()
    for block in blocks(NATIVE):
        if block.language == "bash" and "$URL/v1" in block.text:
            asked.append(block.line)

    starts = [text.count("\n", 0, match.start()) + 1 for match in _SECTION.finditer(text)]
    for start, end in zip(starts, [*starts[1:], text.count("\n") + 1], strict=True):
        assert any(start < line < end for line in asked), f"nothing is run for the section in line {start}"


def test_the_native_folder_lists_its_routes() -> None:
    listed = [
        (method, path)
        for cells in rows(FOLDER, "| route |")
        for code in _code(cells[0])
        for *methods, path in [code.split()]
        for method in methods
    ]

    assert sorted(listed) == sorted(_native_routes())


def _refusals() -> dict[str, SessiondError]:
    known = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SessiondError)]
    made: dict[str, SessiondError] = {
        kind.__name__: kind("no") for kind in known if kind not in (SessiondError, errors.Locked)
    }
    made |= {"TooLarge": errors.TooLarge("no", field="body"), "Locked": errors.Locked()}
    return made | {"MethodNotAllowed": MethodNotAllowed(["GET"]), "Internal": Internal("internal server error")}


def test_the_table_of_errors_has_each_error() -> None:
    assert sorted(_code(cells[0])[0] for cells in rows(ERRORS, "| error |")) == sorted(_refusals())


@pytest.mark.parametrize("column", range(len(DIALECTS)), ids=[dialect.name for dialect in DIALECTS])
def test_the_table_of_errors_has_each_status_of_a_dialect(column: int) -> None:
    dialect, table = DIALECTS[column], rows(ERRORS, "| error |")
    header = next(line for line in ERRORS.read_text().splitlines() if line.startswith("| error |"))

    assert [cell.strip() for cell in header.strip("|").split("|")][2 + column] == dialect.name
    for cells in table:
        if cells[2 + column] == "–":
            assert not any(412 in route.answers for route in dialect.routes), "If-Match guards these"
            continue
        error = _refusals()[_code(cells[0])[0]]
        # A route that looks for a session: some wires have their own words for what it does not find.
        route = next(route for route in dialect.routes if "{" in route.path)
        answer = dialect.render(Problem(error=error, path="/", request_id="r", route=route))
        assert cells[2 + column] == str(answer.status), f"{cells[0]} of {dialect.name}"


def test_the_types_of_events_are_those_there_are() -> None:
    types = {event.SESSION_CREATED, event.SESSION_UPDATED, *event.STATUS_TYPES.values(), *event.MESSAGE_TYPES.values()}
    types |= {value for value in vars(event).values() if isinstance(value, str) and value.startswith("run.")}
    types |= event.ENDS | {event.INBOX_CREATED, event.INBOX_EXPIRED, event.INBOX_DELETED, event.MAIL_RECEIVED}
    types |= {event.WAIT_CREATED, *event.WAIT_ENDS.values(), event.MESSAGE_REMOVED, event.REMOVED}

    assert {code for cells in rows(NATIVE, "| type |") for code in _code(cells[0])} == types


def test_the_steps_between_states_are_those_there_are() -> None:
    listed = {_code(cells[0])[0]: set(_code(cells[1])) for cells in rows(NATIVE, "| from |")}

    assert listed == {str(status): {str(after) for after in NEXT[status]} for status in NEXT}


def test_what_is_shown_of_the_source_stands_in_it() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))

    for page in PAGES:
        for block in blocks(page):
            assert block.language != "py" or block.text in source, f"{name_of(page)}:{block.line}"
