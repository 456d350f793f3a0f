"""The requests of one producer, one after another: which events each carries, and the bytes it is sent as."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from loadtests.events import EventFactory, Message
from loadtests.poison import poisoned_headers, poisoned_text
from loadtests.records.identity import twin_of
from loadtests.records.ledger import Kind
from loadtests.records.target import RequestLimits
from loadtests.shapes import Shape, Shapes

GZIP_LEVEL = 1
"""The generator's processor is what limits it, and events compress well at any level."""


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive events of one request that the ledger keeps as one record."""

    producer: int
    first: int
    count: int
    kind: Kind


class Requests:
    """Number the events of one producer and write them as requests.

    Args:
        factory: Makes the event factory of a producer, this one's or its twin's, when it is first needed.
        producer: Whose events.
        shapes: What each request is meant to be.
        limits: The contract's, for requests that are sized by them.
        compress: Send bodies gzipped.
        phase_of: Which phase of the mix holds at an instant; None when there are none.
        turned: Called with (producer, first event, phase) before events of another phase are used.
        cover: Called with the sequence after the last one of a request before it is written; may wait.
    """

    def __init__(
        self,
        factory: Callable[[int], EventFactory],
        *,
        producer: int,
        shapes: Shapes,
        limits: RequestLimits | None = None,
        compress: bool = False,
        phase_of: Callable[[int], int] | None = None,
        turned: Callable[[int, int, int], None] = lambda _producer, _first, _phase: None,
        cover: Callable[[int], None] = lambda _upto: None,
    ) -> None:
        self._factory = factory
        self._producer = producer
        self._shapes = shapes
        self._limits = limits
        self._compress = compress
        self._phase_of = phase_of
        self._turned = turned
        self._cover = cover
        self._phases: dict[int, int] = {}
        self._made: dict[int, EventFactory] = {}
        self._number = 0
        self._next_sequence = 0
        self._twinless: int | None = None

    def next_shape(self) -> Shape:
        """Return the shape of the next request."""
        self._number += 1
        return self._shapes.of(self._number - 1)

    def place(self, shape: Shape, *, intended_ns: int) -> tuple[Part, ...]:
        """Choose the events of a request that is due at *intended_ns*.

        A twin takes the ids of the last ordinary request that has none yet.
        """
        parts = self._choose(shape)
        if self._phase_of is not None:
            self._follow(parts[0], self._phase_of(intended_ns))
        return parts

    def _follow(self, part: Part, phase: int) -> None:
        if self._phases.get(part.producer) != phase:
            self._phases[part.producer] = phase
            self._turned(part.producer, part.first, phase)
            self._of(part.producer).turn(part.first, phase)

    def _choose(self, shape: Shape) -> tuple[Part, ...]:
        if shape.twin and self._twinless is not None:
            first, self._twinless = self._twinless, None
            return (Part(twin_of(self._producer), first, shape.count, Kind.NORMAL),)
        first = self._next_sequence
        self._next_sequence += shape.count
        if shape.plain:
            self._twinless = first
        return tuple(Part(self._producer, *part) for part in self._shapes.parts(shape, first))

    def render(self, shape: Shape, parts: tuple[Part, ...], *, unix_ns: int) -> Message:
        """Return the request that carries *parts*; its events' `time` is *unix_ns* and the mix's shift."""
        self._cover(parts[-1].first + parts[-1].count)
        first, events = parts[0].first, self._of(parts[0].producer)
        if shape.poison is not None:
            message = _poisoned(events, shape, first, unix_ns)
        elif shape.limit is not None and shape.limit != "batch_events":
            assert self._limits is not None
            size = getattr(self._limits, shape.limit) + shape.beyond
            message = _of_size(events, first, shape.count, unix_ns, size, whole_body=shape.limit == "body_bytes")
        else:
            message = events.render(first, shape.count, unix_ns=unix_ns)
        return compressed(message) if self._compress else message

    def _of(self, producer: int) -> EventFactory:
        if producer not in self._made:
            self._made[producer] = self._factory(producer)
        return self._made[producer]


def compressed(message: Message) -> Message:
    """Return *message* with its body gzipped."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    body = packer.compress(message.body) + packer.flush()
    return Message((*message.headers, ("Content-Encoding", "gzip")), body)


def _poisoned(events: EventFactory, shape: Shape, first: int, unix_ns: int) -> Message:
    assert shape.poison is not None
    if events.mode == "binary":
        message = events.render(first, 1, unix_ns=unix_ns)
        return replace(message, headers=poisoned_headers(shape.poison, message.headers))
    texts = events.texts(first, shape.count, unix_ns=unix_ns)
    texts[shape.place] = poisoned_text(shape.poison, texts[shape.place])
    return events.wrap(texts)


def _of_size(events: EventFactory, first: int, count: int, unix_ns: int, size: int, *, whole_body: bool) -> Message:
    """Events blown up until the body (or, if not *whole_body*, the one event) has exactly *size* bytes.

    Blanks before the last brace of `data` change its length but not its meaning, so the judge can still recompute it.
    """
    if events.mode == "binary":
        message = events.render(first, 1, unix_ns=unix_ns)
        overhead = sum(len(name) + len(value) for name, value in message.headers if name.startswith("ce-"))
        blanks = size - len(message.body) - (0 if whole_body else overhead)
        return replace(message, body=message.body[:-1] + b" " * blanks + b"}")
    texts = events.texts(first, count, unix_ns=unix_ns)
    base = len(events.wrap(texts).body) if whole_body else len(texts[0])
    each, rest = divmod(size - base, count)
    blown = [text[:-2] + b" " * (each + (rest if at == 0 else 0)) + b"}}" for at, text in enumerate(texts)]
    return events.wrap(blown)
