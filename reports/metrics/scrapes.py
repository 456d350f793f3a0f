"""What the target's metrics said at each reading of them, and how exactly the moment of each reading is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chaos.alerting.errors import AlertRuleError
from chaos.alerting.promql import Expression
from chaos.alerting.samples import Samples, parse_sample_name
from loadtests.records.series import read_series
from reports.runrecords import RunRecords

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

PREFIX = "target:"
LAST_READING_NS = 4_000_000_000
"""Longer than the sampler waits for an answer; the window of its last reading, which no other reading ends."""


@dataclass(frozen=True)
class Scrapes:
    """Readings that were answered, in order of time.

    Attributes:
        begin_ns, end_ns: The target wrote its answer at some moment from one to the other: the next reading began after it was there.
        values: By metric; the sum where a selector finds several series, NaN where the answer had none.
        fresh: Whether the process may be another one than at the reading before, so that counters may have begun anew.
    """

    begin_ns: I64
    end_ns: I64
    values: Mapping[str, F64]
    fresh: npt.NDArray[np.bool_]

    def lives(self) -> list[tuple[int, int]]:
        """Return the first and the last reading of each stretch in which the process surely was the same."""
        starts = np.flatnonzero(self.fresh | (np.arange(len(self.begin_ns)) == 0))
        ends = np.r_[starts[1:] - 1, len(self.begin_ns) - 1]
        return [(int(first), int(last)) for first, last in zip(starts, ends, strict=True) if last > first]


def scrapes_of(records: RunRecords, gauges: Mapping[str, str], counters: Mapping[str, str]) -> Scrapes:
    """Return the readings of the metrics that *gauges* and *counters* name: selectors by the caller's word for each."""
    table = read_series(records.run.series) if records.run.series.is_dir() else None
    asked = _times(table, "target_up") if table is not None else np.empty(0, dtype=np.int64)
    answered = _times(table, "target_up", 1.0) if table is not None else asked
    found = {
        word: _values(table, selector, answered) if table is not None else np.empty(0)
        for word, selector in {**gauges, **counters}.items()
    }
    ends = np.append(asked, asked[-1] + LAST_READING_NS) if len(asked) else asked
    end_ns = ends[np.searchsorted(asked, answered) + 1] if len(asked) else asked
    dropped = np.zeros(len(answered), dtype=np.bool_)
    for word in counters:
        dropped[1:] |= ~(np.diff(found[word]) >= 0)
    return Scrapes(answered, end_ns, found, dropped | _restarts(records, asked, answered, end_ns))


def _times(table: pa.Table, name: str, value: float | None = None) -> I64:
    mine = table.filter(pc.field("name") == name)
    times: I64 = mine["t_ns"].to_numpy()
    return times if value is None else times[mine["value"].to_numpy() == value]


def _values(table: pa.Table, selector: str, times: I64) -> F64:
    """Return the sum over the series that *selector* finds, at each of *times*."""
    total, seen = np.zeros(len(times)), np.zeros(len(times), dtype=np.bool_)
    mine = table.filter(pc.is_in(pc.cast(table["name"], pa.string()), pa.array(_series(table, selector), pa.string())))
    at = mine["t_ns"].to_numpy()
    places = np.searchsorted(times, at)
    there = (places < len(times)) & (times[np.minimum(places, len(times) - 1)] == at) if len(times) else at < 0
    np.add.at(total, places[there], mine["value"].to_numpy()[there])
    seen[places[there]] = True
    return np.where(seen, total, np.nan)


def _series(table: pa.Table, selector: str) -> list[str]:
    """Return the names of the recorded series that *selector* finds; it is asked for one sample of each."""
    names = [name for name in pc.unique(pc.cast(table["name"], pa.string())).to_pylist() if name.startswith(PREFIX)]
    samples = Samples()
    for number, name in enumerate(names):
        metric, labels = parse_sample_name(name.removeprefix(PREFIX))
        samples.add(0.0, metric, float(number), labels)
    try:
        found = Expression.parse(selector).at(samples, 0.0)
    except AlertRuleError:
        return []
    return [names[int(number)] for number in found.values()] if isinstance(found, dict) else []


def _restarts(records: RunRecords, asked: I64, answered: I64, end_ns: I64) -> npt.NDArray[np.bool_]:
    """Tell which readings came after one that was not answered, or after anything that speaks of another process."""
    fresh = np.zeros(len(answered), dtype=np.bool_)
    if len(answered) < 2:
        return fresh
    fresh[1:] = np.diff(np.searchsorted(asked, answered)) > 1
    for begin_ns, until_ns in _unsteady(records):
        fresh[1:] |= (end_ns[1:] >= begin_ns) & (answered[:-1] <= until_ns)
    return fresh


def _unsteady(records: RunRecords) -> list[tuple[int, int]]:
    """Return the spans in which the process was, or may have been, started anew: by a fault, a drill, or by itself."""
    spans = [
        (entry["t_ns"], entry["t_ns"])
        for entry in records.timeline
        if entry.get("event") == "process" and entry.get("name") == "target"
    ]
    ended = {
        e.get("step") for e in records.timeline if e.get("event") == "step" and _tells_of_an_end(e.get("measured"))
    }
    spans += [(s.start_ns, s.end_ns or records.end_ns) for s in records.steps if s.start_ns and s.index in ended]
    return [*spans, *drill_spans(records)]


def _tells_of_an_end(measured: object) -> bool:
    return isinstance(measured, dict) and ("status" in measured or measured.get("restarted") is True)


def drill_spans(records: RunRecords) -> list[tuple[int, int]]:
    """Return from when to when each drill was done; operators take events out and put them back, and restart the target."""
    begun: dict[object, int] = {}
    last: dict[object, int] = {}
    for entry in records.timeline:
        if entry.get("event") == "drill" and entry.get("state") != "armed":
            key = (entry.get("drill"), entry.get("step"))
            begun.setdefault(key, entry["t_ns"])
            last[key] = entry["t_ns"]
    return [(begun[key], last[key]) for key in begun]
