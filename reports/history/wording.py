"""How history is written: in the terminal, on the page and in mails alike."""

from __future__ import annotations

import time

from reports.history.entry import Entry, Figure
from reports.verdict import Verdict
from reports.wording import duration, number


def when(unix_ns: int) -> str:
    """Write when a run began, in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(unix_ns / 1e9)) if unix_ns else "unknown"


def verdict_text(entry: Entry) -> str:
    """Write a verdict, and whether it is the one that the run had to have, when it had to have one other than PASS."""
    if entry.verdict is None:
        return "none"
    if entry.expect in (None, Verdict.PASS):
        return entry.verdict.value
    return f"{entry.verdict} ({'expected' if entry.verdict is entry.expect else f'must {entry.expect}'})"


def duration_text(seconds: float) -> str:
    """Write how long a run took; blank when that is not known."""
    return duration(seconds) if seconds else ""


def figure_text(figure: Figure, value: float | None) -> str:
    """Write one figure with its unit."""
    if value is None:
        return "not measured"
    if figure.unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:.1%}" if not figure.unit else f"{number(value)} {figure.unit}"


def change_text(change: float | None) -> str:
    """Write a relative change with its sign."""
    return "" if change is None else f"{change:+.1%}"
