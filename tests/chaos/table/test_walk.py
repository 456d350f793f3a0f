"""The store, the shape of Avro containers, the inventory and the walk over a table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.io.fsspec import FsspecFileIO

from chaos.table.container import read_container
from chaos.table.errors import NotAContainer, ObjectMissing, StoreFailed
from chaos.table.inventory import Inventory
from chaos.table.parallel import bounded_map
from chaos.table.store import FileIOStore, ObjectStore
from chaos.table.walk import FileSeen, ListSeen, ManifestSeen, Node, Walker
from tests.chaos.table.lake import Lake


def walked(lake: Lake, store: ObjectStore | None = None, *, history: bool = True) -> list[Node]:
    table = lake.load()
    store = store or lake.store
    with ThreadPoolExecutor(2) as pool:
        inventory = Inventory(store, [table.location()])
        return list(Walker(table.metadata, store, inventory, pool).walk(history=history))


class Flaky:
    """A store that refuses what a test names."""

    def __init__(self, store: FileIOStore, refused: str) -> None:
        self._store, self._refused = store, refused

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)

        def call(path: str, *rest: object) -> object:
            if self._refused in f"{name} {path}":
                raise StoreFailed(f"{path}: refused")
            return method(path, *rest)

        return call


def test_a_healthy_table_is_walked_whole_and_each_object_once(lake: Lake) -> None:
    """Three snapshots: three lists, three manifests and six files, the current snapshot's first and live."""
    nodes = walked(lake)
    lists = [node for node in nodes if isinstance(node, ListSeen)]
    manifests = [node for node in nodes if isinstance(node, ManifestSeen)]
    files = [node for node in nodes if isinstance(node, FileSeen)]
    assert [seen.live for seen in lists] == [True, False, False]
    assert len(lists[0].manifests) == len(manifests) == 3
    assert len(files) == 6
    assert all(seen.problem is None for seen in nodes)
    assert all(seen.size == seen.listed.manifest_length for seen in manifests)
    assert all(seen.size == seen.entry.data_file.file_size_in_bytes for seen in files)
    assert lists[0].header["snapshot-id"] == str(lists[0].snapshot.snapshot_id).encode()
    assert {entry.sequence_number for seen in manifests for entry in seen.entries} == {1, 2, 3}


def test_without_history_only_the_current_snapshot_is_read(lake: Lake) -> None:
    """Older manifest lists are not asked for."""
    assert sum(isinstance(node, ListSeen) for node in walked(lake, history=False)) == 1


def test_files_that_only_an_older_snapshot_lists_are_seen_as_not_live(lake: Lake) -> None:
    """A deleted hour is still what older snapshots consist of."""
    lake.load().delete("number < 10")
    files = [node for node in walked(lake) if isinstance(node, FileSeen)]
    assert [seen.live for seen in files] == [True] * 4 + [False] * 2


def test_what_is_missing_is_said_and_the_walk_goes_on(lake: Lake) -> None:
    """One manifest and one data file deleted: two problems, the rest is seen."""
    nodes = walked(lake)
    manifest = next(node for node in nodes if isinstance(node, ManifestSeen))
    file = [node for node in nodes if isinstance(node, FileSeen)][-1]
    lake.store.delete(manifest.path)
    lake.store.delete(file.path)
    after = walked(lake)
    broken = [node for node in after if isinstance(node, ManifestSeen) and node.problem]
    assert [(node.path, node.problem and node.problem.kind) for node in broken] == [(manifest.path, "missing")]
    assert [node.path for node in after if isinstance(node, FileSeen) and node.size is None] == [file.path]


@pytest.mark.parametrize(("refused", "kind"), [("get", ListSeen), ("get /m0", ManifestSeen)])
def test_a_store_that_does_not_answer_is_not_damage(lake: Lake, refused: str, kind: type) -> None:
    """Refused reads are problems of kind unanswered, never missing or undecodable."""
    word = "snap-" if kind is ListSeen else "-m0.avro"
    nodes = walked(lake, Flaky(lake.store, word))  # type: ignore[arg-type]
    kinds = {node.problem.kind for node in nodes if node.problem is not None}
    assert kinds == {"unanswered"}
    assert any(isinstance(node, kind) for node in nodes if node.problem)


def test_a_listing_that_is_refused_is_replaced_by_single_questions(lake: Lake) -> None:
    """Sizes come from HEAD then; orphans cannot be told, and `listed` says so."""
    store = Flaky(lake.store, "list ")
    inventory = Inventory(store, [lake.load().location()])  # type: ignore[arg-type]
    assert not inventory.listed
    nodes = walked(lake, store)  # type: ignore[arg-type]
    assert all(node.size is not None for node in nodes if isinstance(node, FileSeen))


def test_a_file_that_appears_after_the_listing_is_not_missing(lake: Lake) -> None:
    """The inventory asks again for what it did not list."""
    table = lake.load()
    inventory = Inventory(lake.store, [table.location()])
    path = f"{table.location()}/data/late.bin"
    lake.store.put(path, b"abc")
    assert inventory.size(path) == 3
    assert inventory.size(path + ".never") is None


def test_what_nobody_asked_for_is_unreferenced(lake: Lake) -> None:
    """Objects that were asked for, or taken, are not."""
    table = lake.load()
    lake.store.put(f"{table.location()}/data/stray.bin", b"12345")
    inventory = Inventory(lake.store, [table.location()])
    for stat in inventory.unreferenced():
        if not stat.path.endswith("stray.bin"):
            inventory.take(stat.path)
    [stray] = inventory.unreferenced()
    assert (stray.path, stray.size) == (f"{table.location()}/data/stray.bin", 5)
    assert inventory.size(stray.path) == 5
    assert inventory.was_taken(stray.path)


def test_the_store_says_missing_and_refused_apart(lake: Lake) -> None:
    """A missing object is ObjectMissing, a directory in its place StoreFailed."""
    location = lake.load().location()
    with pytest.raises(ObjectMissing, match="does not exist"):
        lake.store.get(f"{location}/nothing")
    with pytest.raises(ObjectMissing):
        lake.store.delete(f"{location}/nothing")
    with pytest.raises(ObjectMissing):
        lake.store.open(f"{location}/nothing")
    with pytest.raises(StoreFailed):
        lake.store.put(f"{location}/data", b"")
    assert lake.store.head(f"{location}/nothing") is None
    assert lake.store.etag(lake.load().metadata_location) is None


@pytest.mark.parametrize("path", ["fhle:///x", "file:///x\0y", "\udcff", "://", "file://["])
def test_a_path_that_damage_made_is_a_missing_object(lake: Lake, path: str) -> None:
    """Flipped bits make schemes and names that no store has; nothing but ObjectMissing comes of it."""
    with pytest.raises(ObjectMissing):
        lake.store.get(path)
    assert lake.store.head(path) is None


def test_a_file_io_that_cannot_list_is_refused() -> None:
    """fsspec has no listing that we use; the sentence says what to change."""
    with pytest.raises(StoreFailed, match="py-io-impl"):
        FileIOStore(FsspecFileIO({}))


def test_a_container_is_cut_unnoticed_only_at_its_ends(lake: Lake) -> None:
    """A manifest of two entries: header, then one block each; a cut anywhere else is seen."""
    data = lake.store.get(next(node.path for node in walked(lake) if isinstance(node, ManifestSeen)))
    container = read_container(data)
    assert (container.records, len(container.ends), container.ends[-1]) == (2, 3, len(data))
    for size in range(len(data)):
        if size in container.ends:
            assert read_container(data[:size]).records < 2
        else:
            with pytest.raises(NotAContainer):
                read_container(data[:size])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"Obj\x01" + tail))
def test_any_bytes_are_a_container_or_refused(data: bytes) -> None:
    """No other exception, no endless loop, no giant allocation."""
    with contextlib.suppress(NotAContainer):
        read_container(data)


def test_parallel_work_keeps_order_and_stays_bounded() -> None:
    """Results come in the order of the items, and never more than *ahead* are in flight."""
    pulled: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            pulled.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        results = bounded_map(pool, lambda number: number * 2, items(), ahead=5)
        assert next(results) == 0
        assert len(pulled) == 5
        assert list(results) == [number * 2 for number in range(1, 50)]
