"""The object store under a table: whole objects, named as table metadata names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from chaos.table.errors import ObjectMissing, StoreFailed, sentence

T = TypeVar("T")

_ATTEMPTS = 3


@dataclass(frozen=True)
class Stat:
    """What a store tells of an object without reading it.

    Attributes:
        modified_s: Seconds since 1970 by the store's clock; None where it does not say.
    """

    path: str
    size: int
    modified_s: float | None = None


class ObjectStore(Protocol):
    """Get, put, delete, head and list. Every method raises StoreFailed when the store does not answer, or refuses."""

    def get(self, path: str) -> bytes:
        """Return the whole object. Raises ObjectMissing."""
        ...

    def etag(self, path: str) -> str | None:
        """Return the object's ETag; None where the store has none. Raises ObjectMissing."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Create or replace an object."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object. Raises ObjectMissing."""
        ...

    def head(self, path: str) -> Stat | None:
        """Tell an object's size; None when there is none."""
        ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """Every object below *prefix*, markers of directories left out."""
        ...

    def open(self, path: str) -> pa.NativeFile:
        """Open an object for reading by ranges. Raises ObjectMissing."""
        ...


class FileIOStore:
    """The store behind a pyiceberg FileIO of pyarrow: S3 and what speaks it, GCS, Azure, or a local directory.

    Reads are tried three times before StoreFailed; writes once, since the S3 client below has tried them already.
    """

    def __init__(self, io: FileIO) -> None:
        if not isinstance(io, PyArrowFileIO):
            raise StoreFailed(
                f"objects cannot be listed through {type(io).__name__}; leave out the property py-io-impl."
            )
        self._io = io

    def get(self, path: str) -> bytes:
        """Return the whole object."""
        return _retried(path, lambda: self._read(path))

    def _read(self, path: str) -> bytes:
        filesystem, key = self._at(path)
        with filesystem.open_input_stream(key) as stream:
            return bytes(stream.read())

    def etag(self, path: str) -> str | None:
        """Return the object's ETag; None on a local disk."""

        def ask() -> str | None:
            filesystem, key = self._at(path)
            with filesystem.open_input_stream(key) as stream:
                tag = (stream.metadata() or {}).get("ETag")
            return bytes(tag).decode("latin-1").strip('"') or None if tag is not None else None

        return _retried(path, ask)

    def put(self, path: str, data: bytes) -> None:
        """Create or replace an object."""
        filesystem, key = self._at(path)
        with _translated(path), filesystem.open_output_stream(key) as stream:
            stream.write(data)

    def delete(self, path: str) -> None:
        """Remove an object."""
        filesystem, key = self._at(path)
        with _translated(path):
            filesystem.delete_file(key)

    def head(self, path: str) -> Stat | None:
        """Tell an object's size."""

        def ask() -> Stat | None:
            filesystem, key = self._at(path)
            info = filesystem.get_file_info(key)
            return Stat(path, info.size, _modified(info)) if info.type == pafs.FileType.File else None

        try:
            return _retried(path, ask)
        except ObjectMissing:
            return None

    def list(self, prefix: str) -> Iterator[Stat]:
        """Every object below *prefix*; the names alone take some 0.3 KB each while they are handed out."""
        filesystem, key = self._at(prefix)
        root = prefix[: len(prefix) - len(key)] if prefix.endswith(key) else ""
        selector = pafs.FileSelector(key, recursive=True, allow_not_found=True)
        infos: list[pafs.FileInfo] = _retried(prefix, lambda: filesystem.get_file_info(selector))
        for info in infos:
            if info.type == pafs.FileType.File:
                yield Stat(root + info.path, info.size, _modified(info))

    def open(self, path: str) -> pa.NativeFile:
        """Open an object for reading by ranges."""
        filesystem, key = self._at(path)
        return _retried(path, lambda: filesystem.open_input_file(key))

    def _at(self, path: str) -> tuple[pafs.FileSystem, str]:
        with _translated(path):
            scheme, netloc, key = self._io.parse_location(path, self._io.properties)
            return self._io.fs_by_scheme(scheme, netloc), key


def _modified(info: Any) -> float | None:
    return None if info.mtime_ns is None else info.mtime_ns / 1e9


def _retried(path: str, action: Callable[[], T]) -> T:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with _translated(path):
                return action()
        except StoreFailed:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(f"{path} does not exist.") from error
    except ValueError as error:  # a path of damaged metadata: no such scheme, a NUL in it, bytes that are no text
        raise ObjectMissing(f"{path!r} cannot be the name of an object: {sentence(error)}") from error
    except (OSError, pa.ArrowException) as error:
        raise StoreFailed(f"{path}: {sentence(error)}") from error
