"""The report's content, before it is laid out: what the HTML page and the Markdown file both say.

Values are plain text and not escaped; whoever lays them out escapes.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loadtests.records.rundir import RunDir, RunInfo
from reports.capacity_page import NESTED, nested_facts
from reports.frame import letter
from reports.reproduce import reproduce_line
from reports.screen import ScreenLine, screen_line
from reports.story import Fault, Moment, Story
from reports.verdict import Check, Verdict, VerdictDoc
from reports.wording import Fact, Grid, duration, elapsed, facts_of, grid_of, instant, label_of, number, value_of

_SEVERITY = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


@dataclass(frozen=True)
class Question:
    """One section: a question, its verdict, the numbers and the checks that answer it."""

    key: str
    title: str
    question: str
    verdict: Verdict | None
    facts: tuple[Fact, ...]
    grids: tuple[Grid, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Anomaly:
    """One range of events that a check objects to, or reports.

    Attributes:
        at_s: When it happened, on the run's time axis: the commit of the file that holds the events, else their
            acknowledgement; None where neither is known.
        window: From when to when the fault was in place that it is ascribed to; `letter` is that fault's in the timeline.
    """

    check: str
    verdict: Verdict
    events: str
    where: str
    cause: str
    during: str
    example: str
    details: tuple[Fact, ...]
    at_s: float | None = None
    window: tuple[float, float] | None = None
    letter: str = ""

    @property
    def told(self) -> str:
        """Say in a line what it is."""
        return f"{self.check}: {self.events or self.example}" + (f", {self.during}" if self.during else "")


@dataclass(frozen=True)
class FaultRow:
    """One fault as the list below the timeline shows it."""

    letter: str
    name: str
    state: str
    planned: str
    effective: str
    affected: str
    params: str
    reason: str
    proven: bool
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Page:
    """Everything there is to lay out."""

    doc: VerdictDoc
    headline: str
    summary: str
    screen: tuple[ScreenLine, ...]
    questions: tuple[Question, ...]
    anomalies: tuple[Anomaly, ...]
    faults: tuple[FaultRow, ...]
    moments: tuple[Fact, ...]
    totals: tuple[Fact, ...]
    identity: tuple[Fact, ...]
    not_tested: tuple[str, ...]
    stopped: str | None


_QUESTIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "capacity",
        "Buffer capacity",
        "How much load and how long an outage does this buffer configuration hold?",
        ("capacity.", "threshold."),
    ),
    (
        "flush",
        "Flush success",
        "Which flushes failed, why, and how long until the pipeline had caught up?",
        ("flush.", "run.flushed", "metrics."),
    ),
    (
        "recovery",
        "Recovery correctness",
        "Is every acknowledged event in the table exactly once, unaltered, after the dust settled?",
        ("events.",),
    ),
    ("alerts", "Alerts", "Who would have been told, and how long before clients were refused?", ("alerts.",)),
    ("trust", "Trust", "Why should this verdict be believed?", ("",)),
)
"""Key, title, question, and the beginnings of the ids of the checks that belong there; the last takes what is left."""


def page_of(run: RunDir, doc: VerdictDoc, story: Story) -> Page:
    """Put the report together."""
    lines = doc.first_screen or [f"{doc.verdict}  {doc.scenario} on {doc.target}"]
    return Page(
        doc=doc,
        headline=_without_verdict(lines[0], doc.verdict),
        summary=lines[1] if len(lines) > 1 else "",
        screen=tuple(screen_line(line) for line in lines[2:]),
        questions=tuple(_questions(doc)),
        anomalies=tuple(_anomalies(doc, story)),
        faults=tuple(_fault_row(i, fault) for i, fault in enumerate(story.faults)),
        moments=tuple(Fact(elapsed(m.t_s), m.text) for m in _worth_reading(story)),
        totals=tuple(Fact(name.replace("_", " "), f"{n:,}") for name, n in _totals(doc)),
        identity=tuple(_identity(run.info, doc)),
        not_tested=tuple(str(item) for item in doc.sections.get("trust", {}).get("not_tested", ())),
        stopped=run.info.stopped,
    )


def _without_verdict(line: str, verdict: Verdict) -> str:
    return line.removeprefix(verdict).strip()


def _totals(doc: VerdictDoc) -> Iterator[tuple[str, int]]:
    for name in doc.totals.__struct_fields__:
        yield name, getattr(doc.totals, name)


def _worth_reading(story: Story) -> list[Moment]:
    return [moment for moment in story.moments if moment.text]


# Sections


def _questions(doc: VerdictDoc) -> Iterator[Question]:
    left = list(doc.checks)
    for key, title, question, beginnings in _QUESTIONS:
        mine = [check for check in left if check.id.startswith(beginnings)]
        left = [check for check in left if check not in mine]
        facts, grids = (_alerts if key == "alerts" else _section)(doc.sections.get(key, {}))
        mine.sort(key=lambda check: _SEVERITY[check.verdict])
        verdict = mine[0].verdict if mine else None
        yield Question(key, title, question, verdict, tuple(facts), tuple(grids), tuple(mine))


_SHOWN_ELSEWHERE = {"longest", "not_tested", "groups", "faults", *NESTED}


def _section(section: Mapping[str, Any]) -> tuple[list[Fact], list[Grid]]:
    """Return the numbers of a section; the timeline shows its faults, so here are only those with a problem."""
    facts, grids = facts_of({k: v for k, v in section.items() if k not in _SHOWN_ELSEWHERE})
    own_facts, own_grids = nested_facts(section)
    facts, grids = [*facts, *own_facts], [*grids, *own_grids]
    rows = [{"set": name, **row} for name, found in section.get("groups", {}).items() for row in found]
    troubled = [fault for fault in section.get("faults", ()) if fault.get("problem")]
    for title, lines in (("Anomalies by cause", rows), ("Faults that prove nothing", troubled)):
        grids += [grid_of(title, lines)] if lines else []
    return facts, grids


def _alerts(section: Mapping[str, Any]) -> tuple[list[Fact], list[Grid]]:
    """Return the findings, and one row a rule; places on the time axis, blank where nothing happened."""
    if not section:
        return [], []
    overflow = section["first_overflow_at_s"]
    facts = [Fact("First refusal by a full buffer", "none" if overflow is None else elapsed(overflow))]
    facts += [Fact("Finding", text) for text in section["findings"]]
    rows = [_alert_row(rule) for rule in section["rules"]]
    return facts, [grid_of("Alert rules", rows)] if rows else []


def _alert_row(rule: Mapping[str, Any]) -> dict[str, str]:
    lead, limit = rule["lead_s"], rule["in_time_below_events_per_s"]
    return {
        "alert": rule["alert"],
        "severity": rule["severity"],
        "crossed": _place(rule["crossed_at_s"]),
        "fired": rule["problem"] or _place(rule["fired_at_s"]),
        "cleared": "not yet" if rule["open"] else _place(rule["cleared_at_s"]),
        "fired in truth": _place(rule["fired_in_truth_at_s"]) if rule["in_truth"] else "not applicable",
        "lead before the first refusal": "" if lead is None else f"{lead:+.1f} s",
        "in time below": "" if limit is None else f"{number(limit)} events/s a buffer",
    }


def _place(at_s: float | None) -> str:
    return "" if at_s is None else elapsed(max(at_s, 0.0))


# Anomalies

_IN_COLUMNS = ("id", "source", "first", "last", "events", "where", "stage", "cause", "during", "fault_relation")


def _anomalies(doc: VerdictDoc, story: Story) -> Iterator[Anomaly]:
    for check in sorted(doc.checks, key=lambda check: _SEVERITY[check.verdict]):
        for example in check.examples:
            yield _anomaly(check, example, story)


def _anomaly(check: Check, example: Mapping[str, Any], story: Story) -> Anomaly:
    details = [
        Fact(fact.label, fact.value)
        for fact in facts_of({k: v for k, v in example.items() if k not in _IN_COLUMNS and v is not None})[0]
    ]
    at_s = _instant(example, story)
    named = _nearest_fault(str(example.get("during") or ""), at_s, story)
    window = None if named is None else story.faults[named].effective
    if window is not None:
        details.append(Fact("Fault window", _window(window)))
    return Anomaly(
        check=check.id,
        verdict=check.verdict,
        events=_range(example),
        where=str(example.get("where") or example.get("stage") or ""),
        cause=str(example.get("cause") or ""),
        during=" ".join(str(example[name]) for name in ("fault_relation", "during") if example.get(name)),
        example=str(example.get("id") or ""),
        details=tuple(details),
        at_s=at_s,
        window=window,
        letter="" if named is None else letter(named),
    )


def _instant(example: Mapping[str, Any], story: Story) -> float | None:
    """When a range of events happened, in seconds of the run; None where no time is known, or it lies outside the run."""
    zero_s = story.clock.zero_unix_ns / 1e9
    for name, per_second in (("committed_unix_ms", 1e3), ("acked_unix_ns", 1e9)):
        stamp = example.get(name)
        if isinstance(stamp, int | float) and 0 <= (at_s := stamp / per_second - zero_s) <= story.clock.end_s:
            return at_s
    return None


def _nearest_fault(name: str, at_s: float | None, story: Story) -> int | None:
    """Return which of the faults called *name* was in place at *at_s*, or nearest to it."""
    gaps = {
        index: 0.0 if at_s is None else max(fault.effective[0] - at_s, at_s - fault.effective[1], 0.0)
        for index, fault in enumerate(story.faults)
        if fault.name == name and fault.effective is not None
    }
    return min(gaps, key=lambda index: (gaps[index], -index), default=None)


def _range(example: Mapping[str, Any]) -> str:
    source, first, last = (example.get(name) for name in ("source", "first", "last"))
    if first is None:
        return str(source or "")
    span = f"{first}" if first == last or last is None else f"{first} to {last}"
    events = example.get("events")
    count = f" ({number(events)} events)" if isinstance(events, int) and events != 1 else ""
    return f"{source} {span}{count}" if source else f"{span}{count}"


# Faults


def _fault_row(index: int, fault: Fault) -> FaultRow:
    affected = (
        "not counted" if fault.affected is None else f"{fault.affected:,} request{'s' if fault.affected != 1 else ''}"
    )
    if fault.escaped:
        affected += f", {fault.escaped:,} escaped"
    if fault.measured:
        affected += f"; {value_of('', fault.measured)}"
    return FaultRow(
        letter=letter(index),
        name=fault.name,
        state=fault.state,
        planned=_window(fault.planned)
        or (f"after the {fault.trigger}" if fault.trigger else fault.asked or "not recorded"),
        effective=_window(fault.effective) or "never",
        affected=affected,
        params=value_of("", fault.params) if fault.params else "",
        reason=fault.reason or "",
        proven=fault.effective is not None and fault.state not in ("void", "failed"),
        window=fault.effective or fault.planned,
    )


def _window(window: tuple[float, float] | None) -> str:
    if window is None:
        return ""
    start, end = window
    return f"{elapsed(start)} to {elapsed(end)} ({duration(end - start)})" if end > start else f"at {elapsed(start)}"


# Identity


def _identity(info: RunInfo, doc: VerdictDoc) -> Iterator[Fact]:
    yield Fact("Run", doc.run_id)
    yield Fact("Scenario", doc.scenario)
    yield Fact("Target", doc.target)
    yield Fact("Stack", info.stack or "none")
    yield Fact("Seed", str(doc.seed))
    yield Fact("Started", instant(doc.started_unix_ns))
    yield Fact("Lasted", duration(doc.duration_s))
    yield Fact("Exit code", str(doc.exit_code))
    yield Fact("Command", shlex.join(info.argv) if info.argv else "not recorded", code=bool(info.argv))
    yield Fact("Reproduce", reproduce_line(info), code=True)
    if info.versions:
        yield Fact("Versions", ", ".join(f"{name} {version}" for name, version in sorted(info.versions.items())))
    for name, value in info.environment.items():
        yield Fact(label_of(name), value_of(name, value))
