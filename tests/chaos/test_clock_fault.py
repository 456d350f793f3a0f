"""A clock that steps: the target itself tells the wrong time, then the right one; else the step is void."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.errors import HealFailed, NotPossible
from chaos.faults import catalogue, clock
from chaos.faults.clock import FILE, ClockStep, environment_for, find_libfaketime, preloaded, set_clock, works
from chaos.faults.env import Env
from chaos.faults.nothing import Nothing
from tests.chaos.fakes import FakeSeen

HOUR_S = 3600.0
AHEAD = ClockStep(step_s=HOUR_S)
TELL = "import time; a = time.monotonic(); time.sleep(0.01); print(time.time(), time.monotonic() - a)"


class FakeTarget:
    """Tells the time that its clock file says, as a target under libfaketime does; *off* tells what it tells instead."""

    def __init__(self, file: Path, off: Callable[[float], float | None] = lambda told: told) -> None:
        self._file, self._off = file, off

    def clock_offset_s(self) -> float | None:
        return self._off(float(self._file.read_text()))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Env]:
    monkeypatch.setattr(clock, "find_libfaketime", lambda: tmp_path / "libfaketime.so.1")
    monkeypatch.setattr(clock, "SEEN_WITHIN_S", 0.05)
    monkeypatch.setattr(clock, "POLL_S", 0.01)
    set_clock(tmp_path / FILE, 0)

    def make(off: Callable[[float], float | None] = lambda told: told, on_path: int = 5) -> Env:
        target = cast(Any, FakeTarget(tmp_path / FILE, off))
        seen = cast(Any, FakeSeen(on_path=on_path))
        anything = cast(Any, None)
        return Env(anything, anything, target, seen, random.Random(7), data_dir=tmp_path / "target-data")

    return make


def test_a_clock_steps_and_is_set_right(place: Callable[..., Env]) -> None:
    """What the target told before, during and after is the proof."""
    injection = AHEAD.inject(place(), "a")
    assert not injection.finished()
    injection.heal()
    effect = injection.effect()

    assert (effect.affected, effect.reason) == (5, None)
    told = {when: effect.measured[f"clock_offset_s_{when}"] for when in ("before", "during", "after")}
    assert told == {"before": 0, "during": 3600, "after": 0}


@pytest.mark.parametrize(
    ("off", "on_path", "reason"),
    [
        (lambda told: 0.0, 5, "the target's clock was +0 s off, not +3600 s"),
        (lambda told: None, 5, "answers of the target have no `Date`"),
        (lambda told: told, 0, "nothing was sent to the target meanwhile"),
    ],
    ids=["deaf", "silent", "idle"],
)
def test_a_clock_that_nobody_saw_step_is_void(place: Callable[..., Env], off: Any, on_path: int, reason: str) -> None:
    """The target does not hear of it, does not tell, or has nothing to do."""
    injection = AHEAD.inject(place(off, on_path), "a")
    injection.heal()

    assert reason in (injection.effect().reason or "")


def test_a_clock_that_stays_wrong_is_a_failure(place: Callable[..., Env]) -> None:
    """A target that goes on with a wrong clock would be judged by it."""
    injection = AHEAD.inject(place(lambda told: HOUR_S), "a")
    with pytest.raises(HealFailed, match=r"still \+3600 s off"):
        injection.heal()


def test_a_target_that_was_started_without_is_left_alone(place: Callable[..., Env], tmp_path: Path) -> None:
    """A live session knows no steps beforehand."""
    env = place()
    (tmp_path / FILE).unlink()
    with pytest.raises(NotPossible, match="was not started under libfaketime"):
        AHEAD.inject(env, "a")


def test_a_machine_without_libfaketime_is_said(place: Callable[..., Env], monkeypatch: pytest.MonkeyPatch) -> None:
    """Void, with what to install."""
    monkeypatch.setattr(clock, "find_libfaketime", lambda: None)
    with pytest.raises(NotPossible, match="pip install libfaketime"):
        AHEAD.inject(place(), "a")


def test_only_a_scenario_that_steps_clocks_changes_how_the_target_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control experiment runs without libfaketime."""
    monkeypatch.setattr(clock, "find_libfaketime", lambda: tmp_path / "libfaketime.so.1")
    assert (
        environment_for(
            [Nothing(), *(spec.build() for spec in catalogue().values() if spec.mechanism == "http")], tmp_path
        )
        == {}
    )
    env = environment_for([Nothing(), AHEAD], tmp_path)
    assert env["FAKETIME_TIMESTAMP_FILE"] == str(tmp_path / FILE)
    assert env["FAKETIME_DONT_FAKE_MONOTONIC"] == "1"


def test_a_step_that_nothing_could_show_is_refused() -> None:
    """Half a minute may be a slow answer."""
    with pytest.raises(ValueError, match="shorter than 60 s"):
        ClockStep(step_s=-30)


@pytest.mark.integration
def test_a_program_under_libfaketime_tells_the_time_that_was_set(tmp_path: Path) -> None:
    """Its monotonic clock and its sleeps are as ever. A canary: distributions have a libfaketime that fails here."""
    library = find_libfaketime()
    if library is None:
        pytest.skip("there is no libfaketime that works on this machine")
    told = []
    for offset_s in (0.0, -HOUR_S):
        set_clock(tmp_path / FILE, offset_s)
        env = {**os.environ, **preloaded(library, tmp_path / FILE)}
        said = subprocess.run([sys.executable, "-S", "-c", TELL], env=env, capture_output=True, text=True, check=True)
        told.append([float(word) for word in said.stdout.split()])
    assert -HOUR_S - 60 < told[1][0] - told[0][0] < -HOUR_S + 60
    assert all(0.01 <= slept < 60 for _, slept in told)


def test_what_is_no_library_is_not_used(tmp_path: Path) -> None:
    """The dynamic linker goes on without it, so only a trial shows."""
    (tmp_path / "libfaketime.so.1").write_bytes(b"not a library")
    assert not works(tmp_path / "libfaketime.so.1")
