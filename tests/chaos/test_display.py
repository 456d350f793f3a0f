"""What a person sees: a panel on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from chaos.display import Display, Progress


class Screen:
    """A display on a console that writes to memory, with a clock that is set by hand."""

    def __init__(self, *, terminal: bool = False, quiet: bool = False) -> None:
        self.out = io.StringIO()
        self.now = 100.0
        console = Console(file=self.out, force_terminal=terminal, width=100, color_system=None)
        self.display = Display(console, quiet=quiet, clock=lambda: self.now)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


def test_a_line_says_everything() -> None:
    """Phase, elapsed, acknowledged, in the table, fill, flushes, active faults."""
    screen = Screen()
    progress = screen.display.progress
    progress.phase, progress.acked, progress.visible = "inject", 12_345, 12_000
    progress.fill_ratio, progress.flushes, progress.faults = 0.476, 7, ["slow-r2", "kill-collector"]
    screen.now += 12.34
    assert progress.line() == (
        " 12.3 s  inject    acked 12,345  in table 12,000  fill 48%  flushes 7  faults slow-r2, kill-collector"
    )


def test_what_is_not_known_is_a_question_mark() -> None:
    """A target that does not tell its fill has no fill of zero."""
    assert "in table ?  fill ?  flushes ?  faults none" in Progress().line()


def test_plain_lines_come_every_five_seconds() -> None:
    """However often the numbers are refreshed."""
    screen = Screen()
    with screen.display:
        for _ in range(101):
            screen.display.tick()
            screen.now += 0.125
    assert [line.strip().partition(" ")[0] for line in screen.lines] == ["0.0", "5.0", "10.0"]


def test_quiet_is_quiet() -> None:
    """Standard output belongs to the JSON."""
    screen = Screen(quiet=True)
    with screen.display:
        screen.display.say("hello")
        screen.display.tick()
        screen.display.entry({"event": "phase", "phase": "inject"})
    assert screen.out.getvalue() == ""


def test_a_terminal_gets_a_panel_in_place_and_lasting_lines() -> None:
    """The panel shows all numbers; events stay above it; nothing of the panel is left at the end."""
    screen = Screen(terminal=True)
    progress = screen.display.progress
    progress.phase, progress.acked, progress.fill_ratio, progress.faults = "inject", 4321, 0.95, ["slow-r2"]
    with screen.display:
        screen.display.tick()
        screen.display.say("fault slow-r2 is on")
    shown = screen.out.getvalue()
    for word in ("inject", "4,321", "95%", "slow-r2", "fault slow-r2 is on", "█"):
        assert word in shown
    assert not any(line.startswith("  0.0 s  inject") for line in screen.lines)


@pytest.mark.parametrize("ratio", [-1.0, 0.0, 0.7, 1.0, 7.5])
def test_a_panel_can_show_any_fill(ratio: float) -> None:
    """A target may say nonsense; the bar stays within its width."""
    screen = Screen(terminal=True)
    screen.display.progress.fill_ratio = ratio
    with screen.display:
        pass
    assert screen.out.getvalue().count("█") <= 2 * 20
    assert f"{ratio:.0%}" in screen.out.getvalue()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"event": "phase", "phase": "heal"}, "phase heal"),
        ({"event": "step", "fault": "slow-r2", "state": "armed"}, None),
        ({"event": "step", "fault": "slow-r2", "state": "injected"}, "fault slow-r2 is on"),
        ({"event": "step", "fault": "slow-r2", "state": "healed", "requests_affected": 9}, "fault slow-r2 healed; 9 requests met it"),
        ({"event": "step", "fault": "slow-r2", "state": "void", "reason": "nobody came"}, "fault slow-r2 had no effect: nobody came"),
        ({"event": "step", "fault": "slow-r2", "state": "failed", "error": "deaf"}, "fault slow-r2 failed: deaf"),
        ({"event": "process", "name": "target", "state": "ready", "pid": 1}, None),
        ({"event": "process", "name": "target", "state": "killed", "pid": 1}, "target killed"),
        ({"event": "settled", "reason": "empty", "buffered": 0}, "settled: empty; the target says it buffers 0"),
        ({"event": "probe", "name": "acks", "ok": True}, None),
        ({"event": "probe", "name": "acks", "ok": False, "detail": "none"}, "probe acks failed: none"),
        ({"event": "note", "text": "[bold]as it is[/]"}, "[bold]as it is[/]"),
        ({"event": "operator", "action": "export"}, None),
        ({"event": "a later event"}, None),
    ],
)  # fmt: skip
def test_events_are_told_in_words(entry: dict[str, Any], words: str | None) -> None:
    """What matters to a person, with the time; what does not is left to the record; markup is not obeyed."""
    screen = Screen()
    screen.now += 3
    screen.display.entry(entry)
    assert screen.lines == ([] if words is None else [f"  3.0 s  {words}"])
