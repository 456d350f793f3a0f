"""Lanes of alerts and of what people did: drawn when there is something, and said when there is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.frame import Frame
from reports.lanes import draw_lanes
from reports.span_lanes import actions_lane, alerts_lane
from reports.story import read_story
from tests.histories import HandMadeRun


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path)


def rule(alert: str, crossed: float | None, fired: float | None, cleared: float | None) -> dict[str, Any]:
    return {"alert": alert, "severity": "page", "crossed_at_s": crossed, "fired_at_s": fired, "cleared_at_s": cleared}


def frame(run: HandMadeRun) -> Frame:
    run.written()
    return Frame(read_story(run.run))


def test_alerts_are_drawn_as_pending_and_firing(run: HandMadeRun) -> None:
    """One row each for those that crossed: pending only, fired and cleared, still firing."""
    rules = [rule("A", 10, None, 12), rule("B", 10, 20, 30), rule("C", 40, 50, None), rule("D", None, None, None)]
    lane = alerts_lane(frame(run), rules)
    bars = [glyph for glyph in lane.figure.renderers if type(glyph.glyph).__name__ == "Quad"]
    assert len(bars) == 5
    assert "no alert crossed" in str(alerts_lane(frame(run), [rule("D", None, None, None)]).missing)
    assert "no alert rule" in str(alerts_lane(frame(run), []).missing)


def test_operators_and_drills_have_a_row_each(run: HandMadeRun) -> None:
    """A drill that never ended lasts to the end of the run."""
    run.timeline("operator", at=12, action="mark", text="paged")
    run.timeline("drill", at=20, step=1, drill="force-flush", state="begun")
    run.timeline("drill", at=25, step=1, drill="force-flush", state="done")
    run.timeline("drill", at=30, step=2, drill="reset", state="begun")

    actions = frame(run).story.actions

    assert [(a.kind, a.text, a.start_s) for a in actions] == [
        ("operator", "mark paged", 12), ("drill", "force-flush: done", 20), ("drill", "reset: never ended", 30),
    ]  # fmt: skip
    assert actions[1].end_s == 25
    assert actions_lane(frame(run)).missing is None


def test_a_run_in_which_nobody_did_anything_says_so(run: HandMadeRun) -> None:
    """And the lanes are there all the same."""
    lanes = {lane.key: lane for lane in draw_lanes(frame(run).story)}
    assert "nobody did anything" in str(lanes["actions"].missing)
    assert "no alert rule" in str(lanes["alerts"].missing)
