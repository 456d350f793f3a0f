"""Both sides laid over each other: what is owed (ledgers) against what a scan returns (observed/), event by event.

Sets come out as ranges of consecutive sequences that share everything known of them. The walk goes window by window, so memory
is bounded by a byte or so an event, and every row that was read must be accounted for (`Reconciliation.unaccounted`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reports.keyset import CHUNK, U64, Counted, KeySet, runs_of
from reports.obligations import ACKED, AMBIGUOUS, ATTEMPTED, EXEMPT, NEVER, UNKNOWN, History, Obligations
from reports.sightings import FirstSeen
from reports.stages import Stage

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NOTHING: Mapping[int, U64] = {}
NONE: U64 = np.empty(0, dtype=np.uint64)

SETS = (
    "missing",
    "duplicated",
    "altered",
    "unexpected",
    "resurrected",
    "recovered",
    "not_landed",
    "late",
    "quarantined",
)
_NO_FILE = -1


@dataclass(frozen=True)
class FileKeys:
    """One data file as reconciliation needs it.

    Attributes:
        number: Its place in the index of observed/.
        references: How often a scan returns each of its rows; 0 for files that a scan does not read.
        seen: The auditor's first sighting, if it saw it.
    """

    number: int
    stage: Stage
    references: int
    found: Mapping[int, Counted]
    altered: Mapping[int, Counted]
    seen: FirstSeen | None = None


@dataclass(frozen=True)
class Range:
    """Consecutive anomalous events of one producer that share everything below.

    Attributes:
        stage: How far they got (for missing events: the furthest).
        files: Numbers of up to two data files they were found in.
        copies: Rows a scan returns for each.
        acked_ns: First ack of the first of them; None if never acked. `acked_last_ns` is the latest first ack of any of them.
        ambiguous: Their history allows a second delivery under at_least_once.
        attempted: False for events nobody sent.
    """

    producer: int
    first: int
    last: int
    stage: Stage = Stage.ACKED
    files: tuple[int, ...] = ()
    copies: int = 0
    acked_ns: int | None = None
    acked_last_ns: int | None = None
    ambiguous: bool = False
    attempted: bool = True

    @property
    def events(self) -> int:
        """How many events the range has."""
        return self.last - self.first + 1


@dataclass
class Found:
    """One set: how many events, and the ranges kept as examples (the first ones, up to the limit that was asked for)."""

    events: int = 0
    ranges: list[Range] = field(default_factory=list)
    ambiguous_events: int = 0


AGE_EDGES_S = np.array([0, *np.geomspace(0.05, 86_400, 200)])
"""Bins of the histogram of ages (ack to first sighting), in seconds."""


@dataclass
class Reconciliation:
    """Everything the comparison found.

    Attributes:
        sets: By name from `SETS`. `missing` is acked and absent: lost, stuck or pending is for the judge to say. What is
            acked, absent and kept aside by the target is `quarantined` instead.
        stages: How many missing events got how far.
        rows_ours: Rows a scan returns for this run's sources, copies included, without strays.
        accounted: Rows that the walk accounted for; must equal `rows_ours`.
        distinct: Different events a scan returns.
        present_acked: Acked events that are there.
        unwanted: Events that are there though they were sent to be refused or skipped.
        age_counts: Events by age, binned by `AGE_EDGES_S`; ages are upper bounds, since the auditor looks now and then.
        last_sighting_ns: When the last of the acked events in question was first seen; see `caught_up_before_ns`.
    """

    sets: dict[str, Found] = field(default_factory=lambda: {name: Found() for name in SETS})
    stages: dict[Stage, int] = field(default_factory=lambda: dict.fromkeys(Stage, 0))
    rows_ours: int = 0
    accounted: int = 0
    distinct: int = 0
    present_acked: int = 0
    unwanted: int = 0
    age_counts: I64 = field(default_factory=lambda: np.zeros(len(AGE_EDGES_S) - 1, dtype=np.int64))
    sighted: int = 0
    last_sighting_ns: int | None = None
    missing_before: int = 0

    @property
    def unaccounted(self) -> int:
        """Rows that were read but lost by the comparison itself; anything but 0 is a fault of the harness."""
        return self.rows_ours - self.accounted


@dataclass(frozen=True)
class Punctual:
    """How lateness is judged.

    Attributes:
        freshness_ns: Time the contract allows between ack and visibility.
        windows: Fault windows as (start, end) with the recovery allowance added to the end, ascending by start. While one is
            open the clock stands; it starts anew when the window closes.
        caught_up_before_ns: Events acked until then count for `last_sighting_ns` and `missing_before`.
        boundaries_ns: Ascending instants at which ranges are split by ack time, so that each lies in one fault window.
    """

    freshness_ns: int
    windows: Sequence[tuple[int, int]] = ()
    caught_up_before_ns: int | None = None
    boundaries_ns: Sequence[int] = ()

    def deadlines(self, acked_ns: I64) -> I64:
        """Return when each event that was acked at *acked_ns* must have been visible."""
        deadline = acked_ns + self.freshness_ns
        for start, end in self.windows:
            met = (start < deadline) & (end > acked_ns)
            deadline = np.where(met, np.maximum(deadline, end + self.freshness_ns), deadline)
        return deadline


def reconcile(
    history: History,
    files: Sequence[FileKeys],
    punctual: Punctual | None = None,
    *,
    keep: int = 1000,
    quarantined: Mapping[int, U64] = NOTHING,
) -> Reconciliation:
    """Compare what is owed with what is there.

    Args:
        quarantined: Sequences that the target keeps aside, by producer.
        keep: At most so many ranges a set are kept; all events are counted.
    """
    result = Reconciliation()
    result.rows_ours = sum(c.rows * f.references for f in files for c in f.found.values())
    producers = sorted(set(history.producers) | {p for f in files for p in f.found})
    for producer in producers:
        owed = history.producers.get(producer)
        mine = [f for f in files if producer in f.found]
        spans = owed.spans(CHUNK) if owed is not None else (NONE, NONE)
        _unattempted(result, producer, spans, mine, keep)
        if owed is not None:
            aside = quarantined.get(producer, NONE)
            for first, count in owed.windows():
                _Window(result, owed, mine, first, count, punctual, keep, aside).compare()
    return result


def _unattempted(
    result: Reconciliation, producer: int, spans: tuple[U64, U64], files: Iterable[FileKeys], keep: int
) -> None:
    """Events outside everything that was ever attempted; gaps inside it are found by the windows."""
    holders = [f for f in files if f.references and not _within(f.found[producer].keys, spans)]
    if not holders:
        return
    keys, rows = zip(*(_outside(f.found[producer], f.references, spans) for f in holders), strict=True)
    where, index = np.unique(np.concatenate(keys), return_inverse=True)
    copies = np.zeros(len(where), dtype=np.int64)
    np.add.at(copies, index, np.concatenate(rows))
    result.accounted += int(copies.sum())
    result.distinct += len(where)
    found = result.sets["unexpected"]
    found.events += len(where)
    for start, end in list(zip(*runs_of(where), strict=True))[: max(keep - len(found.ranges), 0)]:
        numbers = tuple(f.number for f in holders if _holds(f.found[producer], int(start)))[:2]
        times = int(copies[np.searchsorted(where, start)])
        found.ranges.append(Range(producer, int(start), int(end), Stage.SCAN, numbers, times, attempted=False))


def _within(keys: KeySet, spans: tuple[U64, U64]) -> bool:
    """Tell whether all of *keys* lie in one of *spans*."""
    return bool(((spans[0] <= keys.first) & (keys.last <= spans[1])).any())


def _outside(counted: Counted, references: int, spans: tuple[U64, U64]) -> tuple[U64, I64]:
    """The sequences in none of *spans*, which ascend, and how many rows a scan returns for each."""
    keys = counted.keys.sequences()
    before = np.searchsorted(spans[0], keys, side="right")
    ends = np.r_[np.uint64(0), spans[1]][before]
    keys = keys[(before == 0) | (keys > ends)]
    rows = np.ones(len(keys), dtype=np.int64)
    again = np.isin(keys, counted.again)
    rows[again] += counted.copies[np.searchsorted(counted.again, keys[again])].astype(np.int64)
    return keys, rows * references


def _holds(counted: Counted, sequence: int) -> bool:
    return bool(counted.keys.mask(sequence, 1)[0])


class _Window:
    """The comparison of one stretch of one producer's sequences."""

    def __init__(
        self,
        result: Reconciliation,
        owed: Obligations,
        files: Sequence[FileKeys],
        first: int,
        count: int,
        punctual: Punctual | None,
        keep: int,
        aside: U64,
    ) -> None:
        self.aside = np.zeros(count, dtype=np.bool_)
        self.aside[(aside[(aside >= first) & (aside < first + count)] - np.uint64(first)).astype(np.intp)] = True
        self.result, self.owed, self.first, self.count, self.keep = result, owed, first, count, keep
        self.punctual = punctual
        self.files = [f for f in files if f.found[owed.producer].keys.first < first + count]
        self.files = [f for f in self.files if f.found[owed.producer].keys.last >= first]
        self.flags = owed.spread(owed.flags, first, count)
        self.copies = np.zeros(count, dtype=np.uint32)
        self.altered = np.zeros(count, dtype=np.bool_)

    def compare(self) -> None:
        for file in self.files:
            if file.references:
                self._add(file)
        self.result.accounted += int(self.copies.sum(dtype=np.int64))
        present = self.copies > 0
        self.result.distinct += int(np.count_nonzero(present))
        self._sort_out(present)
        if self.punctual is not None:
            self._ages(present, self.punctual)

    def _add(self, file: FileKeys) -> None:
        counted = file.found[self.owed.producer]
        self.copies += counted.keys.mask(self.first, self.count) * np.uint32(file.references)
        inside = (counted.again >= self.first) & (counted.again < self.first + self.count)
        spots = (counted.again[inside] - np.uint64(self.first)).astype(np.intp)
        self.copies[spots] += (counted.copies[inside] * np.uint64(file.references)).astype(np.uint32)
        altered = file.altered.get(self.owed.producer)
        if altered is not None:
            self.altered |= altered.keys.mask(self.first, self.count)

    def _sort_out(self, present: Mask) -> None:
        attempted, acked = self._have(ATTEMPTED), self._have(ACKED)
        unknown, owed = self._have(UNKNOWN), ~self._have(EXEMPT)
        self.result.present_acked += int(np.count_nonzero(acked & present))
        self.result.unwanted += int(np.count_nonzero(~owed & present))
        self._keep("missing", acked & owed & ~present & ~self.aside)
        self._keep("quarantined", acked & owed & ~present & self.aside)
        self._keep("duplicated", attempted & (self.copies > 1))
        self._keep("altered", attempted & owed & self.altered)
        self._keep("unexpected", ~attempted & present)
        self._keep("resurrected", attempted & ~acked & ~unknown & present)
        self._keep("recovered", unknown & present)
        self._keep("not_landed", unknown & ~present)

    def _have(self, bit: int) -> Mask:
        having: Mask = (self.flags & np.uint8(bit)) != 0
        return having

    def _ages(self, present: Mask, punctual: Punctual) -> None:
        acked_ns = self.owed.spread(self.owed.acked_ns, self.first, self.count).astype(np.int64)
        seen_ns, after_ns = self._sightings()
        owed = self._have(ACKED) & ~self._have(EXEMPT)
        sighted = owed & present & (seen_ns < NEVER)
        ages_s = np.maximum(seen_ns[sighted] - acked_ns[sighted], 0) / 1e9
        self.result.age_counts += np.histogram(np.clip(ages_s, 0, AGE_EDGES_S[-1]), AGE_EDGES_S)[0]
        self.result.sighted += int(np.count_nonzero(sighted))
        late = np.zeros(self.count, dtype=np.bool_)
        late[sighted] = after_ns[sighted] > punctual.deadlines(acked_ns[sighted])
        self._keep("late", late)
        if punctual.caught_up_before_ns is not None:
            before = owed & (acked_ns <= punctual.caught_up_before_ns)
            self.result.missing_before += int(np.count_nonzero(before & ~present & ~self.aside))
            if (before & sighted).any():
                newest = int(seen_ns[before & sighted].max())
                self.result.last_sighting_ns = max(newest, self.result.last_sighting_ns or newest)

    def _sightings(self) -> tuple[I64, I64]:
        """First sighting of each event, and the last look before it."""
        seen_ns = np.full(self.count, NEVER, dtype=np.int64)
        after_ns = np.full(self.count, NEVER, dtype=np.int64)
        for file in self.files:
            if file.seen is None or file.stage < Stage.MANIFEST:
                continue
            earlier = file.found[self.owed.producer].keys.mask(self.first, self.count) & (seen_ns > file.seen.seen_ns)
            seen_ns[earlier], after_ns[earlier] = file.seen.seen_ns, file.seen.after_ns
        return seen_ns, after_ns

    def _keep(self, name: str, chosen: Mask) -> None:
        spots = np.flatnonzero(chosen)
        if not len(spots):
            return
        found = self.result.sets[name]
        found.events += len(spots)
        found.ambiguous_events += int(np.count_nonzero(self.flags[spots] & AMBIGUOUS))
        if name != "missing" and len(found.ranges) >= self.keep:
            return
        stage, one, two = self._places(chosen)
        if name == "missing":
            for value, number in zip(*np.unique(stage[spots], return_counts=True), strict=True):
                self.result.stages[Stage(int(value))] += int(number)
        self._ranges(found, spots, stage, one, two)

    def _places(self, chosen: Mask) -> tuple[I64, I64, I64]:
        """For each event: the furthest stage, and the first two files that are at that stage (none is -1)."""
        stage = np.zeros(self.count, dtype=np.int64)
        one = np.full(self.count, _NO_FILE, dtype=np.int64)
        two = np.full(self.count, _NO_FILE, dtype=np.int64)
        for file in self.files:  # ordered from the furthest stage down
            here = file.found[self.owed.producer].keys.mask(self.first, self.count) & chosen
            second = here & (one != _NO_FILE) & (two == _NO_FILE) & (stage == int(file.stage))
            two[second] = file.number
            fresh = here & (stage < int(file.stage))
            stage[fresh], one[fresh] = int(file.stage), file.number
        return stage, one, two

    def _ranges(self, found: Found, spots: I64, stage: I64, one: I64, two: I64) -> None:
        acked_ns = self.owed.spread(self.owed.acked_ns, self.first, self.count)
        same = np.diff(spots) == 1
        boundaries = np.asarray(self.punctual.boundaries_ns if self.punctual else (), dtype=np.int64)
        for column in (stage, one, two, self.copies, self.flags, np.searchsorted(boundaries, acked_ns, side="right")):
            values = column[spots].astype(np.int64)
            same &= values[1:] == values[:-1]
        starts = np.r_[0, np.flatnonzero(~same) + 1]
        ends = np.r_[starts[1:], len(spots)] - 1
        for start, end in zip(spots[starts].tolist(), spots[ends].tolist(), strict=True):
            if len(found.ranges) >= self.keep:
                return
            when = int(acked_ns[start])
            acks = acked_ns[start : end + 1]
            known = acks[acks != NEVER]
            found.ranges.append(
                Range(
                    producer=self.owed.producer,
                    first=self.first + start,
                    last=self.first + end,
                    stage=Stage(int(stage[start])),
                    files=tuple(int(f) for f in (one[start], two[start]) if f != _NO_FILE),
                    copies=int(self.copies[start]),
                    acked_ns=None if when == NEVER else when,
                    acked_last_ns=int(known.max()) if len(known) else None,
                    ambiguous=bool(self.flags[start] & AMBIGUOUS),
                    attempted=bool(self.flags[start] & ATTEMPTED),
                )
            )


def each_event(ranges: Iterable[Range]) -> Iterator[tuple[Range, int]]:
    """Yield (range, sequence) of every event in *ranges*."""
    for one in ranges:
        for sequence in range(one.first, one.last + 1):
            yield one, sequence


__all__ = [
    "AGE_EDGES_S", "FileKeys", "Found", "Punctual", "Range", "Reconciliation", "SETS", "U64", "each_event", "reconcile",
]  # fmt: skip
