"""Which events the table holds already: asked by a replay, since a backup may be older than the dedupe window.

What the window forgot, and what another data directory put there, only the table knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from collector.cloudevents import Event
from collector.errors import StoreUnavailable, TableUnreadable

HOUR_US = 3_600_000_000

Rows = Callable[[int], Iterable[tuple[str, str]]]
"""``(source, id)`` of every row of one hour, counted from the Unix epoch. Raises ``StoreUnavailable``."""


class Landed:
    """Looks events up, an hour of the table at a time; each hour is read once and kept as digests of 16 bytes a row.

    What lands afterwards went through this buffer, so the dedupe window knows it.

    Args:
        rows: Reads an hour.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._hours: dict[int, frozenset[bytes]] = {}

    def holds(self, events: Sequence[Event]) -> npt.NDArray[np.bool_]:
        """Tell of each event whether the table holds it. Raises ``TableUnreadable`` when it cannot be asked."""
        return np.array([_digest(one.source, one.id) in self._of(one) for one in events], dtype=np.bool_)

    def _of(self, event: Event) -> frozenset[bytes]:
        hour = event.time_us // HOUR_US
        if hour not in self._hours:
            try:
                self._hours[hour] = frozenset(_digest(source, id_) for source, id_ in self._rows(hour))
            except StoreUnavailable as error:
                raise TableUnreadable(f"nothing tells whether the table holds these events already: {error}") from error
        return self._hours[hour]


def _digest(source: str, id_: str) -> bytes:
    return hashlib.blake2b(f"{len(source)}:{source}{id_}".encode(), digest_size=16).digest()
