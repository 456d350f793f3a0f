"""The capacity section's numbers, from hand-made runs: what was planted is found, and a quiet run names nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtests.records.content import TYPE_NAMES
from loadtests.records.histogram import HistogramWriter, new_histogram, record_ns
from loadtests.records.ledger import Outcome
from loadtests.records.series import SeriesWriter
from reports.alerts.truth import truth_samples
from reports.runrecords import read_run
from reports.sections.costs import CALIBRATION_MS, costs_section
from reports.sections.fill import fill_section
from reports.sections.latency import latency_section
from reports.sections.volume import Volume, surges
from tests.histories import HandMadeRun, mono_ns


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path, capacity_events=100)


def volume(*rates: tuple[float, int], seed: int = 1, shares: tuple[float, ...] = (1, 1, 1, 0, 0)) -> Volume:
    """Poisson counts: (events per second, seconds) one after the other; the first is the baseline."""
    chance = np.random.default_rng(seed)
    parts = [
        np.stack([chance.poisson(rate * share / sum(shares), seconds) for share in shares]) for rate, seconds in rates
    ]
    return Volume(0, np.concatenate(parts, axis=1).astype(np.int64), rates[0][1])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rate", [3.0, 60.0, 600.0])
def test_a_quiet_run_names_nothing(rate: float, seed: int) -> None:
    """Whatever chance does with a constant rate."""
    assert surges(volume((rate, 20), (rate, 60), seed=seed)) == []


def test_a_spike_is_found_where_it_is() -> None:
    """Five times the rate for ten seconds, within a window of its edges."""
    found = surges(volume((100, 20), (100, 20), (500, 10), (100, 20)))
    assert found[0].what == "all events"
    assert abs(found[0].start_ns / 1e9 - 40) <= 3
    assert abs(found[0].end_ns / 1e9 - 50) <= 3
    assert found[0].peak_per_s == pytest.approx(500, rel=0.1)


def test_the_surging_type_is_ranked_first_with_its_share() -> None:
    """Nine tenths of the growth are one type's."""
    before, after = volume((100, 20)), volume((400, 30), shares=(1, 18, 1, 0, 0), seed=2)
    joined = Volume(0, np.concatenate([before.counts, after.counts], axis=1), 20)
    types = [s for s in surges(joined) if s.what != "all events"]
    assert types[0].what == TYPE_NAMES[1]
    assert types[0].share >= 0.9


def test_equal_growth_has_no_single_type() -> None:
    """Three types with a third each."""
    types = [s for s in surges(volume((100, 20), (500, 20))) if s.what != "all events"]
    assert len(types) == 3
    assert max(s.share for s in types) == pytest.approx(1 / 3, abs=0.05)


def test_fill_has_a_peak_a_mean_and_times_above_its_thresholds(run: HandMadeRun) -> None:
    """Ten seconds at 95 %, ten at 60 %, the rest empty."""
    writer = SeriesWriter(run.run.series, "target", "abcd1234")
    for second in range(60):
        writer.add(mono_ns(second), "fill_ratio", 0.95 if second < 10 else 0.6 if second < 20 else 0.0)
    writer.close()
    records = read_run(run.written())

    found = fill_section(records, truth_samples(records), 50.0)

    assert (found["above_90_percent_s"], found["above_70_percent_s"], found["above_50_percent_s"]) == (10, 10, 20)
    assert found["mean_fill"] == pytest.approx((0.95 + 0.6) / 6, abs=0.01)
    assert found["overflow_without_flush"][0] == {"offered_events_per_s": 50.0, "full_after_s": pytest.approx(6.0)}


def test_what_filled_the_buffer_is_counted_from_the_ledger(run: HandMadeRun) -> None:
    """Shares add up to one; nothing was ever seen, so all is pending at the end."""
    run.batch(0, 300, outcome=Outcome.ACKED, at=20)
    run.table(*range(300), at=40)
    records = read_run(run.written())
    rows = fill_section(records, truth_samples(records), None)["filled_by"]
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=0.01)
    assert len(rows) == 3


def test_a_shared_buffer_is_filled_by_all_types_together(tmp_path: Path) -> None:
    """It is full three times as soon, and in truth as full as all that is pending; the types keep their shares."""
    found = {}
    for buffers in ("per_type", "shared"):
        run = HandMadeRun(tmp_path / buffers, capacity_events=600, buffers=buffers)
        run.batch(0, 300, outcome=Outcome.ACKED, at=20)
        run.table(*range(300), at=40)
        records = read_run(run.written())
        found[buffers] = fill_section(records, truth_samples(records), 60.0)
    assert found["shared"]["max_true_fill"] == 0.5
    assert found["per_type"]["max_true_fill"] == pytest.approx(0.5 / 3, abs=0.03)
    assert [found[b]["overflow_without_flush"][0]["full_after_s"] for b in ("per_type", "shared")] == [30.0, 10.0]
    assert found["shared"]["filled_by"] == found["per_type"]["filled_by"]


def test_latency_is_told_by_fill(run: HandMadeRun) -> None:
    """A millisecond while empty, a second while full."""
    fill = SeriesWriter(run.run.series, "target", "abcd1234")
    hist = HistogramWriter(run.run.hist, "locust-0", "abcd1234")
    for second, (share, value_ns) in enumerate([(0.05, 1_000_000), (0.05, 1_000_000), (0.95, 1_000_000_000)]):
        fill.add(mono_ns(second), "fill_ratio", share)
        histogram = new_histogram()
        record_ns(histogram, value_ns)
        hist.write(mono_ns(second + 0.5), "corrected", histogram)
    fill.close()
    hist.close()

    found = latency_section(read_run(run.written()))

    assert [(row["fill"], round(row["p99_ms"])) for row in found["by_fill"]] == [
        ("0 to 10 %", 1),
        ("90 to 100 %", 1000),
    ]
    assert found["corrected"]["max_ms"] == pytest.approx(1000, rel=0.01)
    assert found["service"] is None


def test_cost_is_counted_over_restarts_and_calibrated(run: HandMadeRun) -> None:
    """Two processes: two seconds of one since the baseline began, one second of the other, for a thousand events."""
    run.run.info.environment["calibration_ms"] = CALIBRATION_MS * 2
    run.ended()
    writer = SeriesWriter(run.run.series, "target", "abcd1234")
    for at, pid, cpu_s in ((0.5, 1, 1.0), (20, 1, 2.5), (30, 1, 3.0), (31, 2, 0.4), (40, 2, 1.0)):
        writer.add(mono_ns(at), "target_cpu_s", cpu_s, {"pid": str(pid)})
        writer.add(mono_ns(at), "target_rss_bytes", 1000.0 * pid, {"pid": str(pid)})
    writer.close()
    run.batch(0, 1000, outcome=Outcome.ACKED)

    found = costs_section(read_run(run.written()))

    assert (found["cpu_s"], found["cpu_us_per_event"], found["rss_max_bytes"]) == (3.0, 3000.0, 2000)
    assert found["calibrated_cpu_us_per_event"] == 1500.0


def test_what_was_not_recorded_is_not_measured(run: HandMadeRun) -> None:
    """None, rather than zero."""
    records = read_run(run.written())
    assert costs_section(records)["cpu_us_per_event"] is None
    assert fill_section(records, truth_samples(records), None)["mean_fill"] is None
