"""Sessions that are run again: real workers, real agents, on both engines."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import pytest

from sessiond.actions import agents, inboxes, mails, messages, performed_runs, replays, runs, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.caller import Scope
from sessiond.core.comparison import Comparison, Mode, Summary, Verdict
from sessiond.core.errors import Conflict, Forbidden, InvalidInput, NotFound, TooLarge
from sessiond.core.event import RUN_TOOL_RESULT, Event
from sessiond.core.ids import RunId
from sessiond.core.inbox import NewInbox
from sessiond.core.message import Role, make_message, unpack_message
from sessiond.core.metadata import pack_data, pack_metadata
from sessiond.core.run import Answer, Run
from sessiond.core.session import NewSession, Status
from sessiond.core.session_file import event_line, head_line, read_session_file
from sessiond.core.wait import NewWait, Terms, WaitType
from sessiond.runners.worker import Worker
from sessiond.storage.engine import Engine
from sessiond.sweeper import Sweeper
from tests.actions.calling import ME, append, caller, create, make_workspaces, text
from tests.runners.working import ended, open_worker, read_log, register, register_script, seen

SAME, CHANGED, FAILED = Verdict

DOMAIN: Final = "mail.test"

# Looks something up for each word, and says what it found. `{0}` is what it does to a word.
LOOKS_UP: Final = """
import json, sys
brief = json.loads(sys.stdin.readline())
words = str(brief["input"]).split()
found = []
for number, word in enumerate(words):
    answer = {0}
    print(json.dumps({{"type": "tool_call", "id": f"c{{number}}", "name": "look_up", "arguments": {{"word": word}}}}))
    print(json.dumps({{"type": "tool_result", "id": f"c{{number}}", "output": answer}}))
    found.append(answer)
print(json.dumps({{"type": "text", "text": " ".join(found)}}))
"""

# Asks the recording where there is one: a program whose tools answer on standard input.
ASKS_TOOLS: Final = """
import json, sys
brief = json.loads(sys.stdin.readline())
print(json.dumps({"type": "tool_call", "id": "c", "name": "weather", "arguments": {"of": brief["input"]}}), flush=True)
if brief.get("recorded") is None:
    answer = {"output": open(PATH).read()}
    print(json.dumps({"type": "tool_result", "id": "c", "output": answer["output"]}), flush=True)
else:
    answer = json.loads(sys.stdin.readline())
print(json.dumps({"type": "text", "text": "It is " + answer["output"]}), flush=True)
"""

CODE_MAIL: Final = (
    b"From: Shop <no-reply@shop.test>\r\nTo: you@mail.test\r\nSubject: Your code\r\n\r\n"
    b"Your verification code is 481516. It is valid for ten minutes.\r\n"
)


@pytest.fixture
async def worker(engine: Engine) -> AsyncIterator[Worker]:
    await make_workspaces(engine)
    async with open_worker(engine) as opened:
        yield opened


async def register_program(engine: Engine, source: str, agent_id: str = "looks-up", **new: Any) -> None:
    options = {"command": [sys.executable, "-c", source]}
    await register(engine, agent_id, runner="command", options=options, **({"retries": 0} | new))


async def make(engine: Engine, agent_id: str, session_id: str = "recorded", **new: Any) -> None:
    await sessions.create(Call(engine, ME), NewSession(agent_id=agent_id, **new), itself, session_id=session_id)


async def say(engine: Engine, *words: str, session_id: str = "recorded") -> Run:
    """Say something, and wait for the run that it starts."""
    (*_, last) = await append(engine, session_id, *words)
    return await ended(engine, RunId(str(last.run_id)))


async def rerun(
    engine: Engine, session_id: str = "recorded", *, mode: Mode = Mode.RERUN, **how: Any
) -> tuple[list[Comparison], Summary]:
    told = replays.rerun(Call(engine, ME), session_id, new_id="again", mode=mode, domain=DOMAIN, **how)
    (*compared, summary) = [one async for one in told]
    assert isinstance(summary, Summary)
    found = [one for one in compared if isinstance(one, Comparison)]
    assert len(found) == len(compared)
    verdicts = [one.verdict for one in found]
    assert (summary.same, summary.changed, summary.failed) == tuple(map(verdicts.count, Verdict))
    return found, summary


def drift(compared: list[Comparison]) -> list[tuple[str, int | None, Verdict, str | None]]:
    return [(one.action, one.index, one.verdict, one.reason) for one in compared if one.verdict is not SAME]


async def shown(engine: Engine, session_id: str) -> list[dict[str, Any]]:
    """Return what a session's log says that is not new each time."""
    log = await read_log(engine, session_id)
    return [{"type": event.type, "action": event.action} for event in log if not event.type.startswith("run.text")]


async def record_fifty_steps(engine: Engine) -> None:
    """Record a session in which a program worked, and another agent then."""
    new: dict[str, Any] = {
        "user_id": "ada",
        "metadata": pack_metadata({"city": "Oslo"}),
        "data": pack_data({"n": 1}),
        "prompt": "Hi",
    }
    await make(engine, "looks-up", name="Fifty", **new)
    for number in range(6):
        await say(engine, f"alpha beta{number}")
    await messages.append(
        Call(engine, ME),
        "recorded",
        [make_message(Role.SYSTEM, "be brief"), make_message(Role.ASSISTANT, "by hand")],
        itself,
    )
    await say(engine, "first", "second gamma")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(agent_id="echo", metadata={"city": None}), itself)
    for number in range(7):
        await say(engine, f"echo {number}")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.PAUSED), itself)
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.ACTIVE), itself)
    await sessions.complete(Call(engine, ME), "recorded", itself, reason="done")


async def test_a_session_of_fifty_steps_runs_again_without_a_difference(engine: Engine, worker: Worker) -> None:
    await register(engine, "echo")
    await register_program(engine, LOOKS_UP.format("word.upper()"))
    await record_fifty_steps(engine)

    compared, summary = await rerun(engine)

    assert drift(compared) == []
    assert summary == Summary(session_id=summary.session_id, same=len(compared))
    assert len(compared) == 50
    assert [one.index for one in compared] == list(range(len(compared)))
    assert await shown(engine, "again") == await shown(engine, "recorded")
    again = await sessions.get(Call(engine, ME), "again")
    assert (again.parent, again.user_id, again.name, again.prompt) == ("recorded", "ada", "Fifty", "Hi")
    assert (again.metadata, again.data, again.status) == (None, b'{"n":1}', Status.COMPLETED)


async def test_a_changed_agent_shows_exactly_the_steps_that_changed(engine: Engine, worker: Worker) -> None:
    await register(engine, "echo")
    await register_program(engine, LOOKS_UP.format("word.upper()"))
    await record_fifty_steps(engine)
    await register_program(engine, LOOKS_UP.format('word.upper() if word != "beta3" else "?"'))

    compared, _ = await rerun(engine)

    tool, run = [one for one in compared if one.verdict is not SAME]
    assert (tool.action, tool.verdict, tool.reason) == ("call_tool", CHANGED, "its output differs")
    assert tool.input["arguments"] == {"word": "beta3"}
    assert (tool.recorded, tool.output) == (
        {"output": "BETA3", "is_error": False},
        {"output": "?", "is_error": False},
    )
    assert (run.action, run.verdict, run.reason) == ("run_agent", CHANGED, "its output differs")
    assert run.recorded is not None
    assert run.output is not None
    assert (run.recorded["output"], run.output["output"]) == ("ALPHA BETA3", "ALPHA ?")
    assert run.index == (tool.index or 0) + 1


async def test_tools_that_are_called_more_or_less_are_told_and_the_others_stay_the_same(
    engine: Engine, worker: Worker
) -> None:
    await register_program(engine, LOOKS_UP.format("word"))
    await make(engine, "looks-up")
    await say(engine, "one two three")
    # It leaves out the first and looks up one more in the end.
    changed = LOOKS_UP.format("word").replace(".split()", '.split()[1:] + ["four"]')
    await register_program(engine, changed)

    compared, _ = await rerun(engine)

    assert [(one.action, one.index, one.verdict, one.reason) for one in compared[2:]] == [
        ("call_tool", 2, CHANGED, "the tool was not called"),
        ("call_tool", 3, SAME, None),
        ("call_tool", 4, SAME, None),
        ("call_tool", None, CHANGED, "the tool was not called then"),
        ("run_agent", 5, CHANGED, "its output differs"),
    ]
    assert (compared[2].output, compared[5].recorded) == (None, None)
    assert compared[5].input["arguments"] == {"word": "four"}


async def test_other_arguments_stand_beside_those_of_the_recording(engine: Engine, worker: Worker) -> None:
    await register_program(engine, LOOKS_UP.format("0"))
    await make(engine, "looks-up")
    await say(engine, "one")
    await register_program(engine, LOOKS_UP.format("0").replace('"word": word', '"word": word[::-1]'))

    compared, _ = await rerun(engine)

    (tool, *_) = [one for one in compared if one.action == "call_tool"]
    assert tool.reason == "its arguments differ"
    assert tool.recorded is not None
    assert tool.output is not None
    assert (tool.recorded["arguments"], tool.output["arguments"]) == ({"word": "one"}, {"word": "eno"})


async def test_in_a_simulation_tools_answer_from_the_recording(engine: Engine, worker: Worker, tmp_path: Any) -> None:
    sky = tmp_path / "sky"
    sky.write_text("raining")
    await register_program(engine, ASKS_TOOLS.replace("PATH", repr(str(sky))))
    await make(engine, "looks-up")
    await say(engine, "Oslo")
    sky.write_text("dry")

    simulated, _ = await rerun(engine, mode=Mode.SIMULATE)
    told = replays.rerun(Call(engine, ME), "recorded", new_id="live", mode=Mode.RERUN, domain=DOMAIN)
    live = [one async for one in told if isinstance(one, Comparison)]

    assert drift(simulated) == []
    assert [one[0] for one in drift(live)] == ["call_tool", "run_agent"]


async def test_the_own_ids_of_a_session_are_no_difference(engine: Engine, worker: Worker) -> None:
    await register_script(engine, 'echo "$SESSIOND_SESSION $SESSIOND_RUN"', agent_id="says-ids")
    await make(engine, "says-ids", session_id="recorded")
    run = await say(engine, "who?")
    assert run.output is not None
    assert b"recorded" in run.output

    compared, _ = await rerun(engine)

    assert drift(compared) == []


async def test_what_needs_an_agent_that_is_gone_has_failed_and_the_rest_goes_on(engine: Engine, worker: Worker) -> None:
    await register_program(engine, LOOKS_UP.format("word"))
    await register(engine, "echo")
    await make(engine, "looks-up")
    await say(engine, "one")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(agent_id="echo"), itself)
    await say(engine, "two")
    await agents.remove(Call(engine, ME), "looks-up", itself)

    compared, summary = await rerun(engine)

    assert drift(compared) == [
        ("call_tool", 2, FAILED, "its agent is not registered"),
        ("run_agent", 3, FAILED, "its agent is not registered"),
    ]
    assert (compared[-1].action, compared[-1].verdict, summary.failed) == ("run_agent", SAME, 2)


async def test_runs_without_a_message_and_runs_tried_again_are_started_again(engine: Engine, worker: Worker) -> None:
    await register_script(engine, "exit 3", agent_id="a", retries=0)
    await make(engine, "a")
    said = await messages.append(Call(engine, ME), "recorded", [text("x")], itself, start_run=False)
    assert said[0].run_id is None
    first = await runs.start(Call(engine, ME), "recorded", itself)
    await ended(engine, first.id)
    again = await runs.retry(Call(engine, ME), first.id, itself)
    await ended(engine, again.id)

    compared, _ = await rerun(engine)
    assert [one.action for one in compared] == ["create_session", "send_message", "run_agent", "run_agent"]
    assert drift(compared) == []

    await register(engine, "a")
    told = replays.rerun(Call(engine, ME), "recorded", new_id="third", mode=Mode.RERUN, domain=DOMAIN)
    third = [one async for one in told if isinstance(one, Comparison)]
    assert drift(third) == [
        ("run_agent", 2, CHANGED, "its status and output and error differ"),
        ("run_agent", 3, FAILED, "a run that is completed cannot be tried again"),
    ]


async def test_a_run_that_was_cancelled_is_cancelled_again(engine: Engine, worker: Worker) -> None:
    await register(engine, "slow", options={"delay_ms": 60_000})
    await make(engine, "slow")
    (first,) = await append(engine, "recorded", "one two three")
    (second,) = await append(engine, "recorded", "four five six")
    await runs.cancel(Call(engine, ME), str(second.run_id), itself)
    await runs.cancel(Call(engine, ME), str(first.run_id), itself)
    await ended(engine, RunId(str(first.run_id)))

    compared, _ = await rerun(engine)

    assert [one.action for one in compared].count("run_agent") == 2
    assert drift(compared) == []


async def test_what_was_said_while_a_session_was_paused_is_answered_when_it_goes_on(
    engine: Engine, worker: Worker
) -> None:
    await register(engine, "echo")
    await make(engine, "echo")
    await say(engine, "before")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.PAUSED), itself)
    (waiting,) = await append(engine, "recorded", "during")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.ACTIVE, name="on"), itself)
    await ended(engine, RunId(str(waiting.run_id)))

    compared, _ = await rerun(engine)

    assert drift(compared) == []
    assert [one.index for one in compared] == list(range(len(compared)))


async def test_a_question_is_answered_as_it_was_then(engine: Engine, worker: Worker) -> None:
    asks = r"""
read -r brief
echo '{"type":"ask","title":"Go on?","options":[{"id":"yes","name":"Yes"},{"id":"no","name":"No"}]}'
read -r answer
printf '%s\n' "$answer" | sed 's/.*"option_id":"\([a-z]*\)".*/{"type":"text","text":"\1"}/'
"""
    await register(engine, "asks", runner="command", options={"command": ["sh", "-c", asks]})
    await make(engine, "asks")
    (said,) = await append(engine, "recorded", "go")
    run_id = str(said.run_id)
    waiting = await runs.wait(Call(engine, ME), run_id, timeout_seconds=20)
    await runs.respond(Call(engine, ME), waiting.id, Answer(option_id="no"), itself)
    assert (await ended(engine, RunId(run_id))).output == b'"no"'

    compared, _ = await rerun(engine)
    assert drift(compared) == []

    changed = asks.replace('"id":"no"', '"id":"never"')
    await register(engine, "asks", runner="command", options={"command": ["sh", "-c", changed]})
    told = replays.rerun(Call(engine, ME), "recorded", new_id="third", mode=Mode.RERUN, domain=DOMAIN)
    third = [one async for one in told if isinstance(one, Comparison)]
    assert drift(third) == [
        (
            "run_agent",
            2,
            CHANGED,
            "it was not answered as it was then: option_id must be one of yes, never",
        )
    ]


async def test_a_run_that_asks_what_it_did_not_ask_then_is_told_and_does_not_hang(
    engine: Engine, worker: Worker
) -> None:
    await register_script(engine, "echo hi", agent_id="a")
    await make(engine, "a")
    await say(engine, "go")
    asks = """echo '{"type":"ask","title":"May I?"}'; cat > /dev/null"""
    await register(engine, "a", runner="command", options={"command": ["sh", "-c", asks]})

    compared, _ = await rerun(engine)

    assert drift(compared) == [("run_agent", 2, CHANGED, "it asks what the recording has no answer to: May I?")]


async def receive(engine: Engine, inbox_id: str, raw: bytes = CODE_MAIL) -> None:
    await mails.receive(Call(engine, ME), inbox_id, raw, itself)


async def record_mails(engine: Engine) -> tuple[str, str]:
    """Record a session with an inbox, mail before and after a wait for it, and what becomes of both."""
    await make_a_plain_one(engine)
    new = NewInbox(session_id="recorded", purpose="signup", ttl_seconds=3_600)
    inbox = await inboxes.create(Call(engine, ME), new, itself, domain=DOMAIN)
    await receive(engine, inbox.id, CODE_MAIL.replace(b"481516", b"234234"))
    for since_us in (0, None):
        new_wait = NewWait(
            type=WaitType.OTP, inbox_id=inbox.id, timeout_seconds=60, terms=Terms(since_us=since_us, sender="shop")
        )
        wait = await waits.create(Call(engine, ME), new_wait, itself)
        if since_us is None:
            await receive(engine, inbox.id)
            assert (await waits.get(Call(engine, ME), wait.wait.id)).ended
    approval = NewWait(type=WaitType.APPROVAL, session_id="recorded", terms=Terms(title="Buy?"))
    made = await waits.create(Call(engine, ME), approval, itself)
    await waits.complete(Call(engine, ME), made.wait.id, {"approved": True}, itself)
    other = await waits.create(Call(engine, ME), approval, itself)
    await waits.cancel(Call(engine, ME), other.wait.id, itself, reason="never mind")
    return inbox.id, inbox.address


async def make_a_plain_one(engine: Engine) -> None:
    await sessions.create(Call(engine, ME), NewSession(name="mails"), itself, session_id="recorded")


async def test_inboxes_mails_and_waits_run_again(engine: Engine, worker: Worker) -> None:
    _, address = await record_mails(engine)

    compared, _ = await rerun(engine)

    assert drift(compared) == []
    assert [one.action for one in compared] == [
        "create_session",
        "create_inbox",
        "receive_mail",
        "create_wait",
        "await_wait",
        "create_wait",
        "receive_mail",
        "await_wait",
        "create_wait",
        "complete_wait",
        "create_wait",
        "cancel_wait",
    ]
    awaited = [one.output for one in compared if one.action == "await_wait"]
    assert [one["value"] for one in awaited if one is not None] == ["234234", "481516"]
    log = await read_log(engine, "again")
    (inbox,) = [msgspec.json.decode(event.body) for event in log if event.type == "inbox.created"]
    assert inbox["address"] != address
    assert inbox["address"].endswith(f"@{DOMAIN}")


async def test_mail_that_is_gone_has_failed_with_what_waits_for_it(engine: Engine, worker: Worker) -> None:
    inbox_id, _ = await record_mails(engine)
    await inboxes.delete(Call(engine, ME), inbox_id, itself)

    compared, _ = await rerun(engine)

    assert drift(compared) == [
        ("receive_mail", 2, FAILED, "the mail is gone"),
        ("await_wait", None, CHANGED, "its status and value differ"),
        ("receive_mail", 5, FAILED, "the mail is gone"),
        ("await_wait", None, CHANGED, "its status and value differ"),
    ]
    assert (compared[-1].action, compared[-1].verdict) == ("delete_inbox", SAME)


async def test_a_timer_and_a_wait_that_timed_out_end_again(engine: Engine, worker: Worker) -> None:
    await make_a_plain_one(engine)
    sweeping = asyncio.create_task(Sweeper(engine).work())
    for kind in (WaitType.TIMER, WaitType.APPROVAL):
        new = NewWait(type=kind, session_id="recorded", timeout_seconds=0.2)
        made = await waits.create(Call(engine, ME), new, itself)
        assert (await waits.wait(Call(engine, ME), made.wait.id, timeout_seconds=20)).ended

    compared, _ = await rerun(engine)

    sweeping.cancel()
    assert drift(compared) == []
    assert [one.output for one in compared if one.action == "await_wait"] == [
        {"status": "completed", "type": "timer"},
        {"status": "timed_out", "type": "approval"},
    ]


async def test_a_run_that_gave_up_its_worker_for_an_approval_goes_on_with_that_of_then(
    engine: Engine, worker: Worker
) -> None:
    await register_program(
        engine,
        """
import json, sys
brief = json.loads(sys.stdin.readline())
if not brief.get("waits"):
    print(json.dumps({"type": "wait", "for": "approval", "title": "Buy?"}))
else:
    print(json.dumps({"type": "text", "text": json.dumps(brief["waits"][0]["result"])}))
""",
        "waits",
    )
    await make(engine, "waits")
    (said,) = await append(engine, "recorded", "go")
    waiting = await runs.wait(Call(engine, ME), str(said.run_id), timeout_seconds=20)
    assert waiting.wait_id is not None
    await waits.complete(Call(engine, ME), waiting.wait_id, {"approved": "yes"}, itself)
    assert "yes" in str((await ended(engine, waiting.id)).output)

    compared, _ = await rerun(engine)

    assert drift(compared) == []
    assert [one.action for one in compared] == ["create_session", "send_message", "complete_wait", "run_agent"]


async def test_a_session_that_was_failed_or_is_empty_runs_again(engine: Engine, worker: Worker) -> None:
    await make_a_plain_one(engine)
    await sessions.fail(Call(engine, ME), "recorded", itself, reason="no")

    compared, _ = await rerun(engine)

    assert [(one.action, one.verdict) for one in compared] == [("create_session", SAME), ("fail_session", SAME)]
    assert compared[1].input == {"reason": "no"}


async def test_a_step_that_is_refused_has_failed_and_the_rest_goes_on(engine: Engine, worker: Worker) -> None:
    await register_script(engine, "echo hi", agent_id="a", fails_session=True, retries=0)
    await make(engine, "a")
    await say(engine, "one")
    await append(engine, "recorded", "two")
    await register_script(engine, "exit 1", agent_id="a", fails_session=True, retries=0)

    compared, _ = await rerun(engine)

    assert drift(compared) == [
        ("run_agent", 2, CHANGED, "its status and output and error differ"),
        ("send_message", 3, FAILED, "the session is failed"),
        *[("run_agent", 4, FAILED, "its message: the session is failed")] * (len(compared) - 4),
    ]


async def test_secrets_are_hidden_and_long_text_is_cut(engine: Engine, worker: Worker) -> None:
    await sessions.create(
        Call(engine, ME),
        NewSession(data=pack_data({"api_key": "hush", "text": "x" * 10_000})),
        itself,
        session_id="recorded",
    )

    compared, _ = await rerun(engine)

    data = compared[0].input["data"]
    assert data["api_key"] == "***"
    assert len(data["text"]) < 10_000


async def test_it_ends_in_time_and_says_so(engine: Engine, worker: Worker) -> None:
    await register(engine, "echo")
    await make(engine, "echo")
    await say(engine, "one")
    call = Call(engine, ME)
    recording = await replays.read(call, "recorded")

    told = replays.rerun_recording(
        call, recording, new_id="again", mode=Mode.RERUN, domain=DOMAIN, time_limit_seconds=0.0
    )
    compared = [one async for one in told if isinstance(one, Comparison)]

    over = "the time for running the session again is over"
    assert drift(compared) == [("send_message", 1, FAILED, over), ("run_agent", 2, FAILED, f"its message: {over}")]


async def test_who_may_not_read_or_write_may_not_run_a_session_again(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "recorded")
    for scope in ("sessions:read", "sessions:write"):
        without = caller(scopes=frozenset(one for one in ME.scopes if one != scope))
        told = replays.rerun(Call(engine, without), "recorded", new_id="again", mode=Mode.RERUN, domain=DOMAIN)
        with pytest.raises(Forbidden, match=scope):
            await anext(told)
    stranger = replays.rerun(
        Call(engine, caller(user_id="you")), "recorded", new_id="again", mode=Mode.RERUN, domain=DOMAIN
    )
    with pytest.raises(NotFound):
        await anext(stranger)
    with pytest.raises(NotFound):
        await sessions.get(Call(engine, ME), "again")


async def test_an_id_that_is_taken_is_a_conflict(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "recorded")

    told = replays.rerun(Call(engine, ME), "recorded", new_id="recorded", mode=Mode.RERUN, domain=DOMAIN)
    with pytest.raises(Conflict):
        await anext(told)


async def test_it_ends_with_what_is_not_allowed_any_more(engine: Engine, worker: Worker) -> None:
    await create(engine, "recorded")
    await append(engine, "recorded", "one", "two")
    asked = 0

    async def allowed() -> None:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise Forbidden("no more")

    with pytest.raises(Forbidden, match="no more"):
        await rerun(engine, still_allowed=allowed)
    assert len(await read_log(engine, "again")) == 2


async def test_a_saved_session_runs_again_in_another_workspace_and_is_simulated_there(
    engine: Engine, worker: Worker, tmp_path: Any
) -> None:
    sky = tmp_path / "sky"
    sky.write_text("raining")
    await register_program(engine, ASKS_TOOLS.replace("PATH", repr(str(sky))))
    await make(engine, "looks-up")
    await say(engine, "Oslo")
    await say(engine, "Rome")
    log = await read_log(engine, "recorded")
    session = await sessions.get(Call(engine, ME), "recorded")
    lines = [head_line(session, []), *(event_line(event) for event in log)]
    sky.write_text("dry")
    await sessions.delete(Call(engine, ME), "recorded", itself)

    file = read_session_file(lines)
    await replays.keep(Call(engine, ME), file)
    kept = await read_log(engine, "recorded")
    told = replays.rerun_recording(
        Call(engine, ME), replays.recording_of(file), new_id="again", mode=Mode.SIMULATE, domain=DOMAIN
    )
    compared = [one async for one in told if isinstance(one, Comparison)]

    assert _without_duration(kept) == _without_duration(log)
    assert drift(compared) == []
    assert len([event for event in await read_log(engine, "again") if event.type == RUN_TOOL_RESULT]) == 2


def _without_duration(log: list[Event]) -> list[Event]:
    return [msgspec.structs.replace(event, duration_us=event.duration_us or None) for event in log]


async def test_a_recording_without_its_beginning_is_refused(engine: Engine) -> None:
    await make_workspaces(engine)
    call = Call(engine, ME)
    await create(engine, "recorded")
    recording = msgspec.structs.replace(await replays.read(call, "recorded"), events=[])

    with pytest.raises(InvalidInput, match="creation"):
        await anext(replays.rerun_recording(call, recording, new_id="x", mode=Mode.RERUN, domain=DOMAIN))


async def rerun_edited(
    engine: Engine,
    edit: Callable[[Event], Event | None],
    *,
    new_id: str = "again",
    reorder: Callable[[list[Event]], list[Event]] = list,
    **how: Any,
) -> list[Comparison]:
    """Run the recorded session again as if its log said something else; None leaves an event out."""
    call = Call(engine, ME)
    recording = await replays.read(call, "recorded")
    edited = [after for event in reorder([*recording.events]) if (after := edit(event)) is not None]
    told = replays.rerun_recording(
        call,
        msgspec.structs.replace(recording, events=edited),
        new_id=new_id,
        mode=Mode.RERUN,
        domain=DOMAIN,
        **how,
    )
    return [one async for one in told if isinstance(one, Comparison)]


def with_body(event: Event, **fields: Any) -> Event:
    body = msgspec.json.decode(event.body) | fields
    return msgspec.structs.replace(event, body=msgspec.json.encode(body))


async def test_what_is_slow_to_be_cancelled_may_end_before(engine: Engine, worker: Worker) -> None:
    await register(engine, "slow", options={"delay_ms": 60_000})
    await make(engine, "slow")
    (said,) = await append(engine, "recorded", "one two")
    await seen(engine, RunId(str(said.run_id)), "run.started")
    await runs.cancel(Call(engine, ME), str(said.run_id), itself)
    await ended(engine, RunId(str(said.run_id)))
    await register(engine, "slow")

    def later(event: Event) -> Event:
        late = event.type in ("run.cancel_requested", "run.cancelled")
        return msgspec.structs.replace(event, created_at_us=event.created_at_us + late * 20_000_000)

    compared = await rerun_edited(engine, later)

    assert drift(compared) == [("run_agent", 2, CHANGED, "its status and output and error differ")]


async def test_a_webhook_that_was_called_is_called_again(engine: Engine, worker: Worker) -> None:
    await make_a_plain_one(engine)
    made = await waits.create(Call(engine, ME), NewWait(type=WaitType.WEBHOOK, session_id="recorded"), itself)
    assert made.hook is not None
    await waits.call_hook(engine, made.hook, {"paid": True})

    compared, _ = await rerun(engine)

    assert drift(compared) == []
    assert compared[-1].output == {"status": "completed", "type": "webhook"}


async def test_a_webhook_whose_wait_has_ended_otherwise_is_told_and_the_rest_goes_on(
    engine: Engine, worker: Worker
) -> None:
    await make_a_plain_one(engine)
    made = await waits.create(Call(engine, ME), NewWait(type=WaitType.WEBHOOK, session_id="recorded"), itself)
    assert made.hook is not None
    await sessions.complete(Call(engine, ME), "recorded", itself)
    completed = {"wait_id": made.wait.id, "type": "webhook", "result": {"paid": True}}

    def edit(event: Event) -> Event:
        if event.type != "wait.cancelled":
            return event
        return msgspec.structs.replace(event, type="wait.completed", body=msgspec.json.encode(completed))

    def complete_first(recorded: list[Event]) -> list[Event]:
        return sorted(recorded, key=lambda event: event.type == "wait.cancelled")

    compared = await rerun_edited(engine, edit, reorder=complete_first)

    assert drift(compared) == [("await_wait", None, CHANGED, "its status differs")]


async def test_what_a_recording_does_not_have_cannot_be_done(engine: Engine, worker: Worker) -> None:
    inbox_id, _ = await record_mails(engine)
    await inboxes.delete(Call(engine, ME), inbox_id, itself)

    def edit(event: Event) -> Event | None:
        if event.type in ("inbox.created", "wait.created"):
            return None
        if event.type == "wait.completed" and event.action is not None:
            return with_body(event, input={"wait_id": "w", "result": {"shortened": "{", "bytes": 20_000}})
        if event.type == "wait.cancelled":
            return msgspec.structs.replace(event, action="dance")
        return event

    compared = await rerun_edited(engine, edit)

    no_inbox = "its inbox is not of this session, or was not made again"
    assert [(one.action, one.verdict, one.reason) for one in compared[1:]] == [
        ("receive_mail", FAILED, "the mail is gone"),
        ("receive_mail", FAILED, "the mail is gone"),
        ("complete_wait", FAILED, "the recording has only the beginning of the result"),
        ("dance", FAILED, "a step of this kind cannot be done again"),
        ("delete_inbox", FAILED, no_inbox),
    ]


async def test_a_wait_that_was_not_made_cannot_be_cancelled_or_completed(engine: Engine, worker: Worker) -> None:
    await record_mails(engine)

    compared = await rerun_edited(engine, lambda event: None if event.type == "wait.created" else event)

    no_wait = "its wait is not of this session, or was not made again"
    assert [(action, reason) for action, _, _, reason in drift(compared)] == [
        ("complete_wait", no_wait),
        ("cancel_wait", no_wait),
    ]


async def test_a_wait_that_ended_before_it_is_cancelled_has_changed(engine: Engine, worker: Worker) -> None:
    await make_a_plain_one(engine)
    inbox = await inboxes.create(Call(engine, ME), NewInbox(session_id="recorded"), itself, domain=DOMAIN)
    new_wait = NewWait(type=WaitType.OTP, inbox_id=inbox.id, terms=Terms(sender="bank"))
    made = await waits.create(Call(engine, ME), new_wait, itself)
    await receive(engine, inbox.id)
    await waits.cancel(Call(engine, ME), made.wait.id, itself)

    def edit(event: Event) -> Event:
        return with_body(event, input={"type": "otp"}) if event.type == "wait.created" else event

    compared = await rerun_edited(engine, edit)

    assert drift(compared) == [("cancel_wait", 4, CHANGED, "its status differs")]


async def test_mail_that_came_by_smtp_is_told_of_only_when_it_is_gone(engine: Engine, worker: Worker) -> None:
    await make_a_plain_one(engine)
    inbox = await inboxes.create(Call(engine, ME), NewInbox(session_id="recorded"), itself, domain=DOMAIN)
    await mails.Mailboxes(engine).deliver([inbox.address], CODE_MAIL, sender="no-reply@shop.test")

    compared, _ = await rerun(engine)
    await inboxes.delete(Call(engine, ME), inbox.id, itself)
    without = await rerun_edited(engine, lambda event: event, new_id="third")

    assert [one.action for one in compared] == ["create_session", "create_inbox"]
    assert "mail.received" in [event.type for event in await read_log(engine, "again")]
    (gone,) = [one for one in without if one.verdict is not SAME]
    assert (gone.action, gone.index, gone.verdict, gone.reason) == ("receive_mail", None, FAILED, "the mail is gone")
    assert "sender" not in gone.input
    assert "subject" not in gone.input


async def test_a_run_that_takes_too_long_is_cancelled_and_the_rest_goes_on(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(engine, "echo")
    await make(engine, "echo")
    await say(engine, "one")
    await append(engine, "recorded", "two")
    await ended(engine, RunId(str((await read_log(engine, "recorded"))[-1].run_id)))
    await register(engine, "echo", options={"delay_ms": 60_000}, time_limit_seconds=0.1, retries=0)
    monkeypatch.setattr(performed_runs, "MARGIN_SECONDS", 0.0)
    worker.stop()

    compared = await rerun_edited(engine, lambda event: event)

    late = "it has not ended within 0.1 s"
    assert drift(compared) == [("run_agent", 2, FAILED, late), ("run_agent", 4, FAILED, late)]
    assert compared[3].verdict is SAME


async def test_what_was_queued_and_never_ended_is_cancelled_in_the_end(engine: Engine, worker: Worker) -> None:
    await register(engine, "echo")
    await make(engine, "echo")
    await append(engine, "recorded", "one")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.PAUSED), itself)
    await append(engine, "recorded", "two")

    compared = await rerun_edited(
        engine, lambda event: None if event.run_id is not None and event.type.startswith("run.c") else event
    )

    assert drift(compared) == []
    (cancelled,) = [event for event in await read_log(engine, "again") if event.type == "run.cancelled"]
    assert b"the recording ends here" in cancelled.body


async def test_a_run_that_ended_while_its_session_was_paused_cannot_go_on(engine: Engine, worker: Worker) -> None:
    await register(engine, "echo")
    await make(engine, "echo")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.ACTIVE), itself)
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.PAUSED), itself)
    (said,) = await append(engine, "recorded", "one")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.ACTIVE), itself)
    await ended(engine, RunId(str(said.run_id)))

    resumed = [event.seq for event in await read_log(engine, "recorded") if event.type == "session.activated"][-1]
    compared = await rerun_edited(engine, lambda event: None if event.seq == resumed else event)

    assert [(one.action, one.reason) for one in compared if one.verdict is FAILED] == [
        ("run_agent", "it cannot go on: the session is paused")
    ]


async def test_a_run_that_waits_for_a_time_is_waited_for(engine: Engine, worker: Worker) -> None:
    await register_program(
        engine,
        """
import json, sys
brief = json.loads(sys.stdin.readline())
if not brief.get("waits"):
    print(json.dumps({"type": "wait", "for": "timer", "timeout_seconds": 0.3}))
else:
    print(json.dumps({"type": "text", "text": "rested"}))
""",
        "rests",
    )
    await make(engine, "rests")
    sweeping = asyncio.create_task(Sweeper(engine).work())
    (said,) = await append(engine, "recorded", "go")
    while not (now := await runs.wait(Call(engine, ME), str(said.run_id), timeout_seconds=20)).ended:
        if now.wait_id is not None:
            await waits.wait(Call(engine, ME), now.wait_id, timeout_seconds=20)

    compared, _ = await rerun(engine)

    sweeping.cancel()
    assert drift(compared) == []
    assert compared[-1].output is not None
    assert compared[-1].output["output"] == "rested"


async def test_a_run_that_waits_for_what_never_comes_is_given_up(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register_script(engine, "echo hi", agent_id="a")
    await make(engine, "a")
    await say(engine, "go")
    forever = """echo '{"type":"wait","for":"approval"}'"""
    await register(engine, "a", runner="command", options={"command": ["sh", "-c", forever]})
    monkeypatch.setattr(performed_runs, "WAIT_MAX_SECONDS", 0.1)

    compared, _ = await rerun(engine)

    assert drift(compared) == [("run_agent", 2, FAILED, "it still waits, of type approval")]


async def test_a_retry_of_what_was_not_done_again_cannot_be_done(engine: Engine, worker: Worker) -> None:
    await register_script(engine, "exit 3", agent_id="a", retries=0)
    await make(engine, "a")
    first = await say(engine, "x")
    again = await runs.retry(Call(engine, ME), first.id, itself)
    await ended(engine, again.id)

    compared = await rerun_edited(engine, lambda event: None if event.run_id == first.id else event)

    assert drift(compared) == [("run_agent", 1, FAILED, "the run that was tried again was not done again")]


async def test_tools_of_a_run_that_the_recording_leaves_open_are_compared(engine: Engine, worker: Worker) -> None:
    await register_program(engine, LOOKS_UP.format("word"))
    await make(engine, "looks-up")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(status=Status.ACTIVE), itself)
    await say(engine, "one")

    def edit(event: Event) -> Event | None:
        return None if event.type == "run.completed" else event

    compared = await rerun_edited(engine, edit)

    assert [(one.action, one.verdict) for one in compared[2:]] == [("send_message", SAME), ("call_tool", SAME)]


async def test_a_session_that_is_too_long_is_not_run_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_workspaces(engine)
    await create(engine, "recorded")
    await append(engine, "recorded", "one", "two")
    monkeypatch.setattr(replays, "STEPS_MAX", 2)

    with pytest.raises(TooLarge, match="more than 2 steps"):
        await rerun(engine)


async def test_what_is_saved_can_be_read_and_is_kept_once(engine: Engine, worker: Worker) -> None:
    await register(engine, "echo")
    await record_mails(engine)
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(agent_id="echo"), itself)
    await say(engine, "one")
    await sessions.patch(Call(engine, ME), "recorded", SessionPatch(agent_id="gone"), itself)

    lines = [line async for line in replays.save(Call(engine, ME), "recorded")]
    file = read_session_file([line for _, line in lines])
    told = replays.rerun_recording(
        Call(engine, ME), replays.recording_of(file), new_id="again", mode=Mode.RERUN, domain=DOMAIN
    )
    compared = [one async for one in told if isinstance(one, Comparison)]

    assert [kind for kind, _ in lines] == ["session", *["event"] * len(file.events), "mail", "mail"]
    assert [(agent.id, agent.runner) for agent in file.head.agents] == [("gone", None), ("echo", "echo")]
    assert CODE_MAIL in file.mails.values()
    assert drift(compared) == []
    with pytest.raises(Conflict):
        await replays.keep(Call(engine, ME), file)
    spoiled = msgspec.structs.replace(file.head, session=file.head.session | {"name": 7})
    with pytest.raises(InvalidInput, match="no session's"):
        await replays.keep(Call(engine, ME), msgspec.structs.replace(file, head=spoiled))
    with pytest.raises(Forbidden, match="sessions:write"):
        await replays.keep(Call(engine, caller(scopes=frozenset({Scope.SESSIONS_READ}))), file)
    unread = Call(engine, caller(scopes=frozenset({Scope.SESSIONS_WRITE})))
    with pytest.raises(Forbidden, match="sessions:read"):
        await replays.read(unread, "recorded")
    with pytest.raises(Forbidden, match="sessions:read"):
        await anext(replays.save(unread, "recorded"))


async def test_what_was_taken_back_is_not_said_again_and_an_answer_is_taken_back_again(
    engine: Engine, worker: Worker
) -> None:
    await register(engine, "echo")
    await make(engine, "echo")
    await say(engine, "one")
    await messages.pop(Call(engine, ME), "recorded", itself)
    await messages.append(Call(engine, ME), "recorded", [text("two")], itself, start_run=False)
    await messages.pop(Call(engine, ME), "recorded", itself)
    await say(engine, "three")
    for _ in range(2):
        await messages.pop(Call(engine, ME), "recorded", itself)

    compared, _ = await rerun(engine)

    assert [(one.action, one.index) for one in compared if one.action != "pop_message"] == [
        *(("create_session", 0), ("send_message", 1), ("run_agent", 2), ("run_agent", 5)),
    ]
    assert drift(compared) == [("run_agent", 5, FAILED, "the message that it answers was taken back")]
    left = await messages.read_page(Call(engine, ME), "again", limit=9)
    assert [bytes(unpack_message(message.body).content) for message in left.events] == [b'"one"']
