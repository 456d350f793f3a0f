"""Counters against what was answered and what landed; `reports.metrics.check` says what is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from loadtests.records.ledger import Kind, Outcome, Record
from loadtests.records.target import Metrics
from reports.measures import commit_kind
from reports.metrics.compared import Compared
from reports.metrics.scrapes import Scrapes
from reports.runrecords import RunRecords


def compare_counters(records: RunRecords, metrics: Metrics, scrapes: Scrapes) -> Iterator[Compared]:
    """Compare the counters that were read: the process that is furthest out of bounds, or else the one that lived longest."""
    stale_ns = round(metrics.stale_s * 1e9)
    done = _requests(records)
    for word in ("accepted", "refused_requests"):
        if word in scrapes.values:
            lives = [_life(records, word, done, scrapes, life, stale_ns) for life in scrapes.lives()]
            yield from _worst([life for life in lives if life is not None])
    if "flushes_committed" in scrapes.values:
        yield from _commits(records, scrapes)


def _requests(records: RunRecords) -> Mapping[str, Any]:
    """Return every attempt and what it came to, an array a column; attempts without an answer end never."""
    columns: dict[str, list[Any]] = {name: [] for name in ("sent_ns", "done_ns", "count", "outcome", "status", "kind")}
    for ledger in records.ledgers:
        real = ledger.records[(ledger.records["count"] > 0) & (ledger.records["kind"] != Kind.NOT_SENT)]
        done = real[real["record"] == Record.DONE]
        sent = real[(real["record"] == Record.ATTEMPT) & ~np.isin(real["request"], done["request"])]
        for name, found in columns.items():
            found += [done[name], sent[name]]
    return {name: np.concatenate(found) if found else np.empty(0, np.int64) for name, found in columns.items()}


def _life(
    records: RunRecords, word: str, done: Mapping[str, Any], scrapes: Scrapes, life: tuple[int, int], stale_ns: int
) -> Compared | None:
    first, last = life
    said = float(scrapes.values[word][last] - scrapes.values[word][first])
    if not np.isfinite(said):
        return None
    answered = np.isin(done["outcome"], (Outcome.ACKED, Outcome.REFUSED))
    inside = (done["sent_ns"] >= scrapes.end_ns[first]) & (done["done_ns"] + stale_ns <= scrapes.begin_ns[last])
    inside &= answered
    if word == "refused_requests":
        statuses = records.target.contract.refusals.statuses
        mine = inside & (done["outcome"] == Outcome.REFUSED) & np.isin(done["status"], statuses)
        # One request that carries events of several kinds has a record for each.
        at_least = len(set(zip(done["sent_ns"][mine].tolist(), done["done_ns"][mine].tolist(), strict=True)))
        at_most = None
    else:
        mine = inside & (done["outcome"] == Outcome.ACKED) & (done["kind"] != Kind.POISON)
        at_least = int(done["count"][mine].sum())
        at_most = None if _shared(records) else float(_may_be_accepted(done, scrapes, first, last, stale_ns))
    broken = said < at_least or (at_most is not None and said > at_most)
    at_ns = int(scrapes.begin_ns[last])
    return Compared(word, said, float(at_least), at_most, at_ns, last - first + 1, (last - first + 1) * broken)


def _shared(records: RunRecords) -> bool:
    """Tell whether others sent events too, by the rows that are not ours."""
    return any(file.foreign for file in records.observed.files)


def _may_be_accepted(done: Mapping[str, Any], scrapes: Scrapes, first: int, last: int, stale_ns: int) -> int:
    """Return the events of requests that an honest target may have counted between two readings."""
    sent = done["sent_ns"] <= scrapes.end_ns[last]
    unknown = ~np.isin(done["outcome"], (Outcome.ACKED, Outcome.REFUSED))
    acked = (done["outcome"] == Outcome.ACKED) & (done["done_ns"] + stale_ns >= scrapes.begin_ns[first])
    return int(done["count"][sent & (unknown | acked)].sum())


def _worst(lives: list[Compared]) -> Iterator[Compared]:
    """Yield the life that is furthest out of bounds, or else the longest, with the readings of all."""
    if lives:
        worst = max(lives, key=lambda life: (life.broken, life.readings))
        readings, broken = sum(life.readings for life in lives), sum(life.broken for life in lives)
        yield Compared(worst.metric, worst.said, worst.at_least, worst.at_most, worst.at_ns, readings, broken)


def _commits(records: RunRecords, scrapes: Scrapes) -> Iterator[Compared]:
    """The growth of the counter over all lives of the process, against the snapshots that there are."""
    values = scrapes.values["flushes_committed"]
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < 2:
        return
    steps = np.diff(values[known])
    said = float(np.where(steps < 0, values[known][1:], steps).sum())
    landed = _landed_at_most(records)
    if landed is None:
        return
    restarts = int(np.count_nonzero(scrapes.fresh))
    at_most = float(landed + restarts + _repeats(records) + sum(map(len, records.quarantined.values())))
    yield Compared("flushes_committed", said, None, at_most, None, len(known), len(known) * (said > at_most))


def _landed_at_most(records: RunRecords) -> int | None:
    """Return how many commits can have landed: the snapshots there are, or, where some are gone, the requests that may have made one.

    None where snapshots are gone and no gateway stood between.
    """
    snapshots = max(records.watch.snapshots, len(records.observed.snapshots))
    if not _rewritten(records):
        return snapshots
    if not records.commits:
        return None
    return max(snapshots, sum(commit_kind(line) != "failed" for line in records.commits))


def _rewritten(records: RunRecords) -> bool:
    """Tell whether somebody rewrote, expired or replaced what the table had: snapshots may have come and gone between two looks."""
    scanned = {file.path for file in records.observed.files if file.stage == "scan"}
    return (
        records.watch.snapshots > len(records.observed.snapshots)
        or any(path not in scanned for path in records.watch.files)
        or any(snapshot.operation != "append" for snapshot in records.observed.snapshots)
    )


def _repeats(records: RunRecords) -> int:
    """Requests that carried events which had been sent before."""
    again = 0
    for ledger in records.ledgers:
        sent = ledger.records[ledger.records["record"] == Record.ATTEMPT]
        again += int(np.count_nonzero((sent["attempt"] > 1) | (sent["kind"] == Kind.DUPLICATE)))
    return again
