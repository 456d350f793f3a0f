"""One night: what was run, what was expected, and what came of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from chaos import halt
from chaos.commands.session import Session
from chaos.display import Display
from chaos.errors import ChaosError
from chaos.guard import refuse
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import find_scenario, load_plan
from chaos.target import find_target
from loadtests.records.errors import RecordError
from loadtests.records.rundir import NightPart, new_run_id
from reports.nightly.preset import PresetRun
from reports.verdict import Verdict, in_a_sentence, read_verdict

NOT_RUN = "not run, since the night was ended before"


@dataclass(frozen=True)
class NightRun:
    """One run of a night.

    Attributes:
        verdict: None when icequake itself failed; `headline` says how.
        root: Its run directory; None without one.
        ended_night: Whether somebody asked for the end while it ran.
    """

    asked: PresetRun
    verdict: Verdict | None
    headline: str
    root: Path | None
    ended_night: bool = False

    @property
    def as_expected(self) -> bool:
        """Whether it came to what it had to."""
        return self.verdict is self.asked.expect

    def line(self) -> str:
        """Say it in one line."""
        verdict = "ERROR" if self.verdict is None else self.verdict.value
        note = f" (expected {self.asked.expect})"
        if self.as_expected:
            note = "" if self.asked.expect is Verdict.PASS else " (as expected)"
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
    preset: str,
    runs: Path,
    seed: int,
    argv: tuple[str, ...],
    say: Callable[[NightRun], None],
) -> list[NightRun]:
    """Make every run, whatever became of the ones before, until somebody asks for the end; tell about each when it ends."""
    night, done = new_run_id(), list[NightRun]()
    for number, one in enumerate(asked, 1):
        part = NightPart(preset=preset, night=night, number=number, of=len(asked), set=one.set)
        done.append(_do(one, part, running, runs, seed + number - 1, argv))
        say(done[-1])
        if done[-1].ended_night:
            return done + [NightRun(rest, Verdict.INCONCLUSIVE, NOT_RUN, None) for rest in asked[number:]]
    return done


def _do(asked: PresetRun, part: NightPart, running: Session, runs: Path, seed: int, argv: tuple[str, ...]) -> NightRun:
    try:
        plan = load_plan(find_scenario(asked.scenario), asked.set)
        path, target = find_target(asked.target)
        refuse(plan, target)
        request = Request(plan, path, target, runs, seed, argv, expect=asked.expect.value, night=part)
        display = Display(Console(stderr=True), quiet=True)
        runner = Runner(request, stack=running.stack, warden=running.warden, display=display)
        result = runner.execute()
        verdict = read_verdict(result.run.verdict)
    except (ChaosError, RecordError, OSError) as error:
        return NightRun(asked, None, str(error), None)
    except Exception as error:  # the runs after it are of use all the same
        traceback.print_exc()
        return NightRun(asked, None, f"this is a fault of icequake itself: {error!r}", None)
    ended = runner.signalled or halt.asked(result.run.root)
    return NightRun(asked, verdict.verdict, in_a_sentence(verdict), result.run.root, ended)
