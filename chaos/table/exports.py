"""Rows of lost data files, taken from a collector's export: one CloudEvent a line, and a receipt at the end.

The columns are those that CloudEvents have: `id`, `source`, `type`, `time`, `subject`, `datacontenttype`, `dataschema`, and where the
table has them `time_text`, `data_kind`, `data`, `data_binary` and `extensions`. Which events a lost file held follows from its
partition and from what is not in the table; more candidates than the file had rows would make it a guess, which is refused.
"""

from __future__ import annotations

import binascii
import hashlib
import io
import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import parquet_file_to_data_file, schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from chaos.table.datafile import partitions_of
from chaos.table.errors import CannotRepair, ObjectMissing, StoreFailed
from chaos.table.store import ObjectStore
from chaos.table.walk import MemoryIO

_ATTRIBUTES = ("id", "source", "type", "time", "subject", "datacontenttype", "dataschema")
_OTHER = ("specversion", "data", "data_base64", "data_kind")
CHUNK_ROWS = 2000
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Partition = tuple[int, tuple[Any, ...]]


@dataclass(frozen=True)
class Lost:
    """Rows of one partition that the export does not hold."""

    partition: str
    rows: int


@dataclass
class Restored:
    """Data files that are to be written again, with their bytes by path; what is still missing; and how that is known."""

    files: list[DataFile] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)


def restored(
    table: Table, store: ObjectStore, export: Path, gone: Sequence[DataFile], live: Sequence[DataFile]
) -> Restored:
    """Make the rows of the files that are *gone* again, one file a partition; nothing is written yet.

    Raises:
        CannotRepair: the export is not whole, or is no export, or which events the files held would be a guess.
        StoreFailed: the store did not answer.
    """
    if any(file.spec_id != table.metadata.default_spec_id for file in gone):
        raise CannotRepair("a lost file has an earlier partition spec than rows would get now.")
    check_receipt(export)
    wanted: dict[Partition, int] = defaultdict(int)
    for file in gone:
        wanted[_key(file)] += file.record_count
    lost_paths = {file.file_path for file in gone}
    known = _known([file for file in live if file.file_path not in lost_paths and _key(file) in wanted], store)
    found = _candidates(table, export, set(wanted), known)
    result = Restored()
    for key, rows in wanted.items():
        have = found.get(key, [])
        if len(have) > rows:
            raise CannotRepair(
                f"the lost files of partition {key[1]} held {rows} rows, the export has {len(have)} events of it that the "
                "table lacks, so which they were would be a guess."
            )
        if have:
            _make(table, have, key, result)
        if len(have) < rows:
            result.lost.append(Lost(str(key[1]), rows - len(have)))
        result.evidence.append(
            f"the export has {len(have)} events of partition {key[1]} that the table lacks, of {rows}"
        )
    return result


def check_receipt(export: Path) -> int:
    """Return how many events an export holds. Raises CannotRepair when it is none, or not what its receipt was written for."""
    digest, count, last = hashlib.sha256(), 0, b""
    try:
        with export.open("rb") as lines:
            for line in lines:
                if last:
                    digest.update(last)
                    count += 1
                last = line
        receipt = json.loads(last)["receipt"]
        named = (int(receipt["events"]), str(receipt["sha256"]))
    except OSError as error:
        raise CannotRepair(f"the export {export} cannot be read: {error.strerror}.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise CannotRepair(f"{export} does not end with a receipt: it was cut off, or is no export.") from error
    if named != (count, digest.hexdigest()):
        raise CannotRepair(
            f"{export} is not what its receipt was written for: {count} lines, {named[0]} by the receipt."
        )
    return count


def _key(file: DataFile) -> Partition:
    return file.spec_id, tuple(file.partition[index] for index in range(len(file.partition)))


def _known(files: Sequence[DataFile], store: ObjectStore) -> set[tuple[str, str]]:
    """Source and id of every row of these files."""
    known: set[tuple[str, str]] = set()
    for file in files:
        try:
            rows = pq.read_table(io.BytesIO(store.get(file.file_path)), columns=["source", "id"])
        except StoreFailed:
            raise
        except (ObjectMissing, pa.ArrowException, OSError) as error:
            raise CannotRepair(f"{file.file_path} cannot be read, so what is in the table is not known.") from error
        known.update(zip(rows["source"].to_pylist(), rows["id"].to_pylist(), strict=True))
    return known


def _candidates(
    table: Table, export: Path, wanted: set[Partition], known: set[tuple[str, str]]
) -> dict[Partition, list[dict[str, Any]]]:
    """Events of the wanted partitions that the table does not have, each once."""
    spec, schema = table.spec(), table.schema()
    target = schema_to_pyarrow(schema)
    found: dict[Partition, list[dict[str, Any]]] = defaultdict(list)
    seen = set(known)
    rows = _rows(export, target)
    while chunk := list(islice(rows, CHUNK_ROWS)):
        partitions = partitions_of(pa.Table.from_pylist(chunk, schema=target), spec, schema)
        for row, values in zip(chunk, partitions, strict=True):
            identity, key = (row["source"], row["id"]), (spec.spec_id, values)
            if key in wanted and identity not in seen:
                seen.add(identity)
                found[key].append(row)
    return found


def _rows(export: Path, target: pa.Schema) -> Iterator[dict[str, Any]]:
    unknown = [one.name for one in target if not one.nullable and one.name not in _ATTRIBUTES]
    if unknown or not {"id", "source"} <= set(target.names):
        raise CannotRepair(f"rows of this table are no CloudEvents: {', '.join(unknown) or 'it has no id and source'}.")
    with export.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.startswith(b'{"receipt"'):
                continue
            try:
                row = row_of(line)
            except (msgspec.MsgspecError, ValueError, LookupError) as error:
                raise CannotRepair(f"{export}:{number} is no event: {error}.") from error
            yield {name: row.get(name) for name in target.names}


def row_of(line: bytes) -> dict[str, Any]:
    """Return the row of one line of an export. Raises ValueError, KeyError or msgspec.MsgspecError."""
    members = _members(line)
    row: dict[str, Any] = {name: msgspec.json.decode(members[name]) for name in _ATTRIBUTES if name in members}
    row["time_text"] = row["time"]
    row["time"] = datetime.fromisoformat(row["time"])
    others = {name: msgspec.json.decode(raw) for name, raw in members.items() if name not in (*_ATTRIBUTES, *_OTHER)}
    row["extensions"] = msgspec.json.encode(others).decode() if others else None
    return row | _data(members, row.get("datacontenttype"))


def _data(members: dict[str, msgspec.Raw], content_type: str | None) -> dict[str, Any]:
    if "data_base64" in members:
        data = binascii.a2b_base64(msgspec.json.decode(members["data_base64"]))
        kind = msgspec.json.decode(members["data_kind"]) if "data_kind" in members else "binary"
        return (
            {"data_kind": kind, "data_binary": data} if kind == "binary" else {"data_kind": kind, "data": data.decode()}
        )
    if "data" not in members:
        return {"data_kind": None}
    text = bytes(members["data"])
    if content_type is not None and not _is_json(content_type) and text.startswith(b'"'):
        return {"data_kind": "text", "data": msgspec.json.decode(text)}
    return {"data_kind": "json", "data": text.decode()}


def _is_json(content_type: str) -> bool:
    """Whether a media type is JSON (RFC 6839): `application/json`, `text/json`, or with the suffix `+json`."""
    media = content_type.partition(";")[0].strip().lower()
    return media.rpartition("/")[2] == "json" or media.endswith("+json")


def _make(table: Table, rows: list[dict[str, Any]], key: Partition, into: Restored) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema_to_pyarrow(table.schema())), sink, compression="zstd")
    path = f"{table.location()}/data/restored-{uuid.uuid4()}.parquet"
    file = parquet_file_to_data_file(MemoryIO({path: sink.getvalue()}), table.metadata, path)
    for index, value in enumerate(key[1]):
        file.partition[index] = value
    file.spec_id = key[0]
    into.files.append(file)
    into.objects[path] = sink.getvalue()
