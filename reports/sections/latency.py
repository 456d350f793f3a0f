"""What callers felt: corrected and service latency over the run, and by how full the fullest buffer was."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

from loadtests.records.histogram import max_ms, new_histogram, percentiles_ms, read_intervals
from reports.runrecords import RunRecords

PERCENTS = (50.0, 99.0, 99.9)


def latency_section(records: RunRecords) -> dict[str, Any]:
    """Return percentiles in milliseconds, and one row a decile of fill that the run reached.

    An interval counts for the fill that the target last told before it ended. Intervals are merged one by one: a decoded one takes
    190 kB, and there may be thousands.
    """
    if not records.run.hist.is_dir():
        return {"corrected": None, "service": None, "by_fill": []}
    times, fill = records.sample("fill_ratio")
    whole: defaultdict[str, HdrHistogram] = defaultdict(new_histogram)
    by_fill: defaultdict[int, HdrHistogram] = defaultdict(new_histogram)
    for interval in read_intervals(records.run.hist, ("corrected", "service")):
        whole[interval.name].add(interval.histogram)
        place = int(np.searchsorted(times, interval.t_ns, side="right")) - 1
        if interval.name == "corrected" and place >= 0:
            by_fill[min(int(fill[place] * 10), 9)].add(interval.histogram)
    return {
        "corrected": _percentiles(whole["corrected"]),
        "service": _percentiles(whole["service"]),
        "by_fill": [_row(decile, by_fill[decile]) for decile in sorted(by_fill)],
    }


def _percentiles(total: HdrHistogram) -> dict[str, float] | None:
    if not total.get_total_count():
        return None
    names = [f"p{percent:g}_ms".replace(".", "_") for percent in PERCENTS]
    return dict(zip(names, percentiles_ms(total, PERCENTS), strict=True)) | {"max_ms": max_ms(total)}


def _row(decile: int, total: HdrHistogram) -> dict[str, Any]:
    p50_ms, p99_ms = percentiles_ms(total, (50.0, 99.0))
    return {
        "fill": f"{decile * 10} to {decile * 10 + 10} %",
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "requests": int(total.get_total_count()),
    }
