"""Follow the ledgers of a run while they grow: which events have been acked, and when."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loadtests.records.ledger import Kind, Outcome, Record
from loadtests.records.schema import check_schema


class Marks:
    """A byte for each sequence of one producer, from 0 up, growing as needed."""

    def __init__(self) -> None:
        self._bytes = np.zeros(1024, dtype=np.uint8)

    def upto(self, size: int) -> npt.NDArray[np.uint8]:
        """Return the bytes of sequences 0 .. size-1, writable."""
        if size > len(self._bytes):
            grown = np.zeros(max(size, 2 * len(self._bytes)), dtype=np.uint8)
            grown[: len(self._bytes)] = self._bytes
            self._bytes = grown
        return self._bytes[:size]

    def __len__(self) -> int:
        return len(self._bytes)


@dataclass(frozen=True)
class Ack:
    """A batch of events that was acknowledged."""

    done_ns: int
    producer: int
    first: int
    count: int


@dataclass
class AckedSoFar:
    """Every event that was acked so far.

    Attributes:
        marks: 1 for each acked sequence, by producer.
        events: How many events that is.
        waiting: Acks by time, for those who remove what they have seen land.
    """

    marks: dict[int, Marks] = field(default_factory=dict)
    events: int = 0
    waiting: deque[Ack] = field(default_factory=deque)

    def add(self, ack: Ack) -> None:
        """Count an ack; events acked before are not counted again."""
        marks = self.marks.setdefault(ack.producer, Marks()).upto(ack.first + ack.count)[ack.first :]
        self.events += int(np.count_nonzero(marks == 0))
        marks[:] = 1
        self.waiting.append(ack)


class LedgerTail:
    """Read what was appended to the ledgers of a directory since the last call; files may appear at any time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, tuple[np.dtype[np.void], int]] = {}

    def read(self, into: AckedSoFar) -> None:
        """Add new acks to *into*.

        Raises:
            RecordError: a ledger is not readable as one.
        """
        for path in sorted(self._directory.glob("*.ledger")):
            form = self._files.get(path) or _header(path)
            if form is None:
                continue
            record, offset = form
            whole = (path.stat().st_size - offset) // record.itemsize
            records = np.fromfile(path, dtype=record, count=whole, offset=offset)
            self._files[path] = (record, offset + len(records) * record.itemsize)
            acked = records[(records["record"] == Record.DONE) & (records["outcome"] == Outcome.ACKED)]
            for row in acked[~np.isin(acked["kind"], (Kind.POISON, Kind.OVER_LIMIT))]:
                into.add(Ack(int(row["done_ns"]), int(row["producer"]), int(row["first"]), int(row["count"])))


def _header(path: Path) -> tuple[np.dtype[np.void], int] | None:
    with path.open("rb") as stream:
        line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    check_schema(header.get("schema"), "ledger", path)
    return np.dtype([(str(name), str(form)) for name, form in header["record"]]), len(line)
