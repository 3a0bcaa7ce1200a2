"""The plan of the house, as far as a program can see whether it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = ROOT / "src" / "sessiond"
TESTS: Final = ROOT / "tests"

LINES_MAX: Final = 500  # at about 400 a module is asking to be two; nobody reads past this
ROOMS: Final = ("core", "storage", "actions", "auth", "web")
VAGUE: Final = {"utils", "util", "helpers", "helper", "base", "manager", "service", "common", "misc"}

# Tests of what no single module does.
ACROSS: Final = {
    "actions/test_damage.py",  # what cannot be opened, and everything else that goes on
    "actions/test_deletion.py",  # what goes with a session, at once and after
    "actions/test_isolation.py",  # who may do what, for every action
    "web/test_headers.py",  # what every answer says, whoever makes it
    "web/test_tls.py",  # a server as its clients meet it by HTTPS
}


def modules(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.py") if not {"__pycache__", "node_modules"} & set(path.parts))


@pytest.mark.parametrize("room", ROOMS)
def test_the_tests_of_a_room_are_named_after_its_modules(room: str) -> None:
    for path in sorted((TESTS / room).glob("test_*.py")):
        name = path.relative_to(TESTS).as_posix()
        if name not in ACROSS:
            module = SOURCE / room / path.name.removeprefix("test_")
            assert module.exists(), f"tests/{name} tests no module of {room}"


def test_no_name_says_nothing() -> None:
    for path in [*modules(SOURCE), *modules(TESTS)]:
        words = set(path.stem.removeprefix("test_").split("_")) | {path.parent.name}
        assert not words & VAGUE, f"{path.relative_to(ROOT)}: name it after what it is about"


def test_no_module_is_too_long_to_read() -> None:
    for path in modules(SOURCE):
        lines = len(path.read_text().splitlines())
        assert lines <= LINES_MAX, f"{path.relative_to(ROOT)} has {lines} lines"


def test_every_module_says_what_it_is_for() -> None:
    for path in modules(SOURCE):
        if path.name != "__main__.py":
            assert path.read_text().startswith('"""'), f"{path.relative_to(ROOT)} has no docstring"


@pytest.mark.parametrize(
    "folder",
    sorted(path for path in (SOURCE / "dialects").iterdir() if (path / "__init__.py").exists()),
    ids=lambda p: p.name,
)
def test_a_dialect_is_a_folder_with_its_page_its_routes_and_its_shapes(folder: Path) -> None:
    for name in ("README.md", "routes.py", "shapes.py"):
        assert (folder / name).exists(), f"{folder.relative_to(ROOT)} has no {name}"


def test_migrations_are_the_same_for_both_databases() -> None:
    migrations = SOURCE / "storage" / "migrations"
    names = {
        engine: sorted(path.name for path in (migrations / engine).glob("*.sql")) for engine in ("sqlite", "postgres")
    }

    assert names["sqlite"] == names["postgres"]
