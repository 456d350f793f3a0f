"""How full the buffer was: peak, mean, time above each threshold, which types filled it, and how long until it overflows."""

from __future__ import annotations

from typing import Any

import numpy as np

from chaos.alerting.samples import Samples
from chaos.alerting.words import TRUTH
from reports.inflow import busiest_share, capacity_of
from reports.runrecords import RunRecords

THRESHOLDS = (0.5, 0.7, 0.9)
"""The runbook's."""

RATES = (1, 2, 5, 10)


def fill_section(records: RunRecords, truth: Samples, offered_events_per_s: float | None) -> dict[str, Any]:
    """Return fill on the target's own gauge and in truth, and the time to overflow without a single flush."""
    times, fill = records.sample("fill_ratio")
    types = true_fill(truth)
    highest = np.max(list(types.values()), axis=0) if types else np.empty(0)
    fullest = [float(max(series.values)) for series in truth.named(TRUTH["fill"]) if len(series.values)]
    return {
        "mean_fill": round(float(fill.mean()), 4) if len(fill) else None,
        "max_true_fill": round(max(fullest), 4) if fullest else None,
        **{f"above_{share * 100:.0f}_percent_s": _above_s(times, fill, share) for share in THRESHOLDS},
        "filled_by": _filled_by(types, highest),
        "overflow_without_flush": _overflow(records, offered_events_per_s),
    }


def true_fill(truth: Samples) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return what part of a buffer the events of each type truly filled, a value a second."""
    named = ((dict(series.labels).get("type"), series) for series in truth.named(TRUTH["fill"]))
    return {name: np.array(series.values) for name, series in named if name is not None}


def _above_s(times: Any, fill: Any, share: float) -> float | None:
    """Seconds for which the gauge stood above *share*; a sample stands until the next one."""
    if not len(times):
        return None
    spans = np.diff(times, append=times[-1]) / 1e9
    return round(float(spans[fill > share].sum()), 1)


def _filled_by(types: dict[str, Any], highest: Any) -> list[dict[str, Any]]:
    """Each type's share of what was pending when the fullest type was fullest, largest first."""
    if not len(highest):
        return []
    peak = int(highest.argmax())
    total = sum(float(values[peak]) for values in types.values())
    if not total:
        return []
    rows = [{"type": name, "share": round(float(values[peak]) / total, 3)} for name, values in types.items()]
    return sorted((row for row in rows if row["share"]), key=lambda row: (-float(str(row["share"])), str(row["type"])))


def _overflow(records: RunRecords, offered: float | None) -> list[dict[str, Any]]:
    """Seconds until the busiest buffer is full when nothing is flushed, at this rate and at multiples of it."""
    capacity, busiest = capacity_of(records), busiest_share(records)
    if capacity is None or not offered or not busiest:
        return []
    return [
        {
            "offered_events_per_s": round(offered * factor, 1),
            "full_after_s": round(capacity / (offered * factor * busiest), 1),
        }
        for factor in RATES
    ]
