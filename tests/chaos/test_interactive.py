"""Faults injected by hand: numbered after the scenario's, refused with a sentence, healed one by one or all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.errors import BadInput, NotNow
from chaos.faults import catalogue
from chaos.interactive import Interactive, described
from chaos.live_run import outcomes, partitions
from loadtests.records.rundir import RunDir
from loadtests.records.timeline import Timeline, read_timeline
from tests.chaos.fakes import env, make_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path)


@pytest.fixture
def hands(run: RunDir) -> Iterator[Interactive]:
    timeline = Timeline(run.timeline, run.info.run_id)
    made = Interactive(2, lambda step: env(), timeline, starts_target=True)
    yield made
    made.close()
    timeline.close()


def states(run: RunDir) -> list[tuple[int, str]]:
    return [(entry["step"], entry["state"]) for entry in read_timeline(run.timeline) if entry["event"] == "step"]


def test_a_fault_is_a_step_after_the_scenarios_own(hands: Interactive, run: RunDir) -> None:
    """Numbers go on where the scenario's end, and each step goes armed, injected, healed."""
    assert hands.inject("nothing", {}, None) == 2
    hands.heal(2)
    assert hands.inject("nothing", {}, 60) == 3
    hands.heal_all()
    assert hands.active == []
    assert {state for step, state in states(run) if step == 3} <= {"armed", "injected", "healed", "void"}
    assert [step for step, state in states(run) if state == "armed"] == [2, 3]


@pytest.mark.parametrize(
    ("fault", "params", "for_s"),
    [("no-such", {}, None), ("slow-r2", {"latency_ms": -1}, None), ("nothing", {"x": 1}, None), ("nothing", {}, 0)],
)
def test_what_cannot_be_is_refused_and_leaves_no_step(
    hands: Interactive, run: RunDir, fault: str, params: dict[str, int], for_s: float | None
) -> None:
    """An unknown name, a wrong parameter or length: one sentence, and nothing in the timeline."""
    with pytest.raises(BadInput):
        hands.inject(fault, params, for_s)
    assert states(run) == []


def test_nothing_begins_after_close(hands: Interactive) -> None:
    """Once a run heals for good, a late click is refused."""
    hands.close()
    with pytest.raises(NotNow, match="ending"):
        hands.inject("nothing", {}, None)


def test_a_foreign_target_refuses_what_needs_ours(run: RunDir) -> None:
    """A fault on a path that does not lead through us says so, and the form knows it beforehand."""
    timeline = Timeline(run.timeline, run.info.run_id)
    foreign = Interactive(0, lambda step: env(), timeline, starts_target=False)
    with pytest.raises(NotNow, match="not possible here"):
        foreign.inject("slow-r2", {}, None)
    timeline.close()
    problems = {fault["name"]: fault["problem"] for fault in described(starts_target=False)}
    assert problems["slow-r2"]
    assert problems["nothing"] is None
    assert set(problems) == set(catalogue())


def test_partitions_and_outcomes_are_read_from_a_scrape() -> None:
    """The fullest partition first; a target without these metrics has none."""
    samples = {
        "collector_partition_fill_ratio{hour=2026-11-24T22,type=click}": 0.2,
        "collector_partition_fill_ratio{hour=2026-11-24T22,type=search}": 0.9,
        "collector_flushes_total{outcome=committed}": 4.0,
    }
    assert [(one["name"], one["fill_ratio"]) for one in partitions(samples)] == [
        ("search 2026-11-24T22", 0.9),
        ("click 2026-11-24T22", 0.2),
    ]
    assert outcomes(samples) == {"committed": 4}
    assert (partitions({}), outcomes({})) == ([], None)
