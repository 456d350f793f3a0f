"""Latency histograms over time: one line a second and name in `hist/<process>.hdr.jsonl`.

Values are microseconds, 1 to one hour, to three significant digits, nothing clipped below that; histograms of several
seconds and processes merge without loss. Names:

corrected   from the instant a request was due to its final answer, retries included: what a caller with that schedule felt;
            not of requests that were sent to be refused, nor of deliberate repetitions
service     from sending one attempt to its answer
lag         from the instant an attempt was due to its sending; grows when every connection waits for the target
dispatch    from the instant a request was due to the generator noticing; grows only when the generator is too slow
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdrh.histogram import HdrHistogram

from loadtests.records.errors import CorruptRecord
from loadtests.records.jsonl import JsonlWriter, read_jsonl

KIND = "hist"
NAMES = ("corrected", "service", "lag", "dispatch")
SUFFIX = ".hdr.jsonl"
LOWEST_US = 1
HIGHEST_US = 3_600_000_000
DIGITS = 3


@dataclass(frozen=True)
class Interval:
    """The values of one name recorded by one process up to `t_ns` (monotonic) since its previous interval."""

    t_ns: int
    name: str
    histogram: HdrHistogram


def new_histogram() -> HdrHistogram:
    """Return an empty histogram with the range and precision of every one of ours."""
    return HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)


def record_ns(histogram: HdrHistogram, value_ns: int) -> None:
    """Count *value_ns*; below one microsecond counts as one, above an hour as an hour."""
    histogram.record_value(min(max(value_ns // 1000, LOWEST_US), HIGHEST_US))


def percentiles_ms(histogram: HdrHistogram, percents: Sequence[float]) -> list[float]:
    """Return percentiles in milliseconds, in the order asked for; 0 when nothing was recorded."""
    if not histogram.get_total_count():
        return [0.0] * len(percents)
    values = histogram.get_percentile_to_value_dict(sorted(percents))
    return [float(values[percent]) / 1000 for percent in percents]


def percentile_ms(histogram: HdrHistogram, percent: float) -> float:
    """Return one percentile in milliseconds; 0 when nothing was recorded."""
    return percentiles_ms(histogram, [percent])[0]


def max_ms(histogram: HdrHistogram) -> float:
    """Return the largest value in milliseconds; 0 when nothing was recorded."""
    return float(histogram.get_max_value()) / 1000 if histogram.get_total_count() else 0.0


class HistogramWriter:
    """Append intervals of one process to `<directory>/<process>.hdr.jsonl`. Raises OSError when they cannot be."""

    def __init__(self, directory: Path, process: str, run_id: str) -> None:
        self._stream = JsonlWriter(directory / f"{process}{SUFFIX}", KIND, run_id)

    def write(self, t_ns: int, name: str, histogram: HdrHistogram) -> None:
        """Write *histogram* as the interval that ended at *t_ns*; an empty one is left out."""
        if histogram.get_total_count():
            self._stream.append({"t_ns": t_ns, "name": name, "hdr": histogram.encode().decode("ascii")})

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_intervals(directory: Path, names: Collection[str] = NAMES) -> Iterator[Interval]:
    """Yield the intervals of every process in *directory*, in each file's order; other lines are skipped undecoded.

    Raises:
        CorruptRecord, NewerVersion: a file is not one of ours.
    """
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        for record in read_jsonl(path, KIND):
            if record.get("name") in names:
                yield Interval(record["t_ns"], record["name"], _decode(record["hdr"], path))


def merged(directory: Path, name: str, *, from_ns: int | None = None, until_ns: int | None = None) -> HdrHistogram:
    """Return one histogram of all values of *name*, of intervals that ended after *from_ns* and not after *until_ns*."""
    total = new_histogram()
    for interval in read_intervals(directory, (name,)):
        if (from_ns is None or interval.t_ns > from_ns) and (until_ns is None or interval.t_ns <= until_ns):
            total.add(interval.histogram)
    return total


def _decode(text: str, path: Path) -> HdrHistogram:
    try:
        return HdrHistogram.decode(text)
    except Exception as error:  # hdrh raises its own, zlib's, binascii's and ValueError
        raise CorruptRecord(f"{path} holds a histogram that cannot be decoded ({error}).") from error
