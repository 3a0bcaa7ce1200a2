"""How clients end: closed, forgotten, interrupted, forked, with their loop. And several at once on one file."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from sessiond import AsyncClient, Client
from sessiond.client import ClientClosed, ConnectionFailed, SessiondError
from sessiond.local import SiteTransport
from tests.cli.program import make_environment
from tests.serving import Tenant

SECONDS = 30

FORGOTTEN = """
client = Client.local(path)
client.sessions.create(id="kept")
stream = client.sessions.stream("kept")
next(stream)
"""
LET_GO = """
client = Client.local(path)
client.sessions.create(id="kept")
del client
deadline = time.monotonic() + 10
while any(thread.name == "sessiond" for thread in threading.enumerate()):
    assert time.monotonic() < deadline, "still open"
"""
LOOP_ENDED = """
client = AsyncClient.local(path)
async def use():
    await client.sessions.create(id="kept")
    stream = client.sessions.stream("kept")
    await anext(stream)
asyncio.run(use())
try:
    asyncio.run(client.sessions.get("kept"))
except ClientClosed as error:
    assert "another event loop" in str(error)
else:
    raise AssertionError("it went on")
"""
FORKED = """
warnings.simplefilter("ignore", DeprecationWarning)  # that forks of threads may stop: not this one
client = Client.local(path)
client.sessions.create(id="kept")
child = os.fork()
if not child:
    try:
        client.sessions.get("kept")
    except ClientClosed:
        client.close()
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert client.sessions.get("kept").id == "kept"
"""
INTERRUPTED = """
client = Client.local(path)
client.sessions.create(id="kept")
wait = client.waits.create("approval")
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    client.waits.wait_for(wait.id)
except KeyboardInterrupt:
    assert client.waits.cancel(wait.id).ended
    client.close()
"""


def _run(program: str, *options: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("program", [FORGOTTEN, LET_GO, LOOP_ENDED, FORKED, INTERRUPTED])
def test_a_program_that_ends_somehow_ends_at_once_without_a_word_and_keeps_what_it_wrote(
    program: str, tmp_path: Path
) -> None:
    path = tmp_path / "its %41 data.db"
    imports = "import asyncio, os, signal, sys, threading, time, warnings\nfrom sessiond import AsyncClient, Client\n"
    imports += "from sessiond.client import ClientClosed\n"

    done = _run(f"{imports}path = {str(path)!r}\n{program}", "-W", "error", environment=make_environment())

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Client.local(path) as client:
        assert client.sessions.get("kept").id == "kept"


def _end_of_stream(client: Client, session: str, began: threading.Event) -> BaseException | None:
    try:
        for _ in client.sessions.stream(session):
            began.set()
    except SessiondError as error:
        return error
    return None


def _close_under_a_follower(client: Client) -> None:
    session = client.sessions.create().id
    began, ends = threading.Event(), list[BaseException | None]()
    follower = threading.Thread(target=lambda: ends.append(_end_of_stream(client, session, began)))
    follower.start()
    assert began.wait(SECONDS)

    client.close()

    follower.join(5)
    assert [type(end) for end in ends] == [ClientClosed]
    client.close()  # once more
    with pytest.raises(ClientClosed):
        client.sessions.get(session)


def test_closing_a_client_of_a_file_ends_its_streams_in_other_threads(tmp_path: Path) -> None:
    _close_under_a_follower(Client.local(tmp_path / "data.db"))


def test_closing_a_client_of_a_server_ends_its_streams_in_other_threads(tenant: Tenant) -> None:
    _close_under_a_follower(Client(tenant.key, tenant.serving.url))


def test_a_client_of_a_server_is_good_on_one_loop_after_another_and_after_a_fork(tenant: Tenant) -> None:
    program = (
        "import asyncio, os\n"
        "from sessiond import AsyncClient, Client\n"
        "other = AsyncClient()\n"
        "assert asyncio.run(other.keys.me()) == asyncio.run(other.keys.me())\n"  # no connection is good on both loops
        "client = Client()\n"
        "me = client.keys.me()\n"
        "child = os.fork()\n"
        "for _ in range(20): assert client.keys.me() == me\n"
        "assert not child or os.waitpid(child, 0)[1] == 0\n"
    )
    environment = make_environment({"SESSIOND_API_KEY": tenant.key, "SESSIOND_URL": tenant.serving.url})
    done = _run(program, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")


async def test_an_async_call_cancelled_half_way_leaves_the_client_as_it_was(tmp_path: Path) -> None:
    async with AsyncClient.local(tmp_path / "data.db") as client:
        wait = await client.waits.create("approval")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.waits.wait_for(wait.id)
        tasks = [asyncio.create_task(client.sessions.create(id=f"s{number}")) for number in range(50)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (await client.sessions.create(id="after")).id == "after"


async def test_an_opening_that_is_cancelled_is_begun_again_by_the_next_call(tmp_path: Path) -> None:
    async with AsyncClient.local(tmp_path / "data.db") as client:
        opening = asyncio.create_task(client.keys.me())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert (await client.keys.me()).workspace == "default"


def test_many_threads_share_a_client_and_two_processes_a_file(tmp_path: Path) -> None:
    path, each = tmp_path / "data.db", 25
    append = (
        "import sys; from sessiond import Client\n"
        "with Client.local(sys.argv[1]) as client:\n"
        f"    for number in range({each}): client.messages.append('shared', str(number))\n"
    )
    with Client.local(path) as client:
        client.sessions.create(id="shared")

        def write() -> None:
            for number in range(each):
                client.messages.append("shared", str(number))

        threads = [threading.Thread(target=write) for _ in range(4)]
        with subprocess.Popen([sys.executable, "-c", append, str(path)], env=make_environment()) as process:
            for thread in threads:
                thread.start()
            told = []
            for event in client.sessions.stream("shared"):  # also of what the other process says
                told.append(event)
                if len(told) == 1 + 5 * each:
                    break
            assert process.wait(SECONDS) == 0
        for thread in threads:
            thread.join(SECONDS)

    assert [event.seq for event in told] == list(range(1, 2 + 5 * each))


def test_whoever_asks_a_servers_site_and_closes_leaves_its_streams_open(tenant: Tenant) -> None:
    # As a server does for its assistants: each request has a client of its own.
    async def ask() -> str:
        transport = SiteTransport(tenant.serving.site, {"authorization": f"Bearer {tenant.key}"})
        async with AsyncClient(transport=transport) as other:
            return (await other.keys.me()).workspace

    with Client(tenant.key, tenant.serving.url) as client, closing(client.sessions.stream("s")) as events:
        client.sessions.create(id="s")
        assert next(events).seq == 1
        assert tenant.serving.run(ask()) == tenant.workspace
        client.messages.append("s", "still there")
        assert next(events).seq == 2


def test_what_cannot_be_opened_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("no database" * 1000)
    cases: list[tuple[Path | str, str]] = [
        (tmp_path / "text", "file is not a database"),
        (tmp_path, "directory"),
        ("postgresql://nobody@127.0.0.1:1/none", "PostgreSQL"),
        ("mysql://there", "sqlite:///"),
    ]
    for database, said in cases:
        with pytest.raises(SessiondError, match=said):
            Client.local(database)
    with pytest.raises(SessiondError, match="no such workspace"):
        Client.local(tmp_path / "data.db", workspace="theirs")
    monkeypatch.setenv("SESSIOND_RUNS_MAX", "many")
    with pytest.raises(SessiondError, match="SESSIOND_RUNS_MAX"):
        Client.local(tmp_path / "data.db")


def test_an_export_of_a_file_that_is_cut_short_does_not_end_as_if_it_were_whole(local: Client) -> None:
    local.sessions.create(messages=[{"content": "x" * 1000}] * 1000)
    for _ in range(5):
        local.sessions.create(messages=[{"content": "x" * 1000}] * 1000)
    pieces = local.export()
    next(pieces)
    local.close()
    with pytest.raises((ClientClosed, ConnectionFailed)):
        b"".join(pieces)


def test_importing_the_sdk_imports_no_server() -> None:
    heavy = ("uvicorn", "asyncpg", "apsw", "httpx2", "typer", "sessiond.core", "sessiond.storage", "sessiond.web")
    program = f"import sys; from sessiond import Client, AsyncClient; sys.exit([*{{*{heavy}}} & {{*sys.modules}}] or 0)"
    done = _run(program, environment=make_environment())
    assert (done.returncode, done.stderr) == (0, "")
