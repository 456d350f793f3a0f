"""A scenario: traffic, and what is done to the pipeline meanwhile, as data.

```yaml
name: slow-r2
question: Does the buffer hold while R2 answers slowly, and catch up afterwards?
traffic: {events_per_s: 400, batch: 20, for_s: 30}
baseline_s: 5
settle_s: 60
steps:
  - {fault: slow-r2, at_s: 5, for_s: 15, with: {latency_ms: 800}}
  - {fault: commit-answer-lost, after: "2nd commit POST", for_s: 10}
  - {drill: flush-and-verify, when: fill > 0.5}
```

`at_s` counts from the end of the baseline; `after` names the n-th request of an object kind that the gateway saw since then;
`when` is a condition on a reading, such as `fill > 0.9`. Steps may overlap, except that drills are done one after the other. A
drill (`icequake drill`) lasts until it is done. `stop` ends a run early: everything is healed, and the run cannot PASS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct, field

from chaos.condition import Condition, parse_condition
from chaos.drills import Drill, find_drill
from chaos.errors import BadInput, BadScenario
from chaos.faults import CATALOGUE, FaultSpec, catalogue
from chaos.trigger import Trigger, parse_trigger
from loadtests.errors import BadTraffic
from loadtests.records.documents import parse_yaml, validation_sentence
from loadtests.records.errors import InvalidDocument, RecordError
from loadtests.records.schema import schema_name
from loadtests.records.target import Mode
from loadtests.traffic import is_file, traffic_named

KIND = "scenario"
SCENARIOS = Path(__file__).parent / "scenarios"

FOR_S = 10.0
"""How long a fault lasts when its step does not say."""

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Positive = Annotated[float, Meta(gt=0, le=1_000_000)]
Threshold = Annotated[str, Meta(pattern=r"^\s*(<=|>=|<|>|==)\s*-?\d+(\.\d+)?\s*$", description="Such as '<= 250'.")]


class TrafficSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much traffic: *events_per_s* in requests of *batch* events, for *for_s* after the baseline.

    Attributes:
        profile: A name from loadtests/profiles.yaml (`icequake list traffic`), a curve and a mix joined by `+` such as
            `spike+late`, or a traffic file (.yaml) such as `icequake baseline record` writes, relative to the scenario.
        speed: How many times faster than in its file the curve passes; without it, one pass takes `for_s`.
        arrivals: How requests are spaced on the curve, if not as the profile says.
        mode: CloudEvents HTTP mode, if not the target file's.
        gzip: Bodies are sent gzipped.
        keep_alive: Connections are used again; if not, each request opens its own.
        requests_per_user_s: Requests per second that one Locust user stands for.
        attempts: How often a request is sent at most when its answer allows that, the first time included.
        retry_within_s: No pause before another attempt is longer than this; pauses grow and are drawn at random.
        timeout_s: How long a client waits for an answer before it takes it for lost.
    """

    events_per_s: Positive = 400
    batch: Annotated[int, Meta(ge=1, le=10_000)] = 20
    for_s: Positive = 30
    profile: str = "steady"
    speed: Positive | None = None
    arrivals: Literal["constant", "poisson"] | None = None
    mode: Mode | None = None
    gzip: bool = False
    keep_alive: bool = True
    requests_per_user_s: Positive = 5
    attempts: Annotated[int, Meta(ge=1, le=100)] = 6
    retry_within_s: Annotated[float, Meta(gt=0, le=600)] = 10
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 10


class StepSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"params": "with"}):
    """One fault or one drill: when it begins (`at_s`, `after` or `when`), and its parameters.

    Attributes:
        fault: A name from the catalogue (`icequake list faults`); `with` overrides its parameters.
        drill: A procedure (`icequake drill`), instead of a fault.
        for_s: How long a fault lasts; a drill has none, it ends by itself.
    """

    fault: str | None = None
    drill: str | None = None
    at_s: Seconds | None = None
    after: str | None = None
    when: str | None = None
    for_s: Positive | None = None
    params: dict[str, Any] = field(default_factory=dict)


class StopSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a run is to end early.

    Attributes:
        refused_share: More than this share of all events attempted so far was refused or not answered.
        when: A condition on a reading, such as `duplicated > 0` or `unseen_s > 60`.
        after_s: So long after the end of the baseline, whatever the state.
    """

    refused_share: Annotated[float, Meta(gt=0, lt=1)] | None = None
    when: str | None = None
    after_s: Positive | None = None


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One game day as data.

    Attributes:
        question: What the run answers, in one sentence.
        baseline_s: Traffic flows so long before anything is touched; the steady state must hold.
        settle_s: How long the target may take to empty its buffer once everything is healed.
        tier: `quick`, or `nightly` for what takes long.
        stop: When to end early.
        env: Environment for a target that the harness starts, such as ICEBERG_BUFFER_TIMEOUT_MS.
        thresholds: What figures of the run must be, such as `latency_p99_ms: "<= 250"`; a name of `icequake history`, or a dotted path
            into the verdict's sections or its totals (`totals.late`). Each is a check of its own; one that was not measured is INCONCLUSIVE.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    question: str
    traffic: TrafficSpec = field(default_factory=TrafficSpec)
    baseline_s: Positive = 5
    settle_s: Positive = 60
    tier: Literal["quick", "nightly"] = "quick"
    stop: StopSpec = field(default_factory=StopSpec)
    env: dict[str, str] = field(default_factory=dict)
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    steps: list[StepSpec] = field(default_factory=list)
    schema: str = schema_name(KIND)


@dataclass(frozen=True)
class Step:
    """A step ready to run: its number, its catalogue entry with the scenario's parameters applied, and when."""

    index: int
    spec: FaultSpec
    at_s: float | None
    trigger: Trigger | None
    for_s: float
    condition: Condition | None = None


@dataclass(frozen=True)
class DrillStep:
    """A drill ready to be done: its number among the steps, the procedure with its parameters, and when."""

    index: int
    drill: Drill
    at_s: float | None
    trigger: Trigger | None
    condition: Condition | None = None


@dataclass(frozen=True)
class Plan:
    """A checked scenario: its text as it will be recorded, its steps, and the condition that ends it early.

    Attributes:
        steps: Its faults.
        drills: Its drills; both are numbered as they stand in the scenario.
    """

    scenario: Scenario
    text: str
    steps: tuple[Step, ...]
    stop: Condition | None = None
    drills: tuple[DrillStep, ...] = ()


def scenario_names() -> list[str]:
    """Return the names of the scenarios that come with icequake."""
    return sorted(path.stem for path in SCENARIOS.glob("*.yaml"))


def find_scenario(name: str) -> Path:
    """Return the file of a scenario given by name or by path. Raises BadScenario."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise BadScenario(f"the scenario file {name} does not exist.")
    if name in scenario_names():
        return SCENARIOS / f"{name}.yaml"
    raise BadScenario(f"there is no scenario {name!r}; there are {', '.join(scenario_names())}, or give a .yaml file.")


def load_plan(path: Path, overrides: list[str] | None = None) -> Plan:
    """Read, override and check a scenario.

    Args:
        path: The YAML file.
        overrides: `key=value` pairs; the key is a dotted path such as `traffic.events_per_s` or `steps.0.with.latency_ms`,
            the value is YAML.

    Raises:
        BadScenario: with file, line and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
        plan = _plan(path, text)
        if not overrides:
            return plan
        return _overridden(path, text, overrides)
    except (OSError, UnicodeDecodeError) as error:
        raise BadScenario(f"{path} cannot be read ({error}).") from error
    except RecordError as error:
        raise BadScenario(str(error)) from error


def _plan(path: Path, text: str) -> Plan:
    scenario = _with_traffic(path, text, parse_yaml(text, Scenario, path=path, schema=KIND))
    try:
        stop = parse_condition(scenario.stop.when) if scenario.stop.when is not None else None
    except ValueError as error:
        raise InvalidDocument(path, _line_of(text, "stop"), f"stop.when: {error}") from error
    steps = [_step(path, text, scenario, index) for index in range(len(scenario.steps))]
    faults = tuple(step for step in steps if isinstance(step, Step))
    return Plan(scenario, text, faults, stop, tuple(step for step in steps if isinstance(step, DrillStep)))


def _with_traffic(path: Path, text: str, scenario: Scenario) -> Scenario:
    """*scenario* with the place of its traffic file, if it names one; the traffic is read, so that a wrong one is told now."""
    traffic = scenario.traffic
    if is_file(traffic.profile):
        traffic = msgspec.structs.replace(traffic, profile=str((path.parent / traffic.profile).resolve()))
    try:
        traffic_named(traffic.profile)
    except BadTraffic as error:
        raise InvalidDocument(path, _line_of(text, "traffic"), f"traffic.profile: {error}") from error
    return msgspec.structs.replace(scenario, traffic=traffic)


def _overridden(path: Path, text: str, overrides: list[str]) -> Plan:
    document = yaml.safe_load(text)
    for pair in overrides:
        _set(document, pair)
    dumped: str = yaml.safe_dump(document, sort_keys=False)
    given = " ".join(overrides)
    try:
        return _plan(path, f"# {path.name} with --set {given}\n{dumped}")
    except InvalidDocument as error:  # its line is one of a text that nobody wrote
        raise BadScenario(f"{path} with --set {given}: {error.sentence}") from error


def _set(document: Any, pair: str) -> None:
    key, equals, value = pair.partition("=")
    if not equals:
        raise BadScenario(f"--set {pair!r}: write key=value, such as traffic.events_per_s=200.")
    try:
        plain = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadScenario(f"--set {pair!r}: the value is not YAML.") from error
    _assign(document, _keys(key), plain, pair)


def _keys(path: str) -> list[str]:
    """Split a dotted path; the name of a threshold is one itself, and stays whole."""
    first, _, rest = path.partition(".")
    return [first, rest] if first == "thresholds" and rest else path.split(".")


def threshold_override(text: str) -> str:
    """Turn `flush.caught_up_s <= 30` into a pair for `load_plan`. Raises BadInput."""
    match = re.fullmatch(r"\s*([A-Za-z0-9_.]+)\s*(<=|>=|==|<|>)\s*(-?\d+(?:\.\d+)?)\s*", text)
    if match is None:
        raise BadInput(
            f"--threshold {text!r}: write a figure, an operator and a number, such as 'latency_p99_ms <= 250'."
        )
    name, operator, value = match.groups()
    return f'thresholds.{name}="{operator} {value}"'


def _assign(node: Any, keys: list[str], value: Any, pair: str) -> None:
    for key in keys[:-1]:
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, dict):
            node = node.setdefault(key, {})
        else:
            raise BadScenario(f"--set {pair!r}: the scenario has no {key!r} there.")
    if not isinstance(node, dict):
        raise BadScenario(f"--set {pair!r}: {keys[-1]!r} does not name a value of the scenario.")
    node[keys[-1]] = value


def _step(path: Path, text: str, scenario: Scenario, index: int) -> Step | DrillStep:
    step = scenario.steps[index]

    def wrong(what: str) -> InvalidDocument:
        return InvalidDocument(path, _line_of_step(text, index), f"steps[{index}]: {what}")

    if (step.fault is None) == (step.drill is None):
        raise wrong("give either fault or drill, one of them.")
    if sum(when is not None for when in (step.at_s, step.after, step.when)) != 1:
        raise wrong("give either at_s or after or when, one of them.")
    try:
        trigger = parse_trigger(step.after) if step.after is not None else None
        condition = _condition(step.when)
        if step.drill is not None:
            _check_drill(step, scenario)
            return DrillStep(index, find_drill(step.drill, step.params), step.at_s, trigger, condition)
        return Step(index, _fault(step, scenario), step.at_s, trigger, step.for_s or FOR_S, condition)
    except (ValueError, msgspec.ValidationError, BadInput) as error:
        raise wrong(validation_sentence(str(error))) from error


def _fault(step: StepSpec, scenario: Scenario) -> FaultSpec:
    faults = catalogue()
    if step.fault not in faults:
        raise ValueError(f"there is no fault {step.fault!r}; {CATALOGUE.name} has {', '.join(sorted(faults))}.")
    end_s = (step.at_s or 0) + (step.for_s or FOR_S)
    if end_s > scenario.traffic.for_s:
        raise ValueError(f"it ends at {end_s:g} s, but traffic ends at {scenario.traffic.for_s:g} s; shorten it.")
    return faults[step.fault].with_params(step.params)


def _check_drill(step: StepSpec, scenario: Scenario) -> None:
    if step.for_s is not None:
        raise ValueError("a drill ends by itself; leave for_s out.")
    if step.at_s is not None and step.at_s >= scenario.traffic.for_s:
        raise ValueError(f"it begins at {step.at_s:g} s, but traffic ends at {scenario.traffic.for_s:g} s.")


def _condition(text: str | None) -> Condition | None:
    try:
        return parse_condition(text) if text is not None else None
    except ValueError as error:
        raise ValueError(f"when: {error}") from error


def _line_of(text: str, name: str) -> int | None:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((int(key.start_mark.line) + 1 for key, _ in pairs if key.value == name), None)


def _line_of_step(text: str, index: int) -> int | None:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value == "steps" and isinstance(value, yaml.SequenceNode) and index < len(value.value):
            return int(value.value[index].start_mark.line) + 1
    return None
