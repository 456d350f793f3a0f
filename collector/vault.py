"""Backups of the buffer: export what waits, discard what was exported, replay it.

An export ends with a receipt that names it by number of events and SHA-256 of its lines. A reset discards, under such a
receipt, only events that are part of that export and wait in no flush: an event that came later stays, and a flush that is
sealed stays too, since it may already be in the table. A replay takes the same way into the table as any request; an event that
waits, or that the dedupe window remembers, is a duplicate, and of every other the table is asked whether it holds it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from collector.buffer import Buffer, decode_sound
from collector.clock import Clock
from collector.cloudevents import Event
from collector.crashpoints import NONE, CrashPoints
from collector.dedupe import Window
from collector.errors import InvalidEvent, NotDiscarded, NotReplayed
from collector.fill import Partition, Waiting
from collector.landed import Landed
from collector.lines import LineParser, to_line
from collector.store import Poison, Store

T = TypeVar("T")

RECEIPTS_KEPT = 16
DISCARDS_KEPT = 100
CHUNK_LINES = 200
CHUNK_BYTES = 1 << 20


class Receipt(msgspec.Struct, frozen=True):
    """What an export held.

    Attributes:
        events: Its number of lines, this one not counted.
        sha256: Of those lines, each with its line feed.
        through: Id of the newest stored request when the export began.
        damaged_requests: Stored requests that cannot be read; they are not part of it, and no reset discards them.
        undecided: Ids of flushes whose events are part of it and may be in the table as well.
    """

    events: int
    sha256: str
    through: int
    damaged_requests: int
    undecided: tuple[str, ...]


class Discarded(msgspec.Struct, frozen=True):
    """What a reset discarded: number and digest of the same lines that an export would hold, and where they belonged.

    Attributes:
        receipt: Digest of the export it was done under; None when it was confirmed by number.
        at: Unix seconds.
        partitions: ``{"type", "hour", "events"}`` each; the hour counts from the Unix epoch.
    """

    events: int
    sha256: str
    receipt: str | None
    at: float
    partitions: tuple[dict[str, Any], ...]


class Reset(msgspec.Struct, frozen=True):
    """The answer to a reset.

    Attributes:
        discarded: What this one discarded.
        earlier: What earlier resets under the same receipt discarded: the answer to one of them may have been lost.
        kept_flush: The outstanding flush, which no reset touches: ``{"flush_id", "state", "events"}``.
        kept_events: Events that still wait.
    """

    discarded: Discarded
    earlier: tuple[Discarded, ...]
    kept_flush: dict[str, Any] | None
    kept_events: int


@dataclass
class Replayed:
    """What became of the lines of a replay.

    Attributes:
        accepted: Events that were stored.
        duplicate: Events that are in the table, in a flush, or wait.
        quarantined: Lines that are no event, kept with the reason.
        complete: The last line was a receipt and the lines before it are those it was written for.
    """

    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    complete: bool = False

    @property
    def lines(self) -> int:
        """Lines that are done with."""
        return self.accepted + self.duplicate + self.quarantined


class Vault:
    """Export, reset and replay of one buffer. Every method blocks; none may run on an event loop's thread.

    Args:
        landed: Makes what a replay asks of the table; by default nothing is there.
    """

    def __init__(
        self,
        buffer: Buffer,
        parser: LineParser,
        *,
        clock: Clock,
        crash: CrashPoints = NONE,
        landed: Callable[[], Landed] = lambda: Landed(lambda _hour: ()),
    ) -> None:
        self.buffer = buffer
        self._landed = landed
        self._parser = parser
        self._clock = clock
        self._crash = crash

    @property
    def line_bytes_max(self) -> int:
        """Longest line a replay takes."""
        return self._parser.line_bytes_max

    # ------------------------------------------------------------------ export

    def export(self) -> Iterator[bytes]:
        """Yield the events of the buffer at one moment, as lines, then ``{"receipt": ...}``.

        Ingest and flushes go on. One stored request is in memory at a time. The receipt is stored before it is yielded;
        an export that ended earlier cannot be reset by. Left out are duplicates that were dropped, and flushes that
        are known to be in the table.
        """
        digest, count, damaged = hashlib.sha256(), 0, 0
        with self.buffer.view() as store:
            through, flushes = store.last_request(), store.flushes()
            left_out = _left_out(store)
            undecided = tuple(progress.flush_id for progress, _ in flushes if progress.state == "intent")
            for id_, body, sound in store.every_body():
                events = decode_sound(body) if sound else None
                if events is None:
                    damaged += 1
                    continue
                skip = left_out.get(id_, frozenset())
                lines = [to_line(event) for at, event in enumerate(events) if skip is not None and at not in skip]
                if not lines:
                    continue
                digest.update(chunk := b"".join(lines))
                count += len(lines)
                yield chunk
                self._crash("admin.export.mid")
        receipt = Receipt(count, digest.hexdigest(), through, damaged, undecided)
        self.buffer.write(lambda store: _keep_receipt(store, receipt))
        yield msgspec.json.encode({"receipt": receipt}) + b"\n"

    # ------------------------------------------------------------------ reset

    def reset(self, *, receipt: tuple[int, str] | None, confirmed_events: int | None = None) -> Reset:
        """Discard what waits: under a receipt (number and digest), or all of it when the operator says how much that is.

        Raises:
            NotDiscarded: No export has that receipt, or the number is not that of the waiting events.
            BufferUnavailable: It cannot be written; nothing is discarded.
        """
        known = self._receipt(receipt) if receipt is not None else None

        def choose(
            store: Store, waiting: Mapping[Partition, Sequence[Waiting]]
        ) -> tuple[dict[Partition, list[Waiting]], Discarded]:
            chosen, discarded = self._choose(store, waiting, known)
            if known is None and discarded.events != confirmed_events:
                raise NotDiscarded(
                    f'{discarded.events} events wait; to lose them, confirm with "discard {discarded.events} events"'
                )
            if discarded.events:
                _append(store, "discards", discarded, DISCARDS_KEPT)
                store.set_meta("discarded_events", (store.meta("discarded_events") or 0) + discarded.events)
            return chosen, discarded

        earlier = tuple(one for one in self.discards() if known is not None and one.receipt == known.sha256)
        discarded = self.buffer.discard(choose)
        flush = self.buffer.outstanding
        kept = {"flush_id": flush.id, "state": flush.progress.state, "events": flush.events} if flush else None
        waits = sum(one.events for requests in self.buffer.waiting_requests().values() for one in requests)
        return Reset(discarded, earlier, kept, waits)

    def discards(self) -> list[Discarded]:
        """What the latest resets discarded, oldest first."""
        with self.buffer.view() as store:
            return _read(store, "discards", Discarded)

    def _receipt(self, given: tuple[int, str]) -> Receipt:
        with self.buffer.view() as store:
            receipts = _read(store, "receipts", Receipt)
        for one in reversed(receipts):
            if (one.events, one.sha256) == given:
                return one
        raise NotDiscarded(
            f"no export with {given[0]} events and that digest was completed here lately; export again and use its receipt"
        )

    def _choose(
        self, store: Store, waiting: Mapping[Partition, Sequence[Waiting]], receipt: Receipt | None
    ) -> tuple[dict[Partition, list[Waiting]], Discarded]:
        candidates = sorted(
            (
                (request, key)
                for key, requests in waiting.items()
                for request in requests
                if receipt is None or request.id <= receipt.through
            ),
            key=lambda pair: pair[0].id,
        )
        digest, events = hashlib.sha256(), 0
        chosen: dict[Partition, list[Waiting]] = {}
        for request, key in candidates:
            for _, body, sound in store.bodies([request.id]):
                decoded = decode_sound(body) if sound else None
                if decoded is not None:
                    digest.update(b"".join(map(to_line, decoded)))
                    events += len(decoded)
                    chosen.setdefault(key, []).append(request)
        partitions = tuple(
            {"type": type_, "hour": hour, "events": sum(one.events for one in requests)}
            for (type_, hour), requests in sorted(chosen.items())
        )
        sha256 = receipt.sha256 if receipt is not None else None
        return chosen, Discarded(events, digest.hexdigest(), sha256, self._clock.time(), partitions)

    # ------------------------------------------------------------------ replay

    def replay(self) -> Replay:
        """Begin a replay; raises ``NotReplayed`` when nothing could tell what was replayed before."""
        if not self.buffer.dedupes:
            raise NotReplayed("DEDUPE_WINDOW_S is 0: a replay would double what is already in the table")
        return Replay(self.buffer, self._parser, self._clock, self._crash, self._landed())


@dataclass
class Replay:
    """One replay, chunk by chunk; each is stored as a whole or not at all, and may be given again."""

    buffer: Buffer
    parser: LineParser
    clock: Clock
    crash: CrashPoints
    landed: Landed
    result: Replayed = field(default_factory=Replayed)

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()
        self._waiting = Window(math.inf, 1 << 62)
        self._known_through = 0

    def take(self, lines: Sequence[bytes]) -> None:
        """Store what is new of ``lines`` (without line feeds, at most ``CHUNK_LINES``); returns after the sync.

        Raises:
            NotAccepted: Nothing of them was stored; the same lines may be given again.
        """
        events: list[Event] = []
        poison: list[Poison] = []
        receipt: dict[str, Any] | None = None
        for line in lines:
            if (found := _receipt_of(line)) is not None:
                receipt = found
                continue
            try:
                events.append(self.parser.parse(line))
            except InvalidEvent as error:
                poison.append(Poison("", 0, f"replayed line: {error.reason}", line))
        fresh = self._store(events, poison)
        for line in lines:
            if _receipt_of(line) is None:
                self._digest.update(line + b"\n")
        self.result.accepted += fresh
        self.result.duplicate += len(events) - fresh
        self.result.quarantined += len(poison)
        given = (receipt["events"], receipt["sha256"]) if receipt is not None else None
        self.result.complete = given == (self.result.lines, self._digest.hexdigest())
        self.crash("admin.replay.mid")

    def _store(self, events: Sequence[Event], poison: Sequence[Poison]) -> int:
        if poison:
            self.buffer.quarantine_replayed(poison)
        with self.buffer.sealing:
            perhaps = self._new(events)
        held = self.landed.holds(perhaps)  # it takes as long as the table takes, and flushes must not wait for it
        perhaps = [event for event, there in zip(perhaps, held, strict=True) if not there]
        with self.buffer.sealing:  # what waits cannot become a flush, or be discarded, between the look and the store
            fresh = self._new(perhaps)
            self.buffer.submit(fresh).result()
        return len(fresh)

    def _new(self, events: Sequence[Event]) -> list[Event]:
        """Return what neither waits nor is known to be in a flush. Hold ``sealing``."""
        self._known_through = self.buffer.learn_waiting(self._waiting, self._known_through)
        repeated = self.buffer.repeated(events, self._waiting)
        return [event for event, known in zip(events, repeated, strict=True) if not known]


def _keep_receipt(store: Store, receipt: Receipt) -> None:
    _append(store, "receipts", receipt, RECEIPTS_KEPT)
    store.set_meta("exported_through", max(receipt.through, store.meta("exported_through") or 0))


def _receipt_of(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b'{"receipt":'):
        return None
    try:
        receipt = msgspec.json.decode(line)["receipt"]
    except msgspec.MsgspecError:
        return None
    return receipt if isinstance(receipt, dict) and {"events", "sha256"} <= receipt.keys() else None


def _left_out(store: Store) -> dict[int, frozenset[int] | None]:
    """By request: the positions of events that a sealed flush dropped; None: all of it is in the table."""
    found: dict[int, frozenset[int] | None] = {}
    for progress, parts in store.flushes():
        for part in parts:
            dropped, start = sorted(part.dropped), 0
            for id_, events in store.sizes(part.requests):
                inside = frozenset(at - start for at in dropped if start <= at < start + events)
                found[id_] = None if progress.state == "committed" else inside
                start += events
    return found


def _read(store: Store, key: str, kind: type[T]) -> list[T]:
    text = store.meta(key)
    return msgspec.json.decode(text, type=list[kind]) if text else []  # type: ignore[valid-type]


def _append(store: Store, key: str, record: msgspec.Struct, keep: int) -> None:
    records = [*_read(store, key, type(record)), record]
    store.set_meta(key, msgspec.json.encode(records[-keep:]))
