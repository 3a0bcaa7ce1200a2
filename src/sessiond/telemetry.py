"""What the program says of itself: metrics for Prometheus, one log line a request. Never content, never secrets."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Final, TextIO

import msgspec
import uuid_utils
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

log: Final = logging.getLogger("sessiond.telemetry")

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RUN_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0)
LOG_SECONDS: Final = 0.2  # access lines are written together: a write for each costs as much as a small request
LINES_MAX: Final = 10_000


class Snapshot(msgspec.Struct, frozen=True):
    """What one process has counted."""

    pid: int
    requests: list[tuple[str, str, str, int, list[float]]]
    """Dialect, route, method, status; how many took as long as each bucket says, and all their seconds."""
    runs: list[tuple[str, str, list[float]]]
    """Runner and status of attempts that ended; the same numbers."""
    starts: list[float]
    """The same of how long runs were queued."""
    gauges: dict[str, float]
    summaries: dict[str, tuple[int, float]]


class Telemetry(Collector):
    """Counts requests and runs. The library's own counters cost 20 µs a request; these lists cost one.

    Processes that serve together tell each other what they have counted in the folder `shared`, so that whichever is
    asked answers for all.
    """

    def __init__(self, access: AccessLog | None = None, *, shared: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self._access = access
        self._shared = shared
        # A process may get the number of one that has ended, and must not write over what that one counted.
        self._name = f"{os.getpid()}-{uuid_utils.uuid7().hex}"
        self._seen: dict[tuple[str, str, str, int], list[float]] = {}
        self._runs: dict[tuple[str, str], list[float]] = {}
        self._starts = _zeros(BUCKETS)
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._summaries: dict[str, tuple[str, Callable[[], tuple[int, float]]]] = {}
        self.registry.register(self)

    def request(
        self,
        *,
        dialect: str,
        route: str,
        method: str,
        status: int,
        seconds: float,
        request_id: str,
        caller: Callable[[], str],
    ) -> None:
        """Count a request and log it; `caller` says who asked, as it shall stand in the log, where there is one."""
        if method not in _METHODS:
            method = "OTHER"  # anybody can make up methods; a label for each would fill memory
        key = (dialect, route, method, status)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _zeros(BUCKETS)
        seen[bisect_left(BUCKETS, seconds)] += 1
        seen[-1] += seconds
        if self._access is not None:
            self._access.write(
                f"request method={method} route={route or '-'} dialect={dialect} status={status}"
                f" ms={seconds * 1000:.1f} request_id={request_id}{caller()}"
            )

    def run_started(self, *, seconds: float) -> None:
        """Count the first start of a run that was queued so long."""
        seconds = max(0.0, seconds)  # by two clocks
        self._starts[bisect_left(BUCKETS, seconds)] += 1
        self._starts[-1] += seconds

    def run_ended(self, *, runner: str, status: str, seconds: float) -> None:
        """Count the end of an attempt at a run: `status` is what became of the run, or `lost`."""
        seen = self._runs.setdefault((runner, status), _zeros(RUN_BUCKETS))
        seen[bisect_left(RUN_BUCKETS, seconds)] += 1
        seen[-1] += seconds

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show what `value` says at the time of asking."""
        self._gauges[name] = (text, value)

    def summary(self, name: str, text: str, value: Callable[[], tuple[int, float]]) -> None:
        """Show what `value` says at the time of asking: how many there were, and what they come to together."""
        self._summaries[name] = (text, value)

    def share(self) -> None:
        """Tell the other processes what this one has counted."""
        if self._shared is not None:
            mine = self._shared / self._name
            fresh = mine.with_suffix(".new")
            try:
                fresh.write_bytes(msgspec.msgpack.encode(self._snapshot()))
                fresh.replace(mine)
            except OSError as error:  # a full disk, a folder that was tidied away: nothing to stop serving for
                log.warning("the other processes cannot be told what this one has counted: %s", error)

    def collect(self) -> Iterator[Metric]:
        snapshots = [self._snapshot(), *self._others()]
        yield _requests_metric(snapshots)
        yield from _run_metrics(snapshots)
        # A process that has ended has nothing open any more; what it had counted goes on counting. Of several that had
        # the same number the latest may be alive.
        latest = {snapshot.pid: snapshot for snapshot in [*snapshots[1:], snapshots[0]]}
        alive = [snapshot for snapshot in latest.values() if _is_alive(snapshot.pid)]
        for name, (text, _) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=sum(snapshot.gauges.get(name, 0) for snapshot in alive))
        for name, (text, _) in self._summaries.items():
            parts = [snapshot.summaries.get(name, (0, 0.0)) for snapshot in snapshots]
            count, total = sum(part[0] for part in parts), sum(part[1] for part in parts)
            yield SummaryMetricFamily(name, text, count_value=count, sum_value=total)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            pid=os.getpid(),
            requests=[(*labels, list(seen)) for labels, seen in list(self._seen.items())],
            runs=[(*labels, list(seen)) for labels, seen in list(self._runs.items())],
            starts=list(self._starts),
            gauges={name: value() for name, (_, value) in self._gauges.items()},
            summaries={name: value() for name, (_, value) in self._summaries.items()},
        )

    def _others(self) -> Iterator[Snapshot]:
        if self._shared is None:
            return
        try:
            files = sorted(self._shared.iterdir())  # of one number, the oldest first
        except OSError:
            return
        for file in files:
            if file.name != self._name and not file.suffix:
                # What cannot be read now may be the next time.
                with suppress(OSError, msgspec.MsgspecError):
                    yield msgspec.msgpack.decode(file.read_bytes(), type=Snapshot)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _requests_metric(snapshots: Sequence[Snapshot]) -> Metric:
    family = HistogramMetricFamily(
        "sessiond_request_seconds",
        "Requests by dialect, route, method and status, and how long they took.",
        labels=("dialect", "route", "method", "status"),
    )
    counted = [
        ((dialect, route, method, str(status)), seen)
        for snapshot in snapshots
        for dialect, route, method, status, seen in snapshot.requests
    ]
    for labels, seen in _add_up(counted).items():
        family.add_metric(labels, _up_to(BUCKETS, seen), sum_value=seen[-1])
    return family


def _run_metrics(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
    counted = [((runner, status), seen) for snapshot in snapshots for runner, status, seen in snapshot.runs]
    ended = CounterMetricFamily(
        "sessiond_runs", "Attempts at runs that have ended, and what became of the run.", labels=("runner", "status")
    )
    for labels, seen in _add_up(counted).items():
        ended.add_metric(labels, sum(seen[:-1]))
    yield ended
    took = HistogramMetricFamily("sessiond_run_seconds", "How long attempts at runs took.", labels=("runner",))
    for labels, seen in _add_up([(labels[:1], seen) for labels, seen in counted]).items():
        took.add_metric(labels, _up_to(RUN_BUCKETS, seen), sum_value=seen[-1])
    yield took
    queued = HistogramMetricFamily("sessiond_run_start_seconds", "How long runs were queued before they started.")
    for seen in _add_up([((), snapshot.starts) for snapshot in snapshots]).values():
        queued.add_metric((), _up_to(BUCKETS, seen), sum_value=seen[-1])
    yield queued


def _zeros(buckets: Sequence[float]) -> list[float]:
    """Return a histogram of nothing: a number for each bucket, one for what is beyond, and the sum."""
    return [0.0] * (len(buckets) + 2)


def _add_up(counted: Iterable[tuple[tuple[str, ...], list[float]]]) -> dict[tuple[str, ...], list[float]]:
    """Add histograms of the same labels, which several processes may have."""
    together: dict[tuple[str, ...], list[float]] = {}
    for labels, seen in counted:
        sums = together.setdefault(labels, [0.0] * len(seen))
        together[labels] = [one + other for one, other in zip(sums, seen, strict=True)]
    return together


def _up_to(buckets: Sequence[float], seen: list[float]) -> list[tuple[str, float]]:
    """Return for each bound, as Prometheus has it, how many were not beyond it."""
    return list(zip([*map(str, buckets), "+Inf"], accumulate(seen[:-1]), strict=True))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


class AccessLog:
    """Lines gathered for a moment and then written at once, by a thread of its own."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lines: deque[str] = deque()
        self._closed = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="sessiond-log", daemon=True)
        self._writer.start()

    def write(self, line: str) -> None:
        if len(self._lines) < LINES_MAX:
            self._lines.append(f"{time.time():.3f} info {line}\n")

    def close(self) -> None:
        """Write what is left."""
        self._closed.set()
        self._writer.join()

    def _write_on(self) -> None:
        while not self._closed.wait(LOG_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if lines:
            # A log that cannot be written now, for want of room or of a reader, may be the next time.
            with suppress(OSError):
                self._stream.write("".join(lines))
                self._stream.flush()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.created:.3f} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up_logging(level: str) -> None:
    """Send the program's log to standard error, a line each: time, level, where, what."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
