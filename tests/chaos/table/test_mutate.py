"""Damage on purpose: repeatable, of every kind, and put back byte for byte."""

from __future__ import annotations

import io
import random

import pyarrow.parquet as pq
import pytest
from pyiceberg.table.metadata import TableMetadataUtil

from chaos.table.container import read_container
from chaos.table.errors import NotApplicable
from chaos.table.mutate import MUTATIONS, ROLES, Role, Victim, choose, damage, mutated, put_back
from chaos.table.visibility import VISIBLE
from chaos.table.walk import MemoryInput
from tests.chaos.table.lake import Lake

INAPPLICABLE = {key for key, one in VISIBLE.items() if not one.exists}


def victim_of(lake: Lake, role: Role, *, newest: bool = False) -> Victim:
    return choose(lake.load(), lake.store, role, random.Random(1), newest=newest)


@pytest.mark.parametrize("role", ROLES)
def test_every_mutation_changes_the_object_and_is_put_back(lake: Lake, role: Role) -> None:
    """Same seed, same bytes; what cannot be done says so before anything is changed."""
    victim = victim_of(lake, role)
    whole = lake.store.get(victim.path)
    for mutation in MUTATIONS:
        if (role, mutation) in INAPPLICABLE:
            with pytest.raises(NotApplicable):
                damage(lake.store, victim, mutation, seed=3)
            assert lake.store.get(victim.path) == whole
            continue
        if mutation == "replaced-by-older" and victim.older is None:
            continue
        before = damage(lake.store, victim, mutation, seed=3)
        assert before.data == whole
        if mutation == "deleted":
            assert lake.store.head(victim.path) is None
        else:
            changed = lake.store.get(victim.path)
            assert changed != whole
            assert changed == mutated(mutation, victim, whole, lake.store, random.Random(3))
        put_back(lake.store, before)
        assert lake.store.get(victim.path) == whole
    assert len(lake.ids()) == 30


def test_wrong_length_leaves_the_content_readable(lake: Lake) -> None:
    """More bytes, the same rows, entries and metadata: only a length that was recorded tells."""
    for role in ROLES:
        victim = victim_of(lake, role)
        data = lake.store.get(victim.path)
        longer = mutated("wrong-length", victim, data, lake.store, random.Random(0))
        assert longer is not None
        assert len(longer) > len(data)
        if role == "data-file":
            assert pq.read_table(io.BytesIO(longer)).equals(pq.read_table(io.BytesIO(data)))
        elif role == "metadata":
            TableMetadataUtil.parse_raw(longer.decode())
        else:
            assert read_container(longer).records == read_container(data).records
            assert len(MemoryInput(victim.path, longer)) == len(longer)


def test_a_cut_at_a_block_boundary_keeps_a_shorter_valid_manifest(lake: Lake) -> None:
    """The manifest of two entries becomes one of one, whatever the seed."""
    victim = victim_of(lake, "manifest")
    data = lake.store.get(victim.path)
    cut = {mutated("cut-at-block", victim, data, lake.store, random.Random(seed)) or b"" for seed in range(5)}
    assert [read_container(bytes_).records for bytes_ in cut] == [1]


def test_victims_are_live_and_not_the_newest_unless_asked(lake: Lake) -> None:
    """What an append would read is damaged only when a test asks for the newest."""
    table = lake.load()
    current = table.current_snapshot()
    assert current is not None
    assert victim_of(lake, "metadata").path == table.metadata_location
    assert victim_of(lake, "manifest-list").path == current.manifest_list
    newest = victim_of(lake, "manifest", newest=True).path
    assert all(choose(table, lake.store, "manifest", random.Random(seed)).path != newest for seed in range(10))
    assert victim_of(lake, "data-file", newest=True).older is not None


def test_unknown_mutations_and_empty_tables_are_refused(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each with a sentence."""
    with pytest.raises(NotApplicable, match="no mutation 'melted'"):
        damage(lake.store, victim_of(lake, "manifest"), "melted", seed=0)
    empty = Lake(tmp_path_factory.mktemp("empty"), snapshots=0)
    with pytest.raises(NotApplicable, match="no snapshot"):
        victim_of(empty, "manifest")
    alone = Lake(tmp_path_factory.mktemp("alone"), snapshots=1)
    with pytest.raises(NotApplicable, match="no sibling"):
        damage(alone.store, victim_of(alone, "manifest"), "replaced-by-sibling", seed=0)
    with pytest.raises(NotApplicable, match="no bit"):
        mutated("bit-flip", victim_of(lake, "manifest"), b"", lake.store, random.Random(0))


def test_an_earlier_state_is_the_objects_own(lake: Lake) -> None:
    """Well-formed, of the same snapshot, one thing short; what holds nothing has no earlier state."""
    for role in ROLES:
        victim = victim_of(lake, role)
        data = lake.store.get(victim.path)
        stale = mutated("stale", victim, data, lake.store, random.Random(0))
        assert stale is not None
        if role == "data-file":
            before, after = (pq.read_table(io.BytesIO(one)) for one in (data, stale))
            assert after.equals(before.slice(0, before.num_rows - 1))
            assert after.schema.equals(before.schema, check_metadata=True)
        elif role == "metadata":
            before_md, after_md = (TableMetadataUtil.parse_raw(one.decode()) for one in (data, stale))
            assert len(after_md.snapshots) == len(before_md.snapshots) - 1
            assert after_md.current_snapshot_id == before_md.snapshots[-2].snapshot_id
        else:
            whole, short = read_container(data), read_container(stale)
            assert short.records == whole.records - 1
            assert short.metadata == whole.metadata
    for nothing in (b"{}", b"PAR1", b"", lake.store.get(victim_of(lake, "manifest").path)[:20]):
        with pytest.raises(NotApplicable):
            mutated("stale", victim_of(lake, "manifest"), nothing, lake.store, random.Random(0))
