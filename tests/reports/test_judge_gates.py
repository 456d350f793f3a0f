"""Every way in which a run proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.records.ledger import Kind
from loadtests.records.rundir import RoundTrip
from reports.verdict import Verdict
from tests.histories import A, B, HandMadeRun, doubtful, failed

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path)


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
