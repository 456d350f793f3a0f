"""A hand-made history for every row of the reconciliation table, and for every way in which a run proves nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loadtests.records.ledger import Kind, Outcome
from loadtests.records.rundir import RoundTrip, SettleEnd
from reports.judge import judge, main
from reports.verdict import Verdict, VerdictDoc, read_verdict
from tests.histories import A, B, C, D, HandMadeRun

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path)


def failed(verdict: VerdictDoc) -> set[str]:
    return {check.id for check in verdict.checks if check.verdict is FAIL}


def doubtful(verdict: VerdictDoc) -> set[str]:
    return {check.id for check in verdict.checks if check.verdict is INCONCLUSIVE}


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


# --- gates: the run proved nothing


def test_no_flush_is_inconclusive(run: HandMadeRun) -> None:
    """Nothing owed, nothing landed."""
    run.acked(A, kind=Kind.POISON)
    run.table(foreign=3)

    assert {"run.flushed", "run.read"} <= doubtful(run.judge())


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([("armed", {})], "never triggered"),
        ([("armed", {}), ("void", {"reason": "not on this stack"})], "not on this stack"),
        ([("injected", {}), ("failed", {"error": "toxiproxy hung"})], "toxiproxy hung"),
        ([("injected", {})], "not healed"),
        ([("injected", {}), ("healed", {"requests_affected": 0})], "met no request"),
    ],
)
def test_a_fault_without_effect_is_inconclusive(
    run: HandMadeRun, states: list[tuple[str, dict[str, Any]]], words: str
) -> None:
    """A step that did nothing proves nothing, and the verdict says why."""
    run.acked(A)
    run.table(A)
    for at, (state, fields) in enumerate(states, start=30):
        run.step(state, at=at, **fields)

    verdict = run.judge()

    assert doubtful(verdict) == {"run.faults_effective"}
    assert words in verdict.check("run.faults_effective").claim


def test_the_control_experiment_needs_no_effect(run: HandMadeRun) -> None:
    """`nothing` is meant to do nothing."""
    run.acked(A)
    run.table(A)
    run.fault("nothing", 20, 30, affected=0)

    assert run.judge().verdict is PASS


def test_a_generator_behind_its_schedule_is_inconclusive(run: HandMadeRun) -> None:
    """Arrivals were given up though no fault was active."""
    run.acked(*range(100))
    run.table(*range(100))
    run.not_sent(200, 201)

    assert doubtful(run.judge()) == {"run.on_schedule"}


def test_arrivals_given_up_during_a_fault_do_not_count(run: HandMadeRun) -> None:
    """The target held all connections."""
    run.fault("slow-r2", 19, 25)
    run.acked(*range(100))
    run.table(*range(100))
    run.not_sent(200, 201, at=24)

    assert run.judge().verdict is PASS


def test_a_stopped_run_is_inconclusive(run: HandMadeRun) -> None:
    """Ctrl-C: what is known is judged, but it is no pass."""
    run.acked(A)
    run.table(A)
    run.stopped("interrupted by the operator")

    verdict = run.judge()

    assert doubtful(verdict) == {"run.complete"}
    assert "interrupted by the operator" in verdict.check("run.complete").claim


@pytest.mark.parametrize("answers", [[False], [True, False]])
def test_a_baseline_that_did_not_hold_is_inconclusive(run: HandMadeRun, answers: list[bool]) -> None:
    """The steady state was not steady before anything was touched."""
    run.acked(A)
    run.table(A)
    for at, ok in enumerate(answers, start=5):
        run.probe("ack-ratio", ok=ok, at=at)

    assert doubtful(run.judge()) == {"run.baseline"}


def test_a_baseline_probe_may_need_a_second_try(run: HandMadeRun) -> None:
    """Only the last answer counts."""
    run.acked(A)
    run.table(A)
    run.probe("ack-ratio", ok=False, at=5)
    run.probe("ack-ratio", ok=True, at=6)

    assert run.judge().verdict is PASS


def test_the_final_read_decides_whether_a_new_event_came_through(run: HandMadeRun) -> None:
    """An older loss keeps the runner waiting, but the new event is there: only the loss fails."""
    run.acked(A)
    run.acked(0, producer=9, at=65)
    run.table(0, producer=9, at=66)
    run.ended(roundtrip=RoundTrip(ok=False, producer=9, first=0))

    assert failed(run.judge()) == {"events.lost"}


@pytest.mark.parametrize(("trip", "expected"), [(None, INCONCLUSIVE), (RoundTrip(ok=False, producer=9, first=0), FAIL)])
def test_a_new_event_must_come_through(run: HandMadeRun, trip: RoundTrip | None, expected: Verdict) -> None:
    """The round trip after settling decides."""
    run.acked(A)
    run.table(A)
    run.ended(roundtrip=trip)

    assert run.judge().check("run.roundtrip").verdict is expected


@pytest.mark.parametrize(
    ("definite", "live", "expected"), [(True, True, FAIL), (False, True, INCONCLUSIVE), (True, False, PASS)]
)
def test_an_unreadable_object_is_named(run: HandMadeRun, definite: bool, live: bool, expected: Verdict) -> None:
    """Damage that the current snapshot needs fails; storage that did not answer leaves it open; old damage is noted."""
    run.acked(A)
    run.table(A)
    run.unreadable("s3://bucket/data/broken.parquet", definite=definite, live=live)

    check = run.judge().check("run.read")

    assert check.verdict is expected
    assert any("broken.parquet" in e for e in check.evidence)


def test_what_could_not_be_read_is_not_called_lost(run: HandMadeRun) -> None:
    """The catalog did not answer at verification: a fault of the reading, not of the target."""
    run.acked(A)
    run.unreadable_table()

    verdict = run.judge()

    assert verdict.verdict is INCONCLUSIVE
    assert verdict.check("events.lost").verdict is INCONCLUSIVE


@pytest.mark.parametrize(("rows", "distinct"), [(3, 2), (2, 1), (1, 2)])
def test_two_engines_that_disagree_are_inconclusive(run: HandMadeRun, rows: int, distinct: int) -> None:
    """One of the readers is wrong, so no reading is believed."""
    run.acked(A, B)
    run.table(A, B)
    run.second_engine(rows=rows, distinct=distinct)

    assert doubtful(run.judge()) == {"run.read"}


def test_two_engines_that_agree_pass(run: HandMadeRun) -> None:
    """Copies and strays are part of the sum."""
    run.acked(A, B)
    run.table(A, B, stray=1)
    run.second_engine(rows=3, distinct=3)

    assert run.judge().check("run.read").verdict is PASS


# --- the verdict as a document


def test_the_worst_check_wins(run: HandMadeRun) -> None:
    """FAIL beats INCONCLUSIVE."""
    run.acked(A, B)
    run.table(A)
    run.ended(roundtrip=None)

    assert run.judge().verdict is FAIL


def test_commits_without_an_answer_are_settled_by_the_table(run: HandMadeRun) -> None:
    """Of two undecided commits the one with a snapshot of its time landed."""
    run.acked(A, B)
    run.table(A, at=21)
    run.table(B, at=31)
    run.commit(at=21)
    run.commit(at=31, outcome="answer-dropped")
    run.commit(at=55, outcome="answer-replaced", status=503)
    run.commit(at=56, status=409)

    flush = run.judge().sections["flush"]

    assert (flush["committed"], flush["failed"], flush["undecided"], flush["undecided_landed"]) == (1, 1, 2, 1)


def test_catching_up_is_measured_from_the_heal(run: HandMadeRun) -> None:
    """The last event acked before the heal was seen four seconds after it."""
    run.fault("slow-r2", 19, 30)
    run.acked(A, at=20)
    run.acked(B, at=29)
    run.acked(C, at=50)
    run.table(A, at=21)
    run.table(B, at=34)
    run.table(C, at=51)

    assert run.judge().sections["flush"]["caught_up_s"] == 4.0


def test_what_compaction_and_expiry_took_away_is_not_taken_for_never(run: HandMadeRun) -> None:
    """Data files and snapshots that were seen and are gone leave open when the target had caught up, and what landed."""
    run.fault("slow-r2", 19, 30)
    run.acked(A, at=20)
    run.acked(B, at=29)
    run.table(A, B, at=34)
    run.commit(at=25, outcome="answer-dropped")
    root = run.written()
    look = {"t_ns": 10**15, "snapshots_seen": 9, "files": [{"path": "s3://gone.parquet", "after_ns": 0}]}
    with (root / "visible.jsonl").open("a") as lines:
        lines.write(json.dumps(look) + "\n")

    document = judge(root)

    assert document.sections["flush"]["files_replaced"] >= 1
    said = next(line for line in document.first_screen if line.startswith("Flush"))
    assert "at least 0 landed (8 snapshots are not there any more)" in said
    assert "never" not in said


def test_capacity_is_the_time_until_the_first_refusal(tmp_path: Path) -> None:
    """2,000 events were full after 6 s of outage, so ten minutes need 200,000."""
    run = HandMadeRun(tmp_path, capacity_events=2000)
    run.fault("catalog-outage", 20, 40)
    run.acked(A, at=21)
    run.refused(B, at=26)
    run.table(A, at=41)

    capacity = run.judge().sections["capacity"]

    assert capacity["longest"]["refused_at_s"] == 6.0
    assert capacity["longest"]["needs_capacity_events"] == 200_000


def test_a_refusal_with_room_left_is_not_the_end_of_the_buffer(tmp_path: Path) -> None:
    """Something else was refused, or there was a moment's trouble; the buffer held as long as the fault lasted."""
    run = HandMadeRun(tmp_path, capacity_events=2000)
    run.fault("manifest-emptied", 20, 40)
    run.sampled(22, "fill_ratio", 0.16)
    run.acked(A, at=21)
    run.refused(B, at=20.2)
    run.table(A, at=41)

    document = run.judge()

    assert document.sections["capacity"]["longest"]["held_s"] == 20.0
    said = next(line for line in document.first_screen if line.startswith("Capacity"))
    assert "held 20 s of manifest-emptied" in said
    assert "first refusal after 0 s, not for want of room" in said


def test_a_moved_run_gives_the_same_bytes(run: HandMadeRun, tmp_path: Path) -> None:
    """A verdict is a pure function of the run directory."""
    run.fault("slow-r2", 19, 30)
    run.acked(*range(40))
    run.table(*range(30), 3)
    root = run.written()
    CliRunner().invoke(main, [str(root)])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root, elsewhere)
    CliRunner().invoke(main, [str(elsewhere)])

    assert (root / "verdict.json").read_bytes() == (elsewhere / "verdict.json").read_bytes()
    assert (root / "summary.txt").read_bytes() == (elsewhere / "summary.txt").read_bytes()


def test_the_command_writes_the_verdict_and_exits_by_it(run: HandMadeRun) -> None:
    """verdict.json, summary.txt, the first screen, and the exit code say the same."""
    run.acked(A, B)
    run.table(A)
    root = run.written()

    result = CliRunner().invoke(main, [str(root)])

    assert result.exit_code == 1
    assert result.output == (root / "summary.txt").read_text()
    assert result.output.startswith("FAIL  control on hand-made · 24 Nov 11:33 UTC · 1 m 10 s · seed 7 · exit 1\n")
    assert read_verdict(root / "verdict.json").first_screen == result.output.splitlines()
    assert "icequake explain abcd1234 lost" in result.output


def test_what_is_printed_cannot_steer_a_terminal(run: HandMadeRun) -> None:
    """Names of flushes are the target's; in terminal, verdict.json and summary.txt they stand as escapes."""
    run.acked(A)
    run.table(A, A, flush="\x1b[2J\u202eflush")
    root = run.written()

    result = CliRunner().invoke(main, [str(root)])

    assert "(flush \\x1b[2J\\u202eflush)" in result.output
    assert all(line.isprintable() for line in (root / "summary.txt").read_text().splitlines())


def test_a_run_whose_table_nobody_read_is_refused_with_a_sentence(run: HandMadeRun) -> None:
    """Exit 254, and what to do."""
    result = CliRunner().invoke(main, [str(run.run.root)])

    assert result.exit_code == 254
    assert "reports.observe" in result.output


def test_something_that_is_no_run_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """Exit 254, also as JSON."""
    result = CliRunner().invoke(main, [str(tmp_path), "--json"])

    assert result.exit_code == 254
    assert '"code":"MissingRecord"' in result.output
