"""A hand-made history for every row of the reconciliation table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.records.ledger import Kind, Outcome
from reports.verdict import Verdict
from tests.histories import A, B, C, D, HandMadeRun, doubtful, failed

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path)


def test_every_event_exactly_once_is_a_pass(run: HandMadeRun) -> None:
    """Everything acked is there once, unaltered: all checks pass."""
    run.acked(A, B, C)
    run.table(A, B, C)

    verdict = run.judge()

    assert (verdict.verdict, verdict.exit_code) == (PASS, 0)
    assert {check.verdict for check in verdict.checks} == {PASS}


def test_the_empty_run_is_inconclusive(run: HandMadeRun) -> None:
    """A run in which nothing happened proves nothing."""
    run.no_table()

    verdict = run.judge()

    assert (verdict.verdict, verdict.exit_code) == (INCONCLUSIVE, 2)
    assert {"run.acked", "run.flushed", "run.read", "events.lost"} <= doubtful(verdict)


def test_an_acked_event_that_is_nowhere_is_lost(run: HandMadeRun) -> None:
    """Acked, absent, and the target holds nothing."""
    run.acked(A, B)
    run.table(A)

    verdict = run.judge()

    assert failed(verdict) == {"events.lost"}
    assert verdict.totals.lost == 1
    assert (
        verdict.check("events.lost").examples[0] | {"first": B, "last": B, "stage": "acked"}
        == verdict.check("events.lost").examples[0]
    )


@pytest.mark.parametrize("stage", ["object", "manifest", "snapshot"])
def test_a_lost_event_is_located(run: HandMadeRun, stage: str) -> None:
    """The furthest place that a lost event reached is named, with the file and its flush."""
    run.acked(A, B)
    run.table(A)
    path = run.table(B, stage=stage, flush="c1/7/88")

    check = run.judge().check("events.lost")

    assert check.counts == {"lost": 1, f"stage_{stage}": 1}
    assert check.examples[0]["files"] == [path]
    assert check.examples[0]["flush_ids"] == ["c1/7/88"]


def test_a_lost_event_is_ascribed_to_the_fault_in_which_it_was_acked(run: HandMadeRun) -> None:
    """Acked while the collector was being killed, absent: during kill-collector."""
    run.fault("kill-collector", 19, 22)
    run.acked(A, at=20)
    run.acked(B, at=40)
    run.table(B, at=41)

    verdict = run.judge()

    assert verdict.check("events.lost").examples[0]["during"] == "kill-collector"
    assert "during kill-collector" in "\n".join(verdict.first_screen)


def test_what_was_buffered_when_a_fault_began_is_ascribed_to_it(run: HandMadeRun) -> None:
    """Acked two seconds before the kill, absent: shortly before kill-collector."""
    run.fault("slow-r2", 10, 17)
    run.fault("kill-collector", 22, 24, step=1)
    run.acked(A, at=20)
    run.acked(B, at=30)
    run.table(B, at=31)

    verdict = run.judge()

    assert verdict.check("events.lost").examples[0]["during"] == "kill-collector"
    assert "shortly before kill-collector" in "\n".join(verdict.first_screen)


def test_a_range_lies_in_one_fault_window(run: HandMadeRun) -> None:
    """Consecutive events that were lost before and during a fault are two ranges."""
    run.fault("kill-collector", 100, 110)
    run.batch(0, 10, outcome=Outcome.ACKED, at=20)
    run.batch(10, 10, outcome=Outcome.ACKED, at=105)

    examples = run.judge().check("events.lost").examples

    assert [(e["first"], e["last"], e.get("during")) for e in examples] == [(0, 9, None), (10, 19, "kill-collector")]


def test_consecutive_lost_events_are_one_range(run: HandMadeRun) -> None:
    """Anomalies are compressed to ranges."""
    run.acked(*range(100))
    run.table(*range(10), *range(60, 100))

    examples = run.judge().check("events.lost").examples

    assert [(e["first"], e["last"], e["events"]) for e in examples] == [(10, 59, 50)]


@pytest.mark.parametrize(
    ("rows", "more", "cause"),
    [
        ([[A, A, B]], {}, "duplicate within a file"),
        ([[A, B], [A]], {}, "same event in two files"),
        ([[A, B], [A, B]], {"flush": "c1/1/1"}, "two snapshots of one flush"),
        ([[A, B], [A, B]], {"flush": "c1/1/1", "snapshot": 5}, "two files of one flush"),
        ([[A, B]], {"references": 2}, "same file referenced twice"),
    ],
)
def test_an_event_in_the_table_twice_is_duplicated(
    run: HandMadeRun, rows: list[list[int]], more: dict[str, Any], cause: str
) -> None:
    """More than one row for an event fails exactly_once, and its cause is named."""
    run.acked(A, B)
    for one in rows:
        run.table(*one, **more)

    verdict = run.judge()

    assert failed(verdict) == {"events.duplicated"}
    assert verdict.check("events.duplicated").cause == cause


def test_a_duplicate_is_ascribed_to_the_fault_in_which_it_was_committed(run: HandMadeRun) -> None:
    """The second commit happened while commit answers were lost."""
    run.fault("commit-answer-lost", 30, 35)
    run.acked(A, at=20)
    run.table(A, at=21)
    run.table(A, at=31)

    assert run.judge().check("events.duplicated").examples[0]["during"] == "commit-answer-lost"


def test_at_least_once_may_double_an_event_with_an_ambiguous_history(tmp_path: Path) -> None:
    """A retried event, or one whose answer never came, may land twice under at_least_once."""
    run = HandMadeRun(tmp_path, delivery="at_least_once")
    run.unknown(A)
    run.acked(A, attempt=2)
    run.unknown(B)
    run.table(A, A, B, B)

    verdict = run.judge()

    assert verdict.verdict is PASS
    assert verdict.totals.duplicated == 2
    assert verdict.check("events.duplicated").counts["allowed"] == 2


def test_at_least_once_may_not_double_an_event_that_was_acked_at_once(tmp_path: Path) -> None:
    """Nothing in its history explains the second row."""
    run = HandMadeRun(tmp_path, delivery="at_least_once")
    run.unknown(A)
    run.acked(A, attempt=2)
    run.acked(B)
    run.table(A, A, B, B)

    assert failed(run.judge()) == {"events.duplicated"}


def test_an_event_with_other_content_is_altered(run: HandMadeRun) -> None:
    """The row is there, but its content is not what was sent."""
    run.acked(A, B)
    run.table(A, B, altered=[B])

    verdict = run.judge()

    assert failed(verdict) == {"events.altered"}
    assert verdict.totals.altered == 1


def test_content_that_nobody_checked_is_no_pass(run: HandMadeRun) -> None:
    """Unchecked content leaves events.altered undecided."""
    run.acked(A)
    run.table(A)
    run._about_table["contents_checked"] = False

    assert doubtful(run.judge()) == {"events.altered"}


@pytest.mark.parametrize("row", [7, 1 << 39])
def test_a_row_that_nobody_sent_is_unexpected(run: HandMadeRun, row: int) -> None:
    """In a gap of what was sent, or far outside it."""
    run.acked(A, 9)
    run.table(A, row, 9)

    verdict = run.judge()

    assert failed(verdict) == {"events.unexpected"}
    assert verdict.totals.unexpected == 1


def test_a_row_of_a_producer_that_never_was_is_unexpected(run: HandMadeRun) -> None:
    """Its source names our run, but no generator of that number."""
    run.acked(A)
    run.table(A)
    run.table(A, producer=44)

    assert failed(run.judge()) == {"events.unexpected"}


def test_an_id_that_cannot_be_ours_is_unexpected(run: HandMadeRun) -> None:
    """A malformed id under a source of this run."""
    run.acked(A)
    run.table(A, stray=2)

    verdict = run.judge()

    assert failed(verdict) == {"events.unexpected"}
    assert verdict.check("events.unexpected").counts["foreign_ids"] == 2


def test_rows_of_others_are_not_our_business(run: HandMadeRun) -> None:
    """Foreign sources in the same table change nothing."""
    run.acked(A)
    run.table(A, foreign=1000)

    assert run.judge().verdict is PASS


def test_a_refused_event_in_the_table_is_resurrected(run: HandMadeRun) -> None:
    """Every attempt was definitely refused, and yet it is there."""
    run.acked(A)
    run.refused(B)
    run.refused(B, attempt=2)
    run.table(A, B)

    verdict = run.judge()

    assert failed(verdict) == {"events.resurrected"}
    assert verdict.totals.resurrected == 1


def test_a_refused_event_that_is_absent_is_right(run: HandMadeRun) -> None:
    """Back-pressure is no loss."""
    run.acked(A)
    run.refused(B, C, D)
    run.table(A)

    verdict = run.judge()

    assert verdict.verdict is PASS
    assert verdict.totals.refused == 3


def test_an_unknown_event_that_landed_is_recovered(run: HandMadeRun) -> None:
    """No answer, and there: reported, neither lost nor unexpected."""
    run.acked(A)
    run.unknown(B, C)
    run.attempted(D)
    run.table(A, B, D)

    verdict = run.judge()

    assert verdict.verdict is PASS
    assert (verdict.totals.unknown, verdict.totals.recovered) == (3, 2)


def test_an_event_acked_by_a_retry_is_owed(run: HandMadeRun) -> None:
    """Refused, then acked: the ack counts."""
    run.acked(A)
    run.refused(B)
    run.acked(B, attempt=2)
    run.table(A)

    assert failed(run.judge()) == {"events.lost"}


def test_poison_owes_nothing(tmp_path: Path) -> None:
    """An event that was sent to be refused or skipped is not missed."""
    run = HandMadeRun(tmp_path, invalid="skip_event")
    run.acked(A)
    run.acked(B, kind=Kind.POISON)
    run.answered(C, outcome=Outcome.REFUSED, status=413, kind=Kind.OVER_LIMIT)
    run.table(A)

    assert run.judge().verdict is PASS


def test_a_deliberate_duplicate_must_land_once(run: HandMadeRun) -> None:
    """The same event sent twice on purpose and acked twice is one event."""
    run.acked(A)
    run.acked(A, kind=Kind.DUPLICATE)
    run.table(A)

    verdict = run.judge()

    assert verdict.verdict is PASS
    assert verdict.totals.acked == 1
