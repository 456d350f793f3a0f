"""Traffic that is not ordinary, on a real stack: who keeps the contract passes, and each planted bug is found by its mix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from rich.console import Console

from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import load_plan
from chaos.target import find_target
from tests.mutants_traffic import BATCH_EVENTS, BODY_BYTES, EVENT_BYTES

pytestmark = [pytest.mark.integration, pytest.mark.slow]
MUTANT_FILE = Path(__file__).parents[1] / "mutants_traffic.py"
KILLS = {
    "duplicates": ("forgets", "events.duplicated"),
    "id-collision": ("id-only", "events.lost"),
    "mixed-sizes": ("off-by-one", "events.answered"),
    "poison": ("swallows", "events.answered"),
    "over-limit": ("takes-all", "events.answered"),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    runs = tmp_path_factory.mktemp("stack")
    with session("seaweedfs", runs=runs, seed=1, display=Display(Console(stderr=True), quiet=True)) as running:
        yield running


def collector(directory: Path, name: str) -> Path:
    target = {
        "name": name,
        "ingest": {"url": "http://127.0.0.1:{port}/events", "mode": "batch"},
        "metrics": {"url": "http://127.0.0.1:{port}/metrics", "buffered": "naive_buffer_events"},
        "process": {
            "command": ["{python}", str(MUTANT_FILE), name],
            "ready": "http://127.0.0.1:{port}/healthz",
        },
        "contract": {
            "limits": {"body_bytes": BODY_BYTES, "event_bytes": EVENT_BYTES, "batch_events": BATCH_EVENTS},
        },
    }
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(target))
    return path


def judged(stack: Session, directory: Path, profile: str, target: Path | str) -> dict[str, Any]:
    scenario = directory / "mix.yaml"
    scenario.write_text(
        yaml.safe_dump(
            {
                "name": f"mix-{profile}",
                "question": "Does the target answer as its contract says?",
                "traffic": {"events_per_s": 200, "batch": 10, "for_s": 6, "profile": profile},
                "baseline_s": 2,
                "settle_s": 40,
                "env": {"ICEBERG_BUFFER_TIMEOUT_MS": "1500"},
            }
        )
    )
    path, loaded = find_target(str(target))
    request = Request(load_plan(scenario), path, loaded, directory / "runs", 7, ("test",))
    display = Display(Console(stderr=True), quiet=True)
    result = Runner(request, stack=stack.stack, warden=stack.warden, display=display).execute()
    verdict: dict[str, Any] = msgspec.json.decode(result.run.verdict.read_bytes())
    return verdict


@pytest.mark.parametrize("profile", KILLS)
def test_a_planted_bug_is_found_by_its_mix(stack: Session, tmp_path: Path, profile: str) -> None:
    """By the check that names it."""
    name, check = KILLS[profile]
    verdict = judged(stack, tmp_path, profile, collector(tmp_path, name))

    found = {one["id"]: one["verdict"] for one in verdict["checks"]}
    assert (verdict["verdict"], found[check]) == ("FAIL", "FAIL"), verdict["first_screen"]


@pytest.mark.parametrize("profile", KILLS)
@pytest.mark.parametrize("target", ["careful", "reference"])
def test_who_keeps_the_contract_passes(stack: Session, tmp_path: Path, profile: str, target: str) -> None:
    """A collector of sixty lines without the bugs, and the reference collector."""
    where = collector(tmp_path, target) if target == "careful" else target
    verdict = judged(stack, tmp_path, profile, where)

    assert verdict["verdict"] == "PASS", verdict["first_screen"]
