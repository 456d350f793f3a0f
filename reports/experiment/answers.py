"""What an experiment says: a sentence, tables, points for a chart, and an exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reports.experiment.ab import MATTERS, Comparison, false_alarm
from reports.experiment.capacity import Capacity, Trial
from reports.experiment.claim import Verified
from reports.experiment.lab import Outcome
from reports.experiment.survival import AGREES, Survival
from reports.experiment.sweep import Cell, Goals, Recommendation, pareto
from reports.wording import Grid, number

ANSWERED, WRONG, UNANSWERED = 0, 1, 2


@dataclass(frozen=True)
class Chart:
    """Points in a plane, each with its name; `marked` ones stand out, and `lines` are drawn by their names."""

    x: str
    y: str
    points: list[tuple[float, float, str]]
    marked: set[str] = field(default_factory=set)
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One experiment, answered.

    Attributes:
        name: `capacity`, `survival`, `sweep` or `ab`.
        sentence: The answer.
        notes: What else must be known of it.
        files: Further files by name, such as a patch.
        data: Its numbers, for machines.
        outcomes: Every run that was made for it.
    """

    name: str
    sentence: str
    exit_code: int
    notes: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    outcomes: Sequence[Outcome] = ()

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
        "for": f"{outcome.point.for_s:,.0f} s",
        "verdict": outcome.verdict.value,
        "clean": "yes" if outcome.clean else "no",
        "refused": f"{outcome.refused_requests:,}",
        "behind": "yes" if outcome.behind else "",
        "wrong": f"{outcome.wrong:,}",
        "fullest": "-" if outcome.max_fill is None else f"{outcome.max_fill:.0%}",
        "p99": _or_none(outcome.latency_p99_ms, "ms"),
        "run": outcome.run_id,
    }


def unfinished_answer(name: str, why: str, outcomes: Sequence[Outcome], exit_code: int = UNANSWERED) -> Answer:
    """What there is of an experiment that did not come to its end: nothing is concluded, what was measured is shown."""
    runs = f"{len(outcomes)} run{'' if len(outcomes) == 1 else 's'}"
    clean = [o.point.events_per_s for o in outcomes if o.clean]
    notes = [f"clean so far: up to {max(clean):,.0f} events/s"] if name == "capacity" and clean else []
    rows = [_run_row(outcome) for outcome in outcomes]
    return Answer(
        name,
        f"Not answered: {why.rstrip('.')}, after {runs}.",
        exit_code,
        notes,
        [_grid("Runs so far", rows)] if rows else [],
    )


def capacity_answer(
    found: Capacity | None,
    trial: Trial,
    verified: Verified | None = None,
    refuted: tuple[Capacity, Verified] | None = None,
) -> Answer:
    """Exit 1 when a run lost something, or the claim does not hold; 2 when nothing was clean, or the claim could not be verified.

    *found* is None when a claim was given and only that was verified; *refuted* is what a search with shorter trials had claimed.
    """
    outcomes = [] if refuted is None else [*refuted[0].outcomes, *refuted[1].outcomes]
    outcomes += [*(found.outcomes if found is not None else ()), *(verified.outcomes if verified is not None else ())]
    lost = [o for o in outcomes if o.wrong]
    notes = [
        f"run {o.run_id} got {o.wrong:,} events wrong at {o.point.events_per_s:,.0f} events/s: overload must refuse, not lose"
        for o in lost
    ]
    said = [found.sentence()] if found is not None else []
    said += [verified.sentence()] if verified is not None else []
    notes += [] if found is None else _trial_notes(found, trial)
    notes += [] if refuted is None else [f"with shorter trials: {refuted[1].sentence()} So the search was made again."]
    points = [(o.point.events_per_s, o.latency_p99_ms or 0.0, o.run_id) for o in outcomes]
    clean = {o.run_id for o in outcomes if o.clean}
    return Answer(
        "capacity", " ".join(said), _capacity_code(found, verified, bool(lost)), notes,
        [_grid("Runs", [_run_row(o) for o in outcomes])], [Chart("events/s", "corrected p99, ms", points, clean)],
        data={**_capacity_data(found), **_verified_data(verified)},
    )  # fmt: skip


def _capacity_code(found: Capacity | None, verified: Verified | None, lost: bool) -> int:
    if lost or (verified is not None and not verified.holds and not verified.told_nothing):
        return WRONG
    if (found is not None and found.events_per_s is None) or (verified is not None and not verified.holds):
        return UNANSWERED
    return ANSWERED


def _trial_notes(found: Capacity, trial: Trial) -> list[str]:
    if trial.capacity_events is None:
        return [
            "the target file states no contract.capacity_events, so trials were not made long enough to fill a buffer slowly: give --for"
        ]
    return [
        f"trials lasted up to {found.longest_trial_s:,.0f} s, so that a rate that is too high by the precision fills a buffer of "
        f"{trial.capacity_events:,} events"
    ]


def _capacity_data(found: Capacity | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "events_per_s": found.events_per_s, "low": found.low, "high": found.high, "found": list(found.found),
        "generator_limit_events_per_s": found.generator_limit_events_per_s, "longest_trial_s": found.longest_trial_s,
    }  # fmt: skip


def _verified_data(verified: Verified | None) -> dict[str, Any]:
    if verified is None:
        return {}
    return {
        "claim_events_per_s": verified.events_per_s, "claim_holds": verified.holds, "below_clean": verified.below_holds,
        "above_refuses_without_loss": verified.above_refuses,
    }  # fmt: skip


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
            "flushes again after": _or_none(m.outcome.resumed_s, "s"),
            "drained predicted": "-" if m.drains_s is None else f"{m.drains_s[0]:.1f} to {m.drains_s[1]:.1f} s",
            "drained after": _or_none(m.outcome.drained_s, "s"),
            "wrong": f"{m.outcome.wrong:,}",
            "run": m.outcome.run_id,
        }
        for m in found.measured
    ]
    measured = [(m.outcome.point.events_per_s, m.outcome.first_refusal_s, m.outcome.run_id) for m in found.measured]
    chart = Chart(
        "events/s", "seconds of outage until the first refusal",
        [(x, y, name) for x, y, name in measured if y is not None], lines={"predicted": _predicted(found)},
    )  # fmt: skip
    notes = (
        []
        if found.proven
        else [f"prediction and measurement differ by more than {AGREES:.0%} somewhere: see the table"]
    )
    notes += [] if found.lossless else ["an outage lost, doubled or altered events: see the table"]
    notes += _drain_notes(found)
    return Answer(
        "survival", found.sentence(events_per_s, outage_s), ANSWERED if found.proven and found.lossless else WRONG, notes,
        [_grid("Outages", rows)], [chart],
        data={"events_per_s": events_per_s, "survives_s": found.buffer.survives_s(events_per_s),
              "capacity_for_outage": found.buffer.capacity_for(events_per_s, outage_s), "outage_s": outage_s, "proven": found.proven,
              "bandwidth_events_per_s": found.bandwidth_events_per_s, "retry_cap_s": found.retry_cap_s},
    )  # fmt: skip


def _drain_notes(found: Survival) -> list[str]:
    predicted = [m for m in found.measured if m.drained_in_time is not None]
    if found.bandwidth_events_per_s is None or not predicted:
        return []
    held = sum(1 for m in predicted if m.drained_in_time)
    return [
        f"after an outage it drains at {found.bandwidth_events_per_s:,.0f} events/s, from its next attempt on, which it makes within "
        f"{found.retry_cap_s:g} s; {held} of {len(predicted)} points had drained by then"
    ]


def _predicted(found: Survival) -> list[tuple[float, float]]:
    rates = [m.outcome.point.events_per_s for m in found.measured]
    if not rates:
        return []
    low, high = min(rates) * 0.8, max(rates) * 1.2
    steps = [low + (high - low) * i / 40 for i in range(41)]
    return [(rate, found.buffer.survives_s(rate)) for rate in steps]


def sweep_answer(cells: Sequence[Cell], goals: Goals, advice: Recommendation | None, verified: Cell | None) -> Answer:
    """Exit 2 when no setting meets the goals; 1 when the recommendation, run, does not."""
    front = pareto(cells)
    on_front = {cell.outcome.run_id for cell in front}
    grids = [_grid("Settings", [_cell_row(c, on_front) for c in cells])]
    chart = _front_chart(cells, front)
    if advice is None:
        return Answer(
            "sweep", "No setting that was measured meets the goals.", UNANSWERED, _goal_notes(goals), grids, [chart],
            data=_sweep_data(cells, on_front, None, None),
        )  # fmt: skip
    env = [f"{name}={value}" for name, value in advice.setting.env().items()]
    held = None if verified is None else verified.meets(goals)
    return Answer(
        "sweep", f"Set {' '.join(env)}: {advice.why}.", WRONG if held is False else ANSWERED,
        [*advice.warnings, *_goal_notes(goals), *_verified_notes(verified, held), *_outage_notes(goals)], grids, [chart],
        {"wrangler.jsonc": advice.setting.wrangler(), "buffer.env": "\n".join(env) + "\n"},
        data=_sweep_data(cells, on_front, advice, held),
    )  # fmt: skip


def _front_chart(cells: Sequence[Cell], front: Sequence[Cell]) -> Chart:
    """Freshness against files, with the front of each R2 latency as a line."""

    def place(cell: Cell) -> tuple[float, float]:
        return cell.outcome.freshness_p99_s or 0.0, cell.outcome.files_per_minute

    def name(cell: Cell) -> str:
        return f"{cell.setting.size:,} events, {cell.setting.timeout_ms:,} ms, R2 +{cell.r2_latency_ms} ms: {cell.outcome.run_id}"

    lines: dict[str, list[tuple[float, float]]] = {}
    for cell in sorted(front, key=place):
        lines.setdefault(f"front at R2 +{cell.r2_latency_ms} ms", []).append(place(cell))
    points = [(*place(cell), name(cell)) for cell in cells]
    return Chart("visible within, s (p99)", "data files a minute", points, {name(cell) for cell in front}, lines)


def _cell_row(cell: Cell, on_front: set[str]) -> dict[str, str]:
    outcome = cell.outcome
    return {
        "size": f"{cell.setting.size:,}", "timeout": f"{cell.setting.timeout_ms:,} ms", "R2": f"+{cell.r2_latency_ms} ms",
        "verdict": outcome.verdict.value, "refused": f"{outcome.refused_requests:,}",
        "visible p99": _or_none(outcome.freshness_p99_s, "s"), "files/min": f"{outcome.files_per_minute:.0f}",
        "file": "-" if outcome.file_bytes is None else f"{outcome.file_bytes / 1024:,.1f} KiB",
        "commits": str(outcome.commits), "fullest": "-" if outcome.max_fill is None else f"{outcome.max_fill:.0%}",
        "memory": "-" if outcome.rss_max_bytes is None else f"{outcome.rss_max_bytes / 2**20:,.0f} MiB",
        "at 64 KiB an event": f"{cell.setting.worst_bytes() / 2**20:,.0f} MiB",
        "front": "yes" if outcome.run_id in on_front else "", "run": outcome.run_id,
    }  # fmt: skip


def _verified_notes(verified: Cell | None, held: bool | None) -> list[str]:
    if verified is None:
        return ["not verified by running it (--no-verify)"]
    outcome = verified.outcome
    said = "holds" if held else "does not hold"
    return [
        f"verified: {said} in run {outcome.run_id} at +{verified.r2_latency_ms} ms ({outcome.verdict}, visible within "
        f"{_or_none(outcome.freshness_p99_s, 's')}, {outcome.files_per_minute:.0f} files a minute, {outcome.refused_requests:,} refused)"
    ]


def _outage_notes(goals: Goals) -> list[str]:
    if goals.outage_s is None:
        return []
    return [
        "that it holds the outage is arithmetic (rate x share x (outage + timeout)); `icequake experiment survival` measures it"
    ]


def _sweep_data(
    cells: Sequence[Cell], on_front: set[str], advice: Recommendation | None, held: bool | None
) -> dict[str, Any]:
    return {
        "setting": None if advice is None else advice.setting.env(),
        "verified": held,
        "front": [
            {**c.setting.env(), "r2_latency_ms": c.r2_latency_ms, "run": c.outcome.run_id}
            for c in cells
            if c.outcome.run_id in on_front
        ],
    }


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
    notes = [f"A: {_env(a)}", f"B: {_env(b)}", *_noise_notes(found), *found.wrong]
    return Answer(
        "ab", sentence, WRONG if found.wrong else ANSWERED, notes, [_grid("Differences", rows)] if rows else [],
        data={"pairs": len(found.pairs), "differences": [asdict(d) for d in found.differences]},
    )  # fmt: skip


def _noise_notes(found: Comparison) -> list[str]:
    chance = false_alarm(len(found.pairs))
    if chance is None:
        return [f"{len(found.pairs)} pairs give no interval: six are the fewest"]
    return [
        f"a figure that does not differ is called different in {chance:.0%} of all comparisons, and differences below {MATTERS:.0%} never are"
    ]


def _env(env: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in env.items()) or "as it is"
