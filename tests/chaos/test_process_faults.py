"""Faults of processes: what is ended is started again, what is stopped goes on, and what could not be done is void."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.errors import NotPossible
from chaos.faults.crash import CrashPoint
from chaos.faults.env import Env, Injection
from chaos.faults.freeze import Freeze
from chaos.faults.process import KillProcess
from chaos.faults.second import SecondProcess
from chaos.faults.server import KillServer
from chaos.journal import open_entries
from chaos.nemesis import Nemesis
from chaos.undo import process_identity
from chaos.warden_client import Warden
from loadtests.records.target import CrashPoints
from loadtests.records.timeline import Timeline, read_timeline
from tests.chaos.fakes import FakeFault, FakeSeen, step
from tests.chaos.fakes import env as fake_env
from tests.chaos.processes import WAIT_FOREVER, python, stopped, until


@dataclass
class FakeTarget:
    """A target whose life is a list of words."""

    crash_points: CrashPoints | None = None
    pid: int | None = 1
    status: int | None = None
    served: bool = False
    log: list[str] = field(default_factory=list)

    def start(self, *, env: Mapping[str, str] | None = None, arguments: Sequence[str] = ()) -> None:
        self.log.append(" ".join(["start", *(f"{key}={value}" for key, value in (env or {}).items()), *arguments]))
        self.pid, self.status = 1, None

    def come_back(self, *, env: Mapping[str, str] | None = None, arguments: Sequence[str] = ()) -> None:
        self.start(env=env, arguments=arguments)

    def kill(self) -> int:
        self.log.append("kill")
        return -9

    def stop(self) -> int:
        self.log.append("stop")
        return 0

    def dies(self, status: int) -> None:
        self.pid, self.status = None, status

    def twin(self) -> Any:
        self.log.append("twin")
        return SimpleNamespace(status=self.status, ready=lambda: self.served, end=lambda: self.log.append("end twin"))


def place(target: FakeTarget, seen: FakeSeen | None = None, **stack: Any) -> Env:
    whole = SimpleNamespace(owned=True, children={}, server=lambda role: role, capabilities=dict, **stack)
    anything = cast(Any, whole)
    return Env(
        anything,
        cast(Any, None),
        cast(Any, target),
        cast(Any, seen or FakeSeen(disturbed=3, on_path=5)),
        random.Random(7),
    )


def drive(injection: Injection, *, rounds: int = 100) -> None:
    for _ in range(rounds):
        if injection.finished():
            break
    injection.heal()


def test_a_crash_loop_kills_as_often_as_planned_and_ends_alive() -> None:
    """Kill, start, kill, start: the last word is start."""
    target = FakeTarget()
    injection = KillProcess(down_s=0, times=3, up_s=0).inject(place(target), "a")
    drive(injection)

    assert target.log == ["kill", "start"] * 3
    assert injection.effect().measured["times"] == 3


def test_sigterm_lets_the_target_end_by_itself() -> None:
    """Whatever status it ends with, it was asked and it went."""
    target = FakeTarget()
    injection = KillProcess(signal="TERM", down_s=0).inject(place(target), "a")
    drive(injection)

    assert target.log == ["stop", "start"]
    assert injection.effect().reason is None


def test_a_random_moment_comes_from_the_seed_and_may_never_come() -> None:
    """Nothing is killed before it; a step that ends earlier is void."""
    target = FakeTarget()
    injection = KillProcess(within_s=3600).inject(place(target), "a")
    drive(injection)

    assert target.log == []
    assert injection.effect().reason == "the step ended before the moment that was drawn for it"


def test_the_moment_of_a_kill_is_that_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the tenth of a second the same for one seed, and another for another."""

    def killed_after(seed: int) -> float:
        now = [0.0]
        clock = SimpleNamespace(monotonic=lambda: now[0], monotonic_ns=lambda: int(now[0] * 1e9))
        monkeypatch.setattr("chaos.faults.process.time", clock)
        target = FakeTarget()
        made = replace(place(target), rng=random.Random(f"{seed}:step:0"))
        injection = KillProcess(within_s=60).inject(made, "a")
        while "kill" not in target.log:
            now[0] += 0.1
            injection.finished()
        return now[0]

    assert killed_after(7) == killed_after(7)
    assert len({killed_after(seed) for seed in range(5)}) == 5


REFERENCE = CrashPoints(env="FAULTS", arguments=["--allow-faults"])


def test_a_crash_point_is_armed_for_one_life_only() -> None:
    """The armed process dies at the point; the next one is started as usual."""
    target = FakeTarget(crash_points=REFERENCE)
    injection = CrashPoint(point="put.after", nth=2, down_s=0).inject(place(target), "a")
    assert not injection.finished()
    target.dies(-9)
    drive(injection)

    assert target.log == ["stop", "start FAULTS=put.after=kill@2 --allow-faults", "start"]
    effect = injection.effect()
    assert (effect.affected, effect.reason) == (3, None)


class DeadOnArrival(FakeTarget):
    """A target that ends with this status before anybody asked whether it is ready."""

    ends_with: int = -9

    def start(self, *, env: Mapping[str, str] | None = None, arguments: Sequence[str] = ()) -> None:
        super().start(env=env, arguments=arguments)
        if env:
            self.dies(self.ends_with)


def test_a_target_that_dies_at_its_point_before_it_is_ready_has_died_there() -> None:
    """A client was faster than the question whether it is ready."""
    target = DeadOnArrival(crash_points=REFERENCE)
    injection = CrashPoint(point="put.after", down_s=0).inject(place(target), "a")
    drive(injection)

    assert (injection.effect().reason, target.log[-1]) == (None, "start")


def test_a_target_that_ends_otherwise_before_it_is_ready_makes_the_step_void() -> None:
    """Such as one that does not know the point; it is started again without."""
    target = DeadOnArrival(crash_points=REFERENCE)
    target.ends_with = 2
    injection = CrashPoint(point="put.after", down_s=0).inject(place(target), "a")
    drive(injection)

    assert (injection.effect().reason or "").startswith("the target ended with status 2, not by the signal")
    assert target.log[-1] == "start"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(None, "the target never came to put.after while it was armed"), (1, "the target ended with status 1, not by")],
)
def test_a_crash_point_that_killed_nobody_is_void(status: int | None, reason: str) -> None:
    """It lived on, or ended for another reason, such as not knowing the point."""
    target = FakeTarget(crash_points=REFERENCE)
    injection = CrashPoint(point="put.after", down_s=0).inject(place(target), "a")
    if status is not None:
        target.dies(status)
    drive(injection, rounds=2)

    assert (injection.effect().reason or "").startswith(reason)
    assert target.log[-1] == "start"


def test_a_target_without_crash_points_is_left_alone() -> None:
    """It is not even restarted."""
    target = FakeTarget()
    with pytest.raises(NotPossible, match=r"no `process.crash_points`"):
        CrashPoint(point="put.after").inject(place(target), "a")
    assert target.log == []


@pytest.mark.parametrize(
    ("status", "served", "refused", "reason"),
    [
        (4, False, True, None),
        (None, True, False, None),
        (None, False, False, "the second process neither served nor gave up before the step ended"),
    ],
)
def test_a_second_process_is_refused_or_serves(
    status: int | None, served: bool, refused: bool, reason: str | None
) -> None:
    """Both are effects; which of them it was is measured."""
    target = FakeTarget(status=status, served=served)
    injection = SecondProcess().inject(place(target), "a")
    drive(injection, rounds=2)

    effect = injection.effect()
    assert (effect.measured["refused"], effect.reason) == (refused, reason)
    assert target.log == ["twin", "end twin"]


def test_a_server_is_killed_and_brought_back() -> None:
    """By its name, in that order."""
    log: list[str] = []
    env = place(
        FakeTarget(), kill=lambda who: log.append(f"kill {who}"), restart=lambda who: log.append(f"restart {who}")
    )
    injection = KillServer(who="gateway", down_s=0).inject(env, "a")
    drive(injection)

    assert log == ["kill gateway", "restart gateway"]
    assert injection.effect().affected == 10


def test_a_server_that_others_use_is_not_killed() -> None:
    """A stack that `icequake up` keeps running belongs to another process."""
    env = place(FakeTarget())
    env.stack.owned = False
    with pytest.raises(NotPossible, match="started by `icequake up`"):
        KillServer(who="storage").inject(env, "a")


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[tuple[Env, Warden, Path]]:
    with Warden(lease_s=60) as warden:
        warden.use_journal(tmp_path / "journal.jsonl", "run1")
        child = warden.spawn("target", python(WAIT_FOREVER), log=tmp_path / "log")
        target = SimpleNamespace(pid=child.pid, crash_points=None)
        anything = cast(Any, SimpleNamespace(children={"gateway": child}, server=lambda role: role))
        yield (
            Env(anything, warden, cast(Any, target), cast(Any, FakeSeen(on_path=5)), random.Random(7)),
            warden,
            tmp_path,
        )


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see that a process stands still")
@pytest.mark.parametrize("who", ["target", "gateway"])
def test_a_frozen_process_stands_still_and_goes_on(frozen: tuple[Env, Warden, Path], who: str) -> None:
    """The promise to let it go on is on disk before it stops, and kept at the end."""
    env, _, directory = frozen
    pid = env.target.pid if env.target is not None else None
    assert pid is not None
    injection = Freeze(who=who).inject(env, "a")
    promised = [entry for entry in open_entries(directory / "journal.jsonl").values() if entry.get("signal") == "CONT"]

    assert stopped(pid)
    assert [entry["pid"] for entry in promised] == [pid]
    injection.heal()
    assert not stopped(pid)
    assert injection.effect().reason is None


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see that a process stands still")
def test_a_frozen_process_goes_on_when_the_harness_is_gone(frozen: tuple[Env, Warden, Path]) -> None:
    """All that is left is the warden's list of what is open."""
    env, warden, _ = frozen
    assert env.target is not None
    assert env.target.pid is not None
    Freeze().inject(env, "a")
    warden.heal_all()

    assert not stopped(env.target.pid)


def test_a_server_that_is_not_there_cannot_be_stopped() -> None:
    """The sentence names what there is."""
    with pytest.raises(NotPossible, match="did not start a server 'gateway'; it started none"):
        Freeze(who="gateway").inject(place(FakeTarget()), "a")


def test_what_is_not_possible_here_makes_its_step_void(tmp_path: Path) -> None:
    """No failure of the harness, and no PASS either."""
    timeline = Timeline(tmp_path / "timeline.jsonl", "ab12cd34")
    fault = FakeFault(fails={"inject": NotPossible("there is no strace on this machine")})
    nemesis = Nemesis([step(0, fault)], lambda _: fake_env(), timeline)
    nemesis.start(0)
    nemesis.stop()
    timeline.close()

    last = list(read_timeline(tmp_path / "timeline.jsonl"))[-1]
    assert (last["state"], last["reason"]) == ("void", "not possible here: there is no strace on this machine")


@pytest.mark.integration
def test_a_reused_pid_is_not_signalled() -> None:
    """The identity that is journaled is that of this very process."""
    with subprocess.Popen([sys.executable, "-S", "-c", WAIT_FOREVER]) as process:
        before = process_identity(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert before is not None
    assert until(lambda: process_identity(process.pid) != before)
