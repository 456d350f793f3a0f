"""Compact sets of sequence numbers of one producer: runs of consecutive numbers, or a bitmap where runs would be larger.

A flush takes a slice of what was sent, so the events of one data file lie close together: a bit or less an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

RUNS, BITMAP = 0, 1

CHUNK = 1 << 20
"""Sequences handled at a time by everything that walks a set: a few megabytes, whatever the size of the run."""

_DENSE = 32  # a counter of one byte a sequence is cheaper than sorting up to this many sequences an event


@dataclass(frozen=True)
class KeySet:
    """A set of sequence numbers between `first` and `last`, both in it.

    Attributes:
        form: RUNS (payload: pairs of little-endian u64, first and last of each run) or BITMAP (payload: one bit a
            sequence from `first` rounded down to a multiple of eight, least significant bit first).
    """

    first: int
    last: int
    count: int
    form: int
    payload: Bytes

    def mask(self, first: int, count: int) -> Mask:
        """Return, for sequences first .. first+count-1, whether each is in the set."""
        low, high = max(first, self.first), min(first + count, self.last + 1)
        out = np.zeros(count, dtype=np.bool_)
        if low < high:
            out[low - first : high - first] = self._bits(low, high) if self.form == BITMAP else self._runs(low, high)
        return out

    def _bits(self, low: int, high: int) -> Mask:
        base = self.first // 8 * 8
        start, stop = (low - base) // 8, -(-(high - base) // 8)
        bits = np.unpackbits(self.payload[start:stop], bitorder="little").view(np.bool_)
        skip = low - base - start * 8
        return bits[skip : skip + high - low]

    def _runs(self, low: int, high: int) -> Mask:
        starts, ends = self.runs()
        inside = slice(int(np.searchsorted(ends, low)), int(np.searchsorted(starts, high)))
        steps = np.zeros(high - low + 1, dtype=np.int8)
        steps[(np.maximum(starts[inside], low) - np.uint64(low)).astype(np.intp)] += 1
        steps[(np.minimum(ends[inside], high - 1) - np.uint64(low)).astype(np.intp) + 1] -= 1
        return np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)

    def runs(self) -> tuple[U64, U64]:
        """Return first and last sequence of every run of consecutive members, ascending."""
        if self.form == RUNS:
            pairs = self.payload.view("<u8").reshape(-1, 2)
            return pairs[:, 0], pairs[:, 1]
        return runs_of(self.sequences())

    def sequences(self) -> U64:
        """Return all members, ascending."""
        if self.form == BITMAP:
            parts = [first + np.flatnonzero(self.mask(first, n)) for first, n in windows(self.first, self.last)]
            return np.concatenate(parts).astype(np.uint64)
        starts, ends = self.runs()
        lengths = ends - starts + np.uint64(1)
        before = np.cumsum(lengths) - lengths
        return np.repeat(starts - before, lengths.astype(np.intp)) + np.arange(self.count, dtype=np.uint64)


def windows(first: int, last: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of consecutive windows that cover first .. last."""
    for start in range(first, last + 1, size):
        yield start, min(size, last + 1 - start)


def runs_of(ascending: U64) -> tuple[U64, U64]:
    """Return first and last of every run of consecutive numbers in an ascending array without repetitions."""
    if not len(ascending):
        return ascending, ascending
    breaks = np.flatnonzero(np.diff(ascending) != 1)
    return ascending[np.r_[0, breaks + 1]], ascending[np.r_[breaks, len(ascending) - 1]]


def of_ascending(ascending: U64) -> KeySet:
    """Return the set of a non-empty ascending array without repetitions."""
    first, last = int(ascending[0]), int(ascending[-1])
    starts, ends = runs_of(ascending)
    base = first // 8 * 8
    if len(starts) * 16 <= (last - base) // 8 + 1:
        return _of_runs(starts, ends)
    bits = np.zeros(last - base + 1, dtype=np.bool_)
    bits[(ascending - np.uint64(base)).astype(np.intp)] = True
    return KeySet(first, last, len(ascending), BITMAP, np.packbits(bits, bitorder="little"))


def _of_mask(mask: Mask, base: int) -> KeySet:
    """The set of base+i for every true mask[i]; base is a multiple of eight, some element is true."""
    edges = np.flatnonzero(np.diff(mask.view(np.int8), prepend=np.int8(0), append=np.int8(0)))
    starts, ends = (
        edges[0::2].astype(np.uint64) + np.uint64(base),
        edges[1::2].astype(np.uint64) + np.uint64(base) - np.uint64(1),
    )
    first, last = int(starts[0]), int(ends[-1])
    start_byte = first // 8 - base // 8
    bits = np.packbits(mask, bitorder="little")[start_byte : last // 8 - base // 8 + 1]
    if len(starts) * 16 <= len(bits):
        return _of_runs(starts, ends)
    return KeySet(first, last, int(np.count_nonzero(mask)), BITMAP, bits)


def _of_runs(starts: U64, ends: U64) -> KeySet:
    payload = np.stack([starts, ends], axis=1).astype("<u8").reshape(-1).view(np.uint8)
    return KeySet(int(starts[0]), int(ends[-1]), int((ends - starts).sum()) + len(starts), RUNS, payload)


@dataclass(frozen=True)
class Counted:
    """Distinct sequences, and which of them came more than once: `copies[i]` further copies of `again[i]`."""

    keys: KeySet
    again: U64
    copies: U64

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return self.keys.count + int(self.copies.sum())


def count(sequences: U64) -> Counted:
    """Return the distinct members of a non-empty array and how often each came."""
    low, high = int(sequences.min()) // 8 * 8, int(sequences.max())
    span = high - low + 1
    if span <= _DENSE * len(sequences) + 4096:
        spots = (sequences - np.uint64(low)).astype(np.intp)
        present = np.zeros(span, dtype=np.bool_)
        present[spots] = True
        if int(np.count_nonzero(present)) == len(sequences):
            empty = np.empty(0, dtype=np.uint64)
            return Counted(_of_mask(present, low), empty, empty)
        counters = np.zeros(span, dtype=np.uint8)
        np.add.at(counters, spots, 1)
        # A counter that wrapped at 256 would hide copies; then the sum is short and sorting decides.
        if int(counters.sum(dtype=np.int64)) == len(sequences):
            return _from_counters(counters, low)
    values, counts = np.unique(sequences, return_counts=True)
    more = counts > 1
    return Counted(of_ascending(values), values[more], (counts[more] - 1).astype(np.uint64))


def _from_counters(counters: npt.NDArray[np.uint8], low: int) -> Counted:
    more = np.flatnonzero(counters > 1)
    return Counted(
        _of_mask(counters != 0, low), more.astype(np.uint64) + np.uint64(low), counters[more].astype(np.uint64) - 1
    )


def merge(parts: Sequence[Counted]) -> Counted:
    """Return the sum of several counts, as if all their rows had been counted at once."""
    if len(parts) == 1:
        return parts[0]
    first = min(part.keys.first for part in parts)
    last = max(part.keys.last for part in parts)
    present: list[U64] = []
    twice: list[U64] = []
    extra: list[U64] = []
    for start, size in windows(first, last) if last - first < sum(p.keys.count for p in parts) * _DENSE else ():
        counters = np.zeros(size, dtype=np.uint32)
        for part in parts:
            counters += part.keys.mask(start, size)
        found = np.flatnonzero(counters)
        present.append(found.astype(np.uint64) + np.uint64(start))
        more = np.flatnonzero(counters > 1)
        twice.append(more.astype(np.uint64) + np.uint64(start))
        extra.append(counters[more].astype(np.uint64) - 1)
    if not present:
        return _merge_sparse(parts)
    again, copies = _add_up([*twice, *(p.again for p in parts)], [*extra, *(p.copies for p in parts)])
    return Counted(of_ascending(np.concatenate(present)), again, copies)


def _merge_sparse(parts: Sequence[Counted]) -> Counted:
    values, counts = np.unique(np.concatenate([p.keys.sequences() for p in parts]), return_counts=True)
    more = counts > 1
    again, copies = _add_up(
        [values[more], *(p.again for p in parts)],
        [(counts[more] - 1).astype(np.uint64), *(p.copies for p in parts)],
    )
    return Counted(of_ascending(values), again, copies)


def _add_up(keys: Iterable[U64], amounts: Iterable[U64]) -> tuple[U64, U64]:
    values, index = np.unique(np.concatenate(list(keys)), return_inverse=True)
    total = np.zeros(len(values), dtype=np.uint64)
    np.add.at(total, index, np.concatenate(list(amounts)))
    return values, total
