"""What an experiment says: a sentence, tables, points for a chart, and an exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.experiment.ab import Comparison
from reports.experiment.capacity import Capacity
from reports.experiment.lab import Outcome
from reports.experiment.survival import AGREES, Survival
from reports.experiment.sweep import Cell, Goals, Recommendation, pareto
from reports.wording import Grid, number

ANSWERED, WRONG, UNANSWERED = 0, 1, 2


@dataclass(frozen=True)
class Chart:
    """Points in a plane; `marked` ones stand out, and a line joins those of `line`."""

    x: str
    y: str
    points: list[tuple[float, float, str]]
    marked: set[str] = field(default_factory=set)
    line: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """One experiment, answered.

    Attributes:
        name: `capacity`, `survival`, `sweep` or `ab`.
        sentence: The answer.
        notes: What else must be known of it.
        files: Further files by name, such as a patch.
    """

    name: str
    sentence: str
    exit_code: int
    notes: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the answer for a terminal."""
        tables = ["\n".join(_lines(grid)) for grid in self.grids]
        return "\n".join([self.sentence, *self.notes, *tables])


def _lines(grid: Grid) -> list[str]:
    rows = [grid.columns, *grid.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(grid.columns))]
    return [
        "",
        grid.title,
        *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
    ]


def _grid(title: str, rows: Sequence[Mapping[str, str]]) -> Grid:
    columns = tuple(rows[0]) if rows else ()
    return Grid(title, columns, tuple(tuple(row[name] for name in columns) for row in rows))


def _or_none(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{number(value)} {unit}".rstrip()


def _run_row(outcome: Outcome) -> dict[str, str]:
    return {
        "events/s": f"{outcome.point.events_per_s:,.0f}",
        "verdict": outcome.verdict.value,
        "clean": "yes" if outcome.clean else "no",
        "refused": f"{outcome.refused_requests:,}",
        "wrong": f"{outcome.wrong:,}",
        "fullest": "-" if outcome.max_fill is None else f"{outcome.max_fill:.0%}",
        "p99": _or_none(outcome.latency_p99_ms, "ms"),
        "run": outcome.run_id,
    }


def capacity_answer(found: Capacity) -> Answer:
    """Exit 1 when a run lost something at a clean-looking rate below the answer; 2 when nothing was clean."""
    points = [(o.offered_events_per_s, o.latency_p99_ms or 0.0, o.run_id) for o in found.outcomes]
    clean = {o.run_id for o in found.outcomes if o.clean}
    lost = [o for o in found.outcomes if o.wrong]
    notes = [
        f"run {o.run_id} got {o.wrong:,} events wrong at {o.point.events_per_s:,.0f} events/s: overload must refuse, not lose"
        for o in lost
    ]
    code = UNANSWERED if found.events_per_s is None else WRONG if lost else ANSWERED
    return Answer(
        "capacity", found.sentence(), code, notes, [_grid("Runs", [_run_row(o) for o in found.outcomes])],
        [Chart("offered events/s", "corrected p99, ms", points, clean)],
        data={"events_per_s": found.events_per_s, "low": found.low, "high": found.high, "found": list(found.found),
              "generator_limit_events_per_s": found.generator_limit_events_per_s},
    )  # fmt: skip


def survival_answer(found: Survival, events_per_s: float, outage_s: float) -> Answer:
    """Exit 1 when an outage lost something, or the prediction is off."""
    rows = [
        {
            "events/s": f"{m.outcome.point.events_per_s:,.0f}",
            "outage": f"{m.outage_s:,.1f} s",
            "refusal predicted": _or_none(m.predicted_refusal_s, "s"),
            "measured": _or_none(m.outcome.first_refusal_s, "s"),
            "off by": "-" if m.error is None else f"{m.error:+.0%}",
            "fullest": "-" if m.outcome.max_fill is None else f"{m.outcome.max_fill:.0%}",
            "drained predicted": _or_none(m.predicted_drain_s, "s"),
            "drained after": _or_none(m.outcome.drained_s, "s"),
            "wrong": f"{m.outcome.wrong:,}",
            "run": m.outcome.run_id,
        }
        for m in found.measured
    ]
    measured = [(m.outcome.point.events_per_s, m.outcome.first_refusal_s, m.outcome.run_id) for m in found.measured]
    chart = Chart(
        "events/s", "seconds of outage until the first refusal",
        [(x, y, name) for x, y, name in measured if y is not None], line=_predicted(found),
    )  # fmt: skip
    notes = (
        []
        if found.proven
        else [f"prediction and measurement differ by more than {AGREES:.0%} somewhere: see the table"]
    )
    notes += [] if found.lossless else ["an outage lost, doubled or altered events: see the table"]
    return Answer(
        "survival", found.sentence(events_per_s, outage_s), ANSWERED if found.proven and found.lossless else WRONG, notes,
        [_grid("Outages", rows)], [chart],
        data={"events_per_s": events_per_s, "survives_s": found.buffer.survives_s(events_per_s),
              "capacity_for_outage": found.buffer.capacity_for(events_per_s, outage_s), "outage_s": outage_s, "proven": found.proven},
    )  # fmt: skip


def _predicted(found: Survival) -> list[tuple[float, float]]:
    rates = [m.outcome.point.events_per_s for m in found.measured]
    if not rates:
        return []
    low, high = min(rates) * 0.8, max(rates) * 1.2
    steps = [low + (high - low) * i / 40 for i in range(41)]
    return [(rate, found.buffer.survives_s(rate)) for rate in steps]


def sweep_answer(
    cells: Sequence[Cell], goals: Goals, advice: Recommendation | None, verified: Outcome | None
) -> Answer:
    """Exit 2 when no setting meets the goals; 1 when the recommendation, run, does not."""
    front = {id(cell) for cell in pareto(cells)}
    rows = [
        {
            "size": f"{c.setting.size:,}", "timeout": f"{c.setting.timeout_ms:,} ms", "R2": f"+{c.r2_latency_ms} ms",
            "verdict": c.outcome.verdict.value, "visible p99": _or_none(c.outcome.freshness_p99_s, "s"),
            "files/min": f"{c.outcome.files_per_minute:.0f}",
            "file": "-" if c.outcome.file_bytes is None else f"{c.outcome.file_bytes / 1024:,.1f} KiB",
            "commits": str(c.outcome.commits), "fullest": "-" if c.outcome.max_fill is None else f"{c.outcome.max_fill:.0%}",
            "memory": "-" if c.outcome.rss_max_bytes is None else f"{c.outcome.rss_max_bytes / 2**20:,.0f} MiB",
            "front": "yes" if id(c) in front else "", "run": c.outcome.run_id,
        }
        for c in cells
    ]  # fmt: skip
    chart = Chart(
        "visible within, s (p99)", "data files a minute",
        [(c.outcome.freshness_p99_s or 0.0, c.outcome.files_per_minute, c.outcome.run_id) for c in cells],
        {c.outcome.run_id for c in cells if id(c) in front},
    )  # fmt: skip
    if advice is None:
        return Answer(
            "sweep",
            "No setting that was measured meets the goals.",
            UNANSWERED,
            _goal_notes(goals),
            [_grid("Settings", rows)],
            [chart],
        )
    env = " ".join(f"{name}={value}" for name, value in advice.setting.env().items())
    held = verified is None or (
        verified.verdict == "PASS"
        and (goals.freshness_s is None or (verified.freshness_p99_s or 1e9) <= goals.freshness_s)
    )
    notes = [*advice.warnings, *_goal_notes(goals)]
    if verified is not None:
        said = "holds" if held else "does not hold"
        notes.append(
            f"verified: {said} in run {verified.run_id} ({verified.verdict}, visible within {_or_none(verified.freshness_p99_s, 's')})"
        )
    return Answer(
        "sweep", f"Set {env}: {advice.why}.", ANSWERED if held else WRONG, notes, [_grid("Settings", rows)], [chart],
        {"wrangler.jsonc": advice.setting.wrangler(), "buffer.env": "\n".join(env.split()) + "\n"}, {"setting": advice.setting.env()},
    )  # fmt: skip


def _goal_notes(goals: Goals) -> list[str]:
    said = [
        f"visible within {goals.freshness_s:g} s" if goals.freshness_s is not None else "",
        f"at most {goals.files_per_minute:g} files a minute" if goals.files_per_minute is not None else "",
        f"hold an outage of {goals.outage_s:g} s" if goals.outage_s is not None else "",
    ]
    stated = ", ".join(text for text in said if text)
    return [f"goals: {stated}" if stated else "no goals were stated (--freshness, --files-per-minute, --outage)"]


def ab_answer(found: Comparison, a: Mapping[str, str], b: Mapping[str, str]) -> Answer:
    """Exit 1 when a run of either was not PASS."""
    real = [d for d in found.differences if d.real]
    rows = [
        {
            "figure": d.figure, "A": number(d.a), "B": number(d.b), "B over A": f"{d.change:+.1%}",
            "95 % interval": "too few pairs" if d.low is None or d.high is None else f"{d.low:+.1%} to {d.high:+.1%}",
            "": "differs" if d.real else "no difference shown",
        }
        for d in found.differences
    ]  # fmt: skip
    if real:
        sentence = (
            "B against A: " + ", ".join(f"{d.figure} {d.change:+.0%}" for d in real) + f" ({len(found.pairs)} pairs)."
        )
    else:
        sentence = f"No difference that {len(found.pairs)} pairs can show."
    notes = [f"A: {_env(a)}", f"B: {_env(b)}", *found.wrong]
    return Answer(
        "ab", sentence, WRONG if found.wrong else ANSWERED, notes, [_grid("Differences", rows)] if rows else []
    )


def _env(env: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in env.items()) or "as it is"
