"""The Iceberg table: what it stores, and what becomes of a flush under every answer a catalog can give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from pydantic import BaseModel, ValidationError
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
)
from pyiceberg.table import Table as CatalogTable
from pyiceberg.types import StringType

from collector.buffer import Buffer
from collector.commit import IcebergTable
from collector.config import MaintenanceConfig
from collector.encode import to_rows
from collector.errors import CommitUnknown, StoreUnavailable
from collector.flusher import Flusher
from collector.store import Progress
from collector.table import snapshot_id_of
from tests.collector.keep_support import ManualClock, event, events, flush_until_empty, make_buffer, make_flusher


class _Model(BaseModel):
    field: int


def _truncated() -> Exception:
    try:
        _Model.model_validate_json('{"fie')
    except ValidationError as exc:
        return exc
    raise AssertionError


ANSWERS: dict[str, Callable[[], Exception]] = {
    "409": lambda: CommitFailedException("409"),
    "500, 502 or 504": lambda: CommitStateUnknownException("504"),
    "503": lambda: ServiceUnavailableError("503"),
    "520 or 524": lambda: ServerError("520"),
    "429": lambda: TooManyRequestsError("429"),
    "403": lambda: ForbiddenError("403"),
    "401": lambda: UnauthorizedError("401"),
    "connection reset": lambda: requests.exceptions.ConnectionError("reset"),
    "hang": lambda: requests.exceptions.ReadTimeout("timed out"),
    "body cut short": lambda: requests.exceptions.ChunkedEncodingError("short"),
    "200 with truncated JSON": _truncated,
}


class ScriptedCatalog(SqlCatalog):
    """Applies a commit or not, then answers as told."""

    script: list[tuple[bool, Exception]]
    after_next_load: Callable[[], None] | None = None
    before_commit: Callable[[], None] | None = None

    def commit_table(self, table: CatalogTable, requirements: Any, updates: Any) -> Any:
        if self.before_commit is not None:
            self.before_commit()
        if not getattr(self, "script", None):
            return super().commit_table(table, requirements, updates)
        applied, answer = self.script.pop(0)
        if applied:
            super().commit_table(table, requirements, updates)
        raise answer


class World:
    """A local catalog and warehouse, and the collectors that write to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "warehouse").mkdir()
        self.clock = ManualClock(4_102_444_800.0)  # 2100: after whatever time pyiceberg stamps on a new table
        self.catalog = self.connect()

    def connect(self) -> ScriptedCatalog:
        return ScriptedCatalog(
            "local", uri=f"sqlite:///{self.root}/catalog.db", warehouse=f"file://{self.root}/warehouse"
        )

    def table(self, **options: Any) -> IcebergTable:
        return IcebergTable(lambda: self.catalog, "ns.events", clock=self.clock, **options)

    def collector(self, name: str = "a", **options: Any) -> tuple[Buffer, Flusher, IcebergTable]:
        buffer = make_buffer(self.root / name, self.clock)
        table = self.table(**options)
        return buffer, make_flusher(buffer, table, self.clock), table

    def read(self) -> pa.Table:
        return self.catalog.load_table("ns.events").scan().to_arrow()

    def ids(self) -> list[str]:
        return sorted(self.read()["id"].to_pylist())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.catalog.close()


@contextmanager
def running(world: World, name: str = "a", **options: Any) -> Iterator[tuple[Buffer, Flusher, IcebergTable]]:
    buffer, flusher, table = world.collector(name, **options)
    try:
        yield buffer, flusher, table
    finally:
        buffer.close()


def test_what_is_gone_is_stored_again_before_a_request_is_repeated(world: World) -> None:
    """A clean-up of orphans came while the catalog did not answer: the same objects are at the same paths when it is asked again."""
    with running(world) as (buffer, flusher, _):
        land(world, buffer, flusher, 0)
        before, seen = stored(world), []
        world.catalog.script = [(False, ServiceUnavailableError("503"))]
        world.catalog.before_commit = lambda: seen.append(stored(world))
        land(world, buffer, flusher, 10, then=lambda: cleaned(world, before))
    assert seen[-1] == seen[0]
    assert world.ids() == ids_of(20)


def test_what_is_gone_is_stored_again_after_its_commit_landed(world: World) -> None:
    """A clean-up that had looked before the commit deletes what it refers to: the events are still in the buffer, so nothing is lost."""
    with running(world) as (buffer, flusher, _):
        land(world, buffer, flusher, 0)
        before, seen = stored(world), []
        world.catalog.script = [(True, CommitStateUnknownException("504"))]
        world.catalog.before_commit = lambda: seen.append(stored(world))
        land(world, buffer, flusher, 10, then=lambda: cleaned(world, before))
    assert stored(world) == seen[-1]
    assert world.ids() == ids_of(20)


def test_what_is_gone_is_stored_again_after_a_restart_and_a_change_of_schema(world: World) -> None:
    """The bytes are those that the manifests describe, although the table has one column more by now."""
    with running(world) as (buffer, flusher, _):
        land(world, buffer, flusher, 0)
        before, seen = stored(world), []
        world.catalog.script = [(False, ServiceUnavailableError("503"))]
        world.catalog.before_commit = lambda: seen.append(stored(world))
        buffer.submit(events(10, 10)).result()
        flusher.request_flush()
        assert flusher.step()[0].outcome == "undecided"
    cleaned(world, before)
    with world.catalog.load_table("ns.events").update_schema() as update:
        update.add_column("note", StringType())
    with running(world) as (buffer, flusher, _):
        flush_until_empty(buffer, flusher, world.clock)
    assert seen[-1] == seen[0]
    assert world.ids() == ids_of(20)


def test_what_is_gone_is_stored_again_when_main_has_moved_on(world: World) -> None:
    """The data files are stored already, so the new request refers to them: they are there when it is sent."""
    with running(world) as (buffer, flusher, _), running(world, "b") as (other, others, _):
        land(world, buffer, flusher, 0)
        before, seen = stored(world), []
        world.catalog.script = [(False, ServiceUnavailableError("503"))]

        def meanwhile() -> None:
            cleaned(world, before)
            land(world, other, others, 20)
            world.catalog.before_commit = lambda: seen.append(stored(world))

        land(world, buffer, flusher, 10, then=meanwhile)
    assert {path: stored(world)[path] for path in seen[-1]} == seen[-1]
    assert sum(path.endswith(".parquet") for path in seen[-1]) == 3
    assert world.ids() == ids_of(30)


def test_what_expired_since_it_landed_is_not_stored_again(world: World) -> None:
    """Its files are gone by right; nothing of it is missing."""
    with running(world) as (buffer, flusher, table):
        world.catalog.script = [(True, CommitStateUnknownException("504"))]
        buffer.submit(events(0, 10)).result()
        flusher.request_flush()
        flusher.step()
        flush = buffer.outstanding
        assert flush is not None
        committed = msgspec.structs.replace(flush.progress, state="committed")
        table.refresh()
        assert table.missing(committed) == frozenset()
        cleaned(world, {})
        assert len(table.missing(committed)) == 3
        elsewhere = msgspec.structs.replace(committed, flush_id="a/9/9")
        assert table.missing(elsewhere) == frozenset()


def stored(world: World) -> dict[str, bytes]:
    """Every object below the warehouse that a flush stores, with its bytes."""
    found = sorted((world.root / "warehouse").rglob("*"))
    return {str(path): path.read_bytes() for path in found if path.suffix in (".parquet", ".avro")}


def cleaned(world: World, kept: dict[str, bytes]) -> None:
    """Delete every other such object."""
    for path in stored(world):
        if path not in kept:
            Path(path).unlink()


def land(world: World, buffer: Buffer, flusher: Flusher, first: int, then: Callable[[], None] | None = None) -> None:
    """Flush ten events; *then* happens after the first attempt, which must not be a clean one."""
    buffer.submit(events(first, 10)).result()
    flusher.request_flush()
    if then is not None:
        assert flusher.step()[0].outcome == "undecided"
        then()
    flush_until_empty(buffer, flusher, world.clock)


def ids_of(count: int) -> list[str]:
    return sorted(one.id for one in events(0, count))


@pytest.mark.parametrize("applied", [True, False], ids=["landed", "not landed"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_settles_to_exactly_once(world: World, answer: str, applied: bool) -> None:
    """Whatever is answered, and whether or not the commit was applied, the events are in the table exactly once."""
    with running(world) as (buffer, flusher, _):
        buffer.submit(events(0, 10)).result()
        flush_until_empty(buffer, flusher, world.clock)
        world.catalog.script = [(applied, ANSWERS[answer]())]
        buffer.submit(events(10, 10)).result()
        flusher.request_flush()
        (first,) = flusher.step()
        assert first.outcome == "undecided"
        assert buffer.snapshot().undecided == (first.flush_id,)
        flush_until_empty(buffer, flusher, world.clock)
    assert world.ids() == sorted(f"id-{n}" for n in range(20))
    snapshots = [s.snapshot_id for s in world.catalog.load_table("ns.events").metadata.snapshots]
    assert snapshots.count(snapshot_id_of(first.flush_id)) == 1


@pytest.mark.parametrize("answer", ["409", "hang"])
def test_a_restart_between_commit_and_answer_settles(world: World, answer: str) -> None:
    """A collector that dies after its commit landed finds it on the next start."""
    with running(world) as (buffer, flusher, _):
        buffer.submit(events(0, 10)).result()
        flusher.request_flush()
        world.catalog.script = [(True, ANSWERS[answer]())]
        flusher._table.refresh()
        flusher.step()
        assert buffer.snapshot().undecided
    with running(world) as (buffer, flusher, _):
        flush_until_empty(buffer, flusher, world.clock)
    assert len(world.ids()) == len(set(world.ids())) == 10


def test_an_expired_flush_is_still_known_to_have_landed(world: World) -> None:
    """When its snapshot was expired before the collector looked, the watermark in the table says it landed."""
    with running(world) as (buffer, flusher, table), running(world, "b") as (other, other_flusher, _):
        buffer.submit(events(0, 10)).result()
        table.refresh()
        world.catalog.script = [(True, ANSWERS["hang"]())]
        flusher.request_flush()
        flusher.step()
        other.submit(events(100, 5)).result()
        flush_until_empty(other, other_flusher, world.clock)
        current = world.catalog.load_table("ns.events")
        old = [
            s.snapshot_id for s in current.metadata.snapshots if s.snapshot_id != current.metadata.current_snapshot_id
        ]
        current.maintenance.expire_snapshots().by_ids(old).commit()
        flush_until_empty(buffer, flusher, world.clock)
    assert len(world.ids()) == len(set(world.ids())) == 15


def test_two_collectors_share_a_table(world: World) -> None:
    """A commit on a head that another collector moved is refused, rebuilt on the new head, and lands."""
    with running(world) as (one, flush_one, table_one), running(world, "b") as (two, flush_two, table_two):
        table_one.refresh()
        table_two.refresh()
        for round_ in range(3):
            one.submit(events(100 * round_, 10)).result()
            two.submit(events(100 * round_ + 50, 10)).result()
            flush_one.request_flush()
            flush_two.request_flush()
            flush_one.step()
            flush_two.step()
            flush_until_empty(two, flush_two, world.clock)
            flush_until_empty(one, flush_one, world.clock)
    ids = world.ids()
    assert len(ids) == len(set(ids)) == 60
    properties = world.catalog.load_table("ns.events").metadata.properties
    assert sorted(v for k, v in properties.items() if k.endswith(".watermark")) == ["3", "3"]


def test_a_table_that_was_dropped_and_created_again_gets_what_is_buffered(world: World) -> None:
    """A flush prepared for a table that is gone is written again for the new one."""
    with running(world) as (buffer, flusher, table):
        table.refresh()
        buffer.submit(events(0, 10)).result()
        world.catalog.script = [(False, ANSWERS["503"]())]
        flusher.request_flush()
        flusher.step()
        world.catalog.drop_table("ns.events")
        flush_until_empty(buffer, flusher, world.clock)
    assert len(world.ids()) == 10


def test_a_manifest_list_cut_to_its_header_stops_commits_and_a_repair_lets_them_go_on(world: World) -> None:
    """Building on an empty-looking manifest list would drop every older row, so nothing is committed on it."""
    with running(world) as (buffer, flusher, _):
        buffer.submit(events(0, 10)).result()
        flush_until_empty(buffer, flusher, world.clock)
        snapshot = world.catalog.load_table("ns.events").current_snapshot()
        assert snapshot is not None
        path = Path(snapshot.manifest_list.removeprefix("file://"))
        sound = path.read_bytes()
        sync = sound[-16:]
        path.write_bytes(sound[: sound.index(sync) + 16])
        buffer.submit(events(10, 10)).result()
        flusher.request_flush()
        (result,) = flusher.step()
        assert result.outcome == "failed"
        assert "damaged" in (result.error or "")
        path.write_bytes(sound)
        flush_until_empty(buffer, flusher, world.clock)
    assert len(world.ids()) == 20


def test_rows_hold_what_was_received(world: World) -> None:
    """Every attribute, the exact JSON text, text and bytes come back; long types and odd characters included."""
    odd = event(1, type_="t/../" + "ü" * 3000, data=b'{"a": 1.0, "b":\t"\\u00e9"}')
    text = msgspec.structs.replace(event(2), data=b"plain", data_kind=2, datacontenttype="text/plain")
    raw = msgspec.structs.replace(event(3), data=b"\xff\x00", data_kind=3)
    none = msgspec.structs.replace(event(4), data=None, data_kind=0, extensions=b'{"x":"y"}', subject="s")
    with running(world) as (buffer, flusher, _):
        buffer.submit([odd, text, raw, none]).result()
        flush_until_empty(buffer, flusher, world.clock)
    rows = {row["id"]: row for row in world.read().to_pylist()}
    assert rows["id-1"]["data"] == '{"a": 1.0, "b":\t"\\u00e9"}'
    assert rows["id-1"]["type"] == odd.type
    assert (rows["id-2"]["data"], rows["id-2"]["data_kind"]) == ("plain", "text")
    assert (rows["id-3"]["data"], rows["id-3"]["data_binary"]) == (None, b"\xff\x00")
    assert (rows["id-4"]["data_kind"], rows["id-4"]["extensions"], rows["id-4"]["subject"]) == (None, '{"x":"y"}', "s")
    assert rows["id-1"]["time"].timestamp() * 1e6 == odd.time_us


def test_a_flush_is_one_snapshot_with_its_id_in_summary_file_name_and_parquet(world: World) -> None:
    """Partitions share one snapshot; the flush id is in the summary, in each path and in each file's metadata."""
    with running(world) as (buffer, flusher, _):
        buffer.submit(events(0, 5, hour=0) + events(5, 5, hour=1) + events(10, 5, type_="u")).result()
        flusher.request_flush()
        (result,) = flusher.step()
    table = world.catalog.load_table("ns.events")
    (snapshot,) = table.metadata.snapshots
    assert snapshot.snapshot_id == result.snapshot_id == snapshot_id_of(result.flush_id)
    assert snapshot.summary is not None
    assert snapshot.summary["collector.flush-id"] == result.flush_id
    assert len(result.files) == 3
    for path in result.files:
        assert result.flush_id in path
        metadata = pq.read_metadata(path.removeprefix("file://")).metadata
        assert metadata[b"collector.flush-id"] == result.flush_id.encode()
    assert table.scan(row_filter="type = 'u'").to_arrow().num_rows == 5


def test_manifests_are_merged_and_snapshots_expired_without_losing_a_row(world: World) -> None:
    """After many flushes the list of manifests and of snapshots stays short, and every row is there."""
    few = MaintenanceConfig(snapshots_max=10, snapshot_min_age_s=0, manifests_max=8)
    buffer = make_buffer(world.root / "a", world.clock)
    flusher = make_flusher(buffer, world.table(maintenance=few), world.clock, maintenance=few)
    for number in range(25):
        buffer.submit(events(number * 4, 4)).result()
        flush_until_empty(buffer, flusher, world.clock)
    buffer.close()
    table = world.catalog.load_table("ns.events")
    head = table.current_snapshot()
    assert head is not None
    assert len(table.metadata.snapshots) <= 11
    assert len(head.manifests(table.io)) <= 9
    assert world.ids() == sorted(f"id-{n}" for n in range(100))


def test_a_young_or_foreign_snapshot_is_not_expired(world: World) -> None:
    """Expiry leaves what is younger than its minimum age and what others committed."""
    old = MaintenanceConfig(snapshots_max=2, snapshot_min_age_s=10_000)
    buffer = make_buffer(world.root / "a", world.clock)
    flusher = make_flusher(buffer, world.table(), world.clock, maintenance=old)
    for number in range(6):
        buffer.submit(events(number * 4, 4)).result()
        flush_until_empty(buffer, flusher, world.clock)
    buffer.close()
    assert len(world.catalog.load_table("ns.events").metadata.snapshots) == 6


def test_a_table_with_more_columns_is_filled_with_nulls_and_one_with_fewer_refuses(world: World) -> None:
    """A column somebody added is null; a column that is missing is named instead of dropped."""
    table = world.table()
    table.refresh()
    with world.catalog.load_table("ns.events").update_schema() as update:
        update.add_column("extra", pa_long())
    table.refresh()
    progress = Progress("c/1/1", "c", 1, 1, 0.0, 0)
    file = table.write(progress, 0, to_rows(events(0, 3)).table)
    table.commit(progress, table.prepare(progress, (file,), 0))
    assert world.read()["extra"].null_count == 3
    with world.catalog.load_table("ns.events").update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("extensions")
    table.refresh()
    rows = to_rows([msgspec.structs.replace(event(9), extensions=b"{}")]).table
    with pytest.raises(StoreUnavailable, match="no column extensions"):
        table.write(msgspec.structs.replace(progress, flush_id="c/1/2"), 0, rows)


def pa_long() -> Any:
    from pyiceberg.types import LongType

    return LongType()


def test_the_intent_can_be_sent_twice_and_lands_once(world: World) -> None:
    """The identical request is refused once it has landed."""
    table = world.table()
    table.refresh()
    progress = Progress("c/1/1", "c", 1, 1, 0.0, 0)
    file = table.write(progress, 0, to_rows(events(0, 3)).table)
    intent = table.prepare(progress, (file,), 0)
    table.commit(progress, intent)
    with pytest.raises(CommitUnknown):
        table.commit(progress, intent)
    assert len(world.ids()) == 3
