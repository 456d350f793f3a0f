"""Drills as steps of a scenario: done at their moment, one at a time, and what was not done is said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.condition import parse_condition
from chaos.drills import Drill
from chaos.drills.desk import Desk, DrillFailed
from chaos.drills.steps import LONGEST_S, DrillSteps
from chaos.errors import ChaosError
from chaos.scenario import DrillStep
from loadtests.records.timeline import Timeline, read_timeline
from tests.chaos.fakes import PATIENCE_S, FakeSeen, VirtualTime


class Bench:
    """A timeline, virtual time, and drills that are functions of their desk."""

    def __init__(self, path: Path) -> None:
        self.path, self.time = path, VirtualTime()
        self.timeline = Timeline(path, "ab12cd34")
        self.readings = {"fill": 0.0}
        self.drills: DrillSteps | None = None

    def step(self, procedure: Callable[[Desk], None], index: int = 0, **when: Any) -> DrillStep:
        when = {"at_s": 0.0, "trigger": None, **when}
        return DrillStep(index, Drill(f"d{index}", "It.", procedure), **when)

    def desk(self, step: DrillStep, idle: Callable[[], None], write: Callable[..., Any]) -> Desk:
        def rest(seconds: float) -> None:
            self.time.wait(threading.Event(), seconds)

        nothing = cast(Any, None)
        return Desk(
            step.drill.name, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, idle, write,
            clock=lambda: self.time.now_ns() / 1e9, sleep=rest,
        )  # fmt: skip

    def play(self, *steps: DrillStep, wait: Callable[[threading.Event, float], bool] | None = None) -> DrillSteps:
        self.drills = DrillSteps(
            steps, self.desk, self.timeline, seen=FakeSeen(), read=self.readings.get,
            clock=self.time.now_ns, wait=wait or self.time.wait,
        )  # fmt: skip
        self.drills.start(0)
        return self.drills

    def ended(self) -> None:
        for thread in threading.enumerate():
            if thread.name.startswith("drill-"):
                thread.join(PATIENCE_S)

    def states(self, index: int = 0) -> list[str]:
        return [entry["state"] for entry in read_timeline(self.path) if entry["step"] == index]

    def last(self) -> dict[str, Any]:
        return list(read_timeline(self.path))[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "timeline.jsonl")
    yield bench
    if bench.drills is not None:
        bench.drills.failure = None
        bench.drills.stop()
    bench.timeline.close()


def holds(desk: Desk) -> None:
    desk.check("it", True, "1 of 1")


def test_a_drill_is_armed_done_and_timed(bench: Bench) -> None:
    """At its moment; each line carries the number of the step."""
    drills = bench.play(bench.step(holds, index=3, at_s=5.0))
    bench.ended()

    assert bench.states(3) == ["armed", "begun", "checked", "done"]
    assert not drills.busy


def test_a_drill_waits_for_its_condition(bench: Bench) -> None:
    """And begins when a reading fulfils it."""
    asked = threading.Event()

    def wait(event: threading.Event, seconds: float) -> bool:
        asked.set()
        return event.is_set()

    bench.play(bench.step(holds, at_s=None, condition=parse_condition("fill > 0.5")), wait=wait)
    assert asked.wait(PATIENCE_S)
    assert bench.states() == ["armed"]
    bench.readings["fill"] = 0.6
    bench.ended()

    assert bench.states()[-1] == "done"


def test_a_drill_whose_moment_never_came_is_void(bench: Bench) -> None:
    """Traffic has ended, so it would prove nothing."""
    drills = bench.play(bench.step(holds, at_s=None, condition=parse_condition("fill > 0.5")))
    drills.seal()
    bench.ended()

    assert bench.states() == ["armed", "void"]
    assert "its moment never came" in bench.last()["reason"]


def test_drills_are_done_one_at_a_time(bench: Bench) -> None:
    """An operator has two hands; the second begins when the first is done."""
    inside, most, gate = [], [], threading.Semaphore(0)

    def procedure(desk: Desk) -> None:
        inside.append(desk.name)
        most.append(len(inside))
        gate.acquire(timeout=PATIENCE_S)
        inside.remove(desk.name)
        holds(desk)

    bench.play(bench.step(procedure, 0), bench.step(procedure, 1))
    gate.release(2)
    bench.ended()

    assert most == [1, 1]
    assert (bench.states(0)[-1], bench.states(1)[-1]) == ("done", "done")


def test_a_run_that_ends_stops_the_drill(bench: Bench) -> None:
    """It is neither done nor failed."""
    waits = threading.Event()

    def procedure(desk: Desk) -> None:
        waits.set()
        desk.wait(lambda: False, 1e9)

    drills = bench.play(bench.step(procedure))
    assert waits.wait(PATIENCE_S)
    drills.stop()

    assert bench.states() == ["armed", "begun", "stopped"]


def test_a_drill_that_never_ends_has_failed(bench: Bench) -> None:
    """Its longest time is bounded."""
    bench.play(bench.step(lambda desk: void(desk.wait(lambda: False, 1e9))))
    bench.ended()

    assert bench.states()[-1] == "failed"
    assert f"within {LONGEST_S:g} s" in bench.last()["reason"]


def void(_: object) -> None:
    """A procedure returns nothing."""


def test_a_procedure_that_cannot_be_done_fails_the_drill_and_not_the_harness(bench: Bench) -> None:
    """What the harness itself cannot do is another thing, and comes out when the run stops."""

    def refused(desk: Desk) -> None:
        raise DrillFailed("POST /flush was answered with 503")

    def gone(desk: Desk) -> None:
        raise ChaosError("the warden is gone.")

    def bug(desk: Desk) -> None:
        raise RuntimeError("oops")

    drills = bench.play(bench.step(refused, 0), bench.step(gone, 1), bench.step(bug, 2))
    bench.ended()

    assert [bench.states(index)[-1] for index in range(3)] == ["failed", "broken", "broken"]
    with pytest.raises(ChaosError, match=r"warden is gone|oops"):
        drills.stop()
