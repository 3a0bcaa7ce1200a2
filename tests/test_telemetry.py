"""Metrics that Prometheus can read, and log lines that are all written."""

from __future__ import annotations

import io
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sessiond.telemetry import BUCKETS, LINES_MAX, RUN_BUCKETS, AccessLog, Telemetry


def count(
    telemetry: Telemetry, *, seconds: float, method: str = "GET", status: int = 200, route: str = "/v1/x"
) -> None:
    telemetry.request(
        dialect="native",
        route=route,
        method=method,
        status=status,
        seconds=seconds,
        request_id="r1",
        caller=lambda: " workspace=w key=k",
    )


def samples(telemetry: Telemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(telemetry.exposition().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@given(st.lists(st.floats(0, 20, allow_subnormal=False) | st.sampled_from(BUCKETS), min_size=1, max_size=30))
def test_a_histogram_counts_each_request_in_every_bucket_that_holds_it(durations: list[float]) -> None:
    telemetry = Telemetry()
    for seconds in durations:
        count(telemetry, seconds=seconds)

    read = samples(telemetry)

    labels = {("dialect", "native"), ("route", "/v1/x"), ("method", "GET"), ("status", "200")}
    for bound in BUCKETS:
        bucket = read["sessiond_request_seconds_bucket", frozenset(labels | {("le", str(bound))})]
        assert bucket == sum(seconds <= bound for seconds in durations)
    assert read["sessiond_request_seconds_bucket", frozenset(labels | {("le", "+Inf")})] == len(durations)
    assert read["sessiond_request_seconds_count", frozenset(labels)] == len(durations)
    assert abs(read["sessiond_request_seconds_sum", frozenset(labels)] - sum(durations)) < 1e-6


def test_methods_that_somebody_made_up_share_one_label() -> None:
    telemetry = Telemetry()
    for number in range(50):
        count(telemetry, seconds=0, method=f"X{number}")

    methods = {dict(labels)["method"] for name, labels in samples(telemetry) if name.startswith("sessiond_request_")}

    assert methods == {"OTHER"}


def test_labels_hold_any_text() -> None:
    telemetry = Telemetry()
    count(telemetry, seconds=0, route='/v1/"x"\\n\n{id}')

    assert '/v1/"x"\\n\n{id}' in {dict(labels).get("route") for _, labels in samples(telemetry)}


@given(st.lists(st.floats(0, 4000, allow_subnormal=False) | st.sampled_from(RUN_BUCKETS), min_size=1, max_size=30))
def test_runs_are_counted_by_what_became_of_them_and_timed_by_runner(durations: list[float]) -> None:
    telemetry = Telemetry()
    for number, seconds in enumerate(durations):
        telemetry.run_ended(runner="echo", status="failed" if number % 2 else "completed", seconds=seconds)

    read = samples(telemetry)

    ended = {dict(labels)["status"]: value for (name, labels), value in read.items() if name == "sessiond_runs_total"}
    assert ended.get("failed", 0) == len(durations) // 2
    assert sum(ended.values()) == len(durations)
    for bound in RUN_BUCKETS:
        bucket = read["sessiond_run_seconds_bucket", frozenset({("runner", "echo"), ("le", str(bound))})]
        assert bucket == sum(seconds <= bound for seconds in durations)
    assert abs(read["sessiond_run_seconds_sum", frozenset({("runner", "echo")})] - sum(durations)) < 1e-6


def test_a_run_that_started_before_it_was_queued_by_another_clock_started_at_once() -> None:
    telemetry = Telemetry()
    telemetry.run_started(seconds=-0.5)
    telemetry.run_started(seconds=0.25)

    read = samples(telemetry)

    assert read["sessiond_run_start_seconds_count", frozenset()] == 2
    assert read["sessiond_run_start_seconds_sum", frozenset()] == 0.25


def test_gauges_and_summaries_show_what_is_true_when_asked() -> None:
    telemetry, values = Telemetry(), [3.0]
    telemetry.gauge("sessiond_waiting", "Waiting.", lambda: values[0])
    telemetry.summary("sessiond_done", "Done.", lambda: (4, 2 * values[0]))
    assert telemetry.exposition()

    values[0] = 5.0

    read = samples(telemetry)
    assert read["sessiond_waiting", frozenset()] == 5
    assert read["sessiond_done_count", frozenset()] == 4
    assert read["sessiond_done_sum", frozenset()] == 10


def test_every_line_is_written_before_the_log_is_closed() -> None:
    stream = io.StringIO()
    log = AccessLog(stream)

    def write() -> None:
        for _ in range(200):
            log.write("line")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    log.close()

    lines = stream.getvalue().splitlines()
    assert len(lines) == 800
    assert all(line.endswith(" info line") for line in lines)


def test_lines_that_nobody_takes_do_not_fill_memory() -> None:
    taken = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            taken.wait(30)
            return super().write(text)

    stream = Stuck()
    log = AccessLog(stream)
    for _ in range(3 * LINES_MAX):
        log.write("x")
    taken.set()
    log.close()

    assert LINES_MAX <= len(stream.getvalue().splitlines()) <= 2 * LINES_MAX


def test_a_request_is_one_line_that_says_who_asked_for_what() -> None:
    stream = io.StringIO()
    log = AccessLog(stream)

    count(Telemetry(log), seconds=0.0123, status=201, route="")
    log.close()

    assert stream.getvalue().partition(" ")[2] == (
        "info request method=GET route=- dialect=native status=201 ms=12.3 request_id=r1 workspace=w key=k\n"
    )


def test_a_log_that_could_not_be_written_once_is_written_again() -> None:
    failed = threading.Event()

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            if not failed.is_set():
                failed.set()
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    log = AccessLog(stream)
    log.write("lost")
    assert failed.wait(30)
    log.write("kept")
    log.close()

    assert stream.getvalue().endswith(" info kept\n")


def test_processes_tell_each_other_what_they_counted_and_one_that_ended_keeps_its_own(tmp_path: Path) -> None:
    one, other = Telemetry(shared=tmp_path), Telemetry(shared=tmp_path)  # of one number, as after a restart
    one.gauge("sessiond_open", "Open.", lambda: 3)
    other.gauge("sessiond_open", "Open.", lambda: 4)
    for telemetry in (one, other):
        count(telemetry, seconds=0)
        telemetry.run_started(seconds=0)
        telemetry.run_ended(runner="echo", status="completed", seconds=1)
        telemetry.share()

    read = samples(other)

    counted = [value for (name, _), value in read.items() if name == "sessiond_request_seconds_count"]
    assert (counted, read["sessiond_open", frozenset()]) == ([2], 4)
    assert read["sessiond_runs_total", frozenset({("runner", "echo"), ("status", "completed")})] == 2
    assert read["sessiond_run_start_seconds_count", frozenset()] == 2


def test_a_folder_that_is_gone_or_broken_costs_what_the_others_counted_and_nothing_else(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    telemetry = Telemetry(shared=shared)
    count(telemetry, seconds=0)

    telemetry.share()
    assert samples(telemetry)
    shared.mkdir()
    (shared / "1-x").write_bytes(b"no snapshot")
    (shared / "2-x").mkdir()
    telemetry.share()

    assert len(list(shared.iterdir())) == 3
    assert samples(telemetry)
