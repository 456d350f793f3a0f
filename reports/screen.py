"""The first screen: how its lines are taken apart, and how they look on a terminal."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.verdict import Verdict, VerdictDoc
from reports.visible import visible

STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}
WIDTH = 200
"""Columns of a table that is printed to no terminal."""
_LABEL_WIDTH = 10


@dataclass(frozen=True)
class ScreenLine:
    """A line below the first two: a short label (may be empty) and text."""

    label: str
    text: str


def screen_line(line: str) -> ScreenLine:
    """Split a line such as `Capacity  held 61 s` at the gap after its label; a line without one has an empty label."""
    match = re.fullmatch(r"([A-Z][a-z]+) {2,}(.+)", line)
    return ScreenLine(match[1], match[2]) if match else ScreenLine("", line)


def stdout_console() -> Console:
    """A console for tables; where no terminal says how wide it is (a pipe, a scheduler's log), rows are not folded."""
    return Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else WIDTH)


def print_first_screen(doc: VerdictDoc, console: Console) -> None:
    """Print `doc.first_screen`: on a terminal in colour, long lines wrapped beside their label; else line by line as it is.

    Nothing in the lines is taken for markup, and control characters are shown, not sent.
    """
    lines = [visible(line) for line in doc.first_screen]
    if not console.is_terminal:
        for line in lines:
            console.print(Text(line), soft_wrap=True)
        return
    for number, line in enumerate(lines[:2]):
        console.print(_headline(line, doc.verdict) if number == 0 else Text(line, style="bold"))
    table = Table.grid()
    table.add_column(width=_LABEL_WIDTH, no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    for parts in map(screen_line, lines[2:]):
        table.add_row(Text(parts.label), Text(parts.text))
    console.print(table)


def _headline(line: str, verdict: Verdict) -> Text:
    text = Text(line)
    text.stylize(STYLES[verdict], 0, len(verdict))
    return text
