"""`observed/`: the table after it settled, read once and kept, so that a verdict needs neither network nor storage.

index.json          the table, its snapshots, and per data file everything but its keys
keys-<n>.npz        which events data file n holds, how often, and which of them were altered
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from loadtests.records.documents import read_document, write_document
from loadtests.records.errors import CorruptRecord, MissingRecord
from loadtests.records.schema import schema_name
from reports.errors import NothingObserved
from reports.keyset import Counted, KeySet

KIND = "observed"
INDEX = "index.json"


class ObservedSnapshot(Struct, frozen=True, kw_only=True):
    """A snapshot in the table's metadata. `unix_ms` is the committer's clock; `flush_ids` are those its summary names."""

    id: int
    parent: int | None
    unix_ms: int
    operation: str
    current: bool
    flush_ids: list[str] = field(default_factory=list)


class ObservedFile(Struct, frozen=True, kw_only=True):
    """A data file, or what a scan returns of it.

    Attributes:
        keys: Name of the file with its keys; None when it could not be read.
        stage: `object`, `manifest`, `snapshot` or `scan`; see `reports.stages.Stage`.
        references: How often the current snapshot lists it.
        rows, ours, foreign: Rows read; with a source of this run; with any other source.
        stray: Rows of our sources whose id this run cannot have minted.
        unix_ms: When the snapshot that added it was committed, by the committer's clock.
    """

    path: str
    stage: str
    references: int = 0
    keys: str | None = None
    size_bytes: int = 0
    rows: int = 0
    ours: int = 0
    foreign: int = 0
    stray: int = 0
    snapshot_ids: list[int] = field(default_factory=list)
    flush_ids: list[str] = field(default_factory=list)
    unix_ms: int | None = None
    partition: str = ""
    stray_examples: list[dict[str, Any]] = field(default_factory=list)
    altered_examples: list[dict[str, Any]] = field(default_factory=list)


class Unreadable(Struct, frozen=True, kw_only=True):
    """An object that could not be read; see `reports.tablewalk.Damage`."""

    path: str
    kind: str
    problem: str
    live: bool
    definite: bool


class SecondEngine(Struct, frozen=True, kw_only=True):
    """What another engine counted in the same table: rows of this run, and distinct (source, id) among them."""

    engine: str
    how: str
    rows: int | None = None
    distinct: int | None = None
    problem: str | None = None


class Observed(Struct, frozen=True, kw_only=True):
    """The content of observed/index.json.

    Attributes:
        exists: The catalog knew the table.
        problem: Why the table could not be read at all; then everything else is empty.
        objects_listed: Objects that nothing references were looked for.
        contents_checked: `data` was compared with what was sent.
    """

    run_id: str
    table: str
    exists: bool = True
    problem: str | None = None
    read_unix_ns: int = 0
    read_mono_ns: int = 0
    metadata_location: str = ""
    snapshots: list[ObservedSnapshot] = field(default_factory=list)
    files: list[ObservedFile] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    objects_listed: bool = True
    contents_checked: bool = True
    second: SecondEngine | None = None
    schema: str = schema_name(KIND)


class Keys(Struct, frozen=True):
    """The events of one data file by producer: all of them, and those whose content was altered."""

    found: dict[int, Counted]
    altered: dict[int, Counted]


def write_index(directory: Path, observed: Observed) -> None:
    """Replace the index atomically; write it last, since it names the key files."""
    write_document(directory / INDEX, observed)


def read_index(directory: Path) -> Observed:
    """Read the index.

    Raises:
        NothingObserved: the table was never read.
        CorruptRecord, NewerVersion: see `loadtests.records.errors`.
    """
    try:
        return read_document(directory / INDEX, Observed, schema=KIND)
    except MissingRecord:
        raise NothingObserved(
            f"{directory} holds no reading of the table; run `python -m reports.observe RUN` first."
        ) from None


def write_keys(path: Path, keys: Keys) -> None:
    """Write the keys of one data file."""
    arrays = {f"{name}_{k}": v for name in ("found", "altered") for k, v in _pack(getattr(keys, name)).items()}
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def read_keys(path: Path) -> Keys:
    """Read the keys of one data file. Raises CorruptRecord."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            plain = {name: arrays[name] for name in arrays.files}
        return Keys(*(_unpack(plain, name) for name in ("found", "altered")))
    except FileNotFoundError:
        raise CorruptRecord(f"{path} is missing though the index names it; read the table again.") from None
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise CorruptRecord(f"{path} cannot be read as keys of a data file ({error}).") from error


_Arrays = dict[str, npt.NDArray[Any]]


def _pack(counted: Mapping[int, Counted]) -> _Arrays:
    parts = list(counted.values())
    sets = [[c.keys.first, c.keys.last, c.keys.count, c.keys.form, len(c.keys.payload), len(c.again)] for c in parts]
    empty = np.empty(0, dtype=np.uint64)
    return {
        "producers": np.array(list(counted), dtype=np.uint64),
        "sets": np.array(sets, dtype=np.uint64).reshape(-1, 6),
        "payload": np.concatenate([np.empty(0, np.uint8), *(c.keys.payload for c in parts)]),
        "again": np.concatenate([empty, *(c.again for c in parts)]),
        "copies": np.concatenate([empty, *(c.copies for c in parts)]),
    }


def _unpack(arrays: _Arrays, name: str) -> dict[int, Counted]:
    payload, again, copies = (arrays[f"{name}_{part}"] for part in ("payload", "again", "copies"))
    out, byte, more = {}, 0, 0
    for producer, row in zip(arrays[f"{name}_producers"].tolist(), arrays[f"{name}_sets"].tolist(), strict=True):
        first, last, size, form, payload_bytes, repeated = row
        keys = KeySet(first, last, size, form, payload[byte : byte + payload_bytes])
        out[producer] = Counted(keys, again[more : more + repeated], copies[more : more + repeated])
        byte, more = byte + payload_bytes, more + repeated
    return out
