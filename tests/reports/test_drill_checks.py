"""The check of a drill: what its timeline lines come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.drill_checks import drill_checks
from reports.verdict import Verdict
from tests.histories import A, HandMadeRun


def line(state: str, **fields: Any) -> dict[str, Any]:
    return {"event": "drill", "drill": "d", "state": state, **fields}


BEGUN, DONE = line("begun"), line("done", seconds=1.5)
HOLDS = line("checked", check="rows", ok=True, detail="3 of 3")
BROKEN = line("checked", check="fill", ok=False, detail="5 events are buffered after it, 5 before")


def test_a_run_without_drills_has_no_such_check() -> None:
    """Other lines of the timeline are not looked at."""
    assert drill_checks([{"event": "phase", "phase": "inject"}]) == []


def test_a_drill_that_held_passes() -> None:
    """With its time and what was looked at."""
    (check,) = drill_checks([BEGUN, HOLDS, DONE])

    assert (check.id, check.verdict) == ("drill.d", Verdict.PASS)
    assert check.counts == {"checked": 1, "broken": 0, "took_ms": 1500}
    assert check.evidence == ["rows: holds, 3 of 3"]


def test_a_broken_post_condition_fails_and_is_named() -> None:
    """Even when the drill came to its end, or did not."""
    for lines in ([BEGUN, HOLDS, BROKEN, DONE], [BEGUN, BROKEN]):
        (check,) = drill_checks(lines)
        assert check.verdict is Verdict.FAIL
        assert "fill" in check.claim
        assert check.cause == BROKEN["detail"]


def test_a_drill_that_could_not_be_done_fails() -> None:
    """The reason is the cause."""
    (check,) = drill_checks([BEGUN, HOLDS, line("failed", reason="503", seconds=2)])

    assert (check.verdict, check.cause) == (Verdict.FAIL, "503")


def test_a_drill_without_end_or_without_checks_proves_nothing() -> None:
    """Could not tell is never a pass."""
    assert [drill_checks(lines)[0].verdict for lines in ([BEGUN, HOLDS], [BEGUN, DONE])] == [Verdict.INCONCLUSIVE] * 2


@pytest.mark.parametrize(
    ("lines", "claim"),
    [
        ([line("armed")], "the run ended before its moment came"),
        ([line("armed"), line("void", reason="no admin")], "not done: no admin"),
        ([line("armed"), BEGUN, HOLDS, line("stopped", reason="the run ended")], "stopped before its end"),
        ([line("armed"), line("broken", reason="the warden is gone")], "icequake failed in the middle of the drill"),
    ],
)
def test_a_drill_that_was_not_done_proves_nothing(lines: list[dict[str, Any]], claim: str) -> None:
    """Whether nobody could, its moment never came, or the run ended in the middle of it."""
    (check,) = drill_checks(lines)

    assert check.verdict is Verdict.INCONCLUSIVE
    assert claim in check.claim


def test_the_same_drill_twice_has_two_checks() -> None:
    """Told apart by the step of the scenario; the one that failed is not hidden by the other."""
    first, second = drill_checks(
        [{**one, "step": 1} for one in (BEGUN, HOLDS, DONE)] + [{**one, "step": 2} for one in (BEGUN, BROKEN, DONE)]
    )

    assert (first.id, first.verdict) == ("drill.d", Verdict.PASS)
    assert (second.id, second.verdict) == ("drill.d.2", Verdict.FAIL)


def test_times_are_counted_from_the_damage() -> None:
    """Detection, mitigation and recovery count from the last fault that was on by then; without one from the beginning."""
    drill = [
        {**BEGUN, "t_ns": 3_000_000_000},
        {**line("reached", milestone="detected"), "t_ns": 4_000_000_000},
        {**line("reached", milestone="recovered"), "t_ns": 9_500_000_000},
        HOLDS,
        DONE,
    ]
    damage = [{"event": "step", "step": 0, "state": "injected", "t_ns": t} for t in (1_000_000_000, 2_000_000_000)]

    (check,) = drill_checks([*damage, *drill])

    assert {name: check.counts[name] for name in ("detected_ms", "recovered_ms")} == {
        "detected_ms": 2000,
        "recovered_ms": 7500,
    }
    assert check.evidence[-2:] == ["detected after 2.0 s", "recovered after 7.5 s"]
    (alone,) = drill_checks(drill)
    assert (alone.counts["detected_ms"], alone.counts["recovered_ms"]) == (1000, 6500), (
        "from its begin, where nothing was damaged"
    )


def test_a_failed_drill_fails_the_run(tmp_path: Path) -> None:
    """Although every event is where it should be."""
    run = HandMadeRun(tmp_path)
    run.run.info.scenario = "drill-d"
    run.run.save()
    run.acked(A)
    run.table(A)
    for one in (BEGUN, BROKEN, DONE):
        run.timeline(**one)

    verdict = run.judge()

    assert verdict.verdict is Verdict.FAIL
    assert [check.id for check in verdict.checks if check.verdict is Verdict.FAIL] == ["drill.d"]
    assert verdict.first_screen[-1].endswith(
        f"reproduce: icequake drill d --seed {verdict.seed} --target {verdict.target}"
    )
