"""What a person sees while trials go on."""

from __future__ import annotations

import io

from rich.console import Console

from chaos.trials.outcome import Word
from chaos.trials.pool import Event
from chaos.trials.progress import TrialProgress
from tests.chaos.trials.outcomes import outcome, trial


def shown(*events: Event, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=terminal, color_system=None)
    with TrialProgress(console, trials=9, jobs=2) as progress:
        for event in events:
            progress.event(event)
        if terminal:
            progress._live.refresh()
    return stream.getvalue()


def test_each_outcome_is_a_line() -> None:
    """In a log there is nothing else."""
    text = shown(
        Event(0, trial(), "begins"),
        Event(0, trial(), outcome=outcome("slow-r2", "reference", Word.PASSED)),
        Event(1, trial(), outcome=outcome("slow-r2", "impatient", Word.KILLED)),
        Event(0),
        terminal=False,
    )

    assert text.splitlines() == [
        f"  1/9  {'slow-r2':<37} {'reference':<22} PASS         12.3 s",
        f"  2/9  {'slow-r2':<37} {'impatient':<22} killed       12.3 s",
    ]


def test_what_is_not_as_it_should_be_is_explained() -> None:
    """By the checks, the run and the reason; a trial that was stopped needs none."""
    text = shown(
        Event(
            0, trial(), outcome=outcome("slow-r2", "reference", Word.FAILED, blamed=["events.lost"], detail="3 lost")
        ),
        Event(0, trial(), outcome=outcome("slow-r2", "reference", Word.STOPPED, blamed=["run.complete"], detail="no")),
        terminal=False,
    )

    first, checks, why, second = text.splitlines()
    assert "FAIL" in first
    assert (checks.split(), why.strip()) == (["events.lost", "run-slow-r2-reference"], "3 lost")
    assert "stopped" in second


def test_a_terminal_shows_what_every_stack_is_doing() -> None:
    """And how many trials have ended."""
    text = shown(Event(1, trial(), "settle"), terminal=True)

    assert "slow-r2 on reference: settle" in text
    assert "its stack starts" in text
    assert "0/9" in text
