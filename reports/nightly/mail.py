"""What a person reads in the morning: a subject and at most fifteen lines; and the same for a machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.history.page import Trend
from reports.history.wording import change_text
from reports.nightly.night import NightRun, exit_code
from reports.visible import visible

LINES_MAX = 15
WORDS = {0: "PASS", 1: "FAIL", 2: "INCONCLUSIVE", 255: "ERROR"}


def subject(runs: Sequence[NightRun], preset: str, regressions: Sequence[Trend]) -> str:
    """Return the subject: verdict first."""
    good = sum(run.as_expected for run in runs)
    several = "" if len(regressions) == 1 else "s"
    slower = f", {len(regressions)} regression{several}" if regressions else ""
    return f"{_word(runs, regressions)}  icequake {preset}: {good} of {len(runs)} runs as expected{slower}"


def _word(runs: Sequence[NightRun], regressions: Sequence[Trend]) -> str:
    """The night in a word: that of its exit code."""
    code = exit_code(list(runs))
    return "REGRESSION" if code == 0 and regressions else WORDS[code]


def body(runs: Sequence[NightRun], preset: str, trends: Sequence[Trend], *, room: int = 0) -> str:
    """Return the body: what was not as expected first, then regressions, then the rest as far as there is room.

    *room* is how many of the lines are left for what the caller adds.
    """
    most = LINES_MAX - room
    regressions = [trend for trend in trends if trend.drift.worse]
    wrong = [run for run in runs if not run.as_expected]
    lines = [subject(runs, preset, regressions)]
    lines += [visible(run.line()) for run in wrong]
    lines += [_trend_line(trend) for trend in regressions]
    lines += [visible(run.line()) for run in runs if run.as_expected]
    if len(lines) > most:
        rest = len(lines) - most + 1
        lines = [*lines[: most - 1], f"... and {rest} more lines: see the index page"]
    return "\n".join(lines) + "\n"


def _trend_line(trend: Trend) -> str:
    drift = trend.drift
    return f"REGRESSION   {drift.figure.name} of {trend.kind[0]} on {trend.kind[1]}: {change_text(drift.change)} since run {drift.since}"


def unfinished(preset: str, why: str) -> str:
    """Return the body for a night that did not come to its end: one line."""
    return f"{WORDS[255]}  icequake {preset}: {visible(why)}\n"


def unfinished_payload(preset: str, why: str) -> dict[str, Any]:
    """Return what a webhook is sent about a night that did not come to its end."""
    text = unfinished(preset, why)
    return {"text": text, "subject": text.rstrip(), "verdict": WORDS[255], "runs": [], "regressions": []}


def payload(runs: Sequence[NightRun], preset: str, trends: Sequence[Trend]) -> dict[str, Any]:
    """Return what a webhook is sent: `text` is what chat services show."""
    regressions = [trend for trend in trends if trend.drift.worse]
    return {
        "text": body(runs, preset, trends),
        "subject": subject(runs, preset, regressions),
        "verdict": _word(runs, regressions),
        "runs": [
            {
                "scenario": run.asked.scenario,
                "target": run.asked.target,
                "verdict": None if run.verdict is None else run.verdict.value,
                "expected": run.asked.expect.value,
                "headline": run.headline,
                "run": None if run.root is None else run.root.name,
            }
            for run in runs
        ],
        "regressions": [_trend_line(trend) for trend in regressions],
    }
