"""What an import refuses, and that nothing of it stays; what it does when it is run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from sessiond.actions import agents, imports, inboxes, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core import bundle_stretches
from sessiond.core.bundle import Scope, Subject
from sessiond.core.bundle_order import COUNTED, read_bundle
from sessiond.core.caller import Scope as KeyScope
from sessiond.core.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from sessiond.core.inbox import InboxFilter
from sessiond.core.session import ACTIVE, PAUSED
from sessiond.core.wait import WaitFilter
from sessiond.storage import restoring
from sessiond.storage.engine import Engine, Tx
from tests.actions.bundling import THERE, bring, bundle, dump, fill, sealed_again
from tests.actions.calling import ELSEWHERE, HERE, ME, append, caller, create, make_workspaces
from tests.actions.working import begin, claim, do_one, get_session, log_of, register, send, take
from tests.storage.making import query


@pytest.fixture
async def small(engine: Engine) -> list[bytes]:
    """A bundle of two sessions with a run, an inbox with a mail, and waits, from a workspace that has nothing now."""
    await fill(engine)
    lines = await bundle(engine, Subject(Scope.SESSION, "s"))
    await empty(engine)
    return lines


async def empty(engine: Engine) -> None:
    """Have a workspace have nothing but agents."""
    call = Call(engine, ME)
    for inbox in (await inboxes.read_page(call, InboxFilter(), limit=100)).inboxes:
        await inboxes.delete(call, inbox.id, itself)
    for wait in (await waits.read_page(call, WaitFilter(), limit=100)).waits:
        with suppress(Conflict):
            await waits.cancel(call, wait.id, itself)
    for session_id in ("s", "asks", "parked", "b"):
        with suppress(NotFound):
            await sessions.delete(call, session_id, itself)
    for table in ("runs", "waits", "mails", "mail_contents", "trash"):

        async def clear(tx: Tx, table: str = table) -> None:
            run = tx._connection.execute  # type: ignore[attr-defined]  # past the engine
            done = run(f"delete from {table}")
            if engine.name == "postgres":
                await done

        await engine.write(clear)


async def refusal(engine: Engine, lines: list[bytes], **how: Any) -> str:
    with pytest.raises(InvalidInput) as refused:
        await bring(engine, lines, **how)
    return refused.value.message


async def test_a_flipped_bit_in_any_line_is_found_there_and_nothing_stays(
    engine: Engine, database: str, small: list[bytes]
) -> None:
    before = await dump(database)

    for number, line in enumerate(small, start=1):
        for place in (0, len(line) // 2, len(line) - 20, len(line) - 1):
            damaged = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
            # Read as a file would be: a line break that was hit is none any more, and another may be one.
            said = await refusal(engine, [*small[: number - 1], damaged, *small[number:]])
            assert said.startswith(f"line {number} of the bundle is damaged"), (number, place)
    assert await dump(database) == before


async def test_a_line_that_is_missing_doubled_swapped_or_of_another_bundle_is_found(
    engine: Engine, database: str, small: list[bytes]
) -> None:
    before, n = await dump(database), len(small)

    for at in range(n - 1):
        number = at + 1
        missing = await refusal(engine, small[:at] + small[at + 1 :])
        doubled = await refusal(engine, small[: at + 1] + small[at:])
        swapped = await refusal(engine, [*small[:at], small[at + 1], small[at], *small[at + 2 :]])
        cut = await refusal(engine, small[:at])
        assert missing.startswith(f"line {number} of the bundle is damaged")
        assert doubled.startswith(f"line {number + 1} of the bundle is damaged")
        assert swapped.startswith(f"line {number} of the bundle is damaged")
        assert cut == f"line {number} of the bundle is missing: the bundle ends early"
    assert (await refusal(engine, [*small, small[-1]])).startswith(f"line {n + 1} of the bundle stands behind")
    assert await dump(database) == before


async def test_what_is_cut_out_and_sealed_again_is_found_by_what_is_left(engine: Engine, small: list[bytes]) -> None:
    """Checksums are no signature: what they do not tell, the records themselves do."""
    for number, line in enumerate(small, start=1):
        said = await refusal(engine, sealed_again(small[: number - 1] + small[number:]))
        assert said.startswith("line "), (number, line)


async def test_a_second_import_adds_nothing(engine: Engine, database: str, small: list[bytes]) -> None:
    await bring(engine, small)
    first = await dump(database, "sessions", "events", "runs", "inboxes", "mails", "waits", "session_counts")

    again = await bring(engine, small)

    assert await dump(database, "sessions", "events", "runs", "inboxes", "mails", "waits", "session_counts") == first
    assert not any(again.added.values())
    assert again.kept["sessions"] == 1


async def test_a_session_that_has_gone_on_since_stays_as_it_is(engine: Engine, small: list[bytes]) -> None:
    await bring(engine, small)
    await append(engine, "s", "and on it went")
    await sessions.patch(Call(engine, ME), "s", SessionPatch(name="new"), itself)
    before = await log_of(engine)

    assert not any((await bring(engine, small)).added.values())

    assert await log_of(engine) == before


async def test_another_session_of_the_id_is_named_and_nothing_is_written(
    engine: Engine, database: str, small: list[bytes]
) -> None:
    await create(engine, "s")
    before = await dump(database)

    with pytest.raises(Conflict, match="line 2 of the bundle: the session s is another one here"):
        await bring(engine, small)

    assert await dump(database) == before


async def test_an_earlier_state_of_a_session_is_a_conflict(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    earlier = await bundle(engine)
    await append(engine, "s", "more")
    later = await bundle(engine)
    await sessions.delete(Call(engine, ME), "s", itself)
    await bring(engine, earlier)

    with pytest.raises(Conflict, match="the session s has 1 of the bundle's 2 events here; delete it"):
        await bring(engine, later)


async def test_another_event_in_a_session_is_a_conflict(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "one", "two")
    lines = await bundle(engine)
    forged = sealed_again([line.replace(b'"content":"two"', b'"content":"owt"') for line in lines])

    with pytest.raises(Conflict, match="event 3 of the session s is something else here"):
        await bring(engine, forged)


class Stopped(Exception):
    pass


def stopping(lines: list[bytes], after: int) -> imports.Source:
    """Return a source whose third reading, the one that writes, breaks off."""
    readings = iter(range(3))

    def source() -> Iterator[bytes]:
        third = next(readings) == 2
        for number, line in enumerate(lines):
            if third and number == after:
                raise Stopped
            yield line

    return source


async def test_an_import_that_is_broken_off_anywhere_is_finished_by_the_next(
    engine: Engine, database: str, small: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_stretches, "STRETCH_LINES", 3)  # so that one session is several transactions
    tables = ("sessions", "events", "runs", "inboxes", "mails", "mail_contents", "waits", "session_counts")
    await bring(engine, small)
    whole = await dump(database, *tables)
    await empty(engine)

    for after in range(2, len(small), 4):
        with pytest.raises(Stopped):
            await imports.import_bundle(Call(engine, ME), stopping(small, after))
        assert await query(database, "select count(*) from sessions") == [(0,)]
        assert await query(database, "select count(*) from inboxes") == [(0,)]

        done = await bring(engine, small)

        assert done.added["sessions"] == 1
        assert await dump(database, *tables) == whole
        assert await bundle(engine, Subject(Scope.SESSION, "s")) == small
        await empty(engine)


async def test_what_is_of_no_session_is_finished_too(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_stretches, "STRETCH_LINES", 2)
    await fill(engine)
    lines = await bundle(engine)
    await empty(engine)
    await bring(engine, lines)
    tables = ("sessions", "events", "runs", "inboxes", "mails", "mail_contents", "waits", "session_counts")
    whole = await dump(database, *tables)
    await empty(engine)

    for after in range(2, 14):
        with pytest.raises(Stopped):
            await imports.import_bundle(Call(engine, ME), stopping(lines, after))
    await bring(engine, lines)

    assert await dump(database, *tables) == whole
    assert await bundle(engine) == lines
    assert (await bring(engine, lines)).added == dict.fromkeys(COUNTED.values(), 0)


async def test_much_that_was_left_is_removed_in_pieces(
    engine: Engine, database: str, small: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_stretches, "STRETCH_LINES", 3)
    monkeypatch.setattr(imports, "LEFT_MAX", 2)
    with pytest.raises(Stopped):
        await imports.import_bundle(Call(engine, ME), stopping(small, len(small) - 2))

    await bring(engine, small)

    assert await bundle(engine, Subject(Scope.SESSION, "s")) == small


async def test_many_sessions_share_transactions(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_workspaces(engine)
    for number in range(20):
        await create(engine, f"s{number:02}")
    lines = await bundle(engine)
    monkeypatch.setattr(imports, "TOGETHER", 7)

    done = await bring(engine, lines, by=THERE)

    assert done.added["sessions"] == 20
    assert await bundle(engine, by=THERE) == lines


async def test_what_the_database_refuses_ends_the_import(engine: Engine, small: list[bytes]) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable("not now")

    writing = imports._Writing(Call(engine, ME), start_runs=False)
    writing._operations = [refuse]

    with pytest.raises(Unavailable):
        await writing.settle()


async def test_a_session_that_comes_to_be_there_meanwhile_is_a_conflict(engine: Engine, small: list[bytes]) -> None:
    writing = imports._Writing(Call(engine, ME), start_runs=False)
    for stretch in bundle_stretches.stretches(read_bundle(iter(small))):
        await writing.write(stretch)
    await create(engine, "s")

    with pytest.raises(Conflict, match="has come to be there meanwhile"):
        await writing.settle()
    assert len(await log_of(engine)) == 1


async def test_two_imports_of_one_large_session_do_not_mix(
    engine: Engine, small: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_stretches, "STRETCH_LINES", 3)
    writing = imports._Writing(Call(engine, ME), start_runs=False)
    *begun, last = bundle_stretches.stretches(read_bundle(iter(small)))
    for stretch in begun:
        await writing.write(stretch)
    with pytest.raises(Stopped):  # the other one removes what it finds, and does not come far
        await imports.import_bundle(Call(engine, ME), stopping(small, 6))

    with pytest.raises(Conflict, match="another import is at work on the session s"):
        await writing.write(last)

    await bring(engine, small)
    assert await bundle(engine, Subject(Scope.SESSION, "s")) == small


async def test_of_a_session_that_is_there_by_now_nothing_is_removed(engine: Engine, small: list[bytes]) -> None:
    await bring(engine, small)

    async def remove(tx: Tx) -> bool:
        return await restoring.begin_restoring(tx, HERE, "s", limit=10)

    assert await engine.write(remove)
    assert await bundle(engine, Subject(Scope.SESSION, "s")) == small


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_session_that_goes_while_it_is_compared_is_no_match(
    engine: Engine, small: list[bytes], deleted: bool
) -> None:
    await bring(engine, small)
    checking = imports._Checking(Call(engine, ME), msgspec.json.decode(b"{}"), keep_agents=False)
    (_, stretch) = bundle_stretches.stretches(read_bundle(iter(small)))
    checking._session = await get_session(engine)
    stretch.first = False
    if deleted:
        await sessions.delete(Call(engine, ME), "s", itself)
        with pytest.raises(Conflict, match="the session s has gone meanwhile"):
            await checking.check(stretch)
    else:
        await checking.check(stretch)


async def test_an_agent_that_is_registered_otherwise_is_a_conflict_unless_it_is_to_stay(engine: Engine) -> None:
    await make_workspaces(engine)
    await register(engine)
    lines = await bundle(engine)
    await register(engine, retries=7)

    with pytest.raises(Conflict, match="line 2 of the bundle: the agent a is registered otherwise here"):
        await bring(engine, lines)
    done = await bring(engine, lines, keep_agents=True)

    assert (done.added["agents"], done.kept["agents"]) == (0, 1)
    assert (await agents.get(Call(engine, ME), "a")).retries == 7


async def test_secrets_of_agents_are_left_out_and_their_agent_stays_the_same(engine: Engine) -> None:
    await fill(engine)
    await empty(engine)
    lines = await bundle(engine)

    assert b"sesame" not in b"".join(lines)
    assert b"c2VzYW1l" not in b"".join(lines)
    assert b"https://example.org/agent" in b"".join(lines)
    # The one that has them is the same agent, and the one that is made of it too.
    await bring(engine, lines)
    await bring(engine, lines, by=THERE)
    assert await bundle(engine, by=THERE) == lines
    assert b"sesame" in b"".join(await bundle(engine, secrets=True))


async def test_a_bundle_that_says_it_has_no_secrets_has_none(engine: Engine) -> None:
    await fill(engine)
    await empty(engine)
    lines = await bundle(engine, secrets=True)

    said = await refusal(engine, sealed_again([lines[0].replace(b',"secrets":true', b""), *lines[1:]]))

    assert said == "line 3 of the bundle is no record that can stand there: it is not written as sessiond writes it"


async def test_runs_wait_until_somebody_speaks(engine: Engine) -> None:
    await make_workspaces(engine)
    await register(engine)
    await begin(engine, "s", "one")
    lines = await bundle(engine)
    await sessions.delete(Call(engine, ME), "s", itself)
    await _forget_runs(engine)

    await bring(engine, lines)

    assert (await claim(engine)).works == []
    await send(engine, "two")
    assert [(await do_one(engine)).status, (await do_one(engine)).status] == ["completed", "completed"]


async def test_runs_go_on_when_their_session_is_resumed(engine: Engine) -> None:
    await make_workspaces(engine)
    await register(engine)
    await begin(engine, "s", "one")
    lines = await bundle(engine)
    await sessions.delete(Call(engine, ME), "s", itself)
    await _forget_runs(engine)
    await bring(engine, lines)

    for status in (PAUSED, ACTIVE):
        await sessions.patch(Call(engine, ME), "s", SessionPatch(status=status), itself)

    assert (await do_one(engine)).status == "completed"


async def test_runs_that_are_to_start_do(engine: Engine) -> None:
    await make_workspaces(engine)
    await register(engine)
    await begin(engine, "s", "one")
    first = await take(engine)
    await send(engine, "two")
    lines = await bundle(engine)
    await sessions.delete(Call(engine, ME), "s", itself)
    await _forget_runs(engine)

    await bring(engine, lines, start_runs=True)

    # The one that a worker had is started over, and is the first.
    assert (await do_one(engine)).id == first.run.id
    assert (await do_one(engine)).status == "completed"
    assert (await get_session(engine)).status == "active"


async def _forget_runs(engine: Engine) -> None:
    async def clear(tx: Tx) -> None:
        done = tx._connection.execute("delete from runs")  # type: ignore[attr-defined]  # past the engine
        if engine.name == "postgres":
            await done

    await engine.write(clear)


async def test_an_address_that_is_taken_is_named(engine: Engine, database: str) -> None:
    await fill(engine)
    lines = await bundle(engine)
    before = await dump(database)

    with pytest.raises(Conflict, match=r"line \d+ of the bundle: another inbox of this server has the address \S+@"):
        await bring(engine, lines, by=THERE)

    assert await dump(database) == before


async def test_a_url_that_is_taken_is_named(engine: Engine) -> None:
    await fill(engine)
    for inbox in (await inboxes.read_page(Call(engine, ME), InboxFilter(), limit=100)).inboxes:
        await inboxes.delete(Call(engine, ME), inbox.id, itself)
    lines = await bundle(engine)

    with pytest.raises(Conflict, match=r"the URL that completes the wait wait_\w+ completes another one"):
        await bring(engine, lines, by=THERE)


@pytest.mark.parametrize("kind", ["run", "wait", "inbox", "mail"])
async def test_an_id_that_something_else_has_is_named(engine: Engine, small: list[bytes], kind: str) -> None:
    """Of a run, a wait, an inbox and a mail: the same ones, of another session."""
    await bring(engine, small)
    other = [line.replace(b'{"type":"session","id":"s"', b'{"type":"session","id":"t"') for line in small]
    other[0] = other[0].replace(b'"id":"s"', b'"id":"t"')
    kept = {b'{"type":"bundle', b'{"type":"session', b'{"type":"event', b'{"type":"end', f'{{"type":"{kind}'.encode()}
    if kind == "mail":
        kept.add(b'{"type":"inbox')
        other = [line.replace(b'"id":"inb_', b'"id":"inx_').replace(b'"address":"', b'"address":"x') for line in other]
    chosen = [line for line in other if any(line.startswith(start) for start in kept)]
    chosen[-1] = _counting(chosen)

    with pytest.raises(
        Conflict, match=rf"line \d+ of the bundle: the {kind} \w+ is (another one|in another inbox) here"
    ):
        await bring(engine, sealed_again(chosen))


def _counting(lines: list[bytes]) -> bytes:
    """Return an end that counts these lines."""
    end = msgspec.json.decode(lines[-1])
    names = {
        name: kind
        for kind, name in zip(("agent", "session", "event", "run", "inbox", "mail", "wait"), _NAMES, strict=True)
    }
    counted = {
        name: sum(line.startswith(f'{{"type":"{kind}"'.encode()) for line in lines) for name, kind in names.items()
    }
    packed = (
        {"type": "end"} | {name: n for name, n in counted.items() if n} | {"sha256": end["sha256"], "sum": end["sum"]}
    )
    return msgspec.json.encode(packed) + b"\n"


_NAMES = ("agents", "sessions", "events", "runs", "inboxes", "mails", "waits")


async def test_of_no_session_an_id_that_something_else_has_is_named(engine: Engine) -> None:
    await fill(engine)
    lines = await bundle(engine)
    for kind in (b"run", b"inbox", b"wait"):
        start = b'{"type":"' + kind
        number = next(number for number, line in enumerate(lines) if line.startswith(start))
        record = msgspec.json.decode(lines[number])
        at = record["created_at_us"]
        forged = lines[number].replace(b'"created_at_us":%d' % at, b'"created_at_us":%d' % (at - 1))

        with pytest.raises(Conflict, match=f"line {number + 1} of the bundle: the {kind.decode()} "):
            await bring(engine, sealed_again([*lines[:number], forged, *lines[number + 1 :]]))


async def test_an_inbox_with_another_address_is_another_one(engine: Engine) -> None:
    await fill(engine)
    lines = await bundle(engine)
    number = next(number for number, line in enumerate(lines) if line.startswith(b'{"type":"inbox'))
    lines[number] = lines[number].replace(b'"address":"', b'"address":"x')

    with pytest.raises(Conflict, match=r"the inbox \w+ is another one here"):
        await bring(engine, sealed_again(lines))


async def test_imports_and_exports_are_noted(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    lines = await bundle(engine, Subject(Scope.SESSION, "s"))
    await bring(engine, lines, by=THERE)
    await bring(engine, await bundle(engine), by=THERE)

    digest = msgspec.json.decode(lines[-1])["sha256"]
    noted = await query(database, "select workspace_id, event, record_locator from audit order by workspace_id, seq")
    told = [(workspace, event, msgspec.json.decode(locator)) for workspace, event, locator in noted]
    assert told[0] == (ELSEWHERE, "import", {"scope": "session", "id": "s", "sha256": digest})
    assert told[1][2].keys() == {"scope", "sha256"}
    assert told[2:] == [
        (HERE, "export", {"scope": "session", "id": "s"}),
        (HERE, "export", {"scope": "workspace"}),
    ]


async def test_only_who_administers_imports(engine: Engine, small: list[bytes]) -> None:
    for by in (caller(scopes=frozenset({KeyScope.SESSIONS_READ, KeyScope.SESSIONS_WRITE})), caller(user_id="ada")):
        with pytest.raises(Forbidden):
            await bring(engine, small, by=by)


async def test_an_import_into_one_workspace_is_not_seen_in_another(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "secret")
    lines = await bundle(engine)
    before = await dump(database, "events", "sessions")

    await bring(engine, lines, by=THERE)

    assert [row for row in (await dump(database, "events"))["events"] if "'here'" in row] == before["events"]
    assert await bundle(engine, by=THERE) == lines
