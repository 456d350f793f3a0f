"""Hand-made histories of events that are not there yet: stuck, pending, late, and a target that does not come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.records.rundir import RoundTrip, SettleEnd
from reports.verdict import Verdict
from tests.histories import A, B, C, HandMadeRun, doubtful, failed

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path)


def test_an_event_that_is_still_buffered_after_settling_is_stuck(run: HandMadeRun) -> None:
    """A collector that never flushes again must not hide behind "pending"."""
    run.acked(A, B)
    run.table(A)
    run.ended(settle="timeout", buffered_at_end=1)

    verdict = run.judge()

    assert failed(verdict) == {"events.stuck"}
    assert (verdict.totals.stuck, verdict.totals.lost) == (1, 0)


def test_a_target_that_does_not_say_what_it_buffers_is_stuck_too(run: HandMadeRun) -> None:
    """Settling timed out and the target is silent."""
    run.acked(A, B)
    run.table(A)
    run.ended(settle="timeout", buffered_at_end=None)

    assert failed(run.judge()) == {"events.stuck"}


def test_more_missing_than_buffered_means_some_are_lost(run: HandMadeRun) -> None:
    """The verdict says how many at least."""
    run.acked(A, B, C)
    run.table(A)
    run.ended(settle="timeout", buffered_at_end=1)

    assert any("at least 1 are lost" in e for e in run.judge().check("events.stuck").evidence)


def test_an_event_of_the_round_trip_that_did_not_come_through_is_stuck(run: HandMadeRun) -> None:
    """It was acked after the target said that its buffer was empty, so that proves no loss."""
    run.acked(A)
    run.table(A)
    run.acked(0, producer=9, at=75)
    run.ended(roundtrip=RoundTrip(ok=False, producer=9, first=0))

    assert failed(run.judge()) == {"events.stuck", "run.roundtrip"}


def test_a_timeout_with_an_empty_buffer_is_a_loss(run: HandMadeRun) -> None:
    """The target says that it holds nothing."""
    run.acked(A, B)
    run.table(A)
    run.ended(settle="timeout", buffered_at_end=0)

    assert failed(run.judge()) == {"events.lost"}


@pytest.mark.parametrize("window", [{"settle": "interrupted"}, {"settle": None}, {"healed_ns": None}])
def test_an_event_of_a_run_that_ended_early_is_pending(run: HandMadeRun, window: dict[str, Any]) -> None:
    """Before settling is over, absent is not lost."""
    run.acked(A, B)
    run.table(A)
    run.ended(**window)

    verdict = run.judge()

    assert verdict.verdict is INCONCLUSIVE
    assert {"events.pending", "events.lost"} <= doubtful(verdict)
    assert (verdict.totals.pending, verdict.totals.lost) == (1, 0)


def test_a_target_that_refuses_after_settling_fails(run: HandMadeRun) -> None:
    """Healed and settled, and still not taking the baseline rate."""
    run.acked(A)
    run.table(A)
    run.ended(refusing_probe=SettleEnd(attempted=100, refused=60))

    assert failed(run.judge()) == {"events.refusing"}


def test_a_target_that_never_took_traffic_is_inconclusive(run: HandMadeRun) -> None:
    """Always 503: nothing was promised, so nothing was broken."""
    run.refused(A, B, C)
    run.no_table()
    run.ended(refusing_probe=SettleEnd(attempted=100, refused=100), roundtrip=RoundTrip(ok=False, producer=9, first=0))

    assert run.judge().verdict is INCONCLUSIVE


def test_a_target_that_acks_and_discards_fails(run: HandMadeRun) -> None:
    """202 and no table at all: lost, even though nothing was read."""
    run.acked(*range(50))
    run.no_table()

    verdict = run.judge()

    assert failed(verdict) == {"events.lost"}
    assert verdict.totals.lost == 50


def test_an_event_that_became_visible_too_late_is_late(tmp_path: Path) -> None:
    """The auditor looked after the deadline, and it was not there yet."""
    run = HandMadeRun(tmp_path, freshness_s=5)
    run.acked(A, at=20)
    run.looked(26)
    run.table(A, at=27)

    verdict = run.judge()

    assert failed(verdict) == {"events.late"}
    assert verdict.totals.late == 1


def test_a_look_that_came_late_does_not_make_an_event_late(tmp_path: Path) -> None:
    """Seen after the deadline, but nobody looked between: it may have been in time."""
    run = HandMadeRun(tmp_path, freshness_s=5)
    run.acked(A, at=20)
    run.looked(24)
    run.table(A, at=40)

    assert run.judge().verdict is PASS


@pytest.mark.parametrize(("seen_at", "verdict"), [(44.0, PASS), (47.0, FAIL)])
def test_the_clock_stands_during_a_fault(tmp_path: Path, seen_at: float, verdict: Verdict) -> None:
    """Freshness runs again one freshness after the heal (here at 30 + 5 + 5 s)."""
    run = HandMadeRun(tmp_path, freshness_s=5)
    run.fault("slow-r2", 19, 35)
    run.acked(A, at=20)
    run.looked(seen_at - 1)
    run.table(A, at=seen_at)

    assert run.judge().check("events.late").verdict is verdict


def test_a_rewritten_file_makes_nothing_late(tmp_path: Path) -> None:
    """A file that was seen in time and has vanished may have held what a later file holds."""
    run = HandMadeRun(tmp_path, freshness_s=5)
    run.acked(A, at=20)
    run.looked(22, "s3://bucket/data/compacted-away.parquet")
    run.looked(40)
    run.table(A, at=41)

    assert run.judge().check("events.late").verdict is PASS


def test_without_an_auditor_lateness_is_not_judged(run: HandMadeRun) -> None:
    """No look, no claim."""
    run.acked(A)
    run.table(A, seen=False)

    assert doubtful(run.judge()) == {"events.late"}
