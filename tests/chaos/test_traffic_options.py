"""What a scenario's `traffic` and a target's contract say reaches the generator."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.errors import BadScenario
from chaos.generator import Generator
from chaos.live import with_mode
from chaos.scenario import load_plan
from chaos.target import find_target
from tests.loadtests.runs import make_run

TEXT = "name: x\nquestion: Does it?\ntraffic: {{events_per_s: 100, batch: 20, for_s: 10{more}}}\n"


def argv(tmp_path: Path, more: str) -> list[str]:
    path = tmp_path / "x.yaml"
    path.write_text(TEXT.format(more=more))
    spawned: list[list[str]] = []
    generator: Any = Generator(
        make_run(tmp_path),
        load_plan(path).scenario,
        find_target("reference")[1].ingest,
        "http://127.0.0.1:18787/events/batch",
        SimpleNamespace(spawn=lambda _name, words, **_: spawned.append(words)),  # type: ignore[arg-type]
    )
    generator.counts = lambda: {"attempted": 1}
    generator.start(lambda: None)
    return spawned[0]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_ordinary_traffic_is_the_targets_own_way(tmp_path: Path) -> None:
    """Its mode and path, plain bodies, connections kept, one pass of the curve in all the time there is."""
    words = argv(tmp_path, "")

    assert option(words, "--host") == "http://127.0.0.1:18787/events/batch"
    assert [option(words, name) for name in ("--mode", "--gzip", "--keep-alive", "--arrivals", "--curve-period")] == [
        "batch", "no", "yes", "as-named", "10.0"
    ]  # fmt: skip


def test_a_scenario_chooses_how_requests_are_written_and_spaced(tmp_path: Path) -> None:
    """Another mode goes to its own path, one event a request."""
    words = argv(tmp_path, ", mode: binary, gzip: true, keep_alive: false, arrivals: poisson, speed: 60")

    assert option(words, "--host") == "http://127.0.0.1:18787/events"
    assert [option(words, name) for name in ("--mode", "--batch", "--gzip", "--keep-alive", "--arrivals", "--speed")] == [
        "binary", "1", "yes", "no", "poisson", "60.0"
    ]  # fmt: skip
    assert "--curve-period" not in words


def test_a_scenario_chooses_how_patient_clients_are(tmp_path: Path) -> None:
    """How often they ask, how soon again, and how long they wait for an answer."""
    words = argv(tmp_path, ", attempts: 30, retry_within_s: 0.3, timeout_s: 2")

    assert [option(words, name) for name in ("--retry-attempts", "--retry-within", "--request-timeout")] == [
        "30", "0.3", "2.0"
    ]  # fmt: skip


def test_a_live_session_in_another_mode_goes_to_its_path() -> None:
    """As a scenario's does."""
    assert with_mode(find_target("reference")[1], "structured").ingest.url.endswith("/events")
    assert with_mode(find_target("reference")[1], "batch").ingest.url.endswith("/events/batch")


@pytest.mark.parametrize(("profile", "sentence"), [("stedy", "'stedy' is unknown"), ("gone.yaml", "does not exist")])
def test_traffic_that_is_not_there_is_told_before_anything_runs(tmp_path: Path, profile: str, sentence: str) -> None:
    """With the scenario's file and line."""
    path = tmp_path / "x.yaml"
    path.write_text(TEXT.format(more=f", profile: {profile}"))

    with pytest.raises(BadScenario, match=rf"x\.yaml:3: traffic\.profile: .*{sentence}"):
        load_plan(path)
