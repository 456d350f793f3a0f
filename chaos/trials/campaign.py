"""The trials of one command: shown as they end, kept, and summed up."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from rich.console import Console

from chaos.leftovers import describe, heal_leftovers
from chaos.trials.outcome import Kept, Outcome, Trial, Word, worst
from chaos.trials.pool import Event, Pool
from chaos.trials.progress import TrialProgress
from chaos.trials.worker_process import Workplace


@dataclass
class Campaign:
    """The trials of one command.

    Attributes:
        jobs: Trials at a time.
        outcomes: What has come of them, in the order in which they ended.
        interrupted: Whether a person asked for the end.
        stopped: Whether it ended before all trials were begun, for that or another reason.
    """

    console: Console
    workplace: Workplace
    jobs: int
    outcomes: list[Outcome] = field(default_factory=list)
    interrupted: bool = False
    stopped: bool = False
    started: float = field(default_factory=time.monotonic)

    def run(self, trials: Sequence[Trial], stack: str | None = None) -> None:
        """Do them. Ctrl-C, or SIGTERM, heals, ends, and is noted. Raises ChaosError when a stack could not be started.

        Args:
            stack: Another one than the workplace's.
        """
        workplace = self.workplace if stack is None else replace(self.workplace, stack=stack)
        self.workplace.runs.mkdir(parents=True, exist_ok=True)
        for one in heal_leftovers(self.workplace.runs):
            self._say(f"left over from an earlier run: {describe(one)}")
        kept = Kept(self.workplace.runs)
        before = len(self.outcomes)
        with TrialProgress(self.console, trials=len(trials), jobs=min(self.jobs, len(trials))) as progress:

            def heard(event: Event) -> None:
                progress.event(event)
                if event.outcome is not None:
                    self.outcomes.append(event.outcome)
                    if event.outcome.word is not Word.STOPPED:
                        kept.add(event.outcome)

            try:
                with _sigterm_is_ctrl_c():
                    Pool(workplace, jobs=self.jobs, listener=heard).run(trials)
            except KeyboardInterrupt:
                self.interrupted = True
        self.stopped = self.interrupted or len(self.outcomes) - before < len(trials)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self, trials: Sequence[Trial]) -> int:
        """Print the last line and return the exit code."""
        counts = Counter(outcome.word for outcome in self.outcomes)
        words = ", ".join(f"{counts[word]} {word}" for word in Word if counts[word])
        minutes, seconds = divmod(round(time.monotonic() - self.started), 60)
        for outcome in self.outcomes:
            if outcome.word.exit_code and outcome.word is not Word.STOPPED:
                look = f"; icequake report {self.workplace.runs / outcome.run}" if outcome.run is not None else ""
                self._say(f"{outcome.word}: {outcome.fault} on {outcome.target}{look}")
        self._say(
            f"{'stopped after ' if self.interrupted else ''}{len(self.outcomes)} of {len(trials)} trials in "
            f"{minutes} min {seconds} s, {self.jobs} at a time, seed {self.workplace.seed}: {words or 'none ended'}"
        )
        code = worst(outcome.word for outcome in self.outcomes)
        stopped = self.interrupted or len(self.outcomes) < len(trials)
        return code if code in (1, 255) or not stopped else 2


@contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
