"""Metrics that Prometheus can read, and log lines that are all written."""

from __future__ import annotations

import io
import threading

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sessiond.telemetry import BUCKETS, LINES_MAX, AccessLog, Telemetry


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
        caller=" workspace=w key=k",
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

    methods = {dict(labels).get("method") for _, labels in samples(telemetry)}

    assert methods == {"OTHER"}


def test_labels_hold_any_text() -> None:
    telemetry = Telemetry()
    count(telemetry, seconds=0, route='/v1/"x"\\n\n{id}')

    assert '/v1/"x"\\n\n{id}' in {dict(labels).get("route") for _, labels in samples(telemetry)}


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
