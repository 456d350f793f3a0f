"""The first screen on a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from loadtests.records.ledger import Outcome
from reports.screen import WIDTH, ScreenLine, print_first_screen, screen_line, stdout_console
from reports.verdict import VerdictDoc
from tests.histories import HandMadeRun
from tests.reports.drawn_runs import pass_doc, verdict_doc


def printed(*, terminal: bool, width: int = 80, doc: VerdictDoc | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system="standard" if terminal else None)
    print_first_screen(doc or verdict_doc(), console)
    return out.getvalue()


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("Capacity  held 61 s", ScreenLine("Capacity", "held 61 s")),
        ("Next      icequake explain      reproduce: x", ScreenLine("Next", "icequake explain      reproduce: x")),
        ("no label here", ScreenLine("", "no label here")),
    ],
)
def test_a_line_is_split_at_the_gap_after_its_label(line: str, parts: ScreenLine) -> None:
    """Only the first gap counts."""
    assert screen_line(line) == parts


def test_without_a_terminal_the_lines_are_what_the_verdict_says() -> None:
    """A log or a mail gets them unwrapped and uncoloured."""
    assert printed(terminal=False, width=40).splitlines() == verdict_doc().first_screen


def test_a_terminal_gets_colour_and_lines_that_fit() -> None:
    """What does not fit wraps beside its label."""
    text = printed(terminal=True, width=60)
    assert "\x1b[1;31mFAIL" in text
    assert "\x1b[1;32mPASS" in printed(terminal=True, doc=pass_doc())
    lines = [Text.from_ansi(line) for line in text.splitlines()]
    after_where = next(i for i, line in enumerate(lines) if line.plain.startswith("Where")) + 1
    assert max(line.cell_len for line in lines) <= 60
    assert lines[after_where].plain.startswith(" " * 10)


def test_a_table_in_a_pipe_is_not_folded_at_a_terminals_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler's log has no width; a terminal says its own."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert stdout_console().width == WIDTH

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert stdout_console().width == 80


def test_control_characters_are_shown_not_sent() -> None:
    """An id must not move the cursor or forge a line."""
    doc = verdict_doc(first_screen=["FAIL  x \x1b[2J[bold]y[/bold]\r", "two"])

    text = printed(terminal=False, doc=doc)

    assert "\\x1b[2J[bold]y[/bold]\\r" in text
    assert "\x1b" not in text


def test_missing_events_are_told_from_their_first_ack_to_their_last(tmp_path: Path) -> None:
    """Also where consecutive events, acked one after the other, make one range."""
    run = HandMadeRun(tmp_path)
    run.answered(1, 2, outcome=Outcome.ACKED, status=202, at=20)
    run.answered(3, 4, outcome=Outcome.ACKED, status=202, at=24)

    where = next(line for line in run.judge().first_screen if line.startswith("Where"))

    assert re.search(r"acked \d\d:\d\d:\d\d-\d\d:\d\d:\d\d$", where)
