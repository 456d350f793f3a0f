"""Where a file ends for whoever reads it back, and what a write that was under way when the machine died leaves there.

A log is read from its start to its last whole record; what follows was never acknowledged. A write-ahead log of SQLite is reused
from its start, so its end is the last frame that commits a transaction, with the salts of its header (https://sqlite.org/fileformat.html,
section 4). Of any other file it is the end of the file.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

_WAL_MAGIC = (0x377F0682, 0x377F0683)
_WAL_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
RECORD_BYTES_MAX = 8192
"""The half-written record of a file of unknown format is at most this long."""


@dataclass(frozen=True)
class Torn:
    """A file after the tear.

    Attributes:
        data: All of it.
        end: Where what had been written whole ends; everything before it is as it was.
        partial_bytes: Length of the half record behind it, which is never whole.
    """

    data: bytes
    end: int
    partial_bytes: int


def tear(data: bytes, rng: random.Random) -> Torn:
    """Let *data* end in the middle of a record, after a number of bytes drawn from *rng*.

    The half record looks like the one before it. Raises ValueError when there is none, so that no record can be torn.
    """
    end, record = _last_record(data)
    if len(record) < 2:
        raise ValueError("it holds no whole record")
    partial = bytearray(record[: rng.randrange(1, len(record))])
    partial[-1] ^= 1 << rng.randrange(8)  # what reached the disk of its last byte is not all of it
    return Torn(data[:end] + bytes(partial), end, len(partial))


def _last_record(data: bytes) -> tuple[int, bytes]:
    header = struct.unpack(">8I", data[:_WAL_HEADER_BYTES]) if len(data) >= _WAL_HEADER_BYTES else None
    if header is None or header[0] not in _WAL_MAGIC:
        return len(data), data[-RECORD_BYTES_MAX:]
    size, salts = _FRAME_HEADER_BYTES + header[2], header[4:6]
    end, place = 0, _WAL_HEADER_BYTES
    while place + size <= len(data):
        _, commits, *found = struct.unpack(">4I", data[place : place + 16])
        if tuple(found) != salts:
            break
        place += size
        end = place if commits else end
    return end, data[end - size : end] if end else b""
