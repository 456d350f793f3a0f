"""One streaming walk over everything a table consists of: manifest lists, manifests, data and delete files.

The current snapshot comes first, then the others, newest first. Each manifest list, manifest and file is visited once.
Nothing is raised for damage: what could not be read is part of what was seen.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal, TypeVar

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile
from pyiceberg.manifest import ManifestEntry, ManifestFile, read_manifest_list
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from chaos.table.container import Container, read_container
from chaos.table.errors import NotAContainer, ObjectMissing, StoreFailed, sentence
from chaos.table.inventory import Inventory
from chaos.table.parallel import bounded_map
from chaos.table.store import ObjectStore

T = TypeVar("T")

AHEAD = 16
"""Manifests, and entries of one manifest, that may be held while the consumer catches up."""


@dataclass(frozen=True)
class Problem:
    """Why an object cannot be used: it is missing, its bytes cannot be decoded, or the store did not answer."""

    kind: Literal["missing", "undecodable", "unanswered"]
    detail: str


@dataclass(frozen=True)
class ListSeen:
    """A manifest list.

    Attributes:
        live: It belongs to the current snapshot.
        size: Its length in bytes; None when it could not be had.
        header: The key-value pairs of its Avro header.
    """

    snapshot: Snapshot
    live: bool
    size: int | None
    problem: Problem | None
    header: dict[str, bytes]
    manifests: tuple[ManifestFile, ...]

    @property
    def path(self) -> str:
        """Where it is."""
        return self.snapshot.manifest_list


@dataclass(frozen=True)
class ManifestSeen:
    """A manifest, with all its entries, deleted ones included, sequence numbers inherited.

    Attributes:
        listed: How the manifest list describes it.
        live: The current snapshot lists it.
    """

    listed: ManifestFile
    live: bool
    size: int | None
    problem: Problem | None
    header: dict[str, bytes]
    entries: tuple[ManifestEntry, ...]

    @property
    def path(self) -> str:
        """Where it is."""
        return self.listed.manifest_path


@dataclass(frozen=True)
class FileSeen:
    """A data or delete file that a manifest lists as existing.

    Attributes:
        live: The current snapshot lists it.
        size: Its real length in bytes; None when it is missing (or, with a problem of kind unanswered, unknown).
    """

    entry: ManifestEntry
    manifest: str
    live: bool
    size: int | None
    problem: Problem | None

    @property
    def path(self) -> str:
        """Where it is."""
        return self.entry.data_file.file_path


Node = ListSeen | ManifestSeen | FileSeen


class Walker:
    """Walks one table as *metadata* describes it.

    Args:
        inventory: Knows the sizes of objects, by listing them at once where that is possible.
        pool: Runs the requests.
    """

    def __init__(self, metadata: TableMetadata, store: ObjectStore, inventory: Inventory, pool: Executor) -> None:
        self._metadata, self._store, self._inventory, self._pool = metadata, store, inventory, pool
        self._seen: set[str] = set()

    def walk(self, *, history: bool = True) -> Iterator[Node]:
        """Everything, in order; without *history* the current snapshot alone."""
        current = self._metadata.current_snapshot()
        if current is not None:
            yield from self._snapshot(current, live=True)
        if history:
            others = [snapshot for snapshot in self._metadata.snapshots if snapshot is not current]
            newest_first = sorted(others, key=lambda one: one.sequence_number or 0, reverse=True)
            for snapshot in newest_first:
                yield from self._snapshot(snapshot, live=False)

    def _snapshot(self, snapshot: Snapshot, *, live: bool) -> Iterator[Node]:
        seen = read_list(snapshot, self._store, live=live)
        yield seen
        fresh = self._fresh(seen.manifests, live=live)
        reading = bounded_map(self._pool, lambda one: read_manifest(one, self._store, live=live), fresh, ahead=AHEAD)
        for manifest in reading:
            yield manifest
            yield from self._files(manifest)

    def _fresh(self, manifests: Iterable[ManifestFile], *, live: bool) -> Iterator[ManifestFile]:
        """A manifest listed twice by the current snapshot doubles its rows, so it is handed out twice."""
        for manifest in manifests:
            if live or manifest.manifest_path not in self._seen:
                self._seen.add(manifest.manifest_path)
                yield manifest

    def _files(self, manifest: ManifestSeen) -> Iterator[FileSeen]:
        existing = (entry for entry in manifest.entries if entry.status != _DELETED)
        if not manifest.live:
            existing = (entry for entry in existing if not self._inventory.was_taken(entry.data_file.file_path))
        yield from bounded_map(self._pool, lambda entry: self._file(entry, manifest), existing, ahead=AHEAD * 4)

    def _file(self, entry: ManifestEntry, manifest: ManifestSeen) -> FileSeen:
        try:
            size, problem = self._inventory.size(entry.data_file.file_path), None
        except StoreFailed as error:
            size, problem = None, Problem("unanswered", str(error))
        return FileSeen(entry, manifest.path, manifest.live, size, problem)


_DELETED = 2
"""The status of an entry whose file this snapshot removed (Iceberg specification, Manifest Entry Fields)."""


def read_list(snapshot: Snapshot, store: ObjectStore, *, live: bool) -> ListSeen:
    """Read the manifest list of a snapshot."""
    path = snapshot.manifest_list

    def decode(data: bytes) -> tuple[ManifestFile, ...]:
        return tuple(read_manifest_list(MemoryInput(path, data)))

    size, problem, header, manifests = _read(path, store, decode)
    return ListSeen(snapshot, live, size, problem, header, manifests)


def read_manifest(listed: ManifestFile, store: ObjectStore, *, live: bool) -> ManifestSeen:
    """Read a manifest as its manifest list describes it."""
    path = listed.manifest_path

    def decode(data: bytes) -> tuple[ManifestEntry, ...]:
        return tuple(listed.fetch_manifest_entry(MemoryIO({path: data}), discard_deleted=False))

    size, problem, header, entries = _read(path, store, decode)
    return ManifestSeen(listed, live, size, problem, header, entries)


def _read(
    path: str, store: ObjectStore, decode: Callable[[bytes], tuple[T, ...]]
) -> tuple[int | None, Problem | None, dict[str, bytes], tuple[T, ...]]:
    try:
        data = store.get(path)
    except ObjectMissing:
        return None, Problem("missing", "the object does not exist"), {}, ()
    except StoreFailed as error:
        return None, Problem("unanswered", str(error)), {}, ()
    try:
        container = read_container(data)
        decoded = decode(data)
    except NotAContainer as error:
        return len(data), Problem("undecodable", f"{error} ({len(data)} bytes)"), {}, ()
    except Exception as error:  # garbage inside Avro blocks raises anything, SystemError included
        return len(data), Problem("undecodable", f"{sentence(error)} ({len(data)} bytes)"), {}, ()
    problem = _short(container, len(decoded))
    return len(data), problem, container.metadata, () if problem else decoded


def _short(container: Container, decoded: int) -> Problem | None:
    if decoded == container.records:
        return None
    return Problem("undecodable", f"its blocks claim {container.records} entries, {decoded} can be read")


class MemoryInput(InputFile):
    """Bytes at hand, as a pyiceberg input file; so an object is fetched once, and no cache stands in between."""

    def __init__(self, location: str, data: bytes) -> None:
        super().__init__(location)
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def exists(self) -> bool:
        """They do."""
        return True

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002  # pyiceberg's signature
        """Open them."""
        return io.BytesIO(self._data)


class MemoryIO(FileIO):
    """A read-only pyiceberg FileIO over bytes at hand."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__({})
        self._objects = objects

    def new_input(self, location: str) -> InputFile:
        """Return one of the objects. Raises KeyError."""
        return MemoryInput(location, self._objects[location])

    def new_output(self, location: str) -> OutputFile:
        """Refuse."""
        raise NotImplementedError(f"{location}: this FileIO is read-only.")

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Refuse."""
        raise NotImplementedError(f"{location}: this FileIO is read-only.")
