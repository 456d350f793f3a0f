"""What a person sees while an experiment goes on: a panel during a run on a terminal, a line each half minute elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from chaos.display import Display
from reports.experiment.lab import Outcome, Point

PLAIN_EVERY_S = 30.0


class RunProgress(Display):
    """Shows how one run of many gets on, without the lines of its timeline."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._out = console
        self._told_s = 0.0

    def say(self, text: str) -> None:
        """Say nothing: an experiment has one line a run."""

    def entry(self, entry: dict[str, Any]) -> None:
        """Show nothing; see `say`."""

    def tick(self) -> None:
        """Print a line each half minute where there is no panel."""
        elapsed_s = self.progress.elapsed_s
        if not self._out.is_terminal and elapsed_s - self._told_s >= PLAIN_EVERY_S:
            self._told_s = elapsed_s
            self._out.print(f"         {self.progress.line()}", highlight=False, markup=False, soft_wrap=True)


def begin_line(point: Point, number: int, total: int | None) -> str:
    """Say in one line which run begins."""
    place = f"run {number}" if total is None else f"run {number} of {total}"
    changed = " ".join([*(f"{k}={v}" for k, v in point.env.items()), *(_step(step) for step in point.steps)])
    return f"{place}: {point.events_per_s:,.0f} events/s for {point.for_s:,.0f} s{'  ' if changed else ''}{changed}"


def _step(step: Any) -> str:
    parameters = " ".join(f"{name}={value}" for name, value in (step.get("with") or {}).items())
    return f"[{step['fault']}{' ' if parameters else ''}{parameters} for {step['for_s']:g} s]"


def end_line(outcome: Outcome) -> str:
    """Say in one line what a run came to."""
    said = [f"{outcome.point.events_per_s:>9,.0f} events/s  {outcome.verdict:<12}"]
    said += ["clean"] if outcome.clean else []
    said += ["generator behind"] if outcome.behind else []
    said += [f"{outcome.wrong:,} wrong"] if outcome.wrong else []
    said += [f"{outcome.refused_requests:,} requests refused"] if outcome.refused_requests else []
    said += [f"{outcome.unknown:,} unanswered"] if outcome.unknown else []
    said += [f"{outcome.late:,} late"] if outcome.late else []
    said += [f"fullest buffer {outcome.max_fill:.0%}"] if outcome.max_fill is not None else []
    return "  ".join([*said, f"run {outcome.run_id}"])
