"""The story of a run as the report draws it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loadtests.records.errors import CorruptRecord
from loadtests.records.rundir import RunDir
from reports.story import Landing, Story, landing_of, read_story
from tests.histories import HandMadeRun
from tests.reports.drawn_runs import bare_run, full_run


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return read_story(full_run(tmp_path_factory.mktemp("runs")))


def test_phases_follow_each_other_to_the_end_of_the_run(story: Story) -> None:
    """Each phase ends where the next begins, the last one with the run."""
    spans = story.phases

    assert [s.name for s in spans] == ["preflight", "baseline", "inject", "heal", "settle", "verify", "judge"]
    assert all(a.end_s == b.start_s for a, b in pairwise(spans))
    assert spans[-1].end_s == 120


def test_a_fault_has_a_planned_and_an_effective_window(story: Story) -> None:
    """The plan comes from the scenario, counted from the start of injection; the effect from the timeline."""
    kill = next(f for f in story.faults if f.name == "kill-collector")

    assert kill.planned == (76, 80)
    assert kill.effective == (75, 79)
    assert kill.affected == 38


def test_a_triggered_fault_has_no_planned_window(story: Story) -> None:
    """What a trigger decides cannot be planned for a second."""
    lost = next(f for f in story.faults if f.name == "commit-answer-lost")

    assert lost.planned is None
    assert lost.trigger == "2nd commit POST"


def test_a_void_fault_was_never_in_place(story: Story) -> None:
    """It keeps its plan and its reason."""
    void = next(f for f in story.faults if f.state == "void")

    assert (void.effective, void.planned) == (None, (86, 89))
    assert void.reason == "the target met it with no request"


@pytest.mark.parametrize(
    ("line", "landing"),
    [
        ({"status": 200, "outcome": "passed"}, Landing.COMMITTED),
        ({"status": 409, "outcome": "passed"}, Landing.FAILED),
        ({"status": 429, "outcome": "refused"}, Landing.FAILED),
        ({"status": 503, "outcome": "passed"}, Landing.UNDECIDED),
        ({"status": 409, "outcome": "answer-replaced"}, Landing.UNDECIDED),
        ({"status": 200, "outcome": "truncated"}, Landing.UNDECIDED),
        ({"status": None, "outcome": "answer-dropped"}, Landing.UNDECIDED),
    ],
)
def test_a_commit_is_what_its_sender_could_conclude(line: dict[str, Any], landing: Landing) -> None:
    """Only the catalog's own 2xx commits, only a definite 4xx fails; all else is undecided."""
    assert landing_of(line) is landing


def test_commits_are_counted_once_by_what_their_sender_learnt(story: Story) -> None:
    """Object uploads in the same log are not commits."""
    landings = [commit.landing for commit in story.commits]

    assert {landing: landings.count(landing) for landing in Landing} == {
        Landing.COMMITTED: 41, Landing.FAILED: 2, Landing.UNDECIDED: 1,
    }  # fmt: skip


def test_a_run_without_any_stream_is_empty_not_an_error(tmp_path: Path) -> None:
    """A run that ended in preflight still gets its report."""
    story = read_story(bare_run(tmp_path))

    assert not (story.phases or story.faults or story.commits)
    assert all(curve.empty for curve in story.curves.values())


def test_a_scenario_that_cannot_be_read_costs_only_the_plan(tmp_path: Path) -> None:
    """The faults are still those of the timeline."""
    run = full_run(tmp_path)
    run.scenario.write_text("steps: [")

    faults = read_story(run).faults

    assert len(faults) == 4
    assert all(fault.planned is None for fault in faults)


def test_a_torn_timeline_is_read_up_to_the_tear(tmp_path: Path) -> None:
    """The controller died while it wrote its last line."""
    run = full_run(tmp_path)
    run.timeline.write_bytes(run.timeline.read_bytes()[:-9])

    assert [span.name for span in read_story(run).phases][-1] == "verify"


def test_a_stream_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A timeline that is no timeline is an error, not an empty lane."""
    run = full_run(tmp_path)
    run.timeline.write_text('{"schema": "something/1.0"}\n')

    with pytest.raises(CorruptRecord):
        read_story(run)


def test_a_fault_that_was_not_planned_says_who_asked_for_it(tmp_path: Path) -> None:
    """In a live session nothing is planned: an operator injects, and so does a drill."""
    run = HandMadeRun(tmp_path)
    run.run.scenario.write_text("name: live\nsteps: []\n")
    run.timeline("operator", at=19, action="inject", fault="slow-r2", step=0)
    run.step("injected", at=20, fault="slow-r2", step=0, params={"latency_ms": 300})
    run.step("healed", at=30, fault="slow-r2", step=0, requests_affected=3)
    run.fault("r2-403-data", 31, 32, step=1)

    by_hand, drilled = read_story(RunDir.open(run.written())).faults

    assert (by_hand.asked, by_hand.planned, by_hand.params) == ("by hand", None, {"latency_ms": 300})
    assert drilled.asked == "by a drill"


@pytest.mark.parametrize("text", ["name: [", "- 1", "name: x\nsteps: 3\n", None])
def test_of_a_scenario_that_cannot_be_read_nobody_says_who_asked(tmp_path: Path, text: str | None) -> None:
    """That its steps are not known does not make them a drill's."""
    run = HandMadeRun(tmp_path)
    if text is None:
        run.run.scenario.unlink()
    else:
        run.run.scenario.write_text(text)
    run.fault("slow-r2", 20, 30)

    (fault,) = read_story(RunDir.open(run.written())).faults

    assert (fault.asked, fault.planned, fault.params) == (None, None, None)
