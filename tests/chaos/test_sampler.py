"""What a target says of itself is recorded; what it does not say, or says wrongly, is neither zero nor a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.sampler import Sampler, scrape
from loadtests.records.jsonl import JsonlWriter
from loadtests.records.rundir import RunDir
from loadtests.records.series import read_series
from loadtests.records.target import Ingest, Metrics, Target
from tests.chaos.fakes import make_run, ok, replying

pytestmark = pytest.mark.integration

METRICS = """\
# TYPE collector_buffer_fill_ratio gauge
collector_buffer_fill_ratio 0.25
collector_buffer_events 50
# TYPE collector_flushes counter
collector_flushes_total{outcome="committed"} 3
collector_flushes_total{outcome="failed"} 1
collector_flushes_created{outcome="failed"} 1
# TYPE collector_flush_duration_seconds histogram
collector_flush_duration_seconds_bucket{le="+Inf"} 4
collector_flush_duration_seconds_count 4
collector_flush_duration_seconds_sum NaN
"""


def sampler(run: RunDir, url: str | None) -> Sampler:
    metrics = (
        Metrics(url=f"{url}/metrics", fill="collector_buffer_fill_ratio", buffered="collector_buffer_events")
        if url
        else None
    )
    return Sampler(Target(name="mine", ingest=Ingest(url="http://a"), metrics=metrics), run)


def series(run: RunDir) -> dict[str, float]:
    return {row["name"]: row["value"] for row in read_series(run.series).to_pylist()}


def test_a_sample_goes_into_the_series(tmp_path: Path) -> None:
    """Under our names and under the target's own, without bucket counts, creation times and what is no number."""
    run = make_run(tmp_path)
    with replying(lambda _: ok(METRICS)) as server:
        one = sampler(run, server.url)
        one.start()
        one.stop()
    assert (one.fill_ratio, one.flushes) == (0.25, 3)
    assert series(run) == {
        "target_up": 1,
        "fill_ratio": 0.25,
        "buffer_events": 50,
        "flushes_committed": 3,
        "flushes_failed": 1,
        "target:collector_buffer_fill_ratio": 0.25,
        "target:collector_buffer_events": 50,
        "target:collector_flushes_total{outcome=committed}": 3,
        "target:collector_flushes_total{outcome=failed}": 1,
        "target:collector_flush_duration_seconds_count": 4,
    }


@pytest.mark.parametrize(
    "answer",
    [
        ok(status="503 Busy"),
        ok("{{{{ not metrics"),
        b"SSH-2.0\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
    ],
)
def test_a_target_without_a_good_answer_is_down(tmp_path: Path, answer: bytes) -> None:
    """An error, nonsense, another protocol, a torn answer: one sample that says so, and sampling goes on."""
    run = make_run(tmp_path)
    with replying(lambda _: answer) as server:
        one = sampler(run, server.url)
        one.start()
        one.stop()
        assert one.buffered() is None
    assert series(run) == {"target_up": 0}
    assert (one.fill_ratio, one.flushes) == (None, None)


@pytest.mark.parametrize(("value", "told"), [("50", 50), ("0", 0), ("NaN", None), ("+Inf", None)])
def test_the_buffer_is_a_number_or_unknown(tmp_path: Path, value: str, told: int | None) -> None:
    """Settling must not end because a gauge says that it does not know."""
    with replying(lambda _: ok(f"collector_buffer_events {value}\n")) as server:
        assert sampler(make_run(tmp_path), server.url).buffered() == told


def test_a_target_that_tells_nothing_is_not_asked(tmp_path: Path) -> None:
    """No metrics in the target file: no samples, and the buffer is unknown."""
    run = make_run(tmp_path)
    one = sampler(run, None)
    one.start()
    one.stop()
    assert one.buffered() is None
    assert series(run) == {}


def test_the_auditors_latest_line_counts(tmp_path: Path) -> None:
    """Empty before the first."""
    run = make_run(tmp_path)
    one = sampler(run, None)
    assert one.refresh_visible() == {}
    with JsonlWriter(run.visible, "visible", "ab12cd34") as writer:
        writer.append({"visible": 1})
        writer.append({"visible": 2})
    assert one.refresh_visible() == {"visible": 2}
    assert one.refresh_visible() == {"visible": 2}


def test_labels_are_sorted_into_the_name() -> None:
    """Two targets that order labels differently give one series."""
    with replying(lambda _: ok('x{b="2",a="1"} 5\n')) as server:
        assert scrape(server.url) == {"x{a=1,b=2}": 5}
