"""Checkpoints of LangGraph, kept in sessiond.

    from sessiond import Client
    from sessiond.integrations.langgraph import SessiondSaver

    graph = builder.compile(checkpointer=SessiondSaver(Client()))
    graph.invoke({"messages": […]}, {"configurable": {"thread_id": "support-1"}})

A thread is a session of the thread's id. Its log has an event for each checkpoint and one for what each task wrote, so
an append is all that a step of a graph costs, and the newest checkpoint is found from the log's end.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, cast

from sessiond.client import AsyncClient, Client, NotFound
from sessiond.client.sessions import delete_session
from sessiond.integrations.langgraph_log import (
    CHECKPOINT,
    REMOVED,
    WRITES,
    Found,
    Key,
    Known,
    Walk,
    append,
    append_if_there,
    create,
    packed,
    session_of,
    thread_ids,
    unpacked,
    whole,
)
from sessiond.integrations.steps import Asking, Clients, Steps, batches

try:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
        PendingWrite,
        get_checkpoint_id,
        get_checkpoint_metadata,
        writes_sort_key,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol
except ImportError as error:
    raise ImportError("LangGraph is not installed: pip install 'sessiond[langgraph]'", name=error.name) from error

STRATEGIES: Final = ("keep_latest", "delete")


class SessiondSaver(BaseCheckpointSaver[str]):
    """A checkpointer: give it to `compile(checkpointer=…)`.

    A checkpoint is stored whole, compressed, and in pieces where it is larger than a server takes in a request. Each
    call raises what `sessiond.client.errors` lists; a session that has ended takes no more checkpoints (`Conflict`).

    The newest checkpoint costs the same however long the thread is, as a rule one request: it is read from the log's
    end. So is an older one, by way of all that are newer.
    """

    def __init__(
        self,
        client: Client | AsyncClient | None = None,
        async_client: AsyncClient | None = None,
        *,
        serde: SerializerProtocol | None = None,
    ) -> None:
        """Keep checkpoints where a client says.

        `invoke` and its kin need a `Client`. `ainvoke` and its kin take the `AsyncClient`, or else the `Client`, in
        threads. The clients stay their maker's to close. `serde` is the framework's way to make bytes of values.

        Raises:
            TypeError: there is no client.
        """
        super().__init__(serde=serde)
        self._clients = Clients(client, async_client)
        self._known = Known()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, or the newest of its thread and namespace; None without one."""
        return self._clients.first(self._get(config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await self._clients.first_async(self._get(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, the newest first: of a thread, of one of its namespaces, or without `config` of all.

        `filter` names values of their metadata. Those with a smaller id than `before` has are meant. They are read as
        they are needed.
        """
        yield from self._clients.each(self._list(config, filter, before, limit))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        async with aclosing(self._clients.each_async(self._list(config, filter, before, limit))) as found:
            async for each in found:
                yield each

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, on disk when this returns, and return where it is."""
        return cast("RunnableConfig", self._clients.first(self._put(config, checkpoint, metadata)))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        return cast("RunnableConfig", await self._clients.first_async(self._put(config, checkpoint, metadata)))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written for a checkpoint. The same write of a task once more changes nothing."""
        self._clients.first(self._put_writes(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        await self._clients.first_async(self._put_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Delete the thread's session, with all that is in it. It need not exist."""
        self._clients.first(self._delete_thread(thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await self._clients.first_async(self._delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Make the checkpoints of these runs, and what was written for them, count no more.

        A log is only added to: an event says that they are removed, and they stay behind it until the thread is
        deleted. All threads of the workspace are looked through.
        """
        self._clients.first(self._delete_for_runs(run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await self._clients.first_async(self._delete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Append the source's checkpoints, and what was written for them, to the target, which is made if need be.

        Other things in the source's session are not copied. All of them are held in memory. It takes a request for each
        512 KiB: when it fails halfway the target has the older ones.
        """
        self._clients.first(self._copy_thread(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await self._clients.first_async(self._copy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Make all checkpoints but the newest of each namespace count no more; `"delete"` deletes the threads.

        Like `delete_for_runs`, `"keep_latest"` adds an event and frees no space. Channels that are stored as their
        changes stay whole: their history is read behind it too.

        Raises:
            ValueError: it is another strategy.
        """
        self._clients.first(self._prune(thread_ids, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        await self._clients.first_async(self._prune(thread_ids, strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what was written to `channels` on the way to a checkpoint; the log is read once."""
        return self._clients.first(self._get_history(config, channels)) or {}

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `get_delta_channel_history`."""
        return await self._clients.first_async(self._get_history(config, channels)) or {}

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return a version behind `current`, which no other branch of the thread has."""
        count = int(str(current).partition(".")[0]) if current is not None else 0
        return f"{count + 1:032}.{uuid.uuid4().hex}"

    def _get(self, config: RunnableConfig) -> Steps[CheckpointTuple]:
        found = yield from self._find(config)
        if found is not None and not found.hidden:
            yield (yield from self._tuple(_thread_of(config), found))

    def _find(self, config: RunnableConfig) -> Asking[Found | None]:
        """Return the checkpoint that is meant: by its id also one that counts no more."""
        namespace, wanted = _namespace_of(config), get_checkpoint_id(config)
        above = _above(config)
        walk = Walk(_thread_of(config), self._known)
        while (found := (yield from walk.next())) is not None:
            if found.namespace == namespace and (found.id == wanted if wanted else not found.hidden):
                return found
            if not wanted and ":" in namespace and found.key in above:
                # What a task's graph has written comes behind the checkpoint that the task belongs to.
                walk.finish()
        return None

    def _list(
        self,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Steps[CheckpointTuple]:
        namespace = config["configurable"].get("checkpoint_ns") if config else None
        wanted = get_checkpoint_id(config) if config else None
        end = get_checkpoint_id(before) if before else None
        threads = [_thread_of(config)] if config else (yield from thread_ids())
        left = limit if limit is not None else -1
        for thread_id in threads:
            walk = Walk(thread_id, self._known)
            while left != 0 and (found := (yield from walk.next())) is not None:
                if found.hidden or (namespace is not None and found.namespace != namespace):
                    continue
                if (wanted and found.id != wanted) or (end and found.id >= end):
                    continue
                told = found.data if "metadata" in found.data else (yield from whole(thread_id, found.data))
                metadata = self._loaded(told["metadata"])
                if all(metadata.get(name) == value for name, value in (filter or {}).items()):
                    yield (yield from self._tuple(thread_id, found))
                    left -= 1

    def _put(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> Steps[RunnableConfig]:
        thread_id, key = _thread_of(config), (_namespace_of(config), checkpoint["id"])
        told = get_checkpoint_metadata(config, metadata)
        said = {
            "ns": key[0],
            "id": key[1],
            "parent": get_checkpoint_id(config),
            "source": told.get("source"),
            "step": told.get("step"),
            "run_id": told.get("run_id"),
            "checkpoint": packed(self.serde.dumps_typed(checkpoint)),
            "metadata": packed(self.serde.dumps_typed(told)),
        }
        data: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        if not self._known.has(thread_id):
            yield from create(thread_id, self._known)
        self._known.begin(thread_id, [key, *_above(config)])
        data["since"] = self._known.since(thread_id, key)
        yield from append(thread_id, [{"type": CHECKPOINT, "data": data}], self._known)
        yield _config(thread_id, *key)

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Steps[None]:
        if not writes:
            return
        thread_id, key = _thread_of(config), (_namespace_of(config), config["configurable"]["checkpoint_id"])
        data = {
            "ns": key[0],
            "checkpoint_id": key[1],
            "task_id": task_id,
            "task_path": task_path,
            "writes": [
                {
                    "channel": channel,
                    "index": WRITES_IDX_MAP.get(channel, index),
                    **packed(self.serde.dumps_typed(value)),
                }
                for index, (channel, value) in enumerate(writes)
            ],
        }
        if not self._known.has(thread_id):
            yield from create(thread_id, self._known)
        self._known.begin(thread_id, [key, *_above(config)])
        yield from append(thread_id, [{"type": WRITES, "data": data}], self._known)

    def _delete_thread(self, thread_id: str) -> Steps[None]:
        self._known.forget(str(thread_id))
        try:
            yield delete_session(session_of(str(thread_id)))
        except NotFound:
            return

    def _delete_for_runs(self, run_ids: Sequence[str]) -> Steps[None]:
        runs = {str(run_id) for run_id in run_ids}
        for thread_id in (yield from thread_ids()) if runs else []:
            here = {found.run_id for found in (yield from self._read_all(thread_id))} & runs
            if here:
                yield from append_if_there(thread_id, {"type": REMOVED, "data": {"run_ids": sorted(map(str, here))}})

    def _copy_thread(self, source_thread_id: str, target_thread_id: str) -> Steps[None]:
        events = list[dict[str, Any]]()
        for found in reversed((yield from self._read_all(str(source_thread_id)))):
            kept = {name: value for name, value in found.data.items() if name != "since"}
            events.append({"type": CHECKPOINT, "data": (yield from whole(str(source_thread_id), kept))})
            for said in found.writes:
                events.append({"type": WRITES, "data": (yield from whole(str(source_thread_id), said))})
        if events:
            yield from create(str(target_thread_id), self._known)
        for batch in batches(events):
            yield from append(str(target_thread_id), batch, self._known)

    def _prune(self, thread_ids: Sequence[str], strategy: str) -> Steps[None]:
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be {' or '.join(STRATEGIES)}, not {strategy!r}")
        for thread_id in map(str, thread_ids):
            if strategy == "delete":
                yield from self._delete_thread(thread_id)
                continue
            every = yield from self._read_all(thread_id)
            newest = dict[str, str]()
            for found in every:
                newest.setdefault(*found.key)
            if len(newest) < len(every):
                yield from append_if_there(thread_id, {"type": REMOVED, "data": {"keep": sorted(newest.items())}})

    def _read_all(self, thread_id: str) -> Asking[Sequence[Found]]:
        """Return the checkpoints of a thread that count, the newest first."""
        walk = Walk(thread_id, self._known)
        every = []
        while (found := (yield from walk.next())) is not None:
            if not found.hidden:
                every.append(found)
        return every

    def _get_history(self, config: RunnableConfig, channels: Sequence[str]) -> Steps[Mapping[str, DeltaChannelHistory]]:
        written: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
        seeds = dict[str, Any]()
        namespace, wanted = _namespace_of(config), get_checkpoint_id(config)
        parent_id: str | None = None
        walk = Walk(_thread_of(config), self._known)
        target = False
        # A parent is in the log before its children, so that one pass meets all of them.
        while len(seeds) < len(written) and (found := (yield from walk.next())) is not None:
            if found.namespace != namespace:
                continue
            if not target:
                target = found.id == wanted if wanted else not found.hidden
                parent_id = found.parent_id if target else None
            elif found.id == parent_id:
                parent_id = found.parent_id
                values = yield from self._tuple(_thread_of(config), found)
                for write in reversed(values.pending_writes or []):
                    if write[1] in written and write[1] not in seeds:
                        written[write[1]].append(write)
                for channel in written:
                    if channel in values.checkpoint["channel_values"]:
                        seeds.setdefault(channel, values.checkpoint["channel_values"][channel])
            if target and parent_id is None:
                break
        yield {
            channel: cast(
                "DeltaChannelHistory", {"writes": told[::-1]} | ({"seed": seeds[channel]} if channel in seeds else {})
            )
            for channel, told in written.items()
        }

    def _tuple(self, thread_id: str, found: Found) -> Asking[CheckpointTuple]:
        parent = found.parent_id
        told = yield from whole(thread_id, found.data)
        writes = []
        for said in found.writes:
            writes.append((yield from whole(thread_id, said)))
        return CheckpointTuple(
            config=_config(thread_id, *found.key),
            checkpoint=self._loaded(told["checkpoint"]),
            metadata=self._loaded(told["metadata"]),
            parent_config=_config(thread_id, found.namespace, parent) if parent is not None else None,
            pending_writes=[*self._pending(writes)],
        )

    def _pending(self, writes: Sequence[Mapping[str, Any]]) -> Sequence[PendingWrite]:
        """Return what was written, in the order in which it is to be done."""
        chosen = dict[tuple[str, int], tuple[str, Mapping[str, Any]]]()
        for said in writes:
            for write in said["writes"]:
                # A task's write counts once. Of errors, interrupts and their like, whose index is negative, the last.
                key = said["task_id"], write["index"]
                if key not in chosen or write["index"] < 0:
                    chosen[key] = said["task_path"], write
        ordered = sorted(chosen.items(), key=lambda each: writes_sort_key(each[1][0], *each[0]))
        return [(key[0], write["channel"], self._loaded(write)) for key, (_, write) in ordered]

    def _loaded(self, value: Mapping[str, str]) -> Any:
        return self.serde.loads_typed(unpacked(value))


def _thread_of(config: RunnableConfig) -> str:
    thread_id = config.get("configurable", {}).get("thread_id")
    if thread_id is None:
        raise ValueError('name the thread: config={"configurable": {"thread_id": "…"}}')
    return str(thread_id)


def _namespace_of(config: RunnableConfig) -> str:
    return cast("str", config["configurable"].get("checkpoint_ns") or "")


def _above(config: RunnableConfig) -> set[Key]:
    """Return the checkpoints of the graphs that called this one."""
    namespace = _namespace_of(config)
    above: Mapping[str, str] = config["configurable"].get("checkpoint_map") or {}
    return {key for key in above.items() if key[0] != namespace}


def _config(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
