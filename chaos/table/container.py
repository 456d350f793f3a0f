"""The shape of an Avro object container: header, blocks, sync markers.

Readers decode entries and stop at the first end they meet; a file cut between two blocks is a valid, shorter file to them.
What they do not tell, where each block ends and how many records it claims, is read here.
Format: https://avro.apache.org/docs/1.11.1/specification/#object-container-files
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.table.errors import NotAContainer

MAGIC = b"Obj\x01"
SYNC_BYTES = 16


@dataclass(frozen=True)
class Container:
    """A whole container.

    Attributes:
        metadata: The header's key-value pairs, such as `avro.schema` or `snapshot-id`.
        ends: Offsets at which the file could be cut unnoticed: the end of the header, and of each block.
        records: What the blocks claim to hold.
    """

    metadata: dict[str, bytes]
    ends: tuple[int, ...]
    records: int

    @property
    def header_end(self) -> int:
        """Where the header ends and the first block would begin."""
        return self.ends[0]


def read_container(data: bytes) -> Container:
    """Take a container apart without decoding a record.

    Raises:
        NotAContainer: it does not begin like one, a marker is wrong, or it ends in the middle of something.
    """
    cursor = _Cursor(data)
    if cursor.take(len(MAGIC)) != MAGIC:
        raise NotAContainer("it does not begin with the Avro magic number")
    metadata = _header(cursor)
    sync = cursor.take(SYNC_BYTES)
    ends, records = [cursor.at], 0
    while cursor.at < len(data):
        records += cursor.count()
        cursor.take(cursor.count())
        if cursor.take(SYNC_BYTES) != sync:
            raise NotAContainer(f"the sync marker of block {len(ends)} is wrong")
        ends.append(cursor.at)
    return Container(metadata, tuple(ends), records)


def _header(cursor: _Cursor) -> dict[str, bytes]:
    metadata = {}
    while pairs := cursor.long():
        if pairs < 0:
            cursor.long()
        for _ in range(abs(pairs)):
            key = cursor.take(cursor.count()).decode("utf-8", "replace")
            metadata[key] = cursor.take(cursor.count())
    return metadata


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self._data):
            raise NotAContainer(f"it ends at byte {len(self._data)}, in the middle of something")
        self.at += size
        return self._data[self.at - size : self.at]

    def count(self) -> int:
        value = self.long()
        if value < 0:
            raise NotAContainer(f"a negative length stands before byte {self.at}")
        return value

    def long(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
        raise NotAContainer(f"no number stands before byte {self.at}")
