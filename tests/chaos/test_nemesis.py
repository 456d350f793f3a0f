"""The nemesis injects on schedule or at a trigger, always heals, and says what came of every step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import ChaosError, ControlHung, HealFailed
from chaos.faults.env import Effect
from chaos.nemesis import Nemesis
from chaos.scenario import Step
from chaos.trigger import Trigger
from loadtests.records.timeline import Timeline, read_timeline
from tests.chaos.fakes import PATIENCE_S, FakeFault, FakeSeen, VirtualTime, env, step, until_stopped

TRIGGER = Trigger(2, "commit", "POST")


class Stage:
    """A timeline, virtual time, and a nemesis at work on them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.time = VirtualTime(origin_ns=5_000_000_000)
        self.timeline = Timeline(path, "ab12cd34")
        self.nemesis: Nemesis | None = None

    def fault(self, name: str = "fake", **how: Any) -> FakeFault:
        return FakeFault(name, clock=self.time.now_ns, **how)

    def play(self, *steps: Step, seen: FakeSeen | None = None, **how: Any) -> Nemesis:
        how = {"clock": self.time.now_ns, "wait": self.time.wait, **how}
        self.nemesis = Nemesis(steps, lambda _: env(seen=seen), self.timeline, **how)
        self.nemesis.start(self.time.origin_ns)
        return self.nemesis

    def ended(self) -> None:
        """Wait until every step ended by itself."""
        for thread in threading.enumerate():
            if thread.name.startswith("step-"):
                thread.join(PATIENCE_S)

    def history(self, index: int = 0) -> list[dict[str, Any]]:
        return [entry for entry in read_timeline(self.path) if entry["step"] == index]

    def states(self, index: int = 0) -> list[str]:
        return [entry["state"] for entry in self.history(index)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "timeline.jsonl")
    yield stage
    assert stage.nemesis is not None
    stage.nemesis.failure = None
    stage.nemesis.stop()
    stage.timeline.close()


def test_a_step_is_armed_injected_and_healed(stage: Stage) -> None:
    """The timeline has each change with the fault's parameters and what it did."""
    fault = stage.fault()
    stage.play(step(0, fault, at_s=3, for_s=10))
    stage.ended()
    armed, injected, healed = stage.history()
    assert (armed["state"], injected["state"], healed["state"]) == ("armed", "injected", "healed")
    assert (injected["fault"], injected["params"]) == ("fake", {"strength": 3})
    assert (healed["requests_affected"], healed["requests_escaped"], healed["measured"]) == (2, 1, {"probe": 5})
    assert fault.actions == ["inject", "heal", "effect"]


def test_a_fault_acts_from_when_its_injection_began(stage: Stage) -> None:
    """Measuring its effect takes time, which is part of the fault and not of `for_s`."""
    fault = stage.fault(measure=lambda: stage.time.wait(threading.Event(), 5.0))
    stage.play(step(0, fault, at_s=3, for_s=10))
    stage.ended()
    (_, begun_ns), (_, healed_ns), _ = fault.done
    assert stage.history()[1]["began_ns"] == begun_ns == stage.time.origin_ns + 3_000_000_000
    assert 15.0 <= (healed_ns - begun_ns) / 1e9 < 15.1


def test_a_step_begins_and_ends_on_time(stage: Stage) -> None:
    """`at_s` counts from the origin, `for_s` from the injection, to within one poll."""
    fault = stage.fault()
    stage.play(step(0, fault, at_s=3, for_s=10))
    stage.ended()
    (_, injected_ns), (_, healed_ns), _ = fault.done
    assert injected_ns == stage.time.origin_ns + 3_000_000_000
    assert 10.0 <= (healed_ns - injected_ns) / 1e9 < 10.1


def test_a_moment_that_has_passed_is_now(stage: Stage) -> None:
    """A nemesis that starts late does not skip a step."""
    fault = stage.fault()
    nemesis = stage.play(step(0, fault, at_s=0, for_s=1))
    stage.ended()
    assert fault.done[0] == ("inject", stage.time.origin_ns)
    assert nemesis.active == []


def test_the_same_seed_gives_the_same_schedule(tmp_path: Path) -> None:
    """Two runs of one plan inject and heal at the same moments, each step with its own random numbers; another seed draws others."""

    def once(path: Path, seed: int = 7) -> list[list[Any]]:
        stage = Stage(path)
        faults = [stage.fault(str(index)) for index in range(3)]
        steps = [step(index, fault, at_s=1.5 * index, for_s=0.7) for index, fault in enumerate(faults)]
        nemesis = Nemesis(
            steps, lambda one: env(seed=f"{seed}:step:{one.index}"), stage.timeline,
            clock=stage.time.now_ns, wait=stage.time.wait,
        )  # fmt: skip
        nemesis.start(stage.time.origin_ns)
        stage.ended()
        nemesis.stop()
        stage.timeline.close()
        return [[*fault.done, fault.drawn] for fault in faults]

    first, second = once(tmp_path / "a.jsonl"), once(tmp_path / "b.jsonl")
    assert first == second
    assert len({moments[-1] for moments in first}) == 3
    assert not {moments[-1] for moments in once(tmp_path / "c.jsonl", seed=8)} & {moments[-1] for moments in first}


def test_a_fault_that_has_done_its_work_is_healed_early(stage: Stage) -> None:
    """A rule for one request does not stay for the rest of its time."""
    fault = stage.fault(finished=lambda: True)
    stage.play(step(0, fault, for_s=3600))
    stage.ended()
    assert [moment for _, moment in fault.done] == [stage.time.origin_ns] * 3


def test_steps_overlap(stage: Stage) -> None:
    """Each has its own thread: one that lasts does not delay the next."""
    long, short = stage.fault("long"), stage.fault("short")
    nemesis = stage.play(
        step(0, long, for_s=60), step(1, short, for_s=60), wait=lambda event, s: s > 0 and until_stopped(event, s)
    )
    assert long.on.wait(PATIENCE_S)
    assert short.on.wait(PATIENCE_S)
    nemesis.stop()
    assert (stage.states(0), stage.states(1)) == (["armed", "injected", "healed"],) * 2


class Restarting(FakeFault):
    """Stands for a fault that ends the target and starts it again."""

    restarts_target = True


def test_steps_that_restart_the_target_take_turns(stage: Stage) -> None:
    """Both moments came, and one of them waits until the other is healed: two at once would end what the other has started."""
    release = threading.Event()
    faults = [Restarting(name, clock=stage.time.now_ns, finished=release.is_set) for name in ("one", "two")]
    stage.play(*(step(n, fault, for_s=3600) for n, fault in enumerate(faults)), wait=lambda event, _: event.wait(0.01))
    while not any(fault.on.is_set() for fault in faults):
        faults[0].on.wait(0.01)
    assert not all(fault.on.wait(0.1) for fault in faults)
    release.set()
    stage.ended()

    changes = [entry["state"] for entry in read_timeline(stage.path) if entry["state"] != "armed"]
    assert changes == ["injected", "healed"] * 2


def test_a_step_that_waits_for_its_turn_ends_with_the_traffic(stage: Stage) -> None:
    """It is void, since it never began."""
    faults = [Restarting(name, clock=stage.time.now_ns) for name in ("one", "two")]
    steps = [step(n, fault, for_s=3600) for n, fault in enumerate(faults)]
    nemesis = stage.play(*steps, wait=lambda event, s: s > 0 and event.wait(0.01))
    while not nemesis.active:
        faults[0].on.wait(0.01)
    nemesis.stop()

    ends = sorted(stage.states(index)[-1] for index in range(2))
    assert ends == ["healed", "void"]
    assert "were restarting the target" in " ".join(str(e.get("reason")) for e in read_timeline(stage.path))


def test_what_is_on_is_told(stage: Stage) -> None:
    """`active` names injected faults only; `stop` heals them, and waits until that is done."""
    asked = threading.Event()

    def unfinished() -> bool:
        asked.set()
        return False

    fault = stage.fault(finished=unfinished)
    nemesis = stage.play(step(0, fault, for_s=3600), wait=lambda event, s: s > 0 and until_stopped(event, s))
    assert asked.wait(PATIENCE_S)
    assert nemesis.active == ["fake"]
    nemesis.stop()
    assert fault.actions == ["inject", "heal", "effect"]
    assert nemesis.active == []


def test_a_step_whose_moment_never_came_is_void(stage: Stage) -> None:
    """Stopped before its time, it was never injected and cannot count as evidence."""
    fault = stage.fault()
    nemesis = stage.play(step(0, fault, at_s=3600), wait=until_stopped)
    nemesis.stop()
    assert stage.states() == ["armed", "void"]
    assert stage.history()[-1]["reason"] == "its moment never came before traffic ended"
    assert fault.actions == []


def test_a_step_that_was_never_triggered_is_void(stage: Stage) -> None:
    """The request it waited for never came."""
    fault = stage.fault()
    stage.play(step(0, fault, at_s=None, trigger=TRIGGER)).stop()
    assert stage.states() == ["armed", "void"]
    assert fault.actions == []


def test_a_triggered_step_runs(stage: Stage) -> None:
    """Its request came."""
    fault = stage.fault()
    stage.play(step(0, fault, at_s=None, trigger=TRIGGER), seen=FakeSeen(triggered=True))
    stage.ended()
    assert stage.states() == ["armed", "injected", "healed"]


def test_a_fault_without_effect_is_void(stage: Stage) -> None:
    """Injected and healed, but no request met it: the reason and the numbers are kept."""
    fault = stage.fault(effect=Effect(0, 9, "no request matched it while it was on", {}))
    stage.play(step(0, fault))
    stage.ended()
    last = stage.history()[-1]
    assert (last["state"], last["reason"]) == ("void", "no request matched it while it was on")
    assert (last["requests_affected"], last["requests_escaped"]) == (0, 9)


def test_a_failing_injection_is_recorded_and_raised_at_stop(stage: Stage) -> None:
    """The run goes on until it can end in order; then the first failure is told. Other steps are not disturbed."""
    broken = stage.fault("broken", fails={"inject": ControlHung("the gateway is deaf")})
    other = stage.fault("other")
    nemesis = stage.play(step(0, broken), step(1, other))
    stage.ended()
    assert (stage.states(0), stage.states(1)) == (["armed", "failed"], ["armed", "injected", "healed"])
    assert stage.history()[-1]["error"] == "the gateway is deaf"
    with pytest.raises(ControlHung, match="the gateway is deaf"):
        nemesis.stop()


def test_a_failing_heal_is_recorded_and_raised_at_stop(stage: Stage) -> None:
    """A fault that may still be on is never called healed."""
    nemesis = stage.play(step(0, stage.fault(fails={"heal": ControlHung("still listed")})))
    stage.ended()
    assert stage.states() == ["armed", "injected", "failed"]
    with pytest.raises(ControlHung, match="still listed"):
        nemesis.stop()


def test_a_fault_that_cannot_be_asked_is_healed_all_the_same(stage: Stage) -> None:
    """Losing sight of a fault is no reason to leave it on."""
    fault = stage.fault(fails={"finished": ControlHung("no counters")})
    nemesis = stage.play(step(0, fault, for_s=5))
    stage.ended()
    assert fault.actions == ["inject", "heal"]
    assert stage.states() == ["armed", "injected", "failed"]
    with pytest.raises(ControlHung, match="no counters"):
        nemesis.stop()


def test_a_mistake_of_the_harness_is_seen(stage: Stage) -> None:
    """An exception nobody expected does not die with its thread: it names the step and the fault."""
    nemesis = stage.play(step(0, stage.fault(fails={"inject": KeyError("x")})))
    stage.ended()
    assert stage.states() == ["armed", "failed"]
    with pytest.raises(ChaosError, match=r"step 0 \(fake\): KeyError\('x'\)"):
        nemesis.stop()


def test_a_step_that_does_not_end_is_an_error(stage: Stage) -> None:
    """A heal that hangs must not pass for a heal."""
    release = threading.Event()
    fault = stage.fault(finished=lambda: release.wait(PATIENCE_S))
    nemesis = stage.play(step(0, fault, for_s=5))
    assert fault.on.wait(PATIENCE_S)
    with pytest.raises(HealFailed, match=r"did not end within 0\.01 s"):
        nemesis.stop(timeout_s=0.01)
    release.set()
    stage.ended()
    assert fault.actions == ["inject", "heal", "effect"]
