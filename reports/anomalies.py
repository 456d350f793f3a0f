"""Anomalies in words: where the events of a range are, why if that can be named, and during which fault it happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtests.records.identity import source_of
from reports.observed import ObservedFile
from reports.reconcile import Range
from reports.runrecords import RunRecords
from reports.stages import Stage
from reports.windows import Ascription, ascribe

WHERE = {
    Stage.ACKED: "in no object of the table",
    Stage.OBJECT: "in Parquet objects that no manifest references",
    Stage.MANIFEST: "in data files that the current snapshot does not reach",
    Stage.SNAPSHOT: "in data files of the current snapshot, hidden by delete files",
    Stage.SCAN: "in the table",
}


def ascription(records: RunRecords, one: Range, name: str) -> Ascription | None:
    """Name the fault in whose window the anomaly happened: by ack for missing events, else by the latest commit."""
    files = [records.by_number[n] for n in one.files]
    commits = [records.mono_ns(f.unix_ms) for f in files if f.unix_ms is not None]
    if name == "missing" or not commits:
        return ascribe(records.windows, one.acked_ns, foreshadowed=name == "missing")
    return ascribe(records.windows, max(commits))


def cause_of_copies(files: Sequence[ObservedFile]) -> str | None:
    """Say how an event came to be in the table more than once."""
    if len(files) >= 2:
        shared = set(files[0].flush_ids) & set(files[1].flush_ids)
        if shared:
            return (
                "two snapshots of one flush"
                if files[0].snapshot_ids != files[1].snapshot_ids
                else "two files of one flush"
            )
        return "same event in two files"
    if len(files) == 1:
        return "same file referenced twice" if files[0].references > 1 else "duplicate within a file"
    return None


@dataclass(frozen=True)
class Group:
    """Anomalous events that share stage, cause and fault.

    Attributes:
        files: Paths of the data files concerned; `flush_ids` theirs.
        first_ns, last_ns: When it happened (commit of the file, else ack), monotonic.
    """

    events: int
    stage: Stage
    cause: str | None
    near: Ascription | None
    files: tuple[str, ...]
    flush_ids: tuple[str, ...]
    first_ns: int | None
    last_ns: int | None


def describe(records: RunRecords, name: str, one: Range) -> dict[str, Any]:
    """Return everything known of a range, ready for a report. Values from the outside are not escaped here."""
    files = [records.by_number[n] for n in one.files]
    facts: dict[str, Any] = {
        "source": source_of(records.info.run_id, one.producer),
        "first": one.first,
        "last": one.last,
        "events": one.events,
        "id": identifier(records, one.producer, one.first),
        "stage": one.stage.name.lower(),
        "where": WHERE[one.stage],
    }
    if files:
        facts["files"] = [f.path for f in files]
        facts["flush_ids"] = sorted({flush for f in files for flush in f.flush_ids})
        facts["snapshot_ids"] = sorted({s for f in files for s in f.snapshot_ids})
        commits = [f.unix_ms for f in files if f.unix_ms is not None]
        facts |= {"committed_unix_ms": max(commits)} if commits else {}
    if name == "duplicated":
        facts |= {"copies": one.copies, "cause": cause_of_copies(files), "ambiguous_history": one.ambiguous}
    if one.acked_ns is not None:
        facts["acked_unix_ns"] = records.unix_ns(one.acked_ns)
    near = ascription(records, one, name)
    if near is not None:
        facts |= {"during": near.fault, "fault_relation": near.relation}
    return facts


def identifier(records: RunRecords, producer: int, sequence: int) -> str:
    """Return the id of one event."""
    raw: bytes = records.identity.ids_of(producer, np.array([sequence], dtype=np.uint64))[0]
    return raw.decode()


_Key = tuple[Stage, str | None, Ascription | None]


def groups(records: RunRecords, name: str, ranges: Iterable[Range]) -> list[Group]:
    """Group ranges by stage, cause and fault, the largest group first."""
    buckets: dict[_Key, list[Range]] = {}
    for one in ranges:
        files = [records.by_number[n] for n in one.files]
        cause = cause_of_copies(files) if name == "duplicated" else None
        buckets.setdefault((one.stage, cause, ascription(records, one, name)), []).append(one)
    made = [_group(records, name, key, members) for key, members in buckets.items()]
    return sorted(made, key=lambda g: (-g.events, str(g.near), str(g.cause)))


def _group(records: RunRecords, name: str, key: _Key, members: Sequence[Range]) -> Group:
    stage, cause, near = key
    files = {n: records.by_number[n] for one in members for n in one.files}
    commits = [records.mono_ns(f.unix_ms) for f in files.values() if f.unix_ms is not None]
    acks = [t for one in members for t in (one.acked_ns, one.acked_last_ns) if t is not None]
    times = commits if commits and name != "missing" else acks
    flushes: Counter[str] = Counter(flush for f in files.values() for flush in f.flush_ids)
    return Group(
        events=sum(one.events for one in members),
        stage=stage,
        cause=cause,
        near=near,
        files=tuple(sorted(f.path for f in files.values())),
        flush_ids=tuple(sorted(flushes)),
        first_ns=min(times, default=None),
        last_ns=max(times, default=None),
    )
