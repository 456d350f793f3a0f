"""How numbers and names are written for a reader: one place, so that the page, the Markdown and the JUnit file agree."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.records.ledger import Status

UNKNOWN = "not measured"

_UNITS = (
    ("_unix_ns", "UTC"),
    ("_unix_ms", "UTC"),
    ("_events_per_s", "events/s"),
    ("_per_s", "/s"),
    ("_events", "events"),
    ("_bytes", "bytes"),
    ("_ms", "ms"),
    ("_s", "s"),
)
_SHARES = ("_ratio", "_share", "_fill")

_WORDS = {
    "above_50_percent_s": "Above 50 % for",
    "above_70_percent_s": "Above 70 % for",
    "above_90_percent_s": "Above 90 % for",
    "acked": "Acknowledged",
    "acked_present": "Acknowledged and in the table",
    "capacity_events": "Capacity of a partition buffer",
    "caught_up_s": "Caught up after the last heal",
    "clocks": "How long recovery took",
    "content_checked": "Content recomputed",
    "files_replaced": "Data files seen and replaced since",
    "filled_by": "What filled it, at its fullest",
    "busiest_minute_files": "Data files in the busiest minute",
    "data_files_per_minute": "Data files a minute",
    "events_per_file": "Events a data file",
    "file_max_bytes": "Largest data file",
    "file_p50_bytes": "Data file (p50)",
    "flush_became": "The flush",
    "left_because": "Left because",
    "orphans": "Objects that nothing references",
    "put_at_s": "Uploaded at",
    "snapshots_per_minute": "Snapshots a minute",
    "detected_s": "Detected after",
    "drained_s": "Backlog drained after",
    "errors_normal_s": "Last error after",
    "first_ack_s": "First ack after",
    "freshness_normal_s": "Freshness usual after",
    "freshness_events": "Events seen to become visible",
    "held": "What was held",
    "held_s": "Held for",
    "dispatch_lag_p99_ms": "Requests noticed late by the generator (p99)",
    "max_fill": "Fullest buffer",
    "kills": "Kills of the target",
    "loss_per_kill_below": "Loss per kill, with 95 %, below",
    "mitigated_s": "Mitigated after",
    "recovered_s": "Recovered after",
    "max_true_fill": "Fullest buffer in truth",
    "overflow_without_flush": "Time to overflow without a flush",
    "needs_capacity_events": "Capacity for a 10-minute outage",
    "not_sent": "Arrivals given up",
    "not_sent_by_fault": "Arrivals given up, by fault",
    "retry_amplification": "Requests sent for each event",
    "offered_events_per_s": "Offered",
    "refused_at_s": "First refusal after",
    "seconds": "Fault lasted",
    "snapshots_gone": "Snapshots seen and gone since",
    "snapshots_with_events": "Snapshots that hold events of this run",
    "stages": "Where a flush spent its time",
    "told_and_true": "The target's own metrics against the truth",
    "triggers": "What made flushes due",
    "watched": "Looks at the table during traffic",
    "watch_errors": "Looks that failed",
}
"""Names of the judge's numbers that their words alone would not explain."""

_ABSENT = {
    "at_least": "no bound",
    "at_most": "no bound",
    "caught_up_s": "never, or no fault",
    "cause": "not named",
    "flush": "not named",
    "during": "no fault",
    "first_refusal_unix_ns": "none",
    "loss_per_kill_below": "nothing to bound: no kill, or something was lost",
    "missing_is": "nothing",
    "needs_capacity_events": "no refusal to scale from",
    "problem": "none",
    "refused_at_s": "no refusal",
}
"""What a missing value means, where it is not that nobody measured."""
_ACRONYMS = {"p50": "p50", "p99": "p99", "id": "id", "r2": "R2", "s3": "S3", "cpu": "CPU", "cpus": "CPUs", "url": "URL"}


@dataclass(frozen=True)
class Fact:
    """One line of a section: what it is and its value, not yet escaped. `code`: a command or a name for a machine."""

    label: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Grid:
    """A small table; every row is as long as `columns`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_MIDDLE_UNIT = re.compile(r"_(ms|s)(?=_)")
_UNITLESS = ("seed", "exit_code", "pid", "snapshots_with_events", "snapshot_ids")


def label_of(name: str) -> str:
    """Turn a field name into words, without its unit: `last_flush_ms` is `Last flush`."""
    if name in _WORDS:
        return _WORDS[name]
    for suffix in (*(suffix for suffix, _ in _UNITS), "_ratio", "_share"):
        if name.endswith(suffix) and len(name) > len(suffix):
            name = name.removesuffix(suffix)
            break
    else:
        name = _MIDDLE_UNIT.sub("", name)
    words = [_ACRONYMS.get(word, word) for word in name.replace("-", "_").split("_") if word]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def value_of(name: str, value: object) -> str:
    """Write *value* with the unit that the end of its field's *name* says."""
    if value is None:
        return _ABSENT.get(name, UNKNOWN)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _quantity(name, value)
    if isinstance(value, Mapping):
        return ", ".join(_pair(str(k), v) for k, v in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(value_of(name, item) for item in value) or "none"
    return str(value)


def _pair(name: str, value: object) -> str:
    if name.lstrip("-").isdigit():
        return f"{_status(int(name))}: {value_of(name, value)}"
    label = label_of(name)
    return f"{label[:1].lower()}{label[1:]} {value_of(name, value)}"


def _status(code: int) -> str:
    """Write an HTTP status, or the word for what stands in its place in the ledger."""
    known = {status.value: status.name.lower().replace("_", " ") for status in Status}
    return known.get(code, str(code))


def _quantity(name: str, value: float) -> str:
    if name in _UNITLESS:
        return str(value)
    if name.endswith(_SHARES):
        return f"{value * 100:.4g} %"
    unit = _unit_of(name)
    if unit == "UTC":
        return instant(int(value * (1 if name.endswith("ns") else 1_000_000)))
    if unit == "s" and value >= 120:
        return duration(value)
    return f"{number(value)} {unit}".rstrip()


def _unit_of(name: str) -> str:
    if name == "seconds":
        return "s"
    found = next((unit for suffix, unit in _UNITS if name.endswith(suffix)), None)
    middle = _MIDDLE_UNIT.search(name)
    return found if found is not None else middle[1] if middle else ""


def number(value: float) -> str:
    """Write a number: whole ones with thousands separators, others to three significant digits."""
    if isinstance(value, int) or (abs(value) >= 1000 and value == value and abs(value) != float("inf")):
        return f"{round(value):,}"
    text = f"{value:.3g}"
    return text.removesuffix(".0")


def duration(seconds: float) -> str:
    """Write a length of time: `8.4 s`, `4 m 12 s`, `1 h 5 m`."""
    if seconds < 60:
        return f"{number(float(seconds))} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"


def instant(unix_ns: int) -> str:
    """Write a wall time in UTC to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_ns / 1e9))


def elapsed(seconds: float) -> str:
    """Write a place on the run's time axis: `01:23.4`, or `1:02:03` from an hour on."""
    if seconds >= 3600:
        whole = int(seconds)
        return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
    tenths = round(seconds * 10)
    return f"{tenths // 600:02}:{tenths % 600 // 10:02}.{tenths % 10}"


def facts_of(section: Mapping[str, Any]) -> tuple[list[Fact], list[Grid]]:
    """Split a section of the verdict into single facts and tables (lists of objects)."""
    facts, grids = [], []
    for name, value in section.items():
        if _is_table(value):
            grids.append(grid_of(label_of(name), value))
        else:
            facts.append(Fact(label_of(name), value_of(name, value)))
    return facts, grids


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def grid_of(title: str, rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out *rows* in the columns any of them has, in order of first use."""
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    cells = tuple(tuple(value_of(name, row[name]) if name in row else "" for name in names) for row in rows)
    return Grid(title, tuple(label_of(name) for name in names), cells)
