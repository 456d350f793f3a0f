"""What is said, or refused, before a drill begins: by the plan, by the target file, and by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.cli import run_command
from chaos.commands.drill import drill_plan
from chaos.errors import BadInput, BadScenario, NotAllowed
from chaos.guard import refuse
from chaos.scenario import load_plan
from loadtests.records.target import Ingest, Target

SCENARIO = """\
name: mine
question: Does it hold?
traffic: {events_per_s: 100, for_s: 20}
steps:
  - {fault: nothing, at_s: 1, for_s: 5}
  - {drill: flush-and-verify, when: fill > 0.5}
"""


def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SCENARIO)
    return path


def test_a_plan_says_when_a_drill_is_done_and_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of the steps; the naive target has no admin listener, so that run cannot PASS."""
    assert run_command(["plan", str(scenario(tmp_path))]) == 0
    assert "Step 1    when fill > 0.5: drill flush-and-verify, Force a flush" in capsys.readouterr().out
    assert run_command(["plan", str(scenario(tmp_path)), "--target", "naive"]) == 0
    assert "will be skipped: target 'naive' has no `admin`" in capsys.readouterr().out


@pytest.mark.parametrize(("allowed", "permitted"), [(None, False), (["http"], False), (["drill"], True), (["flush-and-verify"], True)])  # fmt: skip
def test_a_target_elsewhere_permits_drills_by_word_or_by_name(
    tmp_path: Path, allowed: list[str] | None, permitted: bool
) -> None:
    """They stop and start it, or clear its buffer: not without its owner's word."""
    plan = load_plan(scenario(tmp_path))
    aim = Target(name="mine", ingest=Ingest(url="http://collector.example/"), allow_faults=allowed)
    if permitted:
        refuse(plan, aim)
        return
    with pytest.raises(NotAllowed, match=r"steps\[1\]: the target mine does not permit the drill flush-and-verify"):
        refuse(plan, aim)


def test_one_drill_is_a_scenario_of_one_step() -> None:
    """With its parameters; whoever wants more writes a scenario."""
    plan = drill_plan("scale-buffer", ("after=8000", "prove=false"), ("traffic.events_per_s=50",))

    assert plan.scenario.name == "drill-scale-buffer"
    assert plan.scenario.traffic.events_per_s == 50
    assert [(one.drill.name, dict(one.drill.params)) for one in plan.drills] == [
        ("scale-buffer", {"after": 8000, "prove": False})
    ]
    with pytest.raises(BadInput, match="a drill has no other steps"):
        drill_plan("scale-buffer", (), ("steps=[{fault: nothing, at_s: 1}]",))
    with pytest.raises(BadScenario, match="after"):
        drill_plan("scale-buffer", ("after=10",), ())


def test_the_command_line_names_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started: the target that cannot be drilled, and the parameter that there is not."""
    assert run_command(["drill", "flush-and-verify", "--target", "naive"]) == 254
    assert "has no `admin`, which the drill flush-and-verify cannot do without" in capsys.readouterr().err
    assert run_command(["drill", "flush-and-verify", "--with", "twice=1"]) == 254
    assert "unknown field `twice`" in capsys.readouterr().err
