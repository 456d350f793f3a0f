"""A collector that meets a torn file: the reference goes on from it, one that insists on whole files never does."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from chaos.commands.session import session
from chaos.display import Display
from tests.chaos.trying import mutant, tried

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize(
    ("fault", "planted", "check"),
    [
        ("buffer-torn", "ends-at-a-tear", "events.stuck"),
        ("kill-collector", "stays-down", "events.stuck"),
        ("crash-put-after", "stays-down", "run.roundtrip"),  # it ends whole, owes nothing, and serves nobody
    ],
)
def test_a_collector_that_does_not_come_back_fails(tmp_path: Path, fault: str, planted: str, check: str) -> None:
    """What it owes stays where it is, and nobody is served: its own fault, and no failure of icequake."""
    display = Display(Console(stderr=True), quiet=True)
    with session("seaweedfs", runs=tmp_path / "runs", seed=7, display=display) as stack:
        verdict = tried(stack, tmp_path, fault, mutant(tmp_path, planted), planted=True)

    assert {one["id"]: one["verdict"] for one in verdict["checks"]}[check] == "FAIL", verdict["first_screen"]
