"""What flushes made of the events: how many files and snapshots a minute, and how large the files are."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.runrecords import RunRecords

MINUTE_S = 60.0


def files_section(records: RunRecords) -> dict[str, Any]:
    """Return rates over the time of traffic, the busiest minute, and sizes; None where there is nothing to measure.

    A file counts in the minute its snapshot was committed. Only files of the current snapshot with events of this run count.
    """
    files = [f for f in records.observed.files if f.ours and f.stage == "scan"]
    stamps = {s: f.unix_ms for f in files for s in f.snapshot_ids if f.unix_ms is not None}
    minutes = _minutes(records)
    sizes = np.array([f.size_bytes for f in files if f.size_bytes > 0])
    return {
        "data_files_per_minute": _rate(len(files), minutes),
        "snapshots_per_minute": _rate(len(stamps), minutes),
        "busiest_minute_files": _busiest([f.unix_ms for f in files if f.unix_ms is not None]),
        "file_p50_bytes": int(np.percentile(sizes, 50, method="lower")) if len(sizes) else None,
        "file_max_bytes": int(sizes.max()) if len(sizes) else None,
        "events_per_file": round(sum(f.ours for f in files) / len(files), 1) if files else None,
    }


def _minutes(records: RunRecords) -> float | None:
    begin, end = records.window.baseline_start_ns, records.window.traffic_end_ns
    return None if begin is None or end is None or end <= begin else (end - begin) / 1e9 / MINUTE_S


def _rate(number: int, minutes: float | None) -> float | None:
    return None if minutes is None else round(number / minutes, 2)


def _busiest(stamps_ms: list[int]) -> int | None:
    """The most files that were committed within any sixty seconds."""
    if not stamps_ms:
        return None
    times = np.sort(np.array(stamps_ms))
    return int((np.searchsorted(times, times + int(MINUTE_S * 1000), side="left") - np.arange(len(times))).max())
