"""Curves of the report's lanes: exact counts from the ledger, peaks that survive thinning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.records.histogram import HistogramWriter, new_histogram, record_ns
from loadtests.records.ledger import Kind, LedgerWriter, Outcome, read_ledger
from reports.curves import MOST_BUCKETS, Clock, field_of, highest, latencies, rates

S = 1_000_000_000
ZERO = 77 * S


def clock(seconds: float) -> Clock:
    return Clock(ZERO, 0, ZERO + int(seconds * S))


class Sender:
    """Writes attempts to a ledger, one event a second unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = LedgerWriter(path, run_id="ab12cd34", process="p")

    def send(
        self, due_s: float, *, count: int, done_s: float | None, outcome: Outcome = Outcome.ACKED, attempt: int = 1
    ) -> None:
        due = ZERO + int(due_s * S)
        request = self.ledger.attempt(producer=0, first=0, count=count, intended_ns=due, sent_ns=due, attempt=attempt)
        if done_s is not None:
            self.ledger.done(
                request, producer=0, first=0, count=count, intended_ns=due, sent_ns=due, attempt=attempt,
                done_ns=ZERO + int(done_s * S), status=202, outcome=outcome,
            )  # fmt: skip


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    return Sender(tmp_path / "p.ledger")


def test_events_are_offered_when_due_and_answered_when_answered(sender: Sender) -> None:
    """A request due in second 1 and answered in second 3 counts as offered in 1 and acked in 3."""
    sender.send(1.2, count=30, done_s=3.1)

    found = rates([read_ledger(sender.path)], clock(10))

    assert dict(zip(found["offered"].t_s, found["offered"].value, strict=True))[1.5] == 30
    assert dict(zip(found["acked"].t_s, found["acked"].value, strict=True))[3.5] == 30


def test_a_retry_is_not_offered_twice_but_each_answer_counts(sender: Sender) -> None:
    """Offered is what the world sent; refused and acked are what the target answered."""
    sender.send(1.0, count=10, done_s=1.1, outcome=Outcome.REFUSED)
    sender.send(1.0, count=10, done_s=2.5, attempt=2)

    found = rates([read_ledger(sender.path)], clock(5))

    assert found["offered"].value.sum() == 10
    assert (found["refused"].value.sum(), found["acked"].value.sum()) == (10, 10)


def test_an_attempt_without_an_answer_is_unknown_when_it_was_sent(sender: Sender) -> None:
    """The generator died, or the answer never came."""
    sender.send(2.0, count=10, done_s=None)

    found = rates([read_ledger(sender.path)], clock(5))["unknown"]

    assert dict(zip(found.t_s, found.value, strict=True))[2.5] == 10


def test_arrivals_that_were_given_up_are_offered(sender: Sender) -> None:
    """A generator that is behind must not look as if less had been asked of it."""
    sender.ledger.not_sent(producer=0, first=0, count=7, intended_ns=ZERO + S, now_ns=ZERO + 3 * S)

    assert rates([read_ledger(sender.path)], clock(5))["offered"].value.sum() == 7


@pytest.mark.parametrize("kind", [Kind.PROBE, Kind.DUPLICATE, Kind.POISON])
def test_every_kind_of_traffic_is_drawn(sender: Sender, kind: Kind) -> None:
    """Probes and hostile events are load as well."""
    sender.ledger.attempt(producer=0, first=0, count=4, intended_ns=ZERO + S, sent_ns=ZERO + S, kind=kind)

    assert rates([read_ledger(sender.path)], clock(5))["offered"].value.sum() == 4


def test_a_long_run_keeps_its_highest_peak_and_few_points() -> None:
    """One sample of a million stands out however much is thinned."""
    times = ZERO + np.arange(1_000_000, dtype=np.int64) * S // 20
    values = np.full(1_000_000, 0.4)
    values[654_321] = 0.97

    curve = highest(times, values, clock(50_000))

    assert len(curve.t_s) <= MOST_BUCKETS
    assert curve.value.max() == 0.97
    assert curve.t_s[curve.value.argmax()] == 654_321 / 20


def test_latency_of_several_processes_is_merged_not_averaged(tmp_path: Path) -> None:
    """Ninety-nine fast answers here and one slow one there have the p99 of all hundred."""
    for process, count, ms in (("a", 99, 2), ("b", 1, 900)):
        histogram = new_histogram()
        for _ in range(count):
            record_ns(histogram, ms * 1_000_000)
        writer = HistogramWriter(tmp_path, process, "ab12cd34")
        writer.write(ZERO + 2 * S, "corrected", histogram)
        writer.close()

    found = latencies(tmp_path, clock(5))

    assert found["corrected_p99"].value == pytest.approx([2], rel=0.01)
    assert found["corrected_p50"].value == pytest.approx([2], rel=0.01)
    assert found["service_p99"].empty


def test_a_field_that_is_missing_or_no_number_is_left_out() -> None:
    """A look that failed has no count of rows."""
    lines: list[dict[str, Any]] = [
        {"t_ns": ZERO + S, "visible": 5},
        {"t_ns": ZERO + 2 * S, "error": "no"},
        {"t_ns": ZERO + 3 * S, "visible": None},
    ]

    assert field_of(lines, "visible", clock(5)).value.tolist() == [5]
