"""What the target cost: CPU time an event, calibrated for the machine, and memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtests.records.series import read_series
from reports.obligations import ACKED
from reports.runrecords import RunRecords

CALIBRATION_MS = 4.0
"""The speed that calibrated figures are for: a machine on which the calibration takes this long."""


def costs_section(records: RunRecords) -> dict[str, Any]:
    """Return CPU microseconds an acknowledged event (measured, and for a machine of standard speed) and the largest memory."""
    cpu_s = _cpu_s(records)
    acked = records.history.total(having=ACKED)
    cpu_us = None if cpu_s is None or not acked else cpu_s * 1e6 / acked
    calibration_ms = records.info.environment.get("calibration_ms")
    rss = records.sample("target_rss_bytes")[1]
    return {
        "cpu_s": None if cpu_s is None else round(cpu_s, 3),
        "cpu_us_per_event": None if cpu_us is None else round(cpu_us, 2),
        "calibrated_cpu_us_per_event": round(cpu_us * CALIBRATION_MS / calibration_ms, 2)
        if cpu_us and calibration_ms
        else None,
        "calibration_ms": calibration_ms,
        "rss_max_bytes": int(rss.max()) if len(rss) else None,
    }


def _cpu_s(records: RunRecords) -> float | None:
    """CPU seconds from the start of the baseline on, over every process that was the target."""
    if not records.run.series.is_dir():
        return None
    table = read_series(records.run.series, ("target_cpu_s",))
    start_ns = records.window.baseline_start_ns or 0
    times, values = table["t_ns"].to_numpy(), table["value"].to_numpy()
    labels = np.asarray(table["labels"].to_pylist(), dtype=object)
    used = [
        values[mask][-1] - _at_start(times[mask], values[mask], start_ns)
        for label in set(labels)
        if (mask := labels == label).any()
    ]
    return float(sum(used)) if used else None


def _at_start(times: Any, values: Any, start_ns: int) -> float:
    """What a process had used when the baseline began; nothing for one that started later."""
    before = np.flatnonzero(times <= start_ns)
    return float(values[before[-1]]) if len(before) else 0.0
