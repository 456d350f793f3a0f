"""Every fault says where in the pipeline it bites, and every stage is hit by something."""

from __future__ import annotations

import pytest

from chaos.faults import catalogue
from chaos.faults.stages import Stage

PATHS = {
    "r2": {Stage.DATA, Stage.MANIFEST},
    "catalog": {Stage.COMMIT, Stage.CATALOG_READ},
    "ingest": {Stage.INGEST},
}


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_a_fault_bites_somewhere(name: str) -> None:
    """But for the control experiment, and for what only the owner of a target knows."""
    spec = catalogue()[name]

    assert bool(spec.stages) == (spec.mechanism not in ("nothing", "hook"))
    assert len(set(spec.stages)) == len(spec.stages)


def test_what_is_on_a_network_path_bites_at_its_stages() -> None:
    """A toxic on the way to R2 cannot hit a commit."""
    for name, spec in catalogue().items():
        if spec.mechanism == "toxic":
            path = spec.params.get("path", "r2")
            assert path not in PATHS or set(spec.stages) <= PATHS[path], name


def test_every_stage_is_hit() -> None:
    """And says what happens there."""
    hit = {stage for spec in catalogue().values() for stage in spec.stages}

    assert hit == set(Stage)
    assert all(stage.about for stage in Stage)


NOT_EVERYWHERE = ("host", "hook", "power")
"""Mechanisms that need what not every machine, or only an owner, has."""


def test_the_quick_tier_leaves_no_mechanism_out_at_any_stage() -> None:
    """What a mechanism can hit at all is hit by it every time; the nightly tier has the variants."""
    tried = [spec for spec in catalogue().values() if spec.mechanism not in NOT_EVERYWHERE]

    def pairs(tiers: tuple[str, ...]) -> set[tuple[str, Stage]]:
        return {(spec.mechanism, stage) for spec in tried if spec.micro.tier in tiers for stage in spec.stages}

    assert pairs(("quick",)) == pairs(("quick", "nightly"))
