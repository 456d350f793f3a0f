"""Append-only streams of JSON lines with a schema header: one writer, any number of readers, torn tails tolerated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from loadtests.records.errors import CorruptRecord, MissingRecord
from loadtests.records.schema import check_schema, stream_header

_ENCODER = msgspec.json.Encoder()
TIMED = ("timeline", "gateway", "visible", "hist")
"""Streams whose records have `t_ns`, a monotonic instant."""

_DECODER: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class JsonlWriter:
    """Append records to *path*; the header is written when the file is new.

    Each record is one `write` of one whole line, so a reader sees it at once and a killed writer leaves at most one torn
    line, which the next writer ends before it appends.
    """

    def __init__(self, path: Path, kind: str, run_id: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._fd).st_size == 0:
            self.append(stream_header(kind, run_id))
        elif not _ends_with_newline(path):
            os.write(self._fd, b"\n")

    def append(self, record: dict[str, Any]) -> None:
        """Write *record* as one line; it has reached the kernel when this returns.

        Raises:
            OSError: the line could not be written whole (disk full).
        """
        line = _ENCODER.encode(record) + b"\n"
        written = os.write(self._fd, line)
        if written != len(line):
            raise OSError(f"{self.path}: only {written} of {len(line)} bytes could be written; is the disk full?")

    def close(self) -> None:
        """Close the file; appending afterwards is an error."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def read_jsonl(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a stream without its header.

    A last line without a newline is one that was being written and is left out. A broken line with others after it (a
    writer died in it and another went on) is left out too; it never hides what follows.

    Raises:
        MissingRecord, CorruptRecord, NewerVersion: when iteration starts.
    """
    lines = _lines(path, kind)
    next(lines)
    yield from lines


def _lines(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise MissingRecord(f"{path} does not exist.") from None
    except OSError as error:
        raise CorruptRecord(f"{path} cannot be read: {error.strerror}.") from error
    with stream:
        header = _decode(stream.readline())
        if header is None:
            raise CorruptRecord(f"{path} does not start with a header line.")
        check_schema(header.get("schema"), kind, path)
        yield header
        for line in stream:
            record = _decode(line)
            if record is not None and _in_time(record, timed=kind in TIMED):
                yield record


def _in_time(record: dict[str, Any], *, timed: bool) -> bool:
    """Whether the instant of a record is one, if it has any; one that is none makes the line a broken one."""
    t_ns = record.get("t_ns", 0)
    return not timed or (isinstance(t_ns, int) and not isinstance(t_ns, bool) and 0 <= t_ns < 2**63)


def _decode(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class JsonlTail:
    """Follow a growing stream: each `read` returns the records that were completed since the last one.

    The file may not exist yet; the header line is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return new whole records in order; an unfinished last line waits for the next call."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._offset)
                chunk = stream.read()
        except FileNotFoundError:
            return []
        whole = chunk[: chunk.rfind(b"\n") + 1]
        self._offset += len(whole)
        records = (_decode(line) for line in whole.splitlines(keepends=True))
        return [record for record in records if record is not None and "schema" not in record]
