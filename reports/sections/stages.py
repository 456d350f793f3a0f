"""Where the target's flushes spent their time, by its own counters, and what made them due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtests.records.series import read_series
from reports.runrecords import RunRecords

STAGE = "target:collector_flush_stage_seconds_total{stage="
TRIGGER = "target:collector_flush_triggers_total{trigger="
FLUSHES = "target:collector_flush_duration_seconds_count"


@dataclass(frozen=True)
class Spent:
    """Seconds by stage over a number of flushes (attempts, whatever came of them)."""

    seconds: dict[str, float]
    flushes: float

    @property
    def seconds_per_flush(self) -> float:
        """The mean length of a flush."""
        return sum(self.seconds.values()) / self.flushes


def stages_between(records: RunRecords, begin_ns: int | None, end_ns: int | None) -> Spent | None:
    """Return what flushes spent that ended in a span; None when the target does not say, or none ended.

    A flush that is under way when the span ends is not in it: counters move when it ends.
    """
    growth = counters_between(records, STAGE, begin_ns, end_ns)
    flushes = counters_between(records, FLUSHES, begin_ns, end_ns).get("", 0.0)
    return Spent(growth, flushes) if growth and flushes > 0 else None


def counters_between(records: RunRecords, prefix: str, begin_ns: int | None, end_ns: int | None) -> dict[str, float]:
    """Return how much each counter whose name begins with *prefix* grew in a span; restarts count from zero."""
    if not records.run.series.is_dir():
        return {}
    table = read_series(records.run.series)
    names = np.asarray(table["name"].to_pylist(), dtype=object)
    times, values = table["t_ns"].to_numpy(), table["value"].to_numpy()
    inside = (times >= (begin_ns or 0)) & (times <= (end_ns or records.end_ns))
    found: dict[str, float] = {}
    for name in {name for name in names if name.startswith(prefix)}:
        steps = np.diff(values[inside & (names == name)])
        found[name.removeprefix(prefix).rstrip("}")] = float(np.where(steps < 0, 0.0, steps).sum())
    return found


def restarts(records: RunRecords) -> list[tuple[int, int]]:
    """Return the spans between two scrapes in which the target began anew, also when it answered both: a counter of its own fell."""
    if not records.run.series.is_dir():
        return []
    table = read_series(records.run.series)
    names = np.asarray(table["name"].to_pylist(), dtype=object)
    times, values = table["t_ns"].to_numpy(), table["value"].to_numpy()
    spans: set[tuple[int, int]] = set()
    for name in {name for name in names if name.startswith("target:") and "_total" in name}:
        mine = np.flatnonzero(names == name)
        fell = np.flatnonzero(np.diff(values[mine]) < 0)
        spans |= {(int(times[mine[at]]), int(times[mine[at + 1]])) for at in fell}
    return sorted(spans)


def stages_section(records: RunRecords) -> dict[str, Any]:
    """Return stages before and from the first fault on, in milliseconds a flush, and attempts by trigger."""
    begin, inject, end = records.window.baseline_start_ns, records.window.inject_start_ns, records.window.traffic_end_ns
    whole = counters_between(records, TRIGGER, begin, None)
    before, during = stages_between(records, begin, inject), stages_between(records, inject, end)
    if before is None and during is None:
        return {"triggers": whole, "stages": []}
    names = list(dict.fromkeys([*(before.seconds if before else ()), *(during.seconds if during else ())]))
    rows = [
        {"stage": name, "baseline_ms": _ms(before, name), "with_faults_ms": _ms(during, name)}
        for name in sorted(names, key=_order)
    ]
    return {"triggers": whole, "stages": rows}


_ORDER = ("load_table", "encode", "put", "manifests", "commit", "checkpoint")


def _order(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _ms(spent: Spent | None, stage: str) -> float | None:
    return None if spent is None else round(spent.seconds.get(stage, 0.0) / spent.flushes * 1e3, 1)
