"""How far the trials are: a line for each that ended, and on a terminal what every stack is doing."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from chaos.trials.marks import STYLES
from chaos.trials.outcome import Outcome, Word
from chaos.trials.pool import Event

IDLE = "[dim]its stack starts[/]"


class TrialProgress:
    """Shows the events of a pool.

    Args:
        console: A terminal gets bars in place; anything else only the lines.
        trials: How many there will be.
        jobs: How many go on at the same time.
    """

    def __init__(self, console: Console, *, trials: int, jobs: int) -> None:
        self._console, self._trials, self._ended = console, trials, 0
        self._whole = Progress(TextColumn("trials"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        self._task = self._whole.add_task("trials", total=trials)
        self._lanes = Progress(SpinnerColumn(), TextColumn("{task.description}"))
        self._tasks = [self._lanes.add_task(IDLE, total=None) for _ in range(jobs)]
        self._live = Live(Group(self._whole, self._lanes), console=console, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._live.stop()

    def event(self, event: Event) -> None:
        """Show *event*."""
        if event.outcome is not None:
            self._ended += 1
            self._whole.advance(self._task)
            self._console.print(self._line(event.outcome), soft_wrap=True)
        elif event.trial is not None:
            text = f"{event.trial.fault} on {event.trial.target}: {event.phase}"
            self._lanes.update(self._tasks[event.lane], description=text)
        else:
            self._lanes.update(self._tasks[event.lane], visible=False)

    def _line(self, outcome: Outcome) -> Text:
        line = Text(f"{self._ended:>3}/{self._trials}  {outcome.fault:<37} {outcome.target:<22} ")
        line.append(outcome.word.value, style=STYLES.get(outcome.word, ""))
        line.append(f"{'':{max(1, 12 - len(outcome.word.value))}}{outcome.seconds:5.1f} s", style="dim")
        if outcome.tries > 1:
            line.append(f"  {outcome.tries} tries", style="dim")
        if outcome.word not in (Word.PASSED, Word.KILLED, Word.STOPPED):
            line.append(f"\n         {', '.join(outcome.blamed)} {outcome.run or ''}\n         {outcome.detail}")
        return line
