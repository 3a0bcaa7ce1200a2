"""What people install: the wheel as it is built, alone with what it says it needs. Takes about ten seconds."""

from __future__ import annotations

import subprocess
import sys
import venv
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.cli.program import make_environment

ROOT = Path(__file__).parent.parent
SECONDS = 60
BASE = {"apsw", "cryptography", "httpx2", "msgspec", "prometheus-client", "uuid-utils"}
CLI = {"rich", "typer"}
SERVER = {"aiosmtpd", "httptools", "uvicorn", "uvloop"}


def _run(*command: str | Path, status: int = 0) -> str:
    """Run a program to its end, and return what it says on either way."""
    done = subprocess.run(
        [str(word) for word in command],
        env=make_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def _requirements(metadata: Message, extra: str = "") -> set[str]:
    """Return the names that a distribution requires: always, or for an extra only."""
    found = set()
    for line in metadata.get_all("requires-dist", []):
        wanted = Requirement(line)
        always = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if always if not extra else (not always and wanted.marker and wanted.marker.evaluate({"extra": extra})):
            found.add(wanted.name)
    return found


def _with_what_they_need(names: set[str]) -> set[str]:
    found, waiting = set[str](), [*names]
    while waiting:
        if (name := waiting.pop().lower()) not in found:
            found.add(name)
            waiting += _requirements(distribution(name).metadata)  # type: ignore[arg-type]  # a Message with more
    return found


def _lend(names: set[str], target: Path) -> None:
    """Let another environment have distributions of this one."""
    for name in names:
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (target / top).exists():
                (target / top).symlink_to(Path(str(installed.locate_file(top))).resolve())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    _run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder, ROOT)
    (made,) = folder.iterdir()
    return made


def test_the_wheel_has_all_of_the_source_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert names == source
    assert {"sessiond/py.typed", "sessiond/storage/sql/events.sql", "sessiond/dialects/native/README.md"} <= names
    assert any(name.startswith("sessiond/storage/migrations/postgres/0001") for name in names)


def test_the_wheel_needs_a_client_and_sqlite_and_the_rest_is_in_extras(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(opened.read(name))

    assert _requirements(metadata) == BASE
    assert _requirements(metadata, "cli") == CLI
    assert _requirements(metadata, "server") == SERVER | {"sessiond"}
    assert _requirements(metadata, "postgres") == {"asyncpg"}
    assert not _with_what_they_need(BASE) & (CLI | SERVER | {"asyncpg", "pydantic", "starlette"})


def test_what_is_installed_alone_is_a_client_and_says_what_the_command_needs(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "alone", with_pip=False)
    binaries = tmp_path / "alone" / "bin"
    python, command = binaries / "python", binaries / "sessiond"
    site = Path(_run(python, "-c", "import site; print(site.getsitepackages()[0])").strip())
    _lend(_with_what_they_need(BASE), site)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    _run(*pip, "install", "--no-deps", "--no-index", "--no-compile", wheel)

    used = _run(
        python,
        "-I",
        "-c",
        "import sys\nfrom sessiond import Client\nfrom sessiond.client import SessiondError\n"
        "Client('sd_x', 'http://127.0.0.1:1').close()\n"
        "with Client.local(sys.argv[1]) as client:\n"
        "    print(client.runs.start_and_wait(client.sessions.create(agent_id='echo').id, 'Hello').output)\n"
        "try: Client.local('postgresql://there/x')\n"
        "except SessiondError as error: print(error)\n",
        tmp_path / "data.db",
    )
    assert used.splitlines()[0] == "Hello"
    assert "pip install 'sessiond[postgres]'" in used
    assert "pip install 'sessiond[cli]'" in _run(command, status=1)
    assert "pip install 'sessiond[cli]'" in _run(python, "-m", "sessiond", "version", status=1)

    _lend(_with_what_they_need(CLI), site)
    assert _run(command, "version").startswith("sessiond ")
    for words in (("serve",), ("worker",)):
        said = _run(command, *words, "--database", f"sqlite:///{tmp_path}/data.db", status=1)
        assert said == "sessiond: serving is not installed: pip install 'sessiond[server]'\n"
