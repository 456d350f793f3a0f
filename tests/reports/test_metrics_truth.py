"""A hand-made history for every way in which a target's own metrics are wrong, and for those in which they only look so."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.records.ledger import Kind, Outcome
from loadtests.records.target import Metrics
from reports.verdict import Check, Verdict, VerdictDoc
from tests.histories import HandMadeRun

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
TEN = range(10)
METRICS = Metrics(
    url="http://127.0.0.1:1/metrics",
    fill="fill",
    buffered="held",
    accepted="accepted",
    refused_requests="refused",
    flushes_committed="committed",
)
HELD = Metrics(url="http://127.0.0.1:1/metrics", buffered="held")
COUNTED = Metrics(
    url="http://127.0.0.1:1/metrics", accepted="accepted", refused_requests="refused", flushes_committed="committed"
)


def held(tmp_path: Path, *, metrics: Metrics = HELD, **contract: object) -> HandMadeRun:
    """Ten events were acknowledged at 20 s and came to the table between 30 and 31 s."""
    run = HandMadeRun(tmp_path, metrics=metrics, **contract)
    run.acked(*TEN, at=20)
    run.looked(30)
    run.table(*TEN, at=31)
    return run


def truth(run: HandMadeRun) -> Check:
    return run.judge().check("metrics.truth")


def row(verdict: VerdictDoc, metric: str) -> dict[str, object]:
    return next(row for row in verdict.sections["flush"]["told_and_true"] if row["metric"] == metric)


def test_a_gauge_that_has_what_is_held_is_true(tmp_path: Path) -> None:
    """More than that is no lie: the bound is what was held for certain."""
    run = held(tmp_path)
    run.said(25, held=10)
    run.said(26, held=13)

    assert truth(run).verdict is PASS


def test_a_gauge_that_leaves_something_out_fails(tmp_path: Path) -> None:
    """With what it said, what it had to say, and when; in the report's flush section too, and on the first screen."""
    run = held(tmp_path)
    run.said(25, held=10)
    run.said(26, held=7)
    run.said(27, held=10)
    run.said(28)

    verdict = run.judge()
    check = verdict.check("metrics.truth")
    assert (check.verdict, verdict.exit_code) == (FAIL, 1)
    assert "buffered said 7; in truth at least 10" in check.claim
    assert "26.0 s into the run; 1 of 3 readings" in check.evidence[0]
    assert row(verdict, "buffered") == {
        "metric": "buffered", "said": 7.0, "at_least": 10.0, "at_most": None, "readings": 3, "out_of_bounds": 1
    }  # fmt: skip
    assert any("its own metrics are wrong: buffered" in line for line in verdict.first_screen)


@pytest.mark.parametrize(("at", "until"), [(20.5, 21.5), (29.5, 30.5), (40, 41)])
def test_what_is_just_acknowledged_or_just_committed_is_not_owed_to_a_gauge(
    tmp_path: Path, at: float, until: float
) -> None:
    """Nobody knows the order of a reading and an ack, or of a reading and a commit, to less than a reading and a look."""
    run = held(tmp_path)
    run.said(at, held=0)
    run.said(until)
    run.said(25, held=10)
    run.said(26, held=10)

    assert truth(run).verdict is PASS


def test_how_old_a_value_may_be_is_said_by_the_target_file(tmp_path: Path) -> None:
    """A target that takes its gauge every ten seconds does not lie."""
    run = held(tmp_path, metrics=Metrics(url="http://127.0.0.1:1/metrics", buffered="held", stale_s=6))
    run.said(25, held=0)
    run.said(27, held=10)
    run.said(28)

    assert truth(run).verdict is PASS


def test_lost_events_are_not_owed_to_a_gauge(tmp_path: Path) -> None:
    """They are events.lost; when they were lost nobody knows."""
    run = held(tmp_path)
    run.acked(10, 11, at=20)
    run.said(25, held=10)
    run.said(26, held=10)

    verdict = run.judge()
    assert verdict.check("events.lost").verdict is FAIL
    assert verdict.check("metrics.truth").verdict is PASS


def test_a_drill_may_take_events_out_of_the_buffer(tmp_path: Path) -> None:
    """Export, clear and replay: the gauge is honest all the time."""
    run = held(tmp_path)
    run.said(22, held=10)
    run.timeline("drill", drill="export-clear-replay", step=0, state="begun", at=23)
    run.said(24, held=0)
    run.timeline("drill", drill="export-clear-replay", step=0, state="done", at=26)
    run.said(28, held=10)
    run.said(29, held=10)

    assert truth(run).verdict is PASS


def test_a_table_that_was_set_back_proves_nothing_of_a_gauge(tmp_path: Path) -> None:
    """Events may have been in it before the look that did not find them."""
    run = HandMadeRun(tmp_path, metrics=METRICS)
    run.acked(*TEN, at=20)
    run.looked(21)
    run.table(99, stage="snapshot", snapshot=50, at=22, seen=False)
    run.looked(30)
    run.table(*TEN, at=31)
    run.said(25, held=0, accepted=10, refused=0, committed=1)
    run.said(26, held=0, accepted=10, refused=0, committed=1)

    assert truth(run).verdict is PASS


def test_a_fill_that_is_clamped_fails(tmp_path: Path) -> None:
    """The fullest type fills the gauge to its share of the capacity."""
    run = held(tmp_path, metrics=Metrics(url="http://127.0.0.1:1/metrics", fill="fill"), capacity_events=4)
    run.said(25, fill=0.5)
    run.said(26, fill=1.0)

    check = truth(run)
    assert check.verdict is FAIL
    assert "fill said 0.5; in truth at least 1" in check.claim


@pytest.mark.parametrize(("buffers", "verdict"), [("per_type", PASS), ("shared", FAIL)])
def test_a_shared_buffer_holds_the_events_of_all_types(tmp_path: Path, buffers: str, verdict: Verdict) -> None:
    """Ten events of twenty: a half says enough of the fullest type, and too little of all."""
    metrics = Metrics(url="http://127.0.0.1:1/metrics", fill="fill")
    run = held(tmp_path, metrics=metrics, capacity_events=20, buffers=buffers)
    run.said(25, fill=0.4)

    assert truth(run).verdict is verdict


def counted(tmp_path: Path) -> HandMadeRun:
    """Ten events were acknowledged one by one at 20 s, three refused; one snapshot holds them."""
    run = HandMadeRun(tmp_path, metrics=COUNTED)
    run.acked(*TEN, at=20)
    for event in (10, 11, 12):
        run.refused(event, at=event + 7)
    run.table(*TEN, at=21)
    return run


def test_counters_that_count_what_happened_are_true(tmp_path: Path) -> None:
    """What is counted before the first reading does not matter: another run may have been before."""
    run = counted(tmp_path)
    run.said(15, accepted=500, refused=70, committed=9)
    run.said(16, accepted=500, refused=70, committed=9)
    run.said(40, accepted=510, refused=73, committed=10)

    assert truth(run).verdict is PASS


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("accepted", 9, "accepted said 9; in truth at least 10 and at most 10"),
        ("accepted", 13, "accepted said 13; in truth at least 10 and at most 10"),
        ("refused", 2, "refused_requests said 2; in truth at least 3"),
        ("committed", 2, "flushes_committed said 2; in truth at most 1"),
    ],
)
def test_a_counter_that_is_out_of_bounds_fails(tmp_path: Path, metric: str, value: int, words: str) -> None:
    """Acks it did not count or that never were, refusals kept quiet, commits that were attempts."""
    run = counted(tmp_path)
    nothing = {"accepted": 0, "refused": 0, "committed": 0}
    run.said(15, **nothing)
    run.said(16, **nothing)
    run.said(40, **{"accepted": 10, "refused": 3, "committed": 1, metric: value})

    check = truth(run)
    assert check.verdict is FAIL
    assert words in check.claim


def test_what_may_have_been_accepted_bounds_the_counter_from_above(tmp_path: Path) -> None:
    """A request without an answer may have been counted, or not."""
    for accepted, verdict in ((10, PASS), (14, PASS), (15, FAIL)):
        run = HandMadeRun(tmp_path / str(accepted), metrics=COUNTED)
        run.acked(*TEN, at=20)
        run.unknown(10, 11, 12, 13, at=20)
        run.table(*TEN, at=21)
        run.said(15, accepted=0, refused=0, committed=0)
        run.said(16, accepted=0, refused=0, committed=0)
        run.said(40, accepted=accepted, refused=0, committed=1)

        assert truth(run).verdict is verdict, accepted


def test_a_restart_sets_counters_back(tmp_path: Path) -> None:
    """What was counted between the last reading and the end of the process is gone, and no lie."""
    run = counted(tmp_path)
    run.said(15, accepted=0, refused=0, committed=0)
    run.said(16, accepted=0, refused=0, committed=0)
    run.timeline("process", name="target", state="ready", pid=2, at=22)
    run.said(23, accepted=2, refused=1, committed=1)
    run.said(24, accepted=2, refused=1, committed=1)

    assert truth(run).verdict is PASS


def test_a_flush_of_nothing_but_duplicates_needs_no_snapshot(tmp_path: Path) -> None:
    """Each request that repeats events allows for one."""
    run = counted(tmp_path)
    run.answered(0, outcome=Outcome.ACKED, status=202, at=22, attempt=2, kind=Kind.NORMAL)
    run.said(15, accepted=0, refused=0, committed=0)
    run.said(40, accepted=11, refused=3, committed=2)

    assert truth(run).verdict is PASS


def test_snapshots_that_are_gone_are_made_up_for_by_commits(tmp_path: Path) -> None:
    """Where the table was rewritten, as many flushes may have landed as commits that were not refused."""
    run = counted(tmp_path)
    run.looked(22, "s3://bucket/data/gone.parquet")
    run.said(15, accepted=0, refused=0, committed=0)
    run.said(16, accepted=0, refused=0, committed=0)
    run.said(40, accepted=10, refused=3, committed=3)
    for at in (20, 21, 22):
        run.commit(at=at)
    run.commit(at=23, outcome="refused", status=409)

    assert truth(run).verdict is PASS
    assert row(run.judge(), "flushes_committed")["at_most"] == 3.0


def test_metrics_that_were_never_read_prove_nothing(tmp_path: Path) -> None:
    """A target whose file names them is not known to tell the truth."""
    assert truth(held(tmp_path)).verdict is INCONCLUSIVE


def test_nothing_held_for_long_is_no_doubt(tmp_path: Path) -> None:
    """A buffer that is always flushed at once bounds no gauge, and its readings contradict nothing."""
    run = held(tmp_path)
    run.said(40, held=0)

    assert truth(run).verdict is PASS


def test_a_target_without_metrics_has_no_such_check(tmp_path: Path) -> None:
    """It says nothing, so it tells no lie."""
    run = HandMadeRun(tmp_path)
    run.acked(*TEN)
    run.table(*TEN)

    assert all(not check.id.startswith("metrics.") for check in run.judge().checks)
