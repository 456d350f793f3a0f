"""Which events were seen before: a bounded, persisted window of 128-bit hashes.

Duplicates are looked for when a flush is sealed, never while a client waits. Hashes are kept as sorted runs
(two numpy columns each), because a B-tree over random keys slows down as it grows while a binary search over a
sorted run does not. The runs of a window are few: a new run is merged with its neighbours of similar size.

Two events are the same when ``(source, id)`` is equal, as CloudEvents 1.0 defines it; the first one wins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collector.cloudevents import Event

Column = npt.NDArray[np.uint64]

MAX_RUN_HASHES = 1 << 20
"""A run beyond this size is not merged any more: rewriting it would cost more than searching it."""


@dataclass(frozen=True, slots=True)
class Hashes:
    """Hashes as two columns, high and low 64 bits, in the order of their events."""

    high: Column
    low: Column

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Sorted, distinct hashes recorded between ``oldest`` and ``newest`` (Unix seconds)."""

    id: int
    oldest: float
    newest: float
    hashes: Hashes

    def to_bytes(self) -> bytes:
        """High column, then low column, little-endian."""
        return self.hashes.high.astype("<u8").tobytes() + self.hashes.low.astype("<u8").tobytes()


def run_from_bytes(id_: int, oldest: float, newest: float, data: bytes) -> Run:
    """Invert ``Run.to_bytes``."""
    columns = np.frombuffer(data, dtype="<u8").reshape(2, -1)
    return Run(id_, oldest, newest, Hashes(columns[0], columns[1]))


@dataclass(frozen=True, slots=True)
class Change:
    """What sealing one flush does to the window; stored in the same transaction as the seal."""

    add: Run | None
    remove: tuple[int, ...]


def hash_events(events: Iterable[Event], key: bytes) -> Hashes:
    """Hash ``(source, id)`` of each event. ``key`` is secret to the buffer, so that nobody can aim at collisions."""
    blake = hashlib.blake2b
    digest = b"".join(
        blake(f"{len(event.source)}:{event.source}{event.id}".encode(), digest_size=16, key=key).digest()
        for event in events
    )
    columns = np.frombuffer(digest, dtype="<u8").reshape(-1, 2)
    return Hashes(np.ascontiguousarray(columns[:, 0]), np.ascontiguousarray(columns[:, 1]))


def concatenate(parts: Sequence[Hashes]) -> Hashes:
    """Join hashes in order."""
    if not parts:
        empty = np.empty(0, dtype=np.uint64)
        return Hashes(empty, empty)
    return Hashes(np.concatenate([p.high for p in parts]), np.concatenate([p.low for p in parts]))


class Window:
    """The hashes of the last ``window_s`` seconds, at most ``max_hashes`` of them.

    The guarantee: an event that arrives within ``window_s`` seconds of the first event with the same identity
    is dropped, provided that no more than ``max_hashes`` other events were sealed between the two.
    """

    def __init__(self, window_s: float, max_hashes: int, runs: Iterable[Run] = ()) -> None:
        self._window_s = window_s
        self._max_hashes = max_hashes
        self._runs: list[Run] = sorted(runs, key=lambda run: run.id)

    def __len__(self) -> int:
        return sum(len(run.hashes) for run in self._runs)

    @property
    def runs(self) -> int:
        """Number of sorted runs a lookup searches."""
        return len(self._runs)

    def duplicates(self, hashes: Hashes, oldest_waiting: float) -> npt.NDArray[np.bool_]:
        """Tell for each hash whether it is in the window or occurs earlier in ``hashes``.

        Args:
            hashes: Hashes of events that are about to be sealed.
            oldest_waiting: Arrival (Unix seconds) of the oldest event not sealed yet. The window is counted from
                there, so that an outage does not shorten it.
        """
        order = np.lexsort((hashes.low, hashes.high))  # stable: equal hashes stay in event order
        high, low = hashes.high[order], hashes.low[order]
        seen = np.zeros(len(order), dtype=np.bool_)
        seen[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        for run in self._current(oldest_waiting):
            seen |= _contains(run.hashes, high, low)
        result = np.empty(len(order), dtype=np.bool_)
        result[order] = seen
        return result

    def plan(self, fresh: Hashes, now: float, oldest_waiting: float) -> Change:
        """Plan how to record ``fresh`` (distinct, not in the window) and what may be forgotten.

        Args:
            fresh: The hashes of the events that a flush keeps.
            now: Unix seconds of the seal.
            oldest_waiting: As for ``duplicates``.
        """
        kept = self._current(min(now, oldest_waiting))
        remove = [run.id for run in self._runs if run not in kept]
        excess = sum(len(run.hashes) for run in kept) + len(fresh) - self._max_hashes
        while kept and excess > 0:
            excess -= len(kept[0].hashes)
            remove.append(kept.pop(0).id)
        if not len(fresh):
            return Change(None, tuple(remove))
        merged, oldest, newest = fresh, now, now
        parts = [fresh]
        while kept and self._worth_merging(kept[-1], len(merged), newest):
            run = kept.pop()
            remove.append(run.id)
            oldest, newest = min(oldest, run.oldest), max(newest, run.newest)
            parts.append(run.hashes)
            merged = concatenate(parts)
        order = np.lexsort((merged.low, merged.high))
        next_id = max((run.id for run in self._runs), default=0) + 1
        return Change(Run(next_id, oldest, newest, Hashes(merged.high[order], merged.low[order])), tuple(remove))

    def apply(self, change: Change) -> None:
        """Make a stored change visible to the next lookup."""
        removed = set(change.remove)
        self._runs = [run for run in self._runs if run.id not in removed]
        if change.add is not None:
            self._runs.append(change.add)

    def _current(self, oldest_waiting: float) -> list[Run]:
        return [run for run in self._runs if run.newest >= oldest_waiting - self._window_s]

    def _worth_merging(self, run: Run, size: int, newest: float) -> bool:
        """Merge neighbours of similar size, as long as the result still expires in small steps."""
        similar = len(run.hashes) <= 2 * size and len(run.hashes) + size <= MAX_RUN_HASHES
        return similar and newest - run.oldest <= self._window_s / 8


def _contains(run: Hashes, high: Column, low: Column) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(high), dtype=np.bool_)
    at = np.searchsorted(run.high, high)
    open_ = np.flatnonzero(at < len(run))
    while len(open_):  # more than one step only where two hashes share their high half
        open_ = open_[run.high[at[open_]] == high[open_]]
        found[open_] |= run.low[at[open_]] == low[open_]
        at[open_] += 1
        open_ = open_[~found[open_] & (at[open_] < len(run))]
    return found
