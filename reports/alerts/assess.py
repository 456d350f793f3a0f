"""How a run's alerts did: what each fired on the target's own metrics and on the truth, and how long before the first refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chaos.alerting.engine import Episode, evaluate
from chaos.alerting.rules import Group, Rule
from chaos.alerting.samples import Samples
from chaos.alerting.words import TRUTH, figures_of, metrics_of, table_for
from reports.alerts.recorded import recorded_samples
from reports.alerts.truth import truth_samples
from reports.inflow import busiest_inflow, capacity_of
from reports.runrecords import RunRecords
from reports.wording import number

SCRAPE_S = 1.0
"""How often a run scrapes its target."""

META = "CollectorAbsent"
"""Speaks of the metrics themselves, so it has no truth to be held against."""

TRUTH_AT_LEAST = frozenset({"FlushFailing"})
"""In truth failed commits are counted by their answers; those that never reached the catalog's door failed too, and are not among
them. So the truth may be silent where the target is right."""

FULL = 0.9
NEAR_S = 2.0
"""A refusal is one of a full buffer when some buffer was nine tenths full within this many seconds of it."""

_THRESHOLD = re.compile(r"max\(\s*(?P<metric>[a-zA-Z_:][\w:]*)\s*\)\s*>=?\s*(?P<share>0?\.\d+)\s*")
"""A rule on a share of the fullest buffer, and nothing else."""


@dataclass(frozen=True)
class Fired:
    """What one rule did on one source, over all its instances; seconds since 1970, None where it did not happen.

    Attributes:
        fired: How many instances fired.
        open_: Whether one still fired, or was pending, when the run ended.
    """

    crossed_s: float | None = None
    fired_s: float | None = None
    cleared_s: float | None = None
    fired: int = 0
    open_: bool = False


@dataclass(frozen=True)
class RuleReport:
    """One rule over one run.

    Attributes:
        own, truth: On the target's metrics; on what icequake knows (None: the rule cannot be written for it).
        lead_s: Seconds from firing (on the target's metrics) to the first refusal; negative: it came too late; None: no refusal, or
            never fired.
        problem: Why it was not evaluated.
        in_time_below_events_per_s: The inflow of one buffer up to which the rule can fire before the buffer is full; None for
            rules that do not watch a share of it.
    """

    rule: Rule
    own: Fired
    truth: Fired | None
    lead_s: float | None
    problem: str | None
    in_time_below_events_per_s: float | None


@dataclass(frozen=True)
class Assessment:
    """All rules over one run.

    Attributes:
        lacking: Alerts of the table for which the target file names no metric, and the word that is missing.
        findings: What somebody should change, one sentence each.
    """

    rules: list[RuleReport]
    lacking: dict[str, str]
    first_overflow_s: float | None
    findings: list[str]


def assess(records: RunRecords, groups: Sequence[Group] | None = None, truth: Samples | None = None) -> Assessment:
    """Evaluate the table of alerts, or a user's own *groups* (on the target's metrics only), over a run.

    *truth* is what `truth_samples` returns for the run, when the caller has it.

    Raises:
        AlertRuleError: an expression matches many series to many.
    """
    own_table = table_for(metrics_of(records.target) | figures_of(records.target))
    own_groups = own_table.groups if groups is None else tuple(groups)
    samples = recorded_samples(records)
    own = _fired(own_groups, samples, records)
    true_samples = truth_samples(records) if truth is None else truth
    in_truth: dict[str, Fired] = {}
    writable: set[str] = set()
    if groups is None:
        true_table = table_for({**TRUTH, **figures_of(records.target)})
        in_truth = _fired(true_table.groups, true_samples, records)
        writable = {rule.name for group in true_table.groups for rule in group.rules} - {META}
    refusal_s = overflow_instant(records, true_samples)
    capacity = capacity_of(records)
    rules = [
        _report(rule, group.interval_s, own, in_truth, writable, refusal_s, capacity)
        for group in own_groups
        for rule in group.rules
        if not rule.record
    ]
    lacking = own_table.lacking if groups is None else {}
    findings = [*_findings(rules, lacking, refusal_s, records), *_unpublished(own_groups, samples.names())]
    return Assessment(rules, lacking, refusal_s, findings)


def _fired(groups: Sequence[Group], samples: Samples, records: RunRecords) -> dict[str, Fired]:
    start_s, end_s = watched_span(records)
    by_rule: dict[str, list[Episode]] = {}
    for episode in evaluate(groups, samples, start_s, end_s):
        by_rule.setdefault(episode.rule.name, []).append(episode)
    return {name: _together(found) for name, found in by_rule.items()}


def watched_span(records: RunRecords) -> tuple[float, float]:
    """Return when alerts are evaluated, in seconds since 1970: from the first to the last scrape that was answered: nobody watches what was not started yet, or was stopped on purpose."""
    times, up = records.sample("target_up")
    answered = times[up > 0]
    if not len(answered):
        start_ns = records.window.baseline_start_ns or records.info.started_mono_ns
        return records.unix_ns(start_ns) / 1e9, records.unix_ns(records.end_ns) / 1e9
    return records.unix_ns(int(answered[0])) / 1e9, records.unix_ns(int(answered[-1])) / 1e9


def _together(episodes: Sequence[Episode]) -> Fired:
    fired = [e for e in episodes if e.fired_s is not None]
    cleared = [e.cleared_s for e in fired or episodes if e.cleared_s is not None]
    return Fired(
        crossed_s=min(e.crossed_s for e in episodes),
        fired_s=min((e.fired_s for e in fired if e.fired_s is not None), default=None),
        cleared_s=max(cleared, default=None),
        fired=len(fired),
        open_=any(e.cleared_s is None for e in episodes),
    )


def overflow_instant(records: RunRecords, truth: Samples) -> float | None:
    """Return when the target first refused because a buffer was full: by its own gauge or in truth, at least `FULL` around then."""
    times, fill = records.sample("fill_ratio")
    full = [records.unix_ns(int(t)) / 1e9 for t, value in zip(times, fill, strict=True) if value >= FULL]
    for series in truth.named(TRUTH["fill"]):
        full += [t for t, value in zip(series.t_s, series.values, strict=True) if value >= FULL]
    if not full:
        return None
    instants = np.sort(np.array(full))
    refused = np.sort(np.array([records.unix_ns(int(t)) / 1e9 for t in records.history.refused_ns]))
    nearest = np.searchsorted(instants, refused - NEAR_S)
    near = (nearest < len(instants)) & (instants[np.minimum(nearest, len(instants) - 1)] <= refused + NEAR_S)
    return float(refused[near][0]) if near.any() else None


def _report(
    rule: Rule,
    interval_s: float,
    own: dict[str, Fired],
    truth: dict[str, Fired],
    writable: set[str],
    refusal_s: float | None,
    capacity: int | None,
) -> RuleReport:
    mine = own.get(rule.name, Fired())
    true = truth.get(rule.name, Fired()) if rule.name in writable else None
    lead_s = None if refusal_s is None or mine.fired_s is None else round(refusal_s - mine.fired_s, 3)
    limit = in_time_below(rule, interval_s, capacity)
    return RuleReport(rule, mine, true, lead_s, rule.problem, limit)


def in_time_below(rule: Rule, interval_s: float, capacity: int | None) -> float | None:
    """Return the events per second into one buffer up to which *rule* fires before the buffer is full.

    From the threshold to full there is `capacity * (1 - share)`; firing takes `for`, an evaluation and a scrape.
    """
    match = _THRESHOLD.fullmatch(rule.text.strip())
    if match is None or capacity is None:
        return None
    return round(capacity * (1 - float(match["share"])) / (rule.for_s + interval_s + SCRAPE_S), 2)


def _findings(
    rules: Sequence[RuleReport], lacking: dict[str, str], refusal_s: float | None, records: RunRecords
) -> Iterator[str]:
    inflow = busiest_inflow(records)
    for one in rules:
        yield from _findings_on(one, refusal_s, inflow)
    told = [r for r in rules if r.rule.severity == "page" and r.own.fired_s is not None and (r.lead_s or 0) > 0]
    if refusal_s is not None and not told:
        yield "Nobody would have been paged before the first refusal."
    for name, word in sorted(lacking.items()):
        yield f"{name} cannot be written for {records.target.name}: its target file names no metrics.{word}."


def _unpublished(groups: Sequence[Group], published: set[str]) -> Iterator[str]:
    """Name the alerts on metrics that the target never had while it answered; one on their absence is meant to be."""
    if not published - {"up"}:
        return
    recorded = {rule.name for group in groups for rule in group.rules if rule.record}
    for rule in (rule for group in groups for rule in group.rules if not rule.record and "absent(" not in rule.text):
        unknown = sorted(rule.expression.metrics() - published - recorded) if rule.expression is not None else []
        if unknown:
            yield f"{rule.name} can never fire: the target published no {' and no '.join(unknown)} during this run."


def _findings_on(one: RuleReport, refusal_s: float | None, inflow: float | None) -> Iterator[str]:
    name, limit = one.rule.name, one.in_time_below_events_per_s
    if one.problem is not None:
        yield f"{name} was not evaluated: {one.problem}."
    late = one.own.fired_s is None or (one.lead_s or 0) <= 0
    if refusal_s is not None and limit is not None and late:
        yield f"{name} {_when(one)}: it fires in time only below {limit:g} events/s into one buffer."
    elif limit is not None and inflow is not None and inflow > limit:
        yield (
            f"{name} cannot fire in time at this load: the busiest buffer takes {number(inflow)} events/s, and the rule fires "
            f"before it is full only below {limit:g}."
        )
    if one.truth is not None and one.own.fired_s is None and one.truth.fired_s is not None:
        yield f"{name} would have fired on the truth but did not on the target's metrics."
    surplus = one.truth is not None and one.own.fired_s is not None and one.truth.fired_s is None
    if surplus and name not in TRUTH_AT_LEAST:
        yield f"{name} fired on the target's metrics but would not have on the truth."


def _when(one: RuleReport) -> str:
    if one.own.fired_s is None:
        return "did not fire before the first refusal" if one.own.crossed_s else "never crossed its threshold"
    return f"fired {-(one.lead_s or 0):.0f} s after the first refusal"


def section(assessment: Assessment, zero_s: float) -> dict[str, Any]:
    """Return an assessment as plain JSON, for the verdict's sections; times are seconds after *zero_s* (since 1970)."""
    return {
        "first_overflow_at_s": _after(assessment.first_overflow_s, zero_s),
        "findings": assessment.findings,
        "lacking": assessment.lacking,
        "rules": [_rule(one, zero_s) for one in assessment.rules],
    }


def _rule(one: RuleReport, zero_s: float) -> dict[str, Any]:
    return {
        "alert": one.rule.name,
        "severity": one.rule.severity,
        "expr": one.rule.text,
        "for_s": one.rule.for_s,
        "crossed_at_s": _after(one.own.crossed_s, zero_s),
        "fired_at_s": _after(one.own.fired_s, zero_s),
        "cleared_at_s": _after(one.own.cleared_s, zero_s),
        "open": one.own.open_,
        "in_truth": one.truth is not None,
        "fired_in_truth_at_s": None if one.truth is None else _after(one.truth.fired_s, zero_s),
        "lead_s": one.lead_s,
        "in_time_below_events_per_s": one.in_time_below_events_per_s,
        "problem": one.problem,
    }


def _after(value: float | None, zero_s: float) -> float | None:
    return None if value is None else round(value - zero_s, 3)
