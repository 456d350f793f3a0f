"""What the collector owes: the ledgers of a run, folded into one answer an event.

A retried event is acked if any attempt was acked; else unknown if any attempt was unknown, or never got its second record;
else refused. Only an acked event must be in the table. Consecutive events that shared all their attempts are one segment,
so 10**8 events sent in batches of a hundred are a million segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from loadtests.records.ledger import RECORD, Kind, Ledger, Outcome, Record
from reports.keyset import CHUNK, windows

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Records = npt.NDArray[np.void]
_Scalar = TypeVar("_Scalar", bound=np.generic)

ATTEMPTED, ACKED, UNKNOWN, AMBIGUOUS, EXEMPT = 1, 2, 4, 8, 16
"""Bits of a segment's flags. ACKED, UNKNOWN and neither (refused) exclude each other. AMBIGUOUS: sent more than once, or some
attempt was unknown, so a collector that may deliver twice is allowed to have done it. EXEMPT: sent to be refused or quarantined
(poison, over the limit), so nothing is owed."""

NEVER = np.iinfo(np.int64).max
_OWES_NOTHING = (Kind.POISON, Kind.OVER_LIMIT)


@dataclass(frozen=True)
class Attempt:
    """One request that carried an event."""

    attempt: int
    kind: str
    sent_ns: int
    done_ns: int | None
    status: int | None
    outcome: str


@dataclass(frozen=True)
class Obligations:
    """The folded ledger of one producer.

    Attributes:
        edges: n+1 ascending sequences; segment i is edges[i] .. edges[i+1]-1. Segments without ATTEMPTED are gaps.
        flags: n bytes of the bits above.
        attempts: n numbers of requests that carried the segment.
        sent_ns: First send of each segment; NEVER in gaps.
        acked_ns: First ack of each segment; NEVER where there was none.
    """

    producer: int
    edges: U64
    flags: U8
    attempts: npt.NDArray[np.uint32]
    sent_ns: I64
    acked_ns: I64

    @property
    def first(self) -> int:
        """The lowest attempted sequence."""
        return int(self.edges[0])

    @property
    def last(self) -> int:
        """The highest attempted sequence."""
        return int(self.edges[-1]) - 1

    @cached_property
    def lengths(self) -> I64:
        """Events in each segment."""
        return np.diff(self.edges).astype(np.int64)

    def spans(self, gap: int) -> tuple[U64, U64]:
        """Return first and last of each stretch of attempted sequences; gaps shorter than *gap* are part of a stretch.

        There is one, but for sequences that no generator gave out: a damaged ledger may name any.
        """
        attempted = (self.flags & np.uint8(ATTEMPTED)) != 0
        firsts, ends = self.edges[:-1][attempted], self.edges[1:][attempted]
        apart = np.flatnonzero(firsts[1:] - ends[:-1] >= np.uint64(gap))
        return firsts[np.r_[0, apart + 1]], ends[np.r_[apart, len(ends) - 1]] - np.uint64(1)

    def windows(self) -> Iterator[tuple[int, int]]:
        """Yield (first, count) of consecutive windows that cover every attempted sequence, and gaps up to a window long."""
        for low, high in zip(*self.spans(CHUNK), strict=True):
            yield from windows(int(low), int(high))

    def total(self, *, having: int, lacking: int = 0) -> int:
        """Return how many events have all bits of *having* and none of *lacking*."""
        chosen = (self.flags & np.uint8(having | lacking)) == having
        return int(self.lengths[chosen].sum())

    def spread(self, values: npt.NDArray[_Scalar], first: int, count: int) -> npt.NDArray[_Scalar]:
        """Return *values* (one a segment) for each of the sequences first .. first+count-1, which must be in range."""
        begin = int(np.searchsorted(self.edges, np.uint64(first), side="right")) - 1
        end = int(np.searchsorted(self.edges, np.uint64(first + count), side="left"))
        bounds = self.edges[begin : end + 1].astype(np.int64)
        bounds[0], bounds[-1] = first, first + count
        return np.repeat(values[begin:end], np.diff(bounds))


@dataclass(frozen=True)
class Punctuality:
    """How well the generator kept its own schedule, from first sends only.

    Attributes:
        due_ns, lag_ns, events: For each request: when it was due, how much later it left, how many events it carried.
        given_up: Due times of arrivals that were never sent, and how many events each stood for.
    """

    due_ns: I64
    lag_ns: I64
    events: I64
    given_up_ns: I64
    given_up_events: I64


@dataclass(frozen=True)
class History:
    """Everything the generators recorded.

    Attributes:
        producers: Folded ledgers by producer.
        statuses: Answers by HTTP status (or negative `Status`), in requests.
        answers: Answers by kind of request, status and outcome, in requests.
        refused_ns, refused_events: When the target itself refused a request that it might have kept, and how many events that
            carried.
        torn_bytes: Bytes of half-written records at the ends of ledgers; each is at most one attempt that never left, or an
            answer that is counted as unknown.
    """

    producers: dict[int, Obligations]
    punctuality: Punctuality
    ledgers: int
    torn_bytes: int
    statuses: dict[int, int]
    answers: dict[tuple[Kind, int, Outcome], int]
    refused_ns: I64
    refused_events: I64

    def total(self, *, having: int, lacking: int = 0) -> int:
        """Return how many events of all producers have all bits of *having* and none of *lacking*."""
        return sum(p.total(having=having, lacking=lacking) for p in self.producers.values())


def fold(ledgers: Sequence[Ledger]) -> History:
    """Fold the ledgers of a run. Records without events are left out."""
    attempts, done = _attempts_and_outcomes(ledgers)
    producers = sorted(set(np.unique(attempts["producer"]).tolist()))
    by_producer = {int(p): _fold_producer(int(p), attempts, done) for p in producers}
    everything = [ledger.records for ledger in ledgers]
    answered = done[done["outcome"] != Outcome.NONE]
    statuses, counts = np.unique(answered["status"], return_counts=True)
    refused = done[(done["outcome"] == Outcome.REFUSED) & (done["status"] > 0) & ~np.isin(done["kind"], _OWES_NOTHING)]
    return History(
        producers=by_producer,
        punctuality=_punctuality(attempts, everything),
        ledgers=len(ledgers),
        torn_bytes=sum(ledger.torn_bytes for ledger in ledgers),
        statuses=dict(zip(statuses.tolist(), counts.tolist(), strict=True)),
        answers=_answers(answered),
        refused_ns=refused["done_ns"].astype(np.int64),
        refused_events=refused["count"].astype(np.int64),
    )


def _answers(answered: Records) -> dict[tuple[Kind, int, Outcome], int]:
    triples = np.stack([answered[name].astype(np.int64) for name in ("kind", "status", "outcome")])
    found, counts = np.unique(triples, axis=1, return_counts=True)
    return {
        (Kind(kind), status, Outcome(outcome)): number
        for (kind, status, outcome), number in zip(found.T.tolist(), counts.tolist(), strict=True)
    }


_FIELDS = ["kind", "producer", "attempt", "status", "count", "outcome", "first", "intended_ns", "sent_ns", "done_ns"]


def _attempts_and_outcomes(ledgers: Iterable[Ledger]) -> tuple[Records, Records]:
    """All attempts; and for each of them what it came to (the second record, or one that says unknown)."""
    attempts: list[Records] = [_empty()]
    outcomes: list[Records] = [_empty()]
    for ledger in ledgers:
        sent, decided = _join(ledger.records)
        attempts.append(sent)
        outcomes.append(decided)
    return np.concatenate(attempts), np.concatenate(outcomes)


def _empty() -> Records:
    return np.empty(0, dtype=[(name, RECORD[name]) for name in _FIELDS])


def _join(records: Records) -> tuple[Records, Records]:
    real = records[(records["count"] > 0) & (records["kind"] != Kind.NOT_SENT)]
    sent = real[real["record"] == Record.ATTEMPT]
    done = real[real["record"] == Record.DONE]
    # The first of several second records counts: a request is answered once.
    requests, index = np.unique(done["request"], return_index=True)
    done = done[np.sort(index)]
    lonely = sent[~np.isin(sent["request"], requests)].copy()
    lonely["outcome"] = Outcome.UNKNOWN
    lonely["done_ns"] = NEVER
    # A second record whose first one is missing (it was torn off) still proves that the request was sent.
    extra = done[~np.isin(done["request"], sent["request"])]
    decided = done.copy()
    decided["outcome"][decided["outcome"] == Outcome.NONE] = Outcome.UNKNOWN
    return np.concatenate([_plain(sent), _plain(extra)]), np.concatenate([_plain(decided), _plain(lonely)])


def _plain(records: Records) -> Records:
    out = np.empty(len(records), dtype=_empty().dtype)
    for name in _FIELDS:
        out[name] = records[name]
    return out


def _fold_producer(producer: int, attempts: Records, done: Records) -> Obligations:
    sent = attempts[attempts["producer"] == producer]
    decided = done[done["producer"] == producer]
    ends = sent["first"] + sent["count"]
    edges = np.unique(np.concatenate([sent["first"], ends, decided["first"], decided["first"] + decided["count"]]))
    size = len(edges) - 1
    times, sent_ns = np.zeros(size, dtype=np.uint32), np.full(size, NEVER, dtype=np.int64)
    segments, record = _segments(edges, sent)
    np.add.at(times, segments, 1)
    np.minimum.at(sent_ns, segments, sent["sent_ns"][record])
    flags, acked_ns = np.zeros(size, dtype=np.uint8), np.full(size, NEVER, dtype=np.int64)
    _mark(flags, edges, sent, ATTEMPTED)
    _mark(flags, edges, sent[sent["kind"] == Kind.DUPLICATE], AMBIGUOUS)
    _mark(flags, edges, sent[np.isin(sent["kind"], _OWES_NOTHING)], EXEMPT)
    _mark(flags, edges, decided[decided["outcome"] == Outcome.UNKNOWN], UNKNOWN | AMBIGUOUS)
    acked = decided[decided["outcome"] == Outcome.ACKED]
    _mark(flags, edges, acked, ACKED)
    segments, record = _segments(edges, acked)
    np.minimum.at(acked_ns, segments, acked["done_ns"][record])
    flags[times > 1] |= AMBIGUOUS
    flags[(flags & ACKED) != 0] &= np.uint8(255 - UNKNOWN)
    return Obligations(producer, edges, flags, times, sent_ns, acked_ns)


def _segments(edges: U64, records: Records) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return index pairs (segment, record) of every segment that each record covers."""
    begin = np.searchsorted(edges, records["first"])
    size = np.searchsorted(edges, records["first"] + records["count"]) - begin
    record = np.repeat(np.arange(len(records)), size)
    before = np.cumsum(size) - size
    return np.repeat(begin - before, size) + np.arange(int(size.sum())), record


def _mark(flags: U8, edges: U64, records: Records, bits: int) -> None:
    segments, _ = _segments(edges, records)
    flags[segments] |= np.uint8(bits)


def _punctuality(attempts: Records, everything: list[Records]) -> Punctuality:
    first = attempts[(attempts["attempt"] == 1) & (attempts["kind"] == Kind.NORMAL)]
    skipped = [records[records["kind"] == Kind.NOT_SENT] for records in everything]
    due = [s["intended_ns"].astype(np.int64) for s in skipped]
    events = [s["count"].astype(np.int64) for s in skipped]
    return Punctuality(
        due_ns=first["intended_ns"].astype(np.int64),
        lag_ns=(first["sent_ns"] - first["intended_ns"]).astype(np.int64),
        events=first["count"].astype(np.int64),
        given_up_ns=np.concatenate([np.empty(0, np.int64), *due]),
        given_up_events=np.concatenate([np.empty(0, np.int64), *events]),
    )


def attempts_of(ledgers: Sequence[Ledger], producer: int, sequence: int) -> list[Attempt]:
    """Return every attempt that carried one event, in the order sent."""
    found = []
    for ledger in ledgers:
        records = ledger.records
        covers = (records["producer"] == producer) & (records["first"] <= sequence)
        covers &= (sequence - records["first"] < records["count"]) & (records["kind"] != Kind.NOT_SENT)
        mine = records[covers]
        answers = {int(r["request"]): r for r in mine if r["record"] == Record.DONE}
        found += [_attempt(r, answers.get(int(r["request"]))) for r in mine if r["record"] == Record.ATTEMPT]
    return sorted(found, key=lambda attempt: attempt.sent_ns)


def _attempt(sent: np.void, answer: np.void | None) -> Attempt:
    outcome = Outcome.UNKNOWN if answer is None else Outcome(int(answer["outcome"]))
    return Attempt(
        attempt=int(sent["attempt"]),
        kind=Kind(int(sent["kind"])).name.lower(),
        sent_ns=int(sent["sent_ns"]),
        done_ns=None if answer is None else int(answer["done_ns"]),
        status=None if answer is None else int(answer["status"]),
        outcome=outcome.name.lower(),
    )
