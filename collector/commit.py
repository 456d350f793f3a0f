"""The Iceberg table: one flush, one snapshot. With ``catalog``, the one place that touches pyiceberg.

Commits are built from pyiceberg's public parts instead of ``Table.append``, whose retry loop can commit a flush
twice and deletes files that a landed commit needs. Nothing is ever deleted here.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.io.pyarrow import parquet_file_to_data_file, schema_to_pyarrow
from pyiceberg.manifest import (
    DataFile,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table import CommitTableRequest
from pyiceberg.table import Table as CatalogTable
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import (
    Operation,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)

from collector import lineage
from collector.catalog import connect, s3_properties
from collector.clock import Clock, SystemClock
from collector.config import CatalogConfig, MaintenanceConfig, S3Config
from collector.crashpoints import NONE, CrashPoints
from collector.encode import FLUSH_ID_KEY, to_parquet
from collector.errors import CommitUnknown, StoreUnavailable
from collector.maintenance import SnapshotInfo, expirable
from collector.memory import MemoryIO, MemoryOutput
from collector.schema import TABLE_PROPERTIES, TABLE_SCHEMA, TABLE_SPEC, complete_partition, conform
from collector.store import FileRef, Intent, Progress
from collector.table import TableView, snapshot_id_of

SMALL_MANIFEST_FILES = 500
"""A manifest with fewer data files is small: merged with others once there are many."""

_WATERMARK = "collector.{}.watermark"


def rest_table(
    catalog: CatalogConfig,
    s3: S3Config,
    *,
    clock: Clock,
    maintenance: MaintenanceConfig | None = None,
    crash: CrashPoints = NONE,
) -> IcebergTable:
    """Describe the configured table; nothing is connected before the first use."""
    return IcebergTable(
        lambda: connect(catalog, s3),
        catalog.table_identifier,
        clock=clock,
        s3=s3_properties(s3),
        maintenance=maintenance,
        crash=crash,
    )


class IcebergTable:
    """A table in an Iceberg catalog.

    Args:
        connect: Makes the catalog; called again until it succeeds, since a REST catalog is called while it is made.
        identifier: ``namespace.table``; created when it is missing.
        s3: FileIO properties that win over what the catalog answers, so that a configured endpoint stays in use.
        clock: Snapshot timestamps.
        maintenance: When manifests are merged.
        crash: Armed crash points.
    """

    def __init__(
        self,
        connect: Callable[[], Catalog],
        identifier: str,
        *,
        clock: Clock | None = None,
        s3: Mapping[str, str] | None = None,
        maintenance: MaintenanceConfig | None = None,
        crash: CrashPoints = NONE,
    ) -> None:
        self._connect = connect
        self._identifier = tuple(identifier.split("."))
        self._clock = clock or SystemClock()
        self._s3 = dict(s3 or {})
        self._maintenance = maintenance or MaintenanceConfig()
        self._crash = crash
        self._catalog: Catalog | None = None
        self._table: CatalogTable | None = None
        self._files: dict[str, DataFile] = {}

    # ------------------------------------------------------------------ reading

    def refresh(self) -> TableView:
        """Read the table afresh; see ``table.Table``."""
        try:
            if self._catalog is None:
                self._catalog = self._connect()
            loaded = self._load_or_create(self._catalog)
            self._adopt(loaded.metadata, loaded.metadata_location, loaded.config)
        except Exception as exc:  # pyiceberg, requests, pydantic and pyarrow each raise their own kinds
            _unavailable("the table cannot be loaded", exc)
        return self._view()

    def _load_or_create(self, catalog: Catalog) -> CatalogTable:
        try:
            return catalog.load_table(self._identifier)
        except NoSuchTableError:
            pass
        namespace = self._identifier[:-1]
        if not catalog.namespace_exists(namespace):
            with contextlib.suppress(NamespaceAlreadyExistsError):
                catalog.create_namespace(namespace)
        try:
            return catalog.create_table(
                self._identifier, TABLE_SCHEMA, partition_spec=TABLE_SPEC, properties=TABLE_PROPERTIES
            )
        except TableAlreadyExistsError:
            return catalog.load_table(self._identifier)

    def _adopt(self, metadata: TableMetadata, location: str, config: Mapping[str, str]) -> None:
        assert self._catalog is not None
        if self._table is not None and self._table.metadata.table_uuid != metadata.table_uuid:
            self._files.clear()  # they lie in the table that was dropped
        file_io = load_file_io({**self._catalog.properties, **config, **self._s3}, metadata.location)
        self._table = CatalogTable(self._identifier, metadata, location, file_io, self._catalog, dict(config))

    def keys(self, hour: int) -> list[tuple[str, str]]:
        """Read ``(source, id)`` of every row of one hour (counted from the Unix epoch), of the table as it is now.

        Raises ``StoreUnavailable``.
        """
        self.refresh()
        begin, end = (datetime.fromtimestamp(3600 * (hour + n), UTC).isoformat() for n in (0, 1))
        within = f"time >= '{begin}' and time < '{end}'"
        try:
            rows = self._loaded().scan(row_filter=within, selected_fields=("source", "id")).to_arrow()
            return list(zip(rows["source"].to_pylist(), rows["id"].to_pylist(), strict=True))
        except Exception as exc:
            _unavailable("the table cannot be read", exc)

    def _loaded(self) -> CatalogTable:
        if self._table is None:
            self.refresh()
        assert self._table is not None
        return self._table

    def _view(self) -> TableView:
        metadata = self._loaded().metadata
        prefix, suffix = _WATERMARK.split("{}")
        return TableView(
            uuid=str(metadata.table_uuid),
            head=metadata.current_snapshot_id,
            ancestors=frozenset(s.snapshot_id for s in lineage.ancestors(metadata)),
            watermarks={
                key[len(prefix) : -len(suffix)]: int(value)
                for key, value in metadata.properties.items()
                if key.startswith(prefix) and key.endswith(suffix)
            },
        )

    # ------------------------------------------------------------------ a flush

    def write(self, flush: Progress, number: int, rows: pa.Table) -> FileRef:
        """Store one data file; see ``table.Table``."""
        table = self._loaded()
        path = f"{table.metadata.location}/data/{flush.flush_id}-{number:05d}.parquet"
        try:
            data = to_parquet(conform(rows, schema_to_pyarrow(table.schema())), flush.flush_id)
            data_file = parquet_file_to_data_file(MemoryIO(path, data), table.metadata, path)
            complete_partition(data_file, rows, table.metadata)
            _put(table.io, path, data)
        except Exception as exc:
            _unavailable(f"the data file {path} cannot be stored", exc)
        self._files[path] = data_file
        return FileRef(path, len(data), rows.num_rows)

    def missing(self, flush: Progress) -> frozenset[str]:
        """Ask for each object once; see ``table.Table``."""
        intent = flush.intent
        if intent is None:
            return frozenset()
        table = self._loaded()
        if flush.state == "committed" and table.metadata.snapshot_by_id(snapshot_id_of(flush.flush_id)) is None:
            return frozenset()
        paths = [*(file.path for file in flush.files), *(path for path, _ in intent.objects)]
        try:
            return frozenset(path for path in paths if not table.io.new_input(path).exists())
        except Exception as exc:
            _unavailable("the object store does not say whether it has what was stored", exc)

    def put_back(self, flush: Progress, missing: frozenset[str], rows: Callable[[int], pa.Table]) -> None:
        """Data files first, the manifest list last; see ``table.Table``."""
        table, intent = self._loaded(), flush.intent
        assert intent is not None
        try:
            schema = schema_to_pyarrow(lineage.schema_of(intent, table.metadata))
            for file in flush.files:
                if file.path in missing:
                    number = int(file.path.rpartition("-")[2].removesuffix(".parquet"))
                    _put(table.io, file.path, to_parquet(conform(rows(number), schema), flush.flush_id))
            for path, data in intent.objects:
                if path in missing:
                    _put(table.io, path, data)
        except Exception as exc:
            _unavailable("what is gone of a flush cannot be stored again", exc)

    def has(self, files: tuple[FileRef, ...]) -> bool:
        """Tell whether the files' statistics are at hand; see ``table.Table``."""
        return all(file.path in self._files for file in files)

    def prepare(self, flush: Progress, files: tuple[FileRef, ...], attempt: int) -> Intent:
        """Write manifest and manifest list and build the request; see ``table.Table``."""
        table = self._loaded()
        try:
            return self._prepare(table, flush, [self._files[file.path] for file in files], attempt)
        except StoreUnavailable:
            raise
        except Exception as exc:
            _unavailable("the manifests cannot be stored", exc)

    def _prepare(self, table: CatalogTable, flush: Progress, files: list[DataFile], attempt: int) -> Intent:
        metadata = table.metadata
        parent = metadata.current_snapshot()
        snapshot_id = snapshot_id_of(flush.flush_id)
        stem = f"{metadata.location}/metadata/flush-{flush.flush_id.replace('/', '-')}-{attempt}"
        outputs = [MemoryOutput(f"{stem}-m{number}.avro") for number in range(2)]
        added, summary = self._added_manifest(table, flush, files, outputs[0])
        _put(table.io, outputs[0].location, outputs[0].data)
        self._crash("manifest.after_write")
        inherited = lineage.sound_manifests(parent, table.io)
        manifests = [added, *self._merge(table, snapshot_id, inherited, outputs[1])]
        if outputs[1].data:
            _put(table.io, outputs[1].location, outputs[1].data)
        list_path = f"{metadata.location}/metadata/snap-{snapshot_id}-{attempt}-{_short_hash(stem)}.avro"
        outputs.append(MemoryOutput(list_path))
        sequence = lineage.last_sequence(metadata) + 1
        with write_manifest_list(
            2, outputs[2], snapshot_id, parent.snapshot_id if parent else None, sequence, "deflate"
        ) as writer:
            writer.add_manifests(manifests)
        _put(table.io, list_path, outputs[2].data)
        self._crash("manifest_list.after_write")
        previous = parent.summary.additional_properties if parent and parent.summary else None
        snapshot = {
            "snapshot-id": snapshot_id,
            "parent-snapshot-id": parent.snapshot_id if parent else None,
            "manifest-list": list_path,
            "sequence-number": sequence,
            # catalogs refuse a snapshot older than the last one
            "timestamp-ms": max(int(self._clock.time() * 1000), metadata.last_updated_ms),
            "summary": update_snapshot_summaries(summary, previous).model_dump(),
            "schema-id": metadata.current_schema_id,
        }
        return Intent(
            body=self._request(flush, snapshot, metadata).model_dump_json().encode(),
            parent=parent.snapshot_id if parent else None,
            table_uuid=str(metadata.table_uuid),
            attempt=attempt,
            objects=tuple((output.location, output.data) for output in outputs if output.data),
        )

    def _request(self, flush: Progress, snapshot: dict[str, Any], metadata: TableMetadata) -> CommitTableRequest:
        """Build the request in the names of the REST specification."""
        key = _WATERMARK.format(flush.collector_id)
        watermark = max(flush.seq, int(metadata.properties.get(key, "0")))
        return CommitTableRequest.model_validate(
            {
                "identifier": {"namespace": self._identifier[:-1], "name": self._identifier[-1]},
                "requirements": lineage.unchanged(metadata),
                "updates": [
                    {"action": "add-snapshot", "snapshot": snapshot},
                    {
                        "action": "set-snapshot-ref",
                        "ref-name": "main",
                        "type": "branch",
                        "snapshot-id": snapshot["snapshot-id"],
                    },
                    {"action": "set-properties", "updates": {key: str(watermark)}},
                ],
            }
        )

    def _added_manifest(
        self, table: CatalogTable, flush: Progress, files: list[DataFile], output: MemoryOutput
    ) -> tuple[ManifestFile, Summary]:
        metadata = table.metadata
        snapshot_id = snapshot_id_of(flush.flush_id)
        collector = SnapshotSummaryCollector()
        with write_manifest(2, metadata.spec(), metadata.schema(), output, snapshot_id, "deflate") as writer:
            for file in files:
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=snapshot_id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=file,
                    )
                )
                collector.add_file(file, partition_spec=metadata.spec(), schema=metadata.schema())
        summary = Summary(Operation.APPEND, **{FLUSH_ID_KEY: flush.flush_id}, **collector.build())
        return writer.to_manifest_file(), summary

    def _merge(
        self, table: CatalogTable, snapshot_id: int, manifests: list[ManifestFile], output: MemoryOutput
    ) -> list[ManifestFile]:
        """Replace many small manifests by one, so that lists stay short; sizes grow in steps, never all at once."""
        metadata = table.metadata
        small = [m for m in manifests if lineage.is_small(m, metadata.default_spec_id, SMALL_MANIFEST_FILES)]
        if len(small) < self._maintenance.manifests_max:
            return manifests
        try:
            entries = [entry for manifest in small for entry in manifest.fetch_manifest_entry(table.io)]
        except Exception:  # a damaged old manifest must not stop new events: leave it to the operator as it is
            return manifests
        if not entries:
            return manifests
        with write_manifest(2, metadata.spec(), metadata.schema(), output, snapshot_id, "deflate") as writer:
            for entry in entries:
                writer.existing(entry)
        merged = set(map(id, small))
        return [writer.to_manifest_file(), *(m for m in manifests if id(m) not in merged)]

    def commit(self, flush: Progress, intent: Intent) -> None:
        """Send the request; see ``table.Table``."""
        table = self._loaded()
        request = CommitTableRequest.model_validate_json(intent.body)
        self._crash("commit.before_send")
        try:
            answer = table.catalog.commit_table(table, request.requirements, request.updates)
        except Exception as exc:  # of every kind: none of them proves that nothing was applied
            raise CommitUnknown(f"the catalog did not confirm the commit: {_describe(exc)}") from exc
        self._crash("commit.after_send")
        snapshot_id = snapshot_id_of(flush.flush_id)
        if all(s.snapshot_id != snapshot_id for s in lineage.ancestors(answer.metadata)):
            raise CommitUnknown("the catalog confirmed the commit, but its answer does not show the snapshot")
        self._adopt(answer.metadata, answer.metadata_location, table.config)
        for path in [path for path in self._files if f"/{flush.flush_id}-" in path]:
            del self._files[path]

    # ------------------------------------------------------------------ upkeep

    def close(self) -> None:
        """Close the connection to the catalog; the next use opens another."""
        if self._catalog is not None:
            self._catalog.close()
        self._catalog = self._table = None

    def expire(self, config: MaintenanceConfig, now: float) -> int:
        """Expire old snapshots; see ``table.Table``."""
        table = self._loaded()
        metadata = table.metadata
        if len(metadata.snapshots) <= config.snapshots_max:
            return 0
        infos = [
            SnapshotInfo(s.snapshot_id, s.timestamp_ms / 1000, s.summary is not None and FLUSH_ID_KEY in s.summary)
            for s in lineage.ancestors(metadata)
        ]
        ids = expirable(infos, [ref.snapshot_id for ref in metadata.refs.values()], config, now)
        if not ids:
            return 0
        self._crash("expire.before_send")
        request = CommitTableRequest.model_validate(
            {
                "identifier": {"namespace": self._identifier[:-1], "name": self._identifier[-1]},
                "requirements": lineage.unchanged(metadata),
                "updates": [{"action": "remove-snapshots", "snapshot-ids": ids}],
            }
        )
        try:
            answer = table.catalog.commit_table(table, request.requirements, request.updates)
        except Exception as exc:
            raise CommitUnknown(f"the catalog did not confirm the expiry: {_describe(exc)}") from exc
        self._adopt(answer.metadata, answer.metadata_location, table.config)
        return len(ids)


def _put(file_io: FileIO, path: str, data: bytes) -> None:
    with file_io.new_output(path).create(overwrite=True) as stream:
        stream.write(data)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _describe(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text[:500]}"


def _unavailable(what: str, exc: Exception) -> NoReturn:
    if isinstance(exc, StoreUnavailable):
        raise exc
    raise StoreUnavailable(f"{what}: {_describe(exc)}") from exc
