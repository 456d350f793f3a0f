"""What the runs of a target measured, as far as a runbook quotes it: read from their verdicts and series."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.records.errors import RecordError
from loadtests.records.rundir import RunDir
from loadtests.records.series import read_series

RUNS_MAX = 200
"""So many of the latest runs are looked at."""
FLUSH_SECONDS = "target:collector_flush_duration_seconds_sum"
LEAST_FLUSH_S = 0.05
"""Less time than this spent on flushes gives no rate."""


@dataclass(frozen=True)
class Measured:
    """A figure, and the run it is from."""

    value: float
    run_id: str
    about: str = ""


@dataclass(frozen=True)
class Threshold:
    """An alert rule, and the net inflow below which it fires before the buffer is full (None: not a matter of rate)."""

    alert: str
    severity: str
    expr: str
    for_s: float
    in_time_below_events_per_s: float | None


@dataclass(frozen=True)
class DrillDone:
    """The latest time a drill was done.

    Attributes:
        verdict: Of its check.
        seconds: How long it took; None when it did not end.
        milestones: Seconds from the damage until it was detected, mitigated and recovered.
    """

    name: str
    verdict: str
    seconds: float | None
    milestones: Mapping[str, float]
    run_id: str
    day: str


@dataclass
class Figures:
    """The newest of each figure.

    Attributes:
        offered: Events a second that a run offered without its buffer overflowing.
        full_after_s: Seconds until the buffer of the hottest partition is full when nothing is flushed, by events/s offered.
        held: The longest outage that was held, or the time to the first refusal in it; `about` names the fault.
        needed: Capacity that a ten-minute outage at the offered rate would need.
        drain: Events a second that flushing wrote, while it flushed.
        visible_s: 99th percentile of the time from acknowledgement to visibility.
        caught_up_s: From the last heal until everything acknowledged before was visible.
    """

    runs: int = 0
    offered: Measured | None = None
    full_after_s: list[tuple[float, float]] = field(default_factory=list)
    held: Measured | None = None
    needed: Measured | None = None
    drain: Measured | None = None
    visible_s: Measured | None = None
    caught_up_s: Measured | None = None
    thresholds: list[Threshold] = field(default_factory=list)
    drills: dict[str, DrillDone] = field(default_factory=dict)


def figures_of(runs: list[Path]) -> Figures:
    """Read run directories, newest first; what a run does not say is taken from an older one."""
    found = Figures()
    for root in runs:
        document = _verdict(root)
        if document is not None:
            found.runs += 1
            _take(found, root, document)
    return found


def runs_of(directory: Path, target: str) -> list[Path]:
    """Return the judged runs of a target below a directory, newest first."""
    roots = sorted((path.parent for path in directory.glob("*/verdict.json")), reverse=True)[:RUNS_MAX]
    return [root for root in roots if (_verdict(root) or {}).get("target") == target]


def _verdict(root: Path) -> dict[str, Any] | None:
    try:
        document = json.loads((root / "verdict.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("sections"), dict) else None


def _take(found: Figures, root: Path, document: Mapping[str, Any]) -> None:
    run_id, sections = str(document.get("run_id")), document["sections"]
    capacity, flush = sections.get("capacity", {}), sections.get("flush", {})

    def measured(value: Any, about: str = "") -> Measured | None:
        return Measured(float(value), run_id, about) if isinstance(value, int | float) else None

    if not capacity.get("refused_events"):
        found.offered = found.offered or measured(capacity.get("offered_events_per_s"))
    found.full_after_s = found.full_after_s or [
        (row["offered_events_per_s"], row["full_after_s"])
        for row in capacity.get("overflow_without_flush") or []
        if isinstance(row.get("full_after_s"), int | float)
    ]
    longest = capacity.get("longest") or {}
    found.held = max(
        (one for one in (found.held, measured(longest.get("held_s"), str(longest.get("fault")))) if one),
        key=lambda one: one.value,
        default=None,
    )
    found.needed = found.needed or measured(longest.get("needs_capacity_events"))
    found.visible_s = found.visible_s or measured(flush.get("freshness_p99_s"))
    found.caught_up_s = found.caught_up_s or measured(flush.get("caught_up_s"))
    found.drain = found.drain or measured(_drain_rate(root, document))
    found.thresholds = found.thresholds or list(_thresholds(sections.get("alerts", {})))
    for done in _drills(document):
        found.drills.setdefault(done.name, done)


def _drain_rate(root: Path, document: Mapping[str, Any]) -> float | None:
    """Events that landed over the seconds spent flushing, by the target's own histogram; a restart counts from zero."""
    try:
        values = read_series(RunDir.open(root).series, {FLUSH_SECONDS})["value"].to_numpy()
    except (RecordError, OSError):
        return None
    steps = np.diff(values, prepend=0.0)
    seconds = float(np.where(steps < 0, 0.0, steps).sum())
    rows = (document.get("totals") or {}).get("rows_read", 0)
    return round(rows / seconds, 1) if seconds >= LEAST_FLUSH_S and rows else None


def _thresholds(section: Mapping[str, Any]) -> Iterator[Threshold]:
    for rule in section.get("rules") or []:
        limit = rule.get("in_time_below_events_per_s")
        yield Threshold(
            str(rule["alert"]),
            str(rule["severity"]),
            str(rule["expr"]),
            float(rule["for_s"]),
            float(limit) if isinstance(limit, int | float) else None,
        )


def _drills(document: Mapping[str, Any]) -> Iterator[DrillDone]:
    day = datetime.fromtimestamp(document.get("started_unix_ns", 0) / 1e9, UTC).strftime("%d %b %Y")
    for check in document.get("checks") or []:
        name, counts = str(check.get("id", "")), check.get("counts") or {}
        if name.startswith("drill."):
            took = counts.get("took_ms")
            times = {
                key: counts[f"{key}_ms"] / 1000
                for key in ("detected", "mitigated", "recovered")
                if f"{key}_ms" in counts
            }
            yield DrillDone(
                name.split(".")[1],
                str(check.get("verdict")),
                took / 1000 if isinstance(took, int | float) else None,
                times,
                str(document.get("run_id")),
                day,
            )
