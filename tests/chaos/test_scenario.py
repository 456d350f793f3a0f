"""A scenario that cannot be run as it is written is refused before anything starts, with file, line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.errors import BadScenario
from chaos.scenario import SCENARIOS, find_scenario, load_plan, scenario_names

GOOD = """\
name: mine
question: Does it hold?
traffic: {events_per_s: 100, for_s: 20}
steps:
  - {fault: nothing, at_s: 1, for_s: 5}
  - fault: slow-r2
    after: 2nd commit POST
    for_s: 5
    with: {latency_ms: 900}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(BadScenario) as caught:
        load_plan(path, list(overrides))
    assert caught.value.exit_code == 254
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path.parent), "DIR")


def test_a_plan_has_its_steps_with_the_catalogues_parameters(tmp_path: Path) -> None:
    """`with` overrides single parameters; the text is kept as it was written."""
    plan = load_plan(write(tmp_path, GOOD))
    assert plan.text == GOOD
    first, second = plan.steps
    assert (first.index, first.at_s, first.trigger, first.spec.name) == (0, 1, None, "nothing")
    assert second.trigger is not None
    assert (second.trigger.nth, second.trigger.object, second.at_s) == (2, "commit", None)
    assert second.spec.params == {"path": "r2", "latency_ms": 900, "jitter_ms": 200}


@pytest.mark.parametrize("name", scenario_names())
def test_shipped_scenarios_can_be_run(name: str) -> None:
    """Each is found by name, answers a question, and is named like its file."""
    plan = load_plan(find_scenario(name))
    assert plan.scenario.name == name
    assert plan.scenario.question.rstrip(")").endswith(("?", "."))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("fault: nothing", "fault: earthquake", "DIR/mine.yaml:5: steps[0]: there is no fault 'earthquake'; catalogue.yaml has "),
        ("at_s: 1, for_s: 5", "at_s: 16, for_s: 5", "DIR/mine.yaml:5: steps[0]: it ends at 21 s, but traffic ends at 20 s; shorten it."),
        ("    for_s: 5", "    for_s: 21", "DIR/mine.yaml:6: steps[1]: it ends at 21 s, but traffic ends at 20 s; shorten it."),
        ("at_s: 1, ", "", "DIR/mine.yaml:5: steps[0]: give either at_s or after or when, one of them."),
        ("at_s: 1, ", "at_s: 1, after: 1st commit, ", "DIR/mine.yaml:5: steps[0]: give either at_s or after or when, one of them."),
        ("2nd commit POST", "sometime", 'DIR/mine.yaml:6: steps[1]: after: \'sometime\' is not of the form "2nd commit POST".'),
        ("after: 2nd commit POST", "when: fill", 'DIR/mine.yaml:6: steps[1]: when: \'fill\' is not of the form "fill > 0.9".'),
        ("steps:", "stop: {when: moon > 1}\nsteps:", "DIR/mine.yaml:4: stop.when: there is no reading 'moon'; there are fill, "),
        ("2nd commit POST", "2nd snapshot", "DIR/mine.yaml:6: steps[1]: after: the gateway knows no object 'snapshot'; "),
        ("latency_ms: 900", "latency_ms: long", "DIR/mine.yaml:6: steps[1]: latency_ms: Expected `int"),
        ("latency_ms: 900", "latency: 900", "DIR/mine.yaml:6: steps[1]: Object contains unknown field `latency`"),
        ("at_s: 1", "at_s: soon", "DIR/mine.yaml:5: steps[0].at_s: Expected `float | null`, got `str`."),
        ("at_s: 1", "at: 1", "DIR/mine.yaml:5: steps[0]: Object contains unknown field `at`."),
        ("for_s: 20", "for_s: 0", "DIR/mine.yaml:3: traffic.for_s: Expected `float` > 0.0."),
        ("question: Does it hold?\n", "", "DIR/mine.yaml:1: Object missing required field `question`."),
        ("name: mine", "name: My scenario", "DIR/mine.yaml:1: name: Expected `str` matching regex "),
        ("name: mine", "name: mine\nschema: icequake.scenario/2.0", "DIR/mine.yaml has format icequake.scenario/2.0; "),
        ("name: mine", "name: mine\nschema: x", "DIR/mine.yaml:2: schema: 'x' is not a version of icequake.scenario/1.0."),
        ("steps:", "steps: [", "DIR/mine.yaml:"),
        (GOOD, "", "DIR/mine.yaml: Object missing required field `name`."),
    ],
)  # fmt: skip
def test_a_bad_scenario_is_one_sentence_with_file_and_line(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    """What is wrong, where, and what there is instead."""
    assert old in GOOD
    assert refusal(write(tmp_path, GOOD.replace(old, new, 1))).startswith(sentence)


def test_a_gateway_rule_is_checked_before_the_run(tmp_path: Path) -> None:
    """What the gateway would refuse in mid-run is refused now."""
    text = GOOD.replace("fault: nothing, at_s: 1", "fault: commit-answer-lost, at_s: 1, with: {match: {object: comit}}")
    assert refusal(write(tmp_path, text)).startswith(
        "DIR/mine.yaml:5: steps[0]: match.object 'comit' is unknown; use one of"
    )


@pytest.mark.parametrize(
    ("pair", "value"),
    [("traffic.events_per_s=7", 7), ("traffic.events_per_s=7.5", 7.5), ("traffic.events_per_s=1.0e+3", 1000)],
)
def test_a_value_can_be_set(tmp_path: Path, pair: str, value: float) -> None:
    """What was set is what runs, and the recorded text says so."""
    plan = load_plan(write(tmp_path, GOOD), [pair])
    assert plan.scenario.traffic.events_per_s == value
    assert plan.text.startswith(f"# mine.yaml with --set {pair}\n")


def test_a_parameter_of_a_step_can_be_set(tmp_path: Path) -> None:
    """By the step's number; a part that the file left out is made; several pairs add up."""
    plan = load_plan(write(tmp_path, GOOD), ["steps.1.with.latency_ms=50", "env.WORKERS='2'", "steps.0.for_s=2"])
    assert plan.steps[1].spec.params["latency_ms"] == 50
    assert (plan.scenario.env, plan.steps[0].for_s) == ({"WORKERS": "2"}, 2)


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("traffic", "--set 'traffic': write key=value, such as traffic.events_per_s=200."),
        ("traffic.events_per_s=[", "--set 'traffic.events_per_s=[': the value is not YAML."),
        ("name=2024-13-01", "--set 'name=2024-13-01': the value is not YAML."),
        ("steps.7.for_s=1", "--set 'steps.7.for_s=1': the scenario has no '7' there."),
        ("steps.x.for_s=1", "--set 'steps.x.for_s=1': the scenario has no 'x' there."),
        ("steps.0=1", "--set 'steps.0=1': '0' does not name a value of the scenario."),
        ("name.first=1", "--set 'name.first=1': 'first' does not name a value of the scenario."),
        ("trafic.for_s=1", "DIR/mine.yaml with --set trafic.for_s=1: Object contains unknown field `trafic`."),
        ("=1", "DIR/mine.yaml with --set =1: Object contains unknown field ``."),
        ("traffic.for_s=soon", "DIR/mine.yaml with --set traffic.for_s=soon: traffic.for_s: Expected `float`, got `str`."),
        ("traffic.for_s=3", "DIR/mine.yaml with --set traffic.for_s=3: steps[0]: it ends at 6 s, but traffic ends at 3 s; shorten it."),
        ("steps.0.fault=x", "DIR/mine.yaml with --set steps.0.fault=x: steps[0]: there is no fault 'x'; "),
    ],
)  # fmt: skip
def test_a_mistake_in_set_names_the_pair(tmp_path: Path, pair: str, sentence: str) -> None:
    """And no line: the text it is in is one that nobody wrote."""
    assert refusal(write(tmp_path, GOOD), pair).startswith(sentence)


def test_a_broken_file_is_named_although_something_is_set(tmp_path: Path) -> None:
    """The file's own mistakes keep their line."""
    assert refusal(write(tmp_path, GOOD.replace("at_s: 1", "at: 1")), "traffic.for_s=30").startswith(
        "DIR/mine.yaml:5: "
    )


def test_scenarios_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    """A name is looked up among those that ship, a .yaml file is taken as it is."""
    assert find_scenario("quick") == SCENARIOS / "quick.yaml"
    assert find_scenario(str(write(tmp_path, GOOD))) == tmp_path / "mine.yaml"


@pytest.mark.parametrize("name", ["earthquake", "", "../scenarios/quick", "none.yaml", "."])
def test_an_unknown_scenario_is_one_sentence(name: str) -> None:
    """With the names that there are, or the file that there is not."""
    with pytest.raises(
        BadScenario,
        match=r"^(there is no scenario .*; there are [a-z0-9, -]*control, .*|the scenario file .* does not exist\.)",
    ):
        find_scenario(name)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    """Not UTF-8, and a directory of that name."""
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    (tmp_path / "dir.yaml").mkdir()
    assert "cannot be read" in refusal(tmp_path / "latin.yaml")
    assert "cannot be read" in refusal(tmp_path / "dir.yaml")


DRILLED = GOOD + "  - {drill: flush-and-verify, at_s: 2}\n"


def test_a_drill_is_a_step(tmp_path: Path) -> None:
    """It has its number among the faults, its moment, and no end of its own."""
    plan = load_plan(write(tmp_path, DRILLED))

    assert [step.index for step in plan.steps] == [0, 1]
    (drill,) = plan.drills
    assert (drill.index, drill.drill.name, drill.at_s) == (2, "flush-and-verify", 2)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("drill: flush-and-verify", "drill: fly", "DIR/mine.yaml:10: steps[2]: there is no drill 'fly'; there are flush-and-verify, "),
        ("drill: flush-and-verify", "drill: flush-and-verify, fault: nothing", "DIR/mine.yaml:10: steps[2]: give either fault or drill, one of them."),
        ("drill: flush-and-verify, ", "", "DIR/mine.yaml:10: steps[2]: give either fault or drill, one of them."),
        ("at_s: 2}", "at_s: 20}", "DIR/mine.yaml:10: steps[2]: it begins at 20 s, but traffic ends at 20 s."),
        ("at_s: 2}", "at_s: 2, for_s: 3}", "DIR/mine.yaml:10: steps[2]: a drill ends by itself; leave for_s out."),
        ("at_s: 2}", "at_s: 2, with: {x: 1}}", "DIR/mine.yaml:10: steps[2]: drill flush-and-verify: Object contains unknown field `x`."),
        ("at_s: 2}", "}", "DIR/mine.yaml:10: steps[2]: give either at_s or after or when, one of them."),
    ],
)  # fmt: skip
def test_a_bad_drill_is_one_sentence_with_file_and_line(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    """What is wrong, where, and what there is instead."""
    assert old in DRILLED
    assert refusal(write(tmp_path, DRILLED.replace(old, new))).startswith(sentence)
