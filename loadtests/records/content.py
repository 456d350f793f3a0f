"""What an event says: `data` and `type` are pure functions of (seed, producer, sequence).

So the judge needs no copy of what was sent: it recomputes every byte. Values are modular arithmetic below 2**63 and
zero-padded to a fixed width, so that another engine can recompute them in SQL.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

TYPE_NAMES: tuple[str, ...] = ("page.view", "click", "search", "purchase", "heartbeat")
"""Every event type the generator sends, unless it replays a recorded log; weights choose among them."""

UNIFORM: Mapping[str, float] = {"page.view": 1, "click": 1, "search": 1}
"""The default mix: three types in equal shares."""

TYPES_MAX = 250
"""An event type's index is one byte, and readers keep a few values for themselves."""

_PHASE_BITS = 16
_MODULUS = np.uint64(99_999_989)  # the largest prime below 10**8: eight digits
_SEQUENCE_DIGITS = 12
_BLOCK = 1 << 14
_PAIRS = np.array([b"%04d" % i for i in range(10_000)], dtype="S4").view(np.uint32)
_FIELDS = ("a", "b", "c", "d")


class Content:
    """The content of the events of one run.

    Args:
        seed: The run's seed.
        weights: Share of each event type; need not add up to one. Names are those of `TYPE_NAMES`, unless there are phases.
        phases: Shares that change as traffic goes on, as recorded from a real log: one mapping a phase, with any names. A
            producer's events follow them from its first `turn` on.
    """

    def __init__(
        self, seed: int, weights: Mapping[str, float] | None = None, *, phases: Sequence[Mapping[str, float]] = ()
    ) -> None:
        self._seed = seed
        self._producer = lru_cache(maxsize=None)(self._make_producer)
        weights = dict(weights) if weights else dict(UNIFORM)
        self.names = tuple(sorted({*weights, *(name for phase in phases for name in phase)})) if phases else TYPE_NAMES
        if len(self.names) > TYPES_MAX:
            raise ValueError(f"{len(self.names)} event types; at most {TYPES_MAX} can be told apart")
        self._type_of_bucket = _buckets(weights, self.names)
        self._phases = [_buckets(phase, self.names, 1 << _PHASE_BITS) for phase in phases]
        self._turns: dict[int, list[tuple[int, int]]] = {}

    def turn(self, producer: int, first: int, phase: int) -> None:
        """From sequence *first* on, the types of *producer* follow *phase*, until its next turn."""
        insort(self._turns.setdefault(producer, []), (first, phase))

    def _make_producer(self, producer: int) -> _Template:
        return _Template(self._seed, producer)

    def data(self, producer: int, first: int, count: int) -> npt.NDArray[np.bytes_]:
        """Return the JSON text of `data` for sequences first .. first+count-1; one width for all, dtype S<width>."""
        return self.expected(producer, np.arange(first, first + count, dtype=np.uint64))

    def expected(self, producer: int, sequences: U64) -> npt.NDArray[np.bytes_]:
        """Return the JSON text of `data` for arbitrary *sequences*, dtype S<width>."""
        return self._producer(producer).fill(sequences)

    def width(self, producer: int) -> int:
        """Return how many bytes every `data` of *producer* has."""
        return self._producer(producer).width

    def types(self, producer: int, sequences: U64) -> npt.NDArray[np.uint8]:
        """Return the index into `names` of each event's type."""
        # The golden ratio spreads consecutive sequences evenly, so that shares hold for any stretch of them.
        mixed = (sequences + np.uint64(producer)) * np.uint64(0x9E3779B97F4A7C15)
        if producer in self._turns:
            return self._phased(self._turns[producer], sequences, mixed >> np.uint64(64 - _PHASE_BITS))
        buckets = (mixed >> np.uint64(40)) % np.uint64(len(self._type_of_bucket))
        return self._type_of_bucket[buckets.astype(np.intp)]

    def _phased(self, turns: list[tuple[int, int]], sequences: U64, buckets: U64) -> npt.NDArray[np.uint8]:
        firsts = np.array([first for first, _ in turns], dtype=np.uint64)
        turn = np.maximum(np.searchsorted(firsts, sequences, side="right") - 1, 0)
        phase = np.array([phase for _, phase in turns])[turn]
        types: npt.NDArray[np.uint8] = np.stack(self._phases)[phase, buckets.astype(np.intp)]
        return types


def _buckets(weights: Mapping[str, float], names: Sequence[str], size: int = 1000) -> npt.NDArray[np.uint8]:
    """A table of *size* type indices in which each type has its share."""
    unknown = sorted(set(weights) - set(names))
    if unknown or not sum(weights.values()) > 0 or min(weights.values()) < 0:
        raise ValueError(f"event weights {dict(weights)!r}: use non-negative shares of {', '.join(names)}")
    edges = np.cumsum([weights.get(name, 0.0) for name in names])
    return np.searchsorted(edges / edges[-1], (np.arange(size) + 0.5) / size).astype(np.uint8)


class _Template:
    """One producer's `data`: constant bytes with holes of four digits each."""

    def __init__(self, seed: int, producer: int) -> None:
        digest = hashlib.blake2b(f"{seed}:{producer}".encode(), digest_size=40).digest()
        numbers = [int.from_bytes(digest[i : i + 4], "big") >> 2 for i in range(0, 32, 4)]
        # Factors below 2**30 and sequences below 2**32: products stay below 2**63 in every engine.
        self._factors: Sequence[np.uint64] = [np.uint64(n | 1) for n in numbers[:4]]
        self._offsets: Sequence[np.uint64] = [np.uint64(n) for n in numbers[4:]]
        text, places = _layout(digest[32:].hex())
        self.width = len(text)
        self._text = np.frombuffer(text, dtype=np.uint8)
        self._holes = np.dtype(
            {
                "names": [f"h{i}" for i in range(len(places))],
                "formats": [np.uint32] * len(places),
                "offsets": places,
                "itemsize": self.width,
            }
        )

    def fill(self, sequences: U64) -> npt.NDArray[np.bytes_]:
        out = np.empty((len(sequences), self.width), dtype=np.uint8)
        out[:] = self._text
        holes = out.view(self._holes).reshape(-1)
        for start in range(0, len(sequences), _BLOCK):
            self._fill_block(sequences[start : start + _BLOCK], holes[start : start + _BLOCK])
        return out.view(f"S{self.width}").reshape(-1)

    def _fill_block(self, sequences: U64, holes: npt.NDArray[np.void]) -> None:
        ten_thousand = np.uint32(10_000)
        high = (sequences // np.uint64(100_000_000)).astype(np.uint32) % ten_thousand
        low = (sequences % np.uint64(100_000_000)).astype(np.uint32)
        groups = [high, low // ten_thousand, low % ten_thousand]
        for factor, offset in zip(self._factors, self._offsets, strict=True):
            value = ((sequences * factor + offset) % _MODULUS).astype(np.uint32)
            groups += [value // ten_thousand, value % ten_thousand]
        for index, group in enumerate(groups):
            holes[f"h{index}"] = _PAIRS[group]


def _layout(padding: str) -> tuple[bytes, list[int]]:
    """Return the template text and the offset of every four-digit hole."""
    text = bytearray(b'{"n":"')
    places: list[int] = []

    def digits(count: int) -> None:
        for _ in range(count // 4):
            places.append(len(text))
            text.extend(b"0000")

    digits(_SEQUENCE_DIGITS)
    for name in _FIELDS:
        text.extend(f'","{name}":"'.encode())
        digits(8)
    text.extend(f'","pad":"{padding}{padding}"}}'.encode())
    return bytes(text), places
