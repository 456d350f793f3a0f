"""Gauges of what is buffered, against the events that the target surely held; `reports.metrics.check` says what is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import yaml

from loadtests.errors import BadTraffic
from loadtests.records.recorded import content_of
from loadtests.records.target import Metrics
from loadtests.records.target_config import read_target_config
from loadtests.traffic import traffic_named
from reports.metrics.compared import Compared
from reports.metrics.scrapes import F64, I64, Scrapes, drill_spans
from reports.obligations import ACKED, NEVER
from reports.reconcile import FileKeys, Mask
from reports.runrecords import RunRecords
from reports.stages import Stage

FILL_ROUNDING = 0.01
"""Gauges of fill may be rounded to percents."""

_HOUR_NS = 3_600_000_000_000


def compare_gauges(records: RunRecords, metrics: Metrics, scrapes: Scrapes) -> Iterator[Compared]:
    """Compare the gauges that were read: each reading at which the target surely held something."""
    if _turned_back(records):
        return
    held = held_by_type(records, scrapes, stale_ns=round(metrics.stale_s * 1e9))
    usable = np.ones(len(scrapes.begin_ns), dtype=np.bool_)
    for begin_ns, end_ns in drill_spans(records):
        usable &= (scrapes.end_ns < begin_ns) | (scrapes.begin_ns > end_ns)
    bounds = {"buffered": held.sum(axis=0).astype(np.float64)}
    if (capacity := _capacity(records)) is not None:
        shared = records.target.contract.buffers == "shared"
        fullest = held.sum(axis=0) if shared else held.max(axis=0, initial=0)
        bounds["fill"] = np.minimum(fullest / capacity, 1.0)
    for word, bound in bounds.items():
        if word in scrapes.values:
            rounding = FILL_ROUNDING if word == "fill" else 0.0
            yield from _gauge(word, scrapes, bound, usable & (bound > 0), rounding)


def _turned_back(records: RunRecords) -> bool:
    """Tell whether what was in the table may have left it and come back: then its absence at a look proves nothing."""
    kept = {file.path for file in records.observed.files}
    parents = {snapshot.id: snapshot.parent for snapshot in records.observed.snapshots}
    line: set[int] = set()
    newest = next((snapshot.id for snapshot in records.observed.snapshots if snapshot.current), None)
    while newest is not None and newest in parents and newest not in line:
        line.add(newest)
        newest = parents[newest]
    return (
        records.watch.shrank or any(p not in kept for p in records.watch.files) or bool(line and parents.keys() - line)
    )


def _gauge(word: str, scrapes: Scrapes, bound: F64, usable: Mask, rounding: float) -> Iterator[Compared]:
    said = scrapes.values[word]
    usable = usable & np.isfinite(said)
    if not usable.any():
        return
    lacking = np.where(usable, bound - said, -np.inf)
    worst = int(lacking.argmax())
    broken = int(np.count_nonzero(lacking > rounding))
    at_ns = int(scrapes.begin_ns[worst])
    yield Compared(word, float(said[worst]), float(bound[worst]), None, at_ns, int(usable.sum()), broken)


def held_by_type(records: RunRecords, scrapes: Scrapes, *, stale_ns: int) -> I64:
    """Return how many events the target surely held at each reading, one row an event type.

    Args:
        stale_ns: An event counts from so long after its ack on.
    """
    content = content_of(records.info, records.ledgers)
    change = np.zeros((len(content.names), len(scrapes.begin_ns) + 1), dtype=np.int64)
    for producer, owed in records.history.producers.items():
        for first, count in owed.windows():
            acked = owed.spread(owed.acked_ns, first, count)
            absent = _absent_until_ns(records, producer, first, count)
            known = ((owed.spread(owed.flags, first, count) & ACKED) != 0) & (absent > 0)
            begin = np.searchsorted(scrapes.begin_ns, acked[known] + stale_ns)
            end = np.searchsorted(scrapes.end_ns, absent[known], side="right")
            kinds = content.types(producer, np.arange(first, first + count, dtype=np.uint64))[known]
            some = begin < end
            np.add.at(change, (kinds[some], begin[some]), 1)
            np.add.at(change, (kinds[some], end[some]), -1)
    return np.cumsum(change[:, :-1], axis=1)


def _absent_until_ns(records: RunRecords, producer: int, first: int, count: int) -> I64:
    """Return until when each event surely was not in the table; 0 for those of which nobody knows, or that never came."""
    until, landed = np.full(count, NEVER, dtype=np.int64), np.zeros(count, dtype=np.bool_)
    for file in _ever_in_the_table(records):
        found = file.found.get(producer)
        if found is not None and found.keys.first < first + count and found.keys.last >= first:
            mask = found.keys.mask(first, count)
            until[mask] = np.minimum(until[mask], file.seen.after_ns if file.seen is not None else 0)
            landed |= mask & (file.references > 0)
    until[~landed] = 0
    return until


def _ever_in_the_table(records: RunRecords) -> list[FileKeys]:
    """Return the data files that are or may have been part of the table: an object that no snapshot ever had tells nothing."""
    expired = records.watch.snapshots > len(records.observed.snapshots)
    return [file for file in records.files if file.stage > Stage.OBJECT or file.seen is not None or expired]


def _capacity(records: RunRecords) -> int | None:
    """Return the capacity of a partition in force; None where fill cannot be told from what is held.

    One type fills several partitions when its events have times of several hours; a drill or a person may change the capacity.
    """
    promised = records.target.contract.capacity_events
    drilled = any(entry.get("event") == "drill" for entry in records.timeline)
    if promised is None or drilled or records.info.scenario == "live":
        return None
    if not _in_one_hour(records, str(_of_scenario(records, "traffic").get("profile", "steady"))):
        return None
    config = read_target_config(records.run.root)
    known = [config.variables if config is not None else {}, _of_scenario(records, "env")]
    sizes = [str(source.get("ICEBERG_BUFFER_SIZE")) for source in known]
    return next((int(size) for size in sizes if size.isdecimal()), promised)


def _of_scenario(records: RunRecords, name: str) -> Mapping[str, Any]:
    try:
        plain = yaml.safe_load(records.run.scenario.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    found = plain.get(name) if isinstance(plain, dict) else None
    return found if isinstance(found, dict) else {}


def _in_one_hour(records: RunRecords, profile: str) -> bool:
    due = records.history.punctuality.due_ns
    if not len(due):
        return False
    hours = {records.unix_ns(t_ns) // _HOUR_NS for t_ns in (int(due.min()), records.end_ns)}
    try:
        return len(hours) == 1 and set(traffic_named(profile).mix.shifts) == {0}
    except BadTraffic:
        return False
