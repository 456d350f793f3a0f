"""Event volume: was there a spike, and which event types surged?

Events are counted when they were due, whoever was slow. What is usual is the run's baseline phase; a window is unusual when its
rate is above usual by at least half, and by more than four standard deviations of a Poisson count, so that a quiet run names
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.records.content import TYPE_NAMES, Content
from loadtests.records.ledger import Kind, Record
from loadtests.records.recorded import content_of
from reports.keyset import windows
from reports.runrecords import RunRecords

Counts = npt.NDArray[np.int64]

BUCKET_S = 1
WINDOW_S = 3
"""A surge lasts at least this long."""
GROWTH_MIN = 0.5
DEVIATIONS = 4.0


@dataclass(frozen=True)
class Surge:
    """One stretch of unusual volume.

    Attributes:
        what: An event type, or `all events`.
        start_ns, end_ns: Monotonic.
        usual_per_s, peak_per_s: Events per second in the baseline, and in the strongest window.
        share: Of the growth of all events, what this type contributed (0-1); 1 for all events.
    """

    what: str
    start_ns: int
    end_ns: int
    usual_per_s: float
    peak_per_s: float
    share: float


@dataclass(frozen=True)
class Volume:
    """Events due per second, one row a type, from `start_ns` on.

    Attributes:
        usual_until: The first bucket after the baseline.
        names: The types, by row.
    """

    start_ns: int
    counts: Counts
    usual_until: int
    names: tuple[str, ...] = TYPE_NAMES


def volume_of(records: RunRecords) -> Volume | None:
    """Count the events of a run by type and second; None when nothing was due, or no baseline was recorded."""
    window = records.window
    if (
        window.baseline_start_ns is None
        or window.inject_start_ns is None
        or not len(records.history.punctuality.due_ns)
    ):
        return None
    start_ns, end_ns = window.baseline_start_ns, window.traffic_end_ns or records.end_ns
    buckets = max(1, int((end_ns - start_ns) / 1e9 / BUCKET_S))
    content = content_of(records.info, records.ledgers)
    counts = np.zeros((len(content.names), buckets), dtype=np.int64)
    for ledger in records.ledgers:
        _count(counts, ledger.records, content, start_ns)
    usual_until = min(buckets, max(1, int((window.inject_start_ns - start_ns) / 1e9 / BUCKET_S)))
    return Volume(start_ns, counts, usual_until, content.names)


def _count(counts: Counts, rows: npt.NDArray[np.void], content: Content, start_ns: int) -> None:
    due = rows[(rows["kind"] == Kind.NORMAL) & (rows["record"] == Record.ATTEMPT) & (rows["attempt"] <= 1)]
    due = due[due["count"] > 0]
    place = (due["intended_ns"].astype(np.int64) - start_ns) // (BUCKET_S * 1_000_000_000)
    due, place = due[(place >= 0) & (place < counts.shape[1])], place[(place >= 0) & (place < counts.shape[1])]
    for producer in np.unique(due["producer"]):
        mine, where = due[due["producer"] == producer], place[due["producer"] == producer]
        for first, length in windows(0, len(mine) - 1, 10_000):
            _count_some(counts, mine[first : first + length], where[first : first + length], content, int(producer))


def _count_some(counts: Counts, rows: npt.NDArray[np.void], place: Counts, content: Content, producer: int) -> None:
    sizes = rows["count"].astype(np.int64)
    before = np.cumsum(sizes) - sizes
    offsets = np.arange(int(sizes.sum())) - np.repeat(before, sizes)
    sequences = np.repeat(rows["first"].astype(np.uint64), sizes) + offsets.astype(np.uint64)
    kinds = content.types(producer, sequences)
    np.add.at(counts, (kinds, np.repeat(place, sizes)), 1)


def surges(volume: Volume) -> list[Surge]:
    """Return unusual volume: all events first if it is unusual, then types by their share of the growth, largest first."""
    total = _surge("all events", volume.counts.sum(axis=0), volume)
    types = [
        s for row, name in zip(volume.counts, volume.names, strict=True) if (s := _surge(name, row, volume)) is not None
    ]
    grown = sum(s.peak_per_s - s.usual_per_s for s in types)
    ranked = sorted(types, key=lambda s: s.peak_per_s - s.usual_per_s, reverse=True)
    named = [
        Surge(
            s.what, s.start_ns, s.end_ns, s.usual_per_s, s.peak_per_s, round((s.peak_per_s - s.usual_per_s) / grown, 3)
        )
        for s in ranked
    ]
    return ([total] if total is not None else []) + named


def _surge(what: str, row: Counts, volume: Volume) -> Surge | None:
    usual = float(row[: volume.usual_until].mean())
    later = row[volume.usual_until :]
    if len(later) < WINDOW_S:
        return None
    rates = np.convolve(later, np.ones(WINDOW_S) / WINDOW_S, mode="valid")
    limit = usual + max(GROWTH_MIN * usual, _chance(usual, volume.usual_until) / WINDOW_S)
    above = np.flatnonzero(rates > limit)
    if not len(above):
        return None
    first, last = int(above[0]) + volume.usual_until, int(above[-1]) + volume.usual_until + WINDOW_S
    second_ns = BUCKET_S * 1_000_000_000
    return Surge(
        what=what,
        start_ns=volume.start_ns + first * second_ns,
        end_ns=volume.start_ns + last * second_ns,
        usual_per_s=round(usual / BUCKET_S, 1),
        peak_per_s=round(float(rates.max()) / BUCKET_S, 1),
        share=1.0,
    )


def _chance(usual: float, buckets: int) -> float:
    """Events above usual that chance may put into one window: Poisson, with the baseline's own error, and a few for small counts."""
    expected = usual * WINDOW_S
    return float(DEVIATIONS * (np.sqrt(expected + expected * WINDOW_S / buckets) + 1))


def volume_section(records: RunRecords) -> dict[str, Any]:
    """Return spike and surging types as plain JSON; times are seconds after the run began."""
    volume = volume_of(records)
    found = [] if volume is None else surges(volume)
    whole = [s for s in found if s.what == "all events"]
    types = [s for s in found if s.what != "all events"]
    single = types[0].what if types and ((types[0].share >= 0.5 and len(types) < 3) or types[0].share >= 0.7) else None
    return {
        "spike": _row(whole[0], records) if whole else None,
        "surging_type": single,
        "surges": [_row(s, records) for s in types],
    }


def _row(surge: Surge, records: RunRecords) -> dict[str, Any]:
    began = records.info.started_mono_ns
    return {
        "what": surge.what,
        "start_at_s": round((surge.start_ns - began) / 1e9, 1),
        "end_at_s": round((surge.end_ns - began) / 1e9, 1),
        "usual_events_per_s": surge.usual_per_s,
        "peak_events_per_s": surge.peak_per_s,
        "share": surge.share,
    }
