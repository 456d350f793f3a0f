"""The check of a drill: what its timeline lines come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def test_a_failed_drill_fails_the_run(tmp_path: Path) -> None:
    """Although every event is where it should be."""
    run = HandMadeRun(tmp_path)
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
