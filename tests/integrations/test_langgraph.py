"""LangGraph keeps its checkpoints here: by its own suite, beside its own saver, across processes."""

from __future__ import annotations

import importlib
import operator
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from sessiond import AsyncClient, Client
from sessiond.client.call import Call, Response
from sessiond.client.transport import Streaming
from sessiond.integrations.langgraph import SessiondSaver
from sessiond.local import LocalTransport
from tests.serving import Serving, Tenant


class State(TypedDict):
    said: Annotated[list[str], operator.add]


def config_of(thread_id: str, **more: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **more}}


def make_graph(saver: BaseCheckpointSaver[Any]) -> Any:
    """Return a graph of two tasks at once, and one that asks, in a graph of its own."""
    inner = StateGraph(State)
    inner.add_node("look", lambda _: {"said": ["look"]})
    inner.add_node("ask", lambda _: {"said": [f"ask: {interrupt('really?')}"]})
    inner.add_edge(START, "look").add_edge("look", "ask").add_edge("ask", END)
    outer = StateGraph(State)
    outer.add_node("left", lambda _: {"said": ["left"]})
    outer.add_node("right", lambda _: {"said": ["right"]})
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "left").add_edge(START, "right")
    outer.add_edge(["left", "right"], "inner").add_edge("inner", END)
    return outer.compile(checkpointer=saver)


class Counting:
    """A way to a database that counts the requests that go it."""

    sure = True

    def __init__(self, database: Path) -> None:
        self._inner = LocalTransport(database, workspace="default", storage_key=None)
        self.count = 0

    def send(self, call: Call[Any]) -> Response:
        self.count += 1
        return self._inner.send(call)

    def open_stream(self, call: Call[Any]) -> AbstractContextManager[Streaming]:
        return self._inner.open_stream(call)

    def close(self) -> None:
        self._inner.close()


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Counting]:
    transport = Counting(tmp_path / "data.db")
    yield transport
    transport.close()


@pytest.fixture
def local(counting: Counting) -> Client:
    return Client(transport=counting)


async def _check_conformance(open_client: Callable[[], AsyncClient]) -> None:
    @checkpointer_test(name="SessiondSaver")
    async def saver() -> AsyncIterator[BaseCheckpointSaver[str]]:
        async with open_client() as client:
            yield SessiondSaver(async_client=client)

    report = await validate(saver)

    assert set(report.results) == {capability.value for capability in Capability}
    for name, result in report.results.items():
        assert result.detected, name
        assert result.passed, result.failures
        assert result.tests_passed


async def test_the_framework_s_own_suite_passes_on_a_server(serving: Serving) -> None:
    # A workspace for each part: one that deletes runs looks through all threads there are.
    await _check_conformance(lambda: AsyncClient(serving.make_tenant().key, serving.url))


async def test_the_framework_s_own_suite_passes_on_a_file(tmp_path: Path) -> None:
    await _check_conformance(lambda: AsyncClient.local(tmp_path / "data.db"))


def _shape(history: list[CheckpointTuple]) -> list[Any]:
    """Return what of a history does not change from run to run: ids and versions do."""
    names = {each.config["configurable"]["checkpoint_id"]: number for number, each in enumerate(history[::-1])}
    return [
        (
            names.get(each.parent_config["configurable"]["checkpoint_id"]) if each.parent_config else None,
            each.metadata["source"],
            each.metadata["step"],
            each.checkpoint["channel_values"].get("said"),
            sorted(each.checkpoint["channel_versions"]),
            sorted((write[1], _told(write[2])) for write in each.pending_writes or []),
        )
        for each in history
    ]


def _told(value: Any) -> str:
    return str([getattr(each, "value", each) for each in value] if isinstance(value, list | tuple) else value)


async def test_a_graph_leaves_the_same_run_by_threads_or_coroutines_as_in_memory(tenant: Tenant) -> None:
    memory = InMemorySaver()
    make_graph(memory).invoke({"said": ["hello"]}, config_of("m"), durability="sync")
    expected = make_graph(memory).invoke(Command(resume="yes"), config_of("m"), durability="sync")
    with Client(tenant.key, tenant.serving.url) as client:
        graph = make_graph(SessiondSaver(client))
        graph.invoke({"said": ["hello"]}, config_of("sync"), durability="sync")
        by_thread = graph.invoke(Command(resume="yes"), config_of("sync"), durability="sync")
        in_threads = [*SessiondSaver(client).list(config_of("sync"))]
        async with AsyncClient(tenant.key, tenant.serving.url) as async_client:
            saver = SessiondSaver(async_client)
            graph = make_graph(saver)
            await graph.ainvoke({"said": ["hello"]}, config_of("async"), durability="sync")
            by_coroutine = await graph.ainvoke(Command(resume="yes"), config_of("async"), durability="sync")
            in_coroutines = [each async for each in saver.alist(config_of("async"))]
        read_by_thread = [*SessiondSaver(client).list(config_of("async"))]

    assert by_thread == by_coroutine == expected
    told = _shape([*memory.list(config_of("m"))])
    assert len(told) == 4
    assert _shape(in_threads) == told
    assert _shape(in_coroutines) == told
    assert read_by_thread == in_coroutines


def test_going_back_in_time_leads_where_it_does_in_memory(local: Client) -> None:
    told = []
    for saver in (SessiondSaver(local), InMemorySaver()):
        builder = StateGraph(State)
        builder.add_node("one", lambda state: {"said": [f"one {len(state['said'])}"]})
        builder.add_node("two", lambda state: {"said": [f"two {len(state['said'])}"]})
        builder.add_edge(START, "one").add_edge("one", "two").add_edge("two", END)
        graph: Any = builder.compile(checkpointer=saver)
        graph.invoke({"said": ["hello"]}, config_of("t"))
        back = next(each for each in graph.get_state_history(config_of("t")) if each.next == ("two",))
        again = graph.invoke(None, back.config)
        changed = graph.update_state(back.config, {"said": ["no"]}, as_node="one")
        otherwise = graph.invoke(None, changed)
        histories = [
            [(each.metadata["source"], each.metadata["step"], each.values, each.next) for each in history]
            for history in (
                graph.get_state_history(config_of("t")),
                graph.get_state_history(config_of("t"), before=back.config),
                graph.get_state_history(config_of("t"), filter={"source": "loop"}, limit=2),
            )
        ]
        told.append((again, otherwise, graph.get_state(config_of("t")).values, histories))

    assert told[0] == told[1]
    assert told[0][2]["said"] == ["hello", "one 1", "no", "two 3"]


async def test_a_client_that_waits_serves_coroutines_too(local: Client) -> None:
    graph = make_graph(SessiondSaver(local))

    await graph.ainvoke({"said": []}, config_of("t"))

    assert (await graph.aget_state(config_of("t"))).interrupts[0].value == "really?"


def test_the_newest_checkpoint_costs_one_request_in_a_thread_of_any_length(counting: Counting, local: Client) -> None:
    saver, config = SessiondSaver(local), config_of("long")
    for step in range(200):
        config = saver.put(config, empty_checkpoint(), {"source": "loop", "step": step}, {})
        saver.put_writes(config, [("said", step)], "task")
    before = counting.count

    newest = SessiondSaver(local).get_tuple(config_of("long"))

    assert newest is not None
    assert (newest.metadata["step"], newest.pending_writes) == (199, [("task", "said", 199)])
    assert counting.count - before == 1


def test_a_graph_in_a_graph_is_not_looked_for_before_its_caller(counting: Counting, local: Client) -> None:
    saver, config = SessiondSaver(local), config_of("long")
    for step in range(60):
        config = saver.put(config, empty_checkpoint(), {"step": step}, {})
    caller = config["configurable"]["checkpoint_id"]
    inner: Any = config_of("long", checkpoint_ns="inner:task", checkpoint_map={"": caller})
    before = counting.count

    assert saver.get_tuple(inner) is None

    assert counting.count - before == 1
    for number in range(20):
        saver.put_writes(config, [("said", number)], f"task {number}")
    saver.put(inner, empty_checkpoint(), {"step": -1}, {})
    found = saver.get_tuple(inner)
    assert found is not None
    assert found.metadata["step"] == -1


def test_what_came_before_its_checkpoint_is_found_with_it(local: Client) -> None:
    saver, checkpoint = SessiondSaver(local), empty_checkpoint()
    saver.put(config_of("t"), empty_checkpoint(), {"step": 0}, {})
    saver.put_writes(config_of("t", checkpoint_id=checkpoint["id"]), [("said", "early")], "task")
    for number in range(30):
        saver.put_writes(config_of("t", checkpoint_id="other"), [("said", number)], f"task {number}")
    saver.put(config_of("t"), checkpoint, {"step": 1}, {})

    newest = SessiondSaver(local).get_tuple(config_of("t"))

    assert newest is not None
    assert newest.pending_writes == [("task", "said", "early")]


def test_of_the_same_write_the_first_counts_and_of_an_error_the_last(local: Client) -> None:
    saver = SessiondSaver(local)
    config = saver.put(config_of("t"), empty_checkpoint(), {}, {})
    saver.put_writes(config, [("said", "b1")], "b", "path 1")
    saver.put_writes(config, [("said", "b2")], "b", "path 1")
    saver.put_writes(config, [("said", "a1"), ("done", b"\xff")], "a", "path 2")
    saver.put_writes(config, [("__error__", "e1")], "a", "path 2")
    saver.put_writes(config, [("__error__", "e2")], "a", "path 2")

    found = saver.get_tuple(config)

    assert found is not None
    assert found.pending_writes == [
        ("b", "said", "b1"),
        ("a", "__error__", "e2"),
        ("a", "said", "a1"),
        ("a", "done", b"\xff"),
    ]


def test_a_pruned_thread_goes_on_with_channels_that_are_stored_as_changes(local: Client) -> None:
    class Grown(TypedDict):
        said: Annotated[list[str], DeltaChannel(lambda have, more: [*have, *(each for some in more for each in some)])]

    builder = StateGraph(Grown)
    builder.add_node("echo", lambda state: {"said": [f"echo {len(state['said'])}"]})
    builder.add_edge(START, "echo").add_edge("echo", END)
    saver = SessiondSaver(local)
    graph = builder.compile(checkpointer=saver)
    for word in ("one", "two"):
        graph.invoke({"said": [word]}, config_of("t"))

    saver.prune(["t"])

    assert len([*saver.list(config_of("t"))]) == 1
    assert graph.invoke({"said": ["three"]}, config_of("t"))["said"] == [
        *("one", "echo 1", "two", "echo 3", "three", "echo 5")
    ]


def test_a_thread_that_another_has_deleted_begins_anew(local: Client) -> None:
    saver, other = SessiondSaver(local), SessiondSaver(local)
    old = saver.put(config_of("t"), empty_checkpoint(), {"step": 7}, {})
    other.delete_thread("t")

    saver.put(old, empty_checkpoint(), {"step": 8}, {})

    assert [each.metadata["step"] for each in other.list(config_of("t"))] == [8]
    assert other.get_tuple(old) is None


def test_a_thread_may_have_any_name_and_stand_in_a_session_of_yours(local: Client) -> None:
    local.sessions.create(id="mine", metadata={"team": "red"})
    names = ["mine", "a/b", " ", "x" * 500, "user:7 ü"]
    saver = SessiondSaver(local)
    for step, name in enumerate(names):
        saver.put(config_of(name), empty_checkpoint(), {"step": step}, {})

    listed = {each.config["configurable"]["thread_id"]: each.metadata["step"] for each in saver.list(None)}

    assert listed == {name: step for step, name in enumerate(names)}
    assert local.sessions.get("mine").metadata == {"team": "red", "framework": "langgraph", "thread_id": "mine"}
    assert local.sessions.get("user:7 ü").message_count == 0


def test_large_states_are_kept_and_copied(tenant: Tenant) -> None:
    states = [os.urandom(1_500_000), os.urandom(100_000)]
    with Client(tenant.key, tenant.serving.url) as client:
        saver, config = SessiondSaver(client), config_of("t")
        for step, state in enumerate(states):
            config = saver.put(config, empty_checkpoint() | {"channel_values": {"said": state}}, {"step": step}, {})
        saver.put_writes(config, [("said", state) for state in [*states, "short"]], "task")
        saver.copy_thread("t", "copy")
        copied = [*saver.list(config_of("copy"))]

        assert [each.checkpoint["channel_values"]["said"] for each in copied] == states[::-1]
        assert [write[2] for write in copied[0].pending_writes or []] == [*states, "short"]
        assert [(each.checkpoint, each.pending_writes) for each in saver.list(config_of("t"))] == [
            (each.checkpoint, each.pending_writes) for each in copied
        ]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, local: Client) -> None:
    with pytest.raises(TypeError, match="give a Client"):
        SessiondSaver()
    with pytest.raises(ValueError, match="name the thread"):
        SessiondSaver(local).get_tuple({"configurable": {}})
    with pytest.raises(ValueError, match="keep_latest or delete"):
        SessiondSaver(local).prune(["t"], strategy="some")

    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.base", None)
    monkeypatch.delitem(sys.modules, "sessiond.integrations.langgraph")
    with pytest.raises(ImportError, match=r"pip install 'sessiond\[langgraph\]'"):
        importlib.import_module("sessiond.integrations.langgraph")


async def test_a_client_for_coroutines_alone_does_not_wait(tmp_path: Path) -> None:
    async with AsyncClient.local(tmp_path / "data.db") as client:
        with pytest.raises(TypeError, match="asynchronous"):
            SessiondSaver(client).get_tuple(config_of("t"))
