"""From a real log of CloudEvents to traffic that replays it: a curve in five-minute steps, and event types by the hour.

The log is read once, as a stream; what is kept of it is a count for each type and five minutes. The file that comes out has the
format of profiles.yaml, holds one traffic, and keeps the recorded volume by type and hour for whoever asks what is usual.
"""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from loadtests.errors import BadTraffic
from loadtests.records.content import TYPES_MAX
from loadtests.traffic import CurveSpec, Mix, Profiles, TrafficSpec, Volume

BIN_S = 300
HOUR_S = 3600
HOURS_MAX = 24 * 31
OTHER = "icequake.other"
"""Stands for the rarest types where there are more than can be told apart."""

NAME = "recorded"
_BATCH_ROWS = 1 << 16


@dataclass
class Counted:
    """What a log holds: events by (type, five minutes since 1970), and how many lines said neither type nor time."""

    bins: Counter[tuple[str, int]]
    unusable: int = 0

    @property
    def events(self) -> int:
        """How many events were counted."""
        return self.bins.total()


class _Line(msgspec.Struct):
    type: str
    time: str


def count_log(path: Path, *, since: datetime | None = None, until: datetime | None = None) -> Counted:
    """Count the events of a log.

    Args:
        path: Parquet with columns `type` and `time`, or one CloudEvent in JSON a line, gzipped if the name ends in .gz.
        since, until: Count only events from *since* on and before *until*.

    Raises:
        BadTraffic: it cannot be read, or no event in it has a type and a time.
    """
    counted = Counted(Counter())
    pairs = _parquet(path) if path.suffix == ".parquet" else _ndjson(path)
    low = -math.inf if since is None else since.timestamp()
    high = math.inf if until is None else until.timestamp()
    try:
        for kind, time_s in pairs:
            if not kind or time_s is None:
                counted.unusable += 1
            elif low <= time_s < high:
                counted.bins[kind, int(time_s // BIN_S)] += 1
    except (OSError, EOFError, pa.ArrowException) as error:
        raise BadTraffic(f"{path} cannot be read: {error}.") from error
    if not counted.events:
        raise BadTraffic(f"{path} holds no event with a type and a time in the time asked for.")
    return counted


def _ndjson(path: Path) -> Iterator[tuple[str | None, float | None]]:
    decode = msgspec.json.Decoder(_Line).decode
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as stream:
        for line in stream:
            if line.isspace():
                continue
            try:
                event = decode(line)
                yield event.type, _seconds(event.time)
            except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, OverflowError):
                yield None, None


def _seconds(text: str) -> float:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def _parquet(path: Path) -> Iterator[tuple[str | None, float | None]]:
    with pq.ParquetFile(path) as file:
        missing = {"type", "time"} - set(file.schema_arrow.names)
        if missing:
            raise BadTraffic(f"{path} has no column {sorted(missing)[0]!r}; it needs `type` and `time`.")
        for batch in file.iter_batches(_BATCH_ROWS, columns=["type", "time"]):
            yield from zip(batch["type"].to_pylist(), _times(batch["time"]), strict=True)


def _times(column: pa.Array) -> list[float | None]:
    if pa.types.is_timestamp(column.type):
        micros = pc.cast(column, pa.timestamp("us"), safe=False).cast(pa.int64())
        return [None if value is None else value / 1e6 for value in micros.to_pylist()]
    return [_or_none(text) for text in column.to_pylist()]


def _or_none(text: Any) -> float | None:
    try:
        return _seconds(text)
    except (TypeError, ValueError, OverflowError):
        return None


def profiles_of(counted: Counted, *, about: str) -> Profiles:
    """Return the traffic that replays *counted*: curve, mix and volume.

    Raises:
        BadTraffic: it covers more than a month.
    """
    bins = _bounded(counted.bins)
    first = min(at for _, at in bins) * BIN_S // HOUR_S
    hours = max(at for _, at in bins) * BIN_S // HOUR_S - first + 1
    if hours > HOURS_MAX:
        raise BadTraffic(f"the log covers {hours:,} hours, more than a month; choose a part with --since and --until.")
    total = sum(bins.values())
    volume = _volume(bins, first, hours)
    types: dict[str, float] = {kind: sum(numbers) for kind, numbers in volume.items()}
    phases = [
        {kind: float(numbers[hour]) for kind, numbers in volume.items() if numbers[hour]} for hour in range(hours)
    ]
    start = datetime.fromtimestamp(first * HOUR_S, UTC).isoformat().replace("+00:00", "Z")
    return Profiles(
        curves={NAME: CurveSpec(points=_points(bins, first, hours), period_s=float(hours * HOUR_S), repeat=True)},
        # In an hour without events nothing is sent; its phase only has to be one.
        mixes={NAME: Mix(types=types, phases=[phase or dict(types) for phase in phases])},
        traffic={NAME: TrafficSpec(about=about, curve=NAME, mix=NAME)},
        volume=Volume(start=start, events=total, events_per_s=total / (hours * HOUR_S), types=volume),
    )


def _bounded(bins: Counter[tuple[str, int]]) -> Counter[tuple[str, int]]:
    """*bins* with the rarest types taken together, if there are too many."""
    by_type: Counter[str] = Counter()
    for (kind, _), number in bins.items():
        by_type[kind] += number
    if len(by_type) <= TYPES_MAX:
        return bins
    kept = {kind for kind, _ in by_type.most_common(TYPES_MAX - 1)}
    merged: Counter[tuple[str, int]] = Counter()
    for (kind, at), number in bins.items():
        merged[kind if kind in kept else OTHER, at] += number
    return merged


def _volume(bins: Counter[tuple[str, int]], first: int, hours: int) -> dict[str, list[int]]:
    volume: dict[str, list[int]] = {}
    for (kind, at), number in sorted(bins.items()):
        volume.setdefault(kind, [0] * hours)[at * BIN_S // HOUR_S - first] += number
    return volume


def _points(bins: Counter[tuple[str, int]], first: int, hours: int) -> list[tuple[float, float]]:
    """A step of constant height for each five minutes; the mean is 1."""
    steps = hours * HOUR_S // BIN_S
    numbers = [0] * steps
    for (_, at), number in bins.items():
        numbers[at - first * HOUR_S // BIN_S] += number
    mean = sum(numbers) / steps
    points: list[tuple[float, float]] = []
    for step, number in enumerate(numbers):
        height = number / mean
        if points and points[-1][1] == height:
            points[-1] = ((step + 1) / steps, height)
        else:
            points += [(step / steps, height), ((step + 1) / steps, height)]
    return points


def write_profiles(path: Path, profiles: Profiles) -> None:
    """Write a traffic file. Raises OSError."""
    plain = msgspec.to_builtins(profiles)
    mix = plain["mixes"][NAME]
    plain["mixes"] = {NAME: {"types": mix["types"], "phases": mix["phases"]}}
    if plain["volume"] is None:
        del plain["volume"]
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10_000)
    path.write_text(f"# Written by `icequake baseline record`; give its path to --traffic.\n{text}", encoding="utf-8")
