"""What was sent and what was answered: fixed-size binary records, written before the request leaves.

A ledger file has one header line (JSON, padded to a multiple of the record size, describing the record itself) and then
records of `RECORD`. Each request attempt is two records: one written before it leaves, one when its outcome is known. An
attempt without a second record is *unknown*: the generator died or gave up before an answer came. The write reaches the
kernel before the request does; there is no fsync, since the threat is the death of the process, not of the machine.
"""

from __future__ import annotations

import enum
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.records.errors import CorruptRecord, LedgerWriteError, MissingRecord
from loadtests.records.schema import check_schema, stream_header


class Record(enum.IntEnum):
    """Which half of an attempt a record is."""

    ATTEMPT = 1
    DONE = 2
    TURN = 3
    """No attempt: from event `first` of `producer` on, the types follow phase `status` of the mix; `count` is 0."""


class Outcome(enum.IntEnum):
    """What a client may conclude from an attempt."""

    NONE = 0
    """Not decided yet (every ATTEMPT record)."""
    ACKED = 1
    """A 2xx: the collector owes these events."""
    REFUSED = 2
    """Definitely not kept: a refusal by contract, or a request that never left."""
    UNKNOWN = 3
    """Perhaps kept: time-out, reset, truncated answer, a 5xx nobody vouches for."""


class Kind(enum.IntEnum):
    """Why a request was sent."""

    NORMAL = 0
    PROBE = 1
    DUPLICATE = 2
    POISON = 3
    OVER_LIMIT = 4
    NOT_SENT = 5
    """An arrival the generator gave up because it could not keep its schedule. Never attempted."""


class Status(enum.IntEnum):
    """Stands in the `status` field where there is no HTTP status."""

    NONE = 0
    CONNECT_FAILED = -1
    RESET = -2
    TIMEOUT = -3
    TRUNCATED = -4
    OTHER = -5


_LAYOUT: tuple[tuple[str, str, str], ...] = (
    ("record", "<u1", "B"),
    ("kind", "<u1", "B"),
    ("producer", "<u2", "H"),
    ("attempt", "<u2", "H"),
    ("status", "<i2", "h"),
    ("count", "<u4", "I"),
    ("outcome", "<u1", "B"),
    ("reserved", "V3", "3x"),
    ("first", "<u8", "Q"),
    ("intended_ns", "<i8", "q"),
    ("sent_ns", "<i8", "q"),
    ("done_ns", "<i8", "q"),
    ("request", "<u8", "Q"),
    ("body_bytes", "<u4", "I"),
    ("reserved2", "V4", "4x"),
)
RECORD = np.dtype([(name, form) for name, form, _ in _LAYOUT])
"""One ledger record, 64 bytes: events first .. first+count-1 of `producer`, in attempt number `attempt` (1 is the first).
Times are monotonic nanoseconds. `request` numbers the attempts of one file and joins the two records of an attempt."""

_HEADER_BYTES_MAX = 65_536

_PACK = struct.Struct("<" + "".join(code for _, _, code in _LAYOUT))
assert _PACK.size == RECORD.itemsize == 64


@dataclass(frozen=True)
class Ledger:
    """One ledger file as read: its header, its whole records, and how many bytes of a torn record followed them."""

    path: Path
    header: dict[str, Any]
    records: npt.NDArray[np.void]
    torn_bytes: int


class LedgerWriter:
    """Append attempts and outcomes to one file; one writer a process.

    Args:
        path: A file that does not exist yet.
        run_id: The run.
        process: Who writes, such as `locust-0`.

    Raises:
        LedgerWriteError: from every method when the bytes did not reach the kernel, and from then on.
    """

    def __init__(self, path: Path, *, run_id: str, process: str) -> None:
        self.path = path
        self._requests = 0
        self._broken: str | None = None
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerWriteError(f"the ledger {path} cannot be created: {error.strerror}.") from error
        self._write(_header_bytes(run_id, process))

    def attempt(
        self,
        *,
        producer: int,
        first: int,
        count: int,
        intended_ns: int,
        sent_ns: int,
        attempt: int = 1,
        kind: Kind = Kind.NORMAL,
        body_bytes: int = 0,
    ) -> int:
        """Record that a request is about to leave; return its number, which `done` takes. Call before sending."""
        self._requests += 1
        request = self._requests
        self._write(
            _PACK.pack(
                Record.ATTEMPT, kind, producer, attempt, 0, count, Outcome.NONE, first, intended_ns, sent_ns, 0, request,
                body_bytes,
            )
        )  # fmt: skip
        return request

    def done(
        self,
        request: int,
        *,
        producer: int,
        first: int,
        count: int,
        intended_ns: int,
        sent_ns: int,
        done_ns: int,
        status: int,
        outcome: Outcome,
        attempt: int = 1,
        kind: Kind = Kind.NORMAL,
    ) -> None:
        """Record the outcome of *request*. `status` is an HTTP status or a `Status`."""
        self._write(
            _PACK.pack(
                Record.DONE, kind, producer, attempt, status, count, outcome, first, intended_ns, sent_ns, done_ns,
                request, 0,
            )
        )  # fmt: skip

    def not_sent(self, *, producer: int, first: int, count: int, intended_ns: int, now_ns: int) -> None:
        """Record arrivals that were due at *intended_ns* but will never be sent."""
        self._requests += 1
        self._write(
            _PACK.pack(
                Record.DONE, Kind.NOT_SENT, producer, 0, 0, count, Outcome.NONE, first, intended_ns, 0, now_ns,
                self._requests, 0,
            )
        )  # fmt: skip

    def turn(self, *, producer: int, first: int, phase: int, now_ns: int) -> None:
        """Record that the events of *producer* follow *phase* of the mix from *first* on; before any of them is sent."""
        self._write(_PACK.pack(Record.TURN, 0, producer, 0, phase, 0, Outcome.NONE, first, 0, 0, now_ns, 0, 0))

    def close(self) -> None:
        """Close the file; it stays readable at any moment before that too."""
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        if self._broken is not None:  # a record after a torn one would be read at the wrong offset
            raise LedgerWriteError(self._broken)
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._broken = f"the ledger {self.path} cannot be written: {error.strerror}."
            raise LedgerWriteError(self._broken) from error
        if written != len(data):
            self._broken = f"the ledger {self.path} took {written} of {len(data)} bytes; is the disk full?"
            raise LedgerWriteError(self._broken)


def _header_bytes(run_id: str, process: str) -> bytes:
    fields = [[name, form] for name, form, _ in _LAYOUT]
    header = stream_header("ledger", run_id, process=process, record_bytes=RECORD.itemsize, record=fields)
    text = json.dumps(header, separators=(",", ":")).encode()
    padded = -(-(len(text) + 1) // RECORD.itemsize) * RECORD.itemsize
    return text.ljust(padded - 1) + b"\n"


def read_ledger(path: Path) -> Ledger:
    """Read a ledger, possibly while it is being written.

    The records are laid out as the header says, so a later minor version with further fields is read too.

    Raises:
        MissingRecord, CorruptRecord, NewerVersion: see `loadtests.records.errors`.
    """
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise MissingRecord(f"{path} does not exist.") from None
    except OSError as error:
        raise CorruptRecord(f"{path} cannot be read: {error.strerror}.") from error
    header, header_bytes = _read_header(raw[:_HEADER_BYTES_MAX].tobytes(), path)
    body = raw[header_bytes:]
    record = _layout_of(header, path)
    whole = len(body) // record.itemsize
    torn = len(body) - whole * record.itemsize
    records = body[: whole * record.itemsize].view(record)
    _check_codes(records, path)
    return Ledger(path, header, records, torn)


def _check_codes(records: npt.NDArray[np.void], path: Path) -> None:
    """Refuse records that no version writes: the file was damaged, and nothing in it can be believed."""
    for name, known in (("record", Record), ("kind", Kind), ("outcome", Outcome)):
        strange = np.flatnonzero(~np.isin(records[name], [int(code) for code in known]))
        if len(strange):
            code = int(records[name][strange[0]])
            raise CorruptRecord(
                f"{path}: record {int(strange[0])} has {name} {code}, which nobody writes; it is damaged."
            )


def _read_header(start: bytes, path: Path) -> tuple[dict[str, Any], int]:
    line, newline, _ = start.partition(b"\n")
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not newline or not isinstance(header, dict):
        raise CorruptRecord(f"{path} does not start with a ledger header.")
    check_schema(header.get("schema"), "ledger", path)
    return header, len(line) + 1


def _layout_of(header: dict[str, Any], path: Path) -> np.dtype[np.void]:
    """Return the record layout that *header* describes; it must have every field of ours, and may have more."""
    try:
        layout = np.dtype([(str(name), str(form)) for name, form in header["record"]])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptRecord(f"{path} has a header that does not describe its records ({error}).") from error
    kinds = {name: field[0] for name, field in (layout.fields or {}).items()}
    missing = [name for name, form, _ in _LAYOUT if not name.startswith("reserved") and kinds.get(name) != form]
    if missing or layout.hasobject:
        raise CorruptRecord(f"{path} has records without a proper {', '.join(missing) or 'layout'}.")
    return layout


def read_ledgers(directory: Path) -> list[Ledger]:
    """Read every `*.ledger` in *directory*, by name. A file that died before its header was whole holds nothing."""
    return [read_ledger(path) for path in sorted(directory.glob("*.ledger")) if _has_header(path)]


def _has_header(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADER_BYTES_MAX)
    except OSError as error:
        raise CorruptRecord(f"{path} cannot be read: {error.strerror}.") from error
    return b"\n" in start or len(start) == _HEADER_BYTES_MAX
