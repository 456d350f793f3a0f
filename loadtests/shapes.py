"""What each request is meant to be: ordinary, sent twice, another source's, just inside a limit, beyond it, or invalid.

The shape of the n-th request is a pure function of seed, producer and n. The ledger keeps its kind, so that whoever reads it
knows which answer the contract allows (`loadtests.answers.breach`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from loadtests.errors import BadTraffic
from loadtests.poison import poisons_for
from loadtests.records.ledger import Kind
from loadtests.records.target import Contract
from loadtests.traffic import Mix

_Choice = TypeVar("_Choice")
Limit = Literal["event_bytes", "body_bytes", "batch_events"]

SINGLE = ("structured", "binary")
"""Modes that carry one event a request."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One request before its events are chosen.

    Attributes:
        count: Events it carries.
        kind: Why it is sent.
        again_s: Seconds after the first attempt at which the same bytes are sent once more, as by a client that saw no answer.
        twin: The events are another source's, with the ids of an ordinary request before it.
        poison: Name of what is wrong with one of its events; None when nothing is.
        place: Which event that is.
        limit, beyond: The limit it is sized by, and how much larger than the limit it is (0: exactly as large).
    """

    count: int
    kind: Kind = Kind.NORMAL
    again_s: float | None = None
    twin: bool = False
    poison: str | None = None
    place: int = 0
    limit: Limit | None = None
    beyond: int = 0

    @property
    def plain(self) -> bool:
        """Whether it is an ordinary request, which may have a twin."""
        return self.kind == Kind.NORMAL and not self.twin and self.limit is None


class Shapes:
    """Decide the shape of every request of one producer.

    Args:
        mix: Shares of what is not ordinary.
        batch: Events an ordinary request carries.
        mode: CloudEvents HTTP mode.
        contract: The target's limits, and what becomes of an invalid event.
        compressed: Bodies are compressed, so that their size on the wire cannot be chosen.

    Raises:
        BadTraffic: the mix needs limits that the contract does not name, or *batch* is over them.
    """

    def __init__(
        self, mix: Mix, *, batch: int, mode: str, contract: Contract, seed: int, producer: int, compressed: bool = False
    ) -> None:
        self._name = f"{seed}:{producer}:shape:".encode()
        self._mix, self._batch = mix, batch
        self._ordinary = Shape(batch)
        self._special = mix.special
        self._poisons = poisons_for(mode, invalid=contract.invalid)
        self._skips = contract.invalid == "skip_event"
        self._sized = _sized(contract, batch, mode, compressed) if mix.sizes or mix.over_limit else []
        limits = contract.limits
        if limits is not None and batch > limits.batch_events:
            most = limits.batch_events
            raise BadTraffic(f"--batch {batch} is over the target's contract.limits.batch_events; use at most {most}.")

    def of(self, number: int) -> Shape:
        """Return the shape of request *number*, counted from 0."""
        if not self._special:
            return self._ordinary
        which, one, two, again = self._draws(number)
        mix = self._mix
        for share, make in (
            (mix.collisions, self._twin),
            (mix.poison, self._poison),
            (mix.sizes, self._at_a_limit),
            (mix.over_limit, self._over_a_limit),
        ):
            if which < share:
                return make(one, two)
            which -= share
        return self._perhaps_again(again, one)

    def _draws(self, number: int) -> tuple[float, ...]:
        digest = hashlib.blake2b(self._name + b"%d" % number, digest_size=16).digest()
        return tuple(value / 2**32 for value in struct.unpack("<4I", digest))

    def _perhaps_again(self, draw: float, which: float) -> Shape:
        again = self._mix.duplicates
        return replace(self._ordinary, again_s=_pick(again.after_s, which)) if draw < again.share else self._ordinary

    def _twin(self, _one: float, _two: float) -> Shape:
        return Shape(self._batch, twin=True)

    def _poison(self, one: float, two: float) -> Shape:
        place = int(two * self._batch)
        return Shape(self._batch, Kind.POISON, poison=_pick(self._poisons, one), place=place)

    def _at_a_limit(self, one: float, two: float) -> Shape:
        shape = _pick(self._sized, one)
        return _grown(shape, _pick((-1, 0, 1), two))

    def _over_a_limit(self, one: float, two: float) -> Shape:
        shape = _pick(self._sized, one)
        return _grown(shape, _pick((1, max(2, self._size_of(shape))), two))

    def _size_of(self, shape: Shape) -> int:
        """So much beyond the limit is about half as much again."""
        return shape.count // 2 if shape.limit == "batch_events" else 64 << 10

    def parts(self, shape: Shape, first: int) -> Iterator[tuple[int, int, Kind]]:
        """Yield (first, count, kind) of runs of events that share an expected answer, for events from *first* on."""
        if shape.kind != Kind.POISON or not self._skips:
            yield first, shape.count, shape.kind
            return
        for start, end, kind in (
            (0, shape.place, Kind.NORMAL),
            (shape.place, shape.place + 1, Kind.POISON),
            (shape.place + 1, shape.count, Kind.NORMAL),
        ):
            if end > start:
                yield first + start, end - start, kind


def _pick(choices: Sequence[_Choice], draw: float) -> _Choice:
    return choices[int(draw * len(choices))]


def _grown(shape: Shape, beyond: int) -> Shape:
    """*shape*, which is exactly at its limit, made *beyond* larger."""
    kind = Kind.OVER_LIMIT if beyond > 0 else Kind.NORMAL
    count = shape.count + beyond if shape.limit == "batch_events" else shape.count
    return replace(shape, kind=kind, count=count, beyond=beyond)


EVENT_BYTES_USUAL = 1024
"""More than the text of an event that nobody has enlarged."""


def _sized(contract: Contract, batch: int, mode: str, compressed: bool) -> list[Shape]:
    """The limits that a request can be held against, each as a shape that is exactly as large as allowed."""
    limits = contract.limits
    if limits is None:
        raise BadTraffic(
            "this traffic sends requests at and over the target's limits, but its target file names none; add "
            "contract.limits with body_bytes, event_bytes and batch_events."
        )
    shapes = []
    if compressed or limits.event_bytes < limits.body_bytes:
        shapes.append(Shape(1, limit="event_bytes"))
    if mode in SINGLE:
        return shapes or [Shape(1, limit="body_bytes")]
    # Enough events that none of them is over its own limit.
    several = max(2, limits.body_bytes // limits.event_bytes + 2)
    if not compressed and several <= limits.batch_events:
        shapes.append(Shape(several, limit="body_bytes"))
    fits = compressed or (limits.batch_events * 3 // 2) * EVENT_BYTES_USUAL <= limits.body_bytes
    holds = contract.capacity_events is None or contract.capacity_events >= limits.batch_events
    if fits and holds:
        shapes.append(Shape(limits.batch_events, limit="batch_events"))
    if not shapes:
        raise BadTraffic(f"no request of --batch {batch} can be held against the target's contract.limits.")
    return shapes
