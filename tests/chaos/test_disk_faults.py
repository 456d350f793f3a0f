"""A collector that meets a torn file: the reference goes on from it, one that insists on whole files never does."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from chaos.commands.session import session
from chaos.display import Display
from tests.chaos.trying import mutant, tried

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_collector_that_ends_at_a_tear_is_found(tmp_path: Path) -> None:
    """It ends again and again, so what it acknowledged stays where it is, and nobody is served."""
    display = Display(Console(stderr=True), quiet=True)
    with session("seaweedfs", runs=tmp_path / "runs", seed=7, display=display) as stack:
        verdict = tried(stack, tmp_path, "buffer-torn", mutant(tmp_path, "ends-at-a-tear"), planted=True)

    assert {one["id"]: one["verdict"] for one in verdict["checks"]}["events.stuck"] == "FAIL", verdict["first_screen"]
