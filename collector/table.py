"""What the flusher needs of a table; ``commit.IcebergTable`` is the real one, tests bring their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from collector.config import MaintenanceConfig
from collector.store import FileRef, Intent, Progress


def snapshot_id_of(flush_id: str) -> int:
    """Return the snapshot id of a flush: 63 bits of its SHA-256.

    A catalog refuses a snapshot id it knows, so a flush cannot land twice even if everything else fails.
    """
    return int.from_bytes(hashlib.sha256(flush_id.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class TableView:
    """One reading of the table.

    Attributes:
        uuid: Changes when the table is dropped and created again.
        head: Current snapshot of main, None while the table is empty.
        ancestors: Snapshot ids of main, the head included.
        watermarks: Per collector id, the highest flush sequence that has landed. It is a table property written in
            the flush's own commit, so it outlives the expiry of the flush's snapshot.
    """

    uuid: str
    head: int | None
    ancestors: frozenset[int]
    watermarks: dict[str, int]

    def landed(self, flush: Progress) -> bool:
        """Tell whether the flush is part of main, or was before its snapshot expired."""
        by_snapshot = snapshot_id_of(flush.flush_id) in self.ancestors
        return by_snapshot or self.watermarks.get(flush.collector_id, 0) >= flush.seq


class Table(Protocol):
    """A table that takes flushes. Every method is called from the flusher's thread only.

    ``StoreUnavailable`` means that nothing was committed.
    """

    def refresh(self) -> TableView:
        """Read the table afresh, creating it when it is missing. Raises ``StoreUnavailable``."""
        ...

    def write(self, flush: Progress, number: int, rows: pa.Table) -> FileRef:
        """Store the ``number``-th data file of a flush; the same call writes the same object again.

        Raises ``StoreUnavailable``.
        """
        ...

    def prepare(self, flush: Progress, files: tuple[FileRef, ...], attempt: int) -> Intent:
        """Build a commit of ``files`` on the newest known head, without sending it. Raises ``StoreUnavailable``.

        ``files`` were written by this object since it was made.
        """
        ...

    def has(self, files: tuple[FileRef, ...]) -> bool:
        """Tell whether ``prepare`` can use ``files``; after a restart they have to be written again."""
        ...

    def commit(self, flush: Progress, intent: Intent) -> None:
        """Send a commit request; returns only when it is certain that the flush landed.

        Raises ``CommitUnknown`` for everything else: no answer, a refusal, a truncated answer.
        """
        ...

    def missing(self, flush: Progress) -> frozenset[str]:
        """Return the paths of what the flush stored, its request refers to, and the object store has no more.

        Nothing is missing of a flush without a request, nor of one whose snapshot was expired since it landed.
        Raises ``StoreUnavailable``.
        """
        ...

    def put_back(self, flush: Progress, missing: frozenset[str], rows: Callable[[int], pa.Table]) -> None:
        """Store again, the same objects at the same paths, what is ``missing``. Raises ``StoreUnavailable``.

        Args:
            rows: The rows of a data file, by its number.
        """
        ...

    def expire(self, config: MaintenanceConfig, now: float) -> int:
        """Expire old snapshots where there are too many; return how many. Raises ``StoreUnavailable`` or ``CommitUnknown``."""
        ...
