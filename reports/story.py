"""What happened in a run, in the order of its timeline: phases, fault windows, commits and single moments, beside the curves.

This is everything the report draws; `read_story` is a pure function of the run directory.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import yaml

from loadtests.records.errors import MissingRecord
from loadtests.records.jsonl import read_jsonl
from loadtests.records.ledger import Ledger, read_ledgers
from loadtests.records.rundir import RunDir
from loadtests.records.timeline import read_timeline
from reports.curves import NOTHING, Clock, Curve, field_of, latencies, measured, partition_fills, rates
from reports.errors import NothingObserved
from reports.observed import read_index
from reports.windows import NO_FAULTS, steps_of

T = TypeVar("T")
Entry = dict[str, Any]


_DEFAULT_FOR_S = 10.0
"""How long a step of a scenario lasts that does not say."""


class Landing(enum.StrEnum):
    """What the sender of a commit could conclude from the answer it got."""

    COMMITTED = "committed"
    FAILED = "failed"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Commit:
    """One commit request at the catalog, at the second it arrived; `ms` is how long the answer took."""

    t_s: float
    landing: Landing
    ms: float


@dataclass(frozen=True)
class Span:
    """A named stretch of seconds."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Fault:
    """One step of the scenario: what was planned and what took effect.

    Attributes:
        planned: The window the scenario asked for; None when a trigger decided it.
        trigger: What it was to wait for; None when the clock decided.
        asked: Who asked for what the scenario does not have: `by hand` or `by a drill`; None where it does.
        effective: The window in which the fault was in place; None when it never was.
        state: armed, injected, healed, void or failed.
        affected: Target requests that met it; None where that cannot be counted.
        escaped: Requests that should have met it and did not; None where that cannot be counted.
        measured: What the mechanism measured of its effect, if anything.
        params: What was set for it.
        reason: Why it is void or failed.
    """

    name: str
    state: str
    planned: tuple[float, float] | None = None
    trigger: str | None = None
    asked: str | None = None
    effective: tuple[float, float] | None = None
    affected: int | None = None
    escaped: int | None = None
    measured: Any = None
    params: Mapping[str, Any] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Moment:
    """Something that has no length: a process killed, an alert, a word of the operator."""

    t_s: float
    text: str


@dataclass(frozen=True)
class Action:
    """What an operator did at an instant, or a drill from when it began; `end_s` is None for what has no length."""

    kind: str
    text: str
    start_s: float
    end_s: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of the table that the final read found, at the second its committer's clock gave it."""

    t_s: float
    id: int
    operation: str


@dataclass(frozen=True)
class Story:
    """Everything the report draws; a stream that was not recorded is empty.

    Attributes:
        partitions: The fill of the fullest partitions by their labels; `partitions_seen` is how many there were.
    """

    clock: Clock
    phases: tuple[Span, ...]
    faults: tuple[Fault, ...]
    moments: tuple[Moment, ...]
    commits: tuple[Commit, ...]
    curves: Mapping[str, Curve]
    actions: tuple[Action, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    partitions: Mapping[str, Curve] = field(default_factory=dict)
    partitions_seen: int = 0

    def curve(self, name: str) -> Curve:
        """Return the curve called *name*; an empty one when it was not recorded."""
        return self.curves.get(name, NOTHING)


def read_story(run: RunDir) -> Story:
    """Read the streams of *run*; one that is missing is empty.

    Raises:
        CorruptRecord, NewerVersion: a stream is there but cannot be read.
    """
    timeline = _optional(lambda: list(read_timeline(run.timeline)))
    visible = _optional(lambda: list(read_jsonl(run.visible, "visible")))
    ledgers = read_ledgers(run.ledger)
    clock = _clock(run, [timeline, visible], ledgers)
    partitions, partitions_seen = partition_fills(run.series, clock)
    return Story(
        clock=clock,
        phases=tuple(_phases(timeline, clock)),
        faults=tuple(_faults(timeline, run.scenario, clock)),
        moments=tuple(_moments(timeline, clock)),
        commits=tuple(_commits(run.gateway_log, clock)),
        curves=_curves(run, visible, ledgers, clock),
        actions=tuple(sorted(_actions(timeline, clock), key=lambda action: action.start_s)),
        snapshots=tuple(_snapshots(run, clock)),
        partitions=partitions,
        partitions_seen=partitions_seen,
    )


def _optional(read: Callable[[], list[T]]) -> list[T]:
    try:
        return read()
    except MissingRecord:
        return []


def _clock(run: RunDir, streams: list[list[Entry]], ledgers: list[Ledger]) -> Clock:
    info, window = run.info, run.info.window
    stamps = [entry["t_ns"] for stream in streams for entry in stream]
    for ledger in ledgers:
        for name in ("sent_ns", "done_ns"):
            used = ledger.records[name][ledger.records[name] > 0]
            stamps += [int(used.min()), int(used.max())] if len(used) else []
    zero = info.started_mono_ns or min(stamps, default=0)
    ends = [t for t in (info.ended_mono_ns, window.settle_end_ns) if t is not None]
    return Clock(zero, info.started_unix_ns, max([*ends, *stamps, zero + 1]))


def _phases(timeline: list[Entry], clock: Clock) -> Iterator[Span]:
    begun = [e for e in timeline if e.get("event") == "phase"]
    for entry, after in zip_longest(begun, begun[1:]):
        end = clock.seconds(after["t_ns"]) if after else clock.end_s
        yield Span(str(entry.get("phase", "?")), clock.seconds(entry["t_ns"]), end)


def _faults(timeline: list[Entry], scenario: Path, clock: Clock) -> Iterator[Fault]:
    inject = next((e["t_ns"] for e in timeline if e.get("event") == "phase" and e.get("phase") == "inject"), None)
    plans = _plans(scenario)
    by_hand = {e.get("step") for e in timeline if e.get("event") == "operator" and e.get("action") == "inject"}
    for step in steps_of(timeline):
        if step.fault in NO_FAULTS:
            continue
        said: Entry = {}
        for entry in timeline:
            if entry.get("event") == "step" and entry.get("step") == step.index:
                said |= entry
        effective = None
        if step.start_ns is not None:
            end_s = clock.end_s if step.end_ns is None else clock.seconds(step.end_ns)
            effective = (clock.seconds(step.start_ns), end_s)
        planned = plans is None or step.index < len(plans)
        plan = plans[step.index] if plans is not None and step.index < len(plans) else {}
        asked = None if planned else "by hand" if step.index in by_hand else "by a drill"
        params = plan.get("with") if planned else said.get("params")
        yield Fault(
            name=step.fault,
            state=step.state,
            planned=_planned(plan, inject, clock),
            trigger=str(plan["after"]) if plan.get("after") else None,
            effective=effective,
            affected=step.affected,
            escaped=_whole(said.get("requests_escaped")),
            measured=said.get("measured"),
            asked=asked,
            params=params if isinstance(params, dict) else None,
            reason=step.reason,
        )


def _plans(scenario: Path) -> list[Entry] | None:
    """Return the steps as the scenario has them; None when it cannot be read, since a report must not fail for it."""
    try:
        plain = yaml.safe_load(scenario.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    steps = plain.get("steps", []) if isinstance(plain, dict) else None
    return [step if isinstance(step, dict) else {} for step in steps] if isinstance(steps, list) else None


def _planned(plan: Entry, inject_ns: int | None, clock: Clock) -> tuple[float, float] | None:
    """Return the window a step asked for: `at_s` counts from the start of injection, `for_s` from there."""
    at_s, for_s = plan.get("at_s"), plan.get("for_s") or _DEFAULT_FOR_S
    if inject_ns is None or not isinstance(at_s, int | float) or not isinstance(for_s, int | float):
        return None
    start = clock.seconds(inject_ns) + at_s
    return (start, start + for_s)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _drill_told(entry: Entry) -> str:
    told = f"drill {entry.get('drill', '?')}"
    if entry.get("state") == "checked":
        return f"{told}: {entry.get('check', '?')} {'ok' if entry.get('ok') else 'NOT ok'}, {entry.get('detail') or ''}"
    if entry.get("state") == "reached":
        return f"{told}: {entry.get('milestone', '?')}; {entry.get('detail') or ''}"
    return f"{told} {entry.get('state', '?')} {entry.get('reason') or ''}".strip()


_TOLD: dict[str, Callable[[Entry], str]] = {
    "process": lambda e: f"{e.get('name', '?')} {e.get('state', '?')}",
    "operator": lambda e: f"operator: {_operator_told(e)}",
    "drill": _drill_told,
    "alert": lambda e: f"alert: {e.get('name', '?')} {e.get('state') or ''}".strip(),
    "probe": lambda e: (
        f"probe {e.get('name', '?')}: {'ok' if e.get('ok') else 'NOT ok'} {e.get('detail') or ''}".strip()
    ),
    "settled": lambda e: f"settled: {e.get('reason', '?')}",
    "note": lambda e: str(e.get("text", "")),
}


def _moments(timeline: list[Entry], clock: Clock) -> Iterator[Moment]:
    for entry in timeline:
        tell = _TOLD.get(str(entry.get("event")))
        if tell is not None:
            yield Moment(clock.seconds(entry["t_ns"]), tell(entry))


def _actions(timeline: list[Entry], clock: Clock) -> Iterator[Action]:
    began: dict[Any, Entry] = {}
    for entry in timeline:
        at_s = clock.seconds(entry["t_ns"])
        if entry.get("event") == "operator":
            yield Action("operator", _operator_told(entry), at_s)
        elif entry.get("event") == "drill" and entry.get("state") == "begun":
            began[entry.get("step")] = entry
        elif entry.get("event") == "drill" and entry.get("state") in _DRILL_ENDS and entry.get("step") in began:
            first = began.pop(entry.get("step"))
            yield Action("drill", f"{entry.get('drill', '?')}: {entry['state']}", clock.seconds(first["t_ns"]), at_s)
    for entry in began.values():
        yield Action("drill", f"{entry.get('drill', '?')}: never ended", clock.seconds(entry["t_ns"]), clock.end_s)


_DRILL_ENDS = ("done", "failed", "stopped", "void")


def _operator_told(entry: Entry) -> str:
    what = entry.get("fault") or entry.get("drill") or entry.get("text") or ""
    return f"{entry.get('action', '?')} {what}".strip()


def _commits(path: Path, clock: Clock) -> Iterator[Commit]:
    for entry in _optional(lambda: list(_commit_lines(path))):
        yield Commit(clock.seconds(entry["t_ns"]), landing_of(entry), float(entry.get("ms") or 0.0))


def _snapshots(run: RunDir, clock: Clock) -> Iterator[Snapshot]:
    try:
        found = read_index(run.observed).snapshots
    except NothingObserved:
        return
    for snapshot in found:
        t_s = snapshot.unix_ms / 1e3 - clock.zero_unix_ns / 1e9
        if 0 <= t_s <= clock.end_s:
            yield Snapshot(t_s, snapshot.id, snapshot.operation)


def _commit_lines(path: Path) -> Iterable[Entry]:
    for entry in read_jsonl(path, "gateway"):
        plain = "begin" not in entry and "released" not in entry
        if plain and entry.get("object") == "commit" and entry.get("verb") == "POST":
            yield entry


def landing_of(entry: Mapping[str, Any]) -> Landing:
    """Say what the sender of a commit could conclude from its gateway line.

    Committed or failed needs that very answer, from the catalog or (4xx only) from a gateway that never asked the catalog.
    """
    status, outcome = entry.get("status") or 0, entry.get("outcome")
    if outcome == "passed" and 200 <= status < 300:
        return Landing.COMMITTED
    return Landing.FAILED if outcome in ("passed", "refused") and 400 <= status < 500 else Landing.UNDECIDED


_MEASURED = ("fill_ratio", "freshness_s", "table_rows", "buffer_events")


def _curves(run: RunDir, visible: list[Entry], ledgers: list[Ledger], clock: Clock) -> dict[str, Curve]:
    curves = {**rates(ledgers, clock), **latencies(run.hist, clock), **measured(run.series, _MEASURED, clock)}
    for name, column in (("freshness_s", "freshness_s"), ("visible", "visible"), ("acked_total", "acked")):
        seen = field_of(visible, column, clock)
        if name not in curves or curves[name].empty:
            curves[name] = seen
    if curves["visible"].empty:
        curves["visible"] = curves["table_rows"]
    return curves
