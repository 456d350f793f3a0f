"""Which files a table consists of, found by walking its metadata: current snapshot, manifest list, manifests, data files.

Nothing here trusts a count that metadata states. Besides the files of the current snapshot, the walk finds those that only other
snapshots or stray manifests reference, and objects that nothing references, because a missing event may be in one of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow.fs as pafs
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from reports.errors import TableUnreadable
from reports.stages import Stage

T = TypeVar("T")

_ATTEMPTS = 3
_SECRETS = {
    "s3.access-key-id": "ICEQUAKE_S3_ACCESS_KEY",
    "s3.secret-access-key": "ICEQUAKE_S3_SECRET_KEY",
    "credential": "ICEQUAKE_CATALOG_CREDENTIAL",
    "token": "ICEQUAKE_CATALOG_TOKEN",
}
_HIDDEN = "***"


@dataclass
class FileRef:
    """One data file.

    Attributes:
        references: How often the current snapshot lists it; 1 is right, 2 doubles every row.
        snapshot_ids: The snapshots that added it, where known.
        masked: Delete files of the current snapshot apply to it.
    """

    path: str
    stage: Stage
    references: int = 0
    snapshot_ids: list[int] = field(default_factory=list)
    partition: str = ""
    masked: bool = False
    size_bytes: int = 0


@dataclass(frozen=True)
class Damage:
    """An object that could not be read.

    Attributes:
        kind: manifest-list, manifest or data-file.
        live: The current snapshot needs it.
        definite: The object is missing or its bytes are wrong; else storage just did not answer.
    """

    path: str
    kind: str
    problem: str
    live: bool
    definite: bool


@dataclass
class Walk:
    """What a walk found. `objects_listed` is False where the storage could not be listed."""

    files: list[FileRef] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    objects_listed: bool = True
    delete_files: int = 0


def catalog_properties(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return pyiceberg catalog properties with secrets filled in from the environment.

    A value `env:NAME` is replaced by that variable; a secret that is redacted or absent is taken from
    ICEQUAKE_S3_ACCESS_KEY, ICEQUAKE_S3_SECRET_KEY, ICEQUAKE_CATALOG_CREDENTIAL or ICEQUAKE_CATALOG_TOKEN where these are set.
    """
    properties = {name: str(value) for name, value in given.items()}
    for name, value in properties.items():
        if value.startswith("env:"):
            properties[name] = environ.get(value.removeprefix("env:"), "")
    for name, variable in _SECRETS.items():
        if properties.get(name, _HIDDEN) in ("", _HIDDEN) and variable in environ:
            properties[name] = environ[variable]
    return {name: value for name, value in properties.items() if value != _HIDDEN}


def open_table(properties: Mapping[str, str], identifier: str) -> Table | None:
    """Load the table, freshly; None when the catalog says that there is none.

    A property `name` names the catalog, which matters to catalogs in a database (they keep several under one roof).

    Raises:
        TableUnreadable: the catalog gave any other answer, or none.
    """
    try:
        rest = {name: value for name, value in properties.items() if name != "name"}
        return load_catalog(properties.get("name", "icequake"), **rest).load_table(identifier)
    except (NoSuchTableError, NoSuchNamespaceError):
        return None
    except Exception as error:  # the catalog client raises whatever its transport does
        raise TableUnreadable(f"the table {identifier} cannot be loaded ({_sentence(error)}).") from error


def live_files(table: Table, known: dict[str, list[str]]) -> Counter[str]:
    """Return how often the current snapshot lists each data file.

    Args:
        known: Data files by manifest, from earlier calls; manifests never change, so these are not read again. Updated to the
            manifests of the current snapshot.

    Raises:
        TableUnreadable: the manifest list or a manifest cannot be read.
    """
    snapshot = table.current_snapshot()
    path, listed = "", dict[str, list[str]]()
    try:
        if snapshot is not None:
            path = snapshot.manifest_list
            for manifest in retried(lambda: snapshot.manifests(table.io)):
                path = manifest.manifest_path
                listed[path] = known[path] if path in known else _data_files(table, manifest)
    except Exception as error:  # garbage Avro raises anything, SystemError included
        raise TableUnreadable(f"{path} cannot be read ({_sentence(error)}).") from error
    known.clear()
    known.update(listed)
    return Counter(path for paths in listed.values() for path in paths)


def _data_files(table: Table, manifest: ManifestFile) -> list[str]:
    entries = retried(lambda: manifest.fetch_manifest_entry(table.io, discard_deleted=True))
    return [e.data_file.file_path for e in entries if e.data_file.content == DataFileContent.DATA]


def walk(table: Table) -> Walk:
    """Walk everything the table and its storage have. Damage is recorded, not raised."""
    walker = _Walker(table)
    walker.current()
    walker.other_snapshots()
    walker.storage()
    walker.walk.files = sorted(walker.refs.values(), key=lambda ref: (-ref.stage, ref.path))
    return walker.walk


class _Walker:
    def __init__(self, table: Table) -> None:
        self.table = table
        self.walk = Walk()
        self.refs: dict[str, FileRef] = {}
        self._read: set[str] = set()
        self._lists: set[str] = set()

    def current(self) -> None:
        snapshot = self.table.current_snapshot()
        if snapshot is None:
            return
        for manifest in self._manifests(snapshot, live=True):
            self._manifest(manifest, live=True)
        if self.walk.delete_files:
            for task in masked_tasks(self.table):
                self.refs[task.file.file_path].masked = True

    def other_snapshots(self) -> None:
        for snapshot in self.table.metadata.snapshots:
            if snapshot.snapshot_id == self.table.metadata.current_snapshot_id:
                continue
            for manifest in self._manifests(snapshot, live=False):
                if manifest.manifest_path not in self._read:
                    self._manifest(manifest, live=False)

    def _manifests(self, snapshot: Snapshot, *, live: bool) -> list[ManifestFile]:
        self._lists.add(snapshot.manifest_list)
        return self._attempt(
            snapshot.manifest_list, "manifest-list", lambda: snapshot.manifests(self.table.io), live=live, default=[]
        )

    def _manifest(self, manifest: ManifestFile, *, live: bool) -> None:
        path = manifest.manifest_path
        self._read.add(path)
        entries: list[ManifestEntry] = self._attempt(
            path,
            "manifest",
            lambda: manifest.fetch_manifest_entry(self.table.io, discard_deleted=True),
            live=live,
            default=list[ManifestEntry](),
        )
        for entry in entries:
            if entry.data_file.content != DataFileContent.DATA:
                self.walk.delete_files += live
                continue
            stage = Stage.SCAN if live else Stage.MANIFEST
            ref = self.refs.setdefault(entry.data_file.file_path, FileRef(entry.data_file.file_path, stage))
            ref.references += live
            ref.partition = str(entry.data_file.partition)
            ref.size_bytes = int(entry.data_file.file_size_in_bytes)
            added_by = entry.snapshot_id
            if added_by is not None and added_by not in ref.snapshot_ids:
                ref.snapshot_ids.append(added_by)

    def storage(self) -> None:
        """Stray manifests, and Parquet objects that nothing references."""
        location = self.table.location().rstrip("/")
        data = self.table.properties.get("write.data.path", location + "/data")
        metadata = self.table.properties.get("write.metadata.path", location + "/metadata")
        try:
            manifests = list_objects(self.table, metadata)
            objects = list_objects(self.table, data)
        except (OSError, TableUnreadable):
            self.walk.objects_listed = False
            return
        for path, size in manifests.items():
            name = path.rpartition("/")[2]
            if name.endswith(".avro") and not name.startswith("snap-") and path not in self._read | self._lists:
                self._manifest(_bare_manifest(path, size), live=False)
        for path, size in objects.items():
            if path.endswith(".parquet") and path not in self.refs:
                self.refs[path] = FileRef(path, Stage.OBJECT, size_bytes=size)

    def _attempt(self, path: str, kind: str, action: Callable[[], T], *, live: bool, default: T) -> T:
        try:
            return retried(action)
        except Exception as error:  # garbage Avro raises anything, SystemError included
            self.walk.damage.append(diagnose(self.table, path, kind, error, live=live))
            return default


def _bare_manifest(path: str, size: int) -> ManifestFile:
    """A manifest of which only the object is known; what it would inherit from a manifest list stays zero."""
    return ManifestFile.from_args(
        _table_format_version=2,
        manifest_path=path,
        manifest_length=size,
        partition_spec_id=0,
        content=ManifestContent.DATA,
        sequence_number=0,
        min_sequence_number=0,
        added_snapshot_id=None,
    )


def masked_tasks(table: Table) -> list[FileScanTask]:
    """Return the scan tasks of data files that delete files apply to."""
    return [task for task in table.scan().plan_files() if task.delete_files]


def retried(action: Callable[[], T]) -> T:
    """Try *action* up to three times; missing objects are not asked for again. Raises what the last try raised."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return action()
        except FileNotFoundError:
            raise
        except Exception:  # noqa: S112  # the last try reports
            continue
    return action()


def diagnose(table: Table, path: str, kind: str, error: Exception, *, live: bool) -> Damage:
    """Say whether an object that could not be used is broken for certain: it is missing, or its bytes can be had."""
    if isinstance(error, FileNotFoundError):
        return Damage(path, kind, "the object does not exist", live, definite=True)
    try:
        with table.io.new_input(path).open() as stream:
            size = len(stream.read())
    except FileNotFoundError:
        return Damage(path, kind, "the object does not exist", live, definite=True)
    except Exception as unreachable:
        return Damage(path, kind, f"storage did not return it ({_sentence(unreachable)})", live, definite=False)
    return Damage(path, kind, f"its {size} bytes cannot be read as a {kind} ({_sentence(error)})", live, definite=True)


def list_objects(table: Table, prefix: str) -> dict[str, int]:
    """Return size by full path of every object below *prefix*, in the form in which metadata names them.

    Raises:
        TableUnreadable: this storage cannot be listed by us.
        OSError: it could, but did not answer.
    """
    if not isinstance(table.io, PyArrowFileIO):
        raise TableUnreadable(f"objects below {prefix} cannot be listed through {type(table.io).__name__}.")
    scheme, netloc, path = PyArrowFileIO.parse_location(prefix, table.io.properties)
    filesystem = table.io.fs_by_scheme(scheme, netloc)
    root = prefix[: len(prefix) - len(path)] if prefix.endswith(path) else ""
    selector = pafs.FileSelector(path, recursive=True, allow_not_found=True)
    infos: Iterable[pafs.FileInfo] = filesystem.get_file_info(selector)
    return {root + info.path: info.size for info in infos if info.type == pafs.FileType.File}


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text[:200]}"
