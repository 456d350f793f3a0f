"""One night: what was run, what was expected, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from chaos.commands.session import Session
from chaos.display import Display
from chaos.errors import ChaosError
from chaos.guard import refuse
from chaos.runner import Request, Runner
from chaos.scenario import find_scenario, load_plan
from chaos.target import find_target
from reports.nightly.preset import PresetRun
from reports.verdict import Verdict


@dataclass(frozen=True)
class NightRun:
    """One run of a night.

    Attributes:
        verdict: None when icequake itself failed; `headline` says how.
        root: Its run directory; None without one.
    """

    asked: PresetRun
    verdict: Verdict | None
    headline: str
    root: Path | None

    @property
    def as_expected(self) -> bool:
        """Whether it came to what it had to."""
        return self.verdict is self.asked.expect

    def line(self) -> str:
        """Say it in one line."""
        verdict = "ERROR" if self.verdict is None else self.verdict.value
        note = "" if self.as_expected else f" (expected {self.asked.expect})"
        return f"{verdict:<12} {self.asked.scenario} on {self.asked.target}{note}: {self.headline}"


def exit_code(runs: list[NightRun]) -> int:
    """0 all as expected; 255 icequake failed; 1 a FAIL (or a naive target that passed); 2 something inconclusive, or nothing run."""
    if not runs:
        return 2
    wrong = [run for run in runs if not run.as_expected]
    if any(run.verdict is None for run in wrong):
        return 255
    return 2 if wrong and all(run.verdict is Verdict.INCONCLUSIVE for run in wrong) else 1 if wrong else 0


def do_night(
    asked: list[PresetRun],
    running: Session,
    *,
    runs: Path,
    seed: int,
    argv: tuple[str, ...],
    say: Callable[[NightRun], None],
) -> list[NightRun]:
    """Make every run, whatever became of the ones before; tell about each when it ends."""
    done = []
    for number, one in enumerate(asked):
        done.append(_do(one, running, runs, seed + number, argv))
        say(done[-1])
    return done


def _do(asked: PresetRun, running: Session, runs: Path, seed: int, argv: tuple[str, ...]) -> NightRun:
    try:
        plan = load_plan(find_scenario(asked.scenario), asked.set)
        path, target = find_target(asked.target)
        refuse(plan, target)
        request = Request(plan, path, target, runs, seed, argv)
        display = Display(Console(stderr=True), quiet=True)
        result = Runner(request, stack=running.stack, warden=running.warden, display=display).execute()
    except ChaosError as error:
        return NightRun(asked, None, str(error), None)
    verdict = json.loads(result.run.verdict.read_text(encoding="utf-8"))
    screen = verdict["first_screen"]
    return NightRun(asked, Verdict(verdict["verdict"]), screen[1] if len(screen) > 1 else "", result.run.root)
