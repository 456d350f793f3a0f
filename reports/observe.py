"""Read a run's table into `observed/` with fresh readers, never through a faulted path.

    python -m reports.observe RUN

The judge works from `observed/` alone. Objects that cannot be read are named there, never skipped in silence.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table

from loadtests.records.errors import CorruptRecord, RecordError
from loadtests.records.identity import Identity
from loadtests.records.ledger import read_ledgers
from loadtests.records.recorded import content_of
from loadtests.records.rundir import RunDir
from reports import second_engine
from reports.errors import ReportError, TableUnreadable
from reports.fold import MissingColumn, Sighting, Subject, fold, metadata_of, read_parquet, wanted
from reports.observed import (
    INDEX,
    Keys,
    Observed,
    ObservedFile,
    ObservedSnapshot,
    SecondEngine,
    Unreadable,
    write_index,
    write_keys,
)
from reports.run_argument import run_argument
from reports.stages import Stage
from reports.tablewalk import (
    Damage,
    FileRef,
    Walk,
    catalog_properties,
    diagnose,
    masked_tasks,
    open_table,
    retried,
    walk,
)


@dataclass(frozen=True)
class Whereabouts:
    """Where a run's table is: pyiceberg catalog properties (secrets filled in) and the table's identifier."""

    properties: dict[str, str]
    identifier: str


def whereabouts(run: RunDir) -> Whereabouts:
    """Find the table of a run: from stack.json where the harness ran the stack, else from the target file.

    Raises:
        TableUnreadable: neither says where the table is.
        RecordError: the run's records cannot be read.
    """
    if run.stack.is_file():
        try:
            stack: dict[str, Any] = json.loads(run.stack.read_bytes())
            return Whereabouts(catalog_properties(stack["direct"]["catalog"]), str(stack["table"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptRecord(f"{run.stack} does not say where the table is ({error!r}).") from error
    table = run.load_target().table
    if not table.catalog or table.identifier is None:
        raise TableUnreadable("neither stack.json nor the target file says where the table is.")
    return Whereabouts(catalog_properties(table.catalog), table.identifier)


def subject_of(run: RunDir) -> Subject:
    """Return whose events to look for in the table of *run*, and where."""
    info = run.info
    columns = run.load_target().table.columns
    ledgers = read_ledgers(run.ledger) if info.phases else []
    return Subject(info.run_id, Identity(info.seed, info.run_id), content_of(info, ledgers), columns)


def observe(run: RunDir) -> Observed:
    """Read the table of *run*, write `observed/`, and return its index.

    Raises:
        RecordError: the run directory cannot be read or written. A table that cannot be read is an answer, not an error.
    """
    run.observed.mkdir(exist_ok=True)
    (run.observed / INDEX).unlink(missing_ok=True)
    for stale in run.observed.glob("keys-*.npz"):
        stale.unlink()
    unix_ns, mono_ns = time.time_ns(), time.monotonic_ns()
    try:
        place = whereabouts(run)
        table = retried(lambda: open_table(place.properties, place.identifier))
    except TableUnreadable as error:
        observed = Observed(run_id=run.info.run_id, table="", problem=str(error))
    else:
        if table is None:
            observed = Observed(run_id=run.info.run_id, table=place.identifier, exists=False)
        else:
            observed = read_table(table, run.observed, subject_of(run), place)
    observed = msgspec.structs.replace(observed, read_unix_ns=unix_ns, read_mono_ns=mono_ns)
    write_index(run.observed, observed)
    return observed


def read_table(table: Table, directory: Path, subject: Subject, place: Whereabouts) -> Observed:
    """Read all data files of *table*, write their keys to *directory*, and return the index (not yet written)."""
    found = walk(table)
    snapshots = _snapshots(table)
    reader = _Reader(table, directory, subject, {s.id: s for s in snapshots})
    for ref in found.files:
        reader.read(ref)
    return Observed(
        run_id=subject.run_id,
        table=place.identifier,
        metadata_location=table.metadata_location,
        snapshots=snapshots,
        files=reader.files,
        unreadable=[_unreadable(damage) for damage in [*found.damage, *reader.damage]],
        objects_listed=found.objects_listed,
        contents_checked=subject.content is not None,
        second=_second_opinion(table, subject, place, found, reader.files),
    )


def _snapshots(table: Table) -> list[ObservedSnapshot]:
    current = table.metadata.current_snapshot_id
    return [
        ObservedSnapshot(
            id=snapshot.snapshot_id,
            parent=snapshot.parent_snapshot_id,
            unix_ms=snapshot.timestamp_ms,
            operation=snapshot.summary.operation.value if snapshot.summary else "",
            current=snapshot.snapshot_id == current,
            flush_ids=_flush_ids(snapshot.summary.additional_properties if snapshot.summary else {}),
        )
        for snapshot in table.metadata.snapshots
    ]


def _flush_ids(properties: Mapping[str, str]) -> list[str]:
    """Flush ids that a collector left under any key that speaks of one; several may stand in one value."""
    values = [value for key, value in sorted(properties.items()) if key.endswith(("flush-id", "flush-ids"))]
    return [part for value in values for part in value.replace(",", " ").split()]


def _unreadable(damage: Damage) -> Unreadable:
    return Unreadable(
        path=damage.path, kind=damage.kind, problem=damage.problem, live=damage.live, definite=damage.definite
    )


class _Reader:
    """Fold data files one by one and keep what they hold."""

    def __init__(
        self, table: Table, directory: Path, subject: Subject, snapshots: Mapping[int, ObservedSnapshot]
    ) -> None:
        self._table = table
        self._directory = directory
        self._subject = subject
        self._snapshots = snapshots
        self._masked: dict[str, list[FileScanTask]] | None = None
        self.files: list[ObservedFile] = []
        self.damage: list[Damage] = []

    def read(self, ref: FileRef) -> None:
        try:
            stored, flush_ids = retried(lambda: self._stored(ref.path))
            if ref.masked:
                self._keep(ref, stored, Stage.SNAPSHOT, flush_ids)
                self._keep(ref, retried(lambda: self._visible(ref.path)), Stage.SCAN, flush_ids)
            else:
                self._keep(ref, stored, ref.stage, flush_ids)
        except MissingColumn as error:
            self.damage.append(
                Damage(ref.path, "data-file", f"{error}; see table.columns in the target file", True, True)
            )
        except Exception as error:  # broken Parquet and broken storage raise many things; `diagnose` tells them apart
            live = ref.stage == Stage.SCAN
            self.damage.append(diagnose(self._table, ref.path, "data-file", error, live=live))

    def _stored(self, path: str) -> tuple[Sighting, list[str]]:
        with self._table.io.new_input(path).open() as stream:
            flush_ids = _flush_ids(metadata_of(stream))
            stream.seek(0)
            return read_parquet(stream, self._subject), flush_ids

    def _visible(self, path: str) -> Sighting:
        """What a scan returns of a data file that delete files apply to."""
        if self._masked is None:
            self._masked = {}
            for task in masked_tasks(self._table):
                self._masked.setdefault(task.file.file_path, []).append(task)
        projected = self._table.schema().select(*wanted(self._subject))
        scan = ArrowScan(self._table.metadata, self._table.io, projected, AlwaysTrue())
        return fold(scan.to_record_batches(self._masked[path]), self._subject)

    def _keep(self, ref: FileRef, seen: Sighting, stage: Stage, flush_ids: Sequence[str]) -> None:
        name = f"keys-{len(self.files) + 1:05}.npz"
        write_keys(self._directory / name, Keys(seen.found, seen.altered))
        added = [self._snapshots[s] for s in ref.snapshot_ids if s in self._snapshots]
        ids = list(flush_ids) or [flush for snapshot in added for flush in snapshot.flush_ids]
        self.files.append(
            ObservedFile(
                path=ref.path,
                stage=stage.name.lower(),
                references=1 if ref.masked and stage == Stage.SCAN else ref.references,
                keys=name,
                size_bytes=ref.size_bytes,
                rows=seen.rows,
                ours=seen.ours,
                foreign=seen.foreign,
                stray=seen.stray,
                snapshot_ids=ref.snapshot_ids,
                flush_ids=ids,
                unix_ms=min((s.unix_ms for s in added), default=None),
                partition=ref.partition,
                stray_examples=seen.stray_examples,
                altered_examples=seen.altered_examples,
            )
        )


def _second_opinion(
    table: Table, subject: Subject, place: Whereabouts, found: Walk, files: Sequence[ObservedFile]
) -> SecondEngine | None:
    live = [f for f in files if f.stage == "scan"]
    if table.current_snapshot() is None:
        return None
    request = second_engine.Request(
        run_id=subject.run_id,
        columns=subject.columns,
        properties={name: str(value) for name, value in {**place.properties, **table.io.properties}.items()},
        metadata_location=table.metadata_location,
        files=[f.path for f in live for _ in range(f.references)],
        deletes=bool(found.delete_files),
        rows=sum(f.ours * f.references for f in live),
    )
    return second_engine.ask(request)


@click.command()
@run_argument
def main(run: str, runs: Path) -> None:
    """Read the table of RUN into its observed/. RUN: a run directory, `last`, a name or a run id below --runs."""
    try:
        observed = observe(RunDir.find(runs, run))
    except (RecordError, ReportError) as error:
        click.echo(f"observe: {error}", err=True)
        sys.exit(254)
    if observed.problem:
        click.echo(f"observe: {observed.problem}", err=True)
        return
    visible = sum(f.ours * f.references for f in observed.files if f.stage == "scan")
    click.echo(f"{visible} rows of this run in {len(observed.files)} data files, {len(observed.unreadable)} unreadable")


if __name__ == "__main__":
    main()
