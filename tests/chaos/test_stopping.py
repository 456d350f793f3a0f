"""What may be injected at all, when a step's condition comes true, and what ends a run early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos import halt
from chaos.cli import run_command
from chaos.condition import Condition, parse_condition
from chaos.errors import ControlHung, NotAllowed
from chaos.guard import refuse
from chaos.nemesis import Nemesis
from chaos.scenario import load_plan
from loadtests.records.rundir import RunDir
from loadtests.records.target import Ingest, Target
from loadtests.records.timeline import Timeline, read_timeline
from tests.chaos.fakes import PATIENCE_S, FakeFault, env, make_run, step

PLAN = """\
name: mine
question: Does it hold?
traffic: {for_s: 20}
steps:
  - {fault: nothing, at_s: 1, for_s: 5}
  - {fault: slow-r2, at_s: 2, for_s: 9}
"""


def target(url: str = "http://127.0.0.1:1/events", **fields: Any) -> Target:
    return Target(name="mine", ingest=Ingest(url=url), **fields)


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("fill > 0.9", 0.91, True),
        ("fill > 0.9", 0.9, False),
        ("fill >= 0.9", 0.9, True),
        ("buffered < 10", 9, True),
        ("unseen_s<=5", 6, False),
        ("pending > 0", None, False),
    ],
)
def test_a_condition_compares_a_reading(text: str, value: float | None, holds: bool) -> None:
    """One that nobody takes is never fulfilled."""
    condition = parse_condition(text)
    asked: list[str] = []

    def read(name: str) -> float | None:
        asked.append(name)
        return value

    assert condition.holds(read) is holds
    assert asked == [condition.reading]


@pytest.mark.parametrize("text", ["fill", "fill > x", "> 3", "fill == 1", "fill > 0.9 and more", ""])
def test_what_is_no_condition_is_refused(text: str) -> None:
    """With the form that is wanted."""
    with pytest.raises(ValueError, match="is not of the form"):
        parse_condition(text)


def test_a_step_begins_when_its_condition_holds(tmp_path: Path) -> None:
    """Not before; and never when it does not come, which makes the step void."""
    fill, fault, never = [0.5], FakeFault("full"), FakeFault("never")
    steps = [
        replace(step(0, fault), at_s=None, condition=Condition("fill", ">", 0.9)),
        replace(step(1, never), at_s=None, condition=Condition("fill", ">", 2)),
    ]
    timeline = Timeline(tmp_path / "timeline.jsonl", "ab12cd34")
    nemesis = Nemesis(steps, lambda _: replace(env(), read=lambda name: fill[0] if name == "fill" else None), timeline)
    nemesis.start(0)
    assert not fault.on.wait(0.2)
    fill[0] = 0.95
    assert fault.on.wait(PATIENCE_S)
    nemesis.stop()
    timeline.close()

    states = [(entry["fault"], entry["state"]) for entry in read_timeline(tmp_path / "timeline.jsonl")]
    assert ("full", "healed") in states
    assert ("never", "void") in states
    assert never.actions == []


@pytest.mark.parametrize(
    ("aim", "fault"),
    [
        (target(allow_faults=["http"]), "slow-r2"),
        (target(allow_faults=[]), "slow-r2"),
        (target("https://collector.example/events", allow=["collector.example"]), "slow-r2"),
    ],
)
def test_a_fault_that_the_target_does_not_permit_is_refused(tmp_path: Path, aim: Target, fault: str) -> None:
    """One sentence with the step, the fault, and what to write where; exit code 254."""
    path = tmp_path / "mine.yaml"
    path.write_text(PLAN)
    with pytest.raises(NotAllowed, match=rf"steps\[1\]: the target mine does not permit the fault {fault}") as refused:
        refuse(load_plan(path), aim)
    assert refused.value.exit_code == 254


@pytest.mark.parametrize("allowed", [None, ["slow-r2"], ["toxic", "http"]])
def test_what_the_target_permits_is_not_refused(tmp_path: Path, allowed: list[str] | None) -> None:
    """By name, by mechanism, or because it is a target on this machine that says nothing."""
    path = tmp_path / "mine.yaml"
    path.write_text(PLAN)
    refuse(load_plan(path), target(allow_faults=allowed))


def test_a_run_that_does_not_permit_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line says so before there is a run directory."""
    (tmp_path / "mine.yaml").write_text(PLAN)
    (tmp_path / "aim.yaml").write_text(
        "name: aim\ningest: {url: 'http://127.0.0.1:1/'}\nallow_faults: [http]\n"
        "table: {catalog: {uri: 'http://b'}, identifier: a.b}\n"
    )
    arguments = [
        "run",
        str(tmp_path / "mine.yaml"),
        "--target",
        str(tmp_path / "aim.yaml"),
        "--runs",
        str(tmp_path / "runs"),
    ]
    assert run_command(arguments) == 254
    assert "does not permit the fault slow-r2" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_halt_waits_until_the_run_says_that_it_is_healed(tmp_path: Path) -> None:
    """It asks by a file, and reads the answer in run.json."""
    run = make_run(tmp_path)
    answered: list[float] = []
    halt.ask(run)
    assert halt.asked(run.root)

    def heal_meanwhile(_seconds: float) -> None:
        run.info.stopped, run.info.window.healed_ns = "asked", 1
        run.save()

    answered.append(halt.wait_healed(run.root, sleep=heal_meanwhile))
    assert answered[0] < halt.WITHIN_S


def test_a_halt_that_nobody_obeys_is_said(tmp_path: Path) -> None:
    """After five seconds, with what to do then."""
    run = make_run(tmp_path)
    now = iter(range(100))
    with pytest.raises(ControlHung, match="has not said within 5 s that it is healed"):
        halt.wait_healed(run.root, clock=lambda: float(next(now)), sleep=lambda _: None)


def test_halting_a_run_that_is_over_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to heal."""
    run = make_run(tmp_path)
    run.info.phase = "done"
    run.save()
    assert run_command(["halt", "ab12cd34", "--runs", str(tmp_path / "runs")]) == 0
    assert "is over: nothing is injected" in capsys.readouterr().out
    assert not halt.asked(RunDir.open(run.root).root)
