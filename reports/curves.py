"""Samples of a run over its elapsed seconds, thinned to what a screen can show without hiding a peak.

Rates come from the ledgers (exact), latency from merged histograms (exact), the rest from the recorded series. One bucket is at
least a second wide; a run of any length has at most `MOST_BUCKETS` of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from loadtests.records.histogram import new_histogram, percentile_ms, read_intervals
from loadtests.records.ledger import Kind, Ledger, Outcome, Record
from loadtests.records.series import read_series

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

MOST_BUCKETS = 1_000
_TRAFFIC = (Kind.NORMAL, Kind.PROBE, Kind.DUPLICATE, Kind.POISON, Kind.OVER_LIMIT)


@dataclass(frozen=True)
class Curve:
    """Values over time. `t_s` is seconds since the clock's zero, ascending; both arrays are equally long."""

    t_s: F64
    value: F64

    @property
    def empty(self) -> bool:
        """Whether nothing was recorded."""
        return not len(self.t_s)


NOTHING = Curve(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Clock:
    """The x axis: second 0 is `zero_ns` (monotonic), and the drawn part is cut into `buckets` of `width_s` seconds.

    Attributes:
        zero_unix_ns: The wall time of second 0.
    """

    zero_ns: int
    zero_unix_ns: int
    end_ns: int

    @property
    def width_s(self) -> int:
        """Seconds a bucket."""
        return max(1, math.ceil(self.end_s / MOST_BUCKETS))

    @property
    def end_s(self) -> float:
        """Seconds from zero to the end of the run."""
        return max((self.end_ns - self.zero_ns) / 1e9, 1.0)

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        return math.ceil(self.end_s / self.width_s)

    def seconds(self, t_ns: int) -> float:
        """Turn a monotonic instant into seconds on the axis."""
        return (t_ns - self.zero_ns) / 1e9

    def bucket(self, t_ns: I64) -> I64:
        """Return the bucket of each instant; instants outside the run go to the nearest."""
        found = (t_ns - self.zero_ns) // (self.width_s * 1_000_000_000)
        return np.clip(found, 0, self.buckets - 1).astype(np.int64)

    def middles(self) -> F64:
        """Return the second in the middle of each bucket."""
        return np.asarray((np.arange(self.buckets) + 0.5) * self.width_s, dtype=np.float64)


def rates(ledgers: Iterable[Ledger], clock: Clock) -> dict[str, Curve]:
    """Return events per second by name: offered, sent, acked, refused, unknown.

    Offered counts each event once, at the instant it was due, whether it could be sent or not; sent counts attempts when they
    left, retries too. The others count answers to attempts, at the instant of the answer; an attempt that was never answered
    is unknown at the instant it was sent.
    """
    sums = {name: np.zeros(clock.buckets) for name in ("offered", "sent", "acked", "refused", "unknown")}
    for ledger in ledgers:
        for name, t_ns, count in _arrivals(ledger.records):
            sums[name] += np.bincount(clock.bucket(t_ns), weights=count, minlength=clock.buckets)
    return {
        name: _between_first_and_last(clock, total / clock.width_s, sums["offered"]) for name, total in sums.items()
    }


def _arrivals(records: npt.NDArray[np.void]) -> Iterable[tuple[str, I64, npt.NDArray[np.uint32]]]:
    attempts = records[(records["record"] == Record.ATTEMPT) & np.isin(records["kind"], _TRAFFIC)]
    done = records[(records["record"] == Record.DONE) & np.isin(records["kind"], _TRAFFIC)]
    unsent = records[records["kind"] == Kind.NOT_SENT]
    first = attempts[attempts["attempt"] <= 1]
    yield "offered", first["intended_ns"], first["count"]
    yield "offered", unsent["intended_ns"], unsent["count"]
    yield "sent", attempts["sent_ns"], attempts["count"]
    for name, outcome in (("acked", Outcome.ACKED), ("refused", Outcome.REFUSED), ("unknown", Outcome.UNKNOWN)):
        chosen = done[done["outcome"] == outcome]
        yield name, chosen["done_ns"], chosen["count"]
    unanswered = attempts[~np.isin(attempts["request"], done["request"])]
    yield "unknown", unanswered["sent_ns"], unanswered["count"]


def _between_first_and_last(clock: Clock, rate: F64, offered: F64) -> Curve:
    used = np.flatnonzero((offered > 0) | (rate > 0))
    if not len(used):
        return NOTHING
    part = slice(used[0], used[-1] + 1)
    return Curve(clock.middles()[part], rate[part])


def latencies(directory: Path, clock: Clock) -> dict[str, Curve]:
    """Return latency in milliseconds by name: corrected_p50, corrected_p99, service_p99; gaps where nothing was answered."""
    values = {name: np.full(clock.buckets, np.nan) for name in ("corrected_p50", "corrected_p99", "service_p99")}
    for (name, bucket), parts in _by_bucket(directory, clock).items():
        total = new_histogram()
        for part in parts:
            total.add(HdrHistogram.decode(part))
        for percent in (50, 99):
            if f"{name}_p{percent}" in values:
                values[f"{name}_p{percent}"][bucket] = percentile_ms(total, percent)
    return {name: _used(value, clock) for name, value in values.items()}


def _by_bucket(directory: Path, clock: Clock) -> dict[tuple[str, int], list[bytes]]:
    """Collect the intervals of each bucket, encoded: a decoded histogram takes 190 kB, and there may be thousands."""
    parts: dict[tuple[str, int], list[bytes]] = {}
    for interval in read_intervals(directory, ("corrected", "service")):
        bucket = int(clock.bucket(np.array([interval.t_ns - 1]))[0])
        parts.setdefault((interval.name, bucket), []).append(interval.histogram.encode())
    return parts


def _used(values: F64, clock: Clock) -> Curve:
    """Leave out the buckets before the first value and after the last."""
    used = np.flatnonzero(~np.isnan(values))
    if not len(used):
        return NOTHING
    part = slice(used[0], used[-1] + 1)
    return Curve(clock.middles()[part], values[part])


def measured(directory: Path, names: Iterable[str], clock: Clock) -> dict[str, Curve]:
    """Return recorded series by name, the largest value of each bucket (a peak is what these are looked at for)."""
    table = read_series(directory, tuple(names))
    times = table["t_ns"].to_numpy()
    labels = np.asarray(table["name"].to_pylist(), dtype=object)
    values = table["value"].to_numpy()
    return {name: highest(times[labels == name], values[labels == name], clock) for name in names}


PARTITIONS_DRAWN = 5


def partition_fills(directory: Path, clock: Clock) -> tuple[dict[str, Curve], int]:
    """Return the fill of the fullest partitions by their labels, the fullest first, and how many partitions there were.

    They are the series whose name ends in `partition_fill_ratio`, as the target publishes them; none where it does not.
    """
    table = read_series(directory)
    labels = np.asarray(table["name"].to_pylist(), dtype=object)
    names = [name for name in set(labels) if str(name).partition("{")[0].endswith("partition_fill_ratio")]
    times, values = table["t_ns"].to_numpy(), table["value"].to_numpy()
    curves = {name: highest(times[labels == name], values[labels == name], clock) for name in sorted(names)}
    used = {name: curve for name, curve in curves.items() if not curve.empty}
    fullest = sorted(used, key=lambda name: (-float(used[name].value.max()), name))[:PARTITIONS_DRAWN]
    return {_partition(name): used[name] for name in fullest}, len(used)


def _partition(name: str) -> str:
    """Turn `..._partition_fill_ratio{hour=2026-11-25T04,type=click}` into `click 2026-11-25T04`."""
    pairs = dict(part.partition("=")[::2] for part in name.partition("{")[2].rstrip("}").split(","))
    kind = pairs.pop("type", "")
    return " ".join(word for word in (kind, *pairs.values()) if word) or "a partition"


def highest(t_ns: I64, value: F64, clock: Clock) -> Curve:
    """Thin samples to the largest of each bucket, each at its own instant; samples outside the run are left out."""
    inside = (t_ns >= clock.zero_ns) & (t_ns <= clock.end_ns) & np.isfinite(value)
    t_ns, value = t_ns[inside], value[inside]
    if not len(t_ns):
        return NOTHING
    bucket = clock.bucket(t_ns)
    order = np.lexsort((-value, bucket))
    first = np.unique(bucket[order], return_index=True)[1]
    chosen = np.sort(order[first])
    return Curve((t_ns[chosen] - clock.zero_ns) / 1e9, value[chosen].astype(np.float64))


def field_of(records: Iterable[dict[str, Any]], name: str, clock: Clock) -> Curve:
    """Return one numeric field of JSON lines that have `t_ns`, thinned as `highest` does."""
    pairs = [(r["t_ns"], float(r[name])) for r in records if isinstance(r.get(name), int | float)]
    times = np.array([t for t, _ in pairs], dtype=np.int64)
    return highest(times, np.array([v for _, v in pairs], dtype=np.float64), clock)
