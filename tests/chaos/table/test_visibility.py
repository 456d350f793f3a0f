"""Every mutation of every kind of object is named as `VISIBLE` says, or honestly called invisible."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos.table.errors import NotApplicable
from chaos.table.findings import KINDS
from chaos.table.mutate import MUTATIONS, ROLES, Role, choose, damage, put_back
from chaos.table.visibility import VISIBLE
from tests.chaos.table.lake import Lake
from tests.chaos.table.test_doctor import diagnosed

FLIPS = 12


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("lake"))


@contextmanager
def damaged(lake: Lake, role: Role, mutation: str, seed: int) -> Iterator[str]:
    victim = choose(lake.load(), lake.store, role, random.Random(5), newest=mutation == "replaced-by-older")
    before = damage(lake.store, victim, mutation, seed)
    try:
        yield victim.path
    finally:
        put_back(lake.store, before)


def findings_about(lake: Lake, role: Role, mutation: str, seed: int) -> tuple[set[str], bool]:
    """What is said of the damaged object, and whether the table is called healthy."""
    table = lake.load()
    with damaged(lake, role, mutation, seed) as path:
        report = diagnosed(table)
        return {one.name for one in report.findings.kept if one.object == path}, report.healthy


def test_the_table_is_complete_and_names_real_findings() -> None:
    """A new mutation, or a new kind of object, needs a line for each of the others."""
    assert set(VISIBLE) == {(role, mutation) for role in ROLES for mutation in MUTATIONS}
    assert {name for one in VISIBLE.values() for name in one.findings} <= set(KINDS)
    assert all(one.findings or one.reason for one in VISIBLE.values())


@pytest.mark.parametrize(("role", "mutation"), [key for key, one in VISIBLE.items() if one.always])
def test_damage_that_can_be_seen_is_named(shared: Lake, role: Role, mutation: str) -> None:
    """The finding is about the damaged object itself."""
    said, healthy = findings_about(shared, role, mutation, seed=5)
    assert set(VISIBLE[role, mutation].findings) <= said
    assert not healthy


@pytest.mark.parametrize(("role", "mutation"), [key for key, one in VISIBLE.items() if one.findings and one.reason])
def test_damage_that_may_go_unseen_is_named_when_it_shows(shared: Lake, role: Role, mutation: str) -> None:
    """Of a dozen flipped bits several are named, by one of the findings listed, and by no other that is about the object."""
    said = [findings_about(shared, role, mutation, seed)[0] for seed in range(FLIPS)]
    assert any(said)
    assert set().union(*said) <= set(VISIBLE[role, mutation].findings)


@pytest.mark.parametrize(("role", "mutation"), [key for key, one in VISIBLE.items() if one.exists and not one.findings])
def test_what_is_called_invisible_is(shared: Lake, role: Role, mutation: str) -> None:
    """Were it seen, the page would have to say so."""
    assert findings_about(shared, role, mutation, seed=5) == (set(), True)


@pytest.mark.parametrize(("role", "mutation"), [key for key, one in VISIBLE.items() if not one.exists])
def test_what_cannot_be_done_says_so(shared: Lake, role: Role, mutation: str) -> None:
    """Nothing is changed."""
    with pytest.raises(NotApplicable), damaged(shared, role, mutation, seed=5):
        pass
    assert diagnosed(shared.load()).healthy
