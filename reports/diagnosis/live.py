"""The runbook's root-cause page for a live target: its metrics while it is watched, requests of one's own, and what is usual.

What is usual is the target's own past, as far as its counters have it, and a run against it (`--usual`): its rate and its mix of
event types. What neither tells is judged absolutely, or is unknown.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loadtests.records.target import Target
from loadtests.records.target_config import TargetConfig
from reports.diagnosis.answer import (
    BUFFER,
    CATALOG,
    NETWORK,
    R2,
    SCORE_FULL,
    SPIKE,
    STILL,
    TYPES,
    Answer,
    Said,
    buffer_answer,
    ordered,
    slowness,
    weighed,
)
from reports.diagnosis.probes import Probe, Probes
from reports.diagnosis.watched import Watched
from reports.inflow import capacity_in_force
from reports.sections.volume import DEVIATIONS, GROWTH_MIN
from reports.wording import number

ALMOST_FULL = 0.9
"""The runbook's line."""
STAGES = "collector_flush_stage_seconds_total"
FLUSHES = "collector_flush_duration_seconds_count"
TYPE_FILL = "collector_partition_fill_ratio"
"""The reference collector's own metrics; of a target that has none of that name the question is answered without."""

SLOW_PROBE_MS = 1000.0
SINGLE_OF_MANY, SINGLE_OF_TWO = 0.7, 0.5


@dataclass(frozen=True)
class Usual:
    """What a run says of usual traffic: events a second, and the share of each type."""

    events_per_s: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Live:
    """A target that was watched.

    Attributes:
        usual: None when no run was given.
        config: None when its admin listener was not asked, or did not say.
        notes: Why something was not asked, one sentence each.
    """

    target: Target
    watched: Watched
    probes: Probes = field(default_factory=Probes)
    usual: Usual | None = None
    config: TargetConfig | None = None
    notes: list[str] = field(default_factory=list)

    def rate(self) -> float | None:
        """Events accepted a second while watched; None when the target does not say."""
        metrics, seconds = self.target.metrics, self.watched.seconds
        if metrics is None or metrics.accepted is None or not seconds:
            return None
        return sum(self.watched.growth(metrics.accepted).values()) / seconds

    def rates_by_type(self) -> dict[str, float]:
        """Events a second by type, from the rise of each buffer's fill; empty when the target does not say, or nothing rose."""
        capacity = capacity_in_force(self.config) or self.target.contract.capacity_events
        seconds = self.watched.seconds
        if capacity is None or not seconds:
            return {}
        rates = {kind: rise * capacity / seconds for kind, rise in self.watched.rise(TYPE_FILL, "type").items() if kind}
        return rates if any(rates.values()) else {}


def diagnose_live(live: Live) -> list[Answer]:
    """Return every answer, the most suspicious first."""
    if not live.watched.answered_s:
        silent = Answer(STILL, True, "no: it answered no scrape", SCORE_FULL, _door_evidence(live.probes.door))
        rest = [Answer(question, None, "the target says nothing") for question in (SPIKE, TYPES, BUFFER, NETWORK)]
        return ordered([silent, *rest, _r2(live), _catalog(live)])
    return ordered(question(live) for question in QUESTIONS)


def _door_evidence(door: Probe | None) -> list[str]:
    return [] if door is None else [_probe_said(door)[1]]


def _spike(live: Live) -> Answer:
    rate = live.rate()
    if rate is None:
        return Answer(SPIKE, None, "the target file names no metrics.accepted")
    if live.usual is None:
        return Answer(SPIKE, None, f"{number(rate)} events/s; give --usual RUN to tell whether that is unusual")
    usual, seconds = live.usual.events_per_s, live.watched.seconds
    limit = usual + max(GROWTH_MIN * usual, DEVIATIONS * math.sqrt(usual * seconds) / seconds)
    text = f"{number(rate)} events/s, usual are {number(usual)}"
    if rate > limit:
        return Answer(
            SPIKE, True, f"yes: {text}", rate / max(usual, 1.0), ["the target's own counter of accepted events"]
        )
    return Answer(SPIKE, False, f"no: {text}")


def _types(live: Live) -> Answer:
    rates = live.rates_by_type()
    if not rates:
        return Answer(
            TYPES, None, "the target does not say how full the buffer of each type is, or none was filling up"
        )
    ranked = sorted(rates, key=lambda kind: -rates[kind])
    if live.usual is None:
        shares = ", ".join(f"{kind} {rates[kind] / sum(rates.values()):.0%}" for kind in ranked[:3])
        return Answer(TYPES, None, f"{shares}; give --usual RUN to tell whether that is unusual")
    usual = {kind: live.usual.events_per_s * live.usual.shares.get(kind, 0.0) for kind in ranked}
    growth = {
        kind: rates[kind] - usual[kind] for kind in ranked if rates[kind] - usual[kind] > GROWTH_MIN * usual[kind]
    }
    if not growth:
        return Answer(TYPES, False, "no type is")
    first, total = max(growth, key=lambda kind: growth[kind]), sum(growth.values())
    rows = [
        f"{kind}: {number(usual[kind])} -> {number(rates[kind])} events/s, {growth[kind] / total:.0%} of the growth"
        for kind in sorted(growth, key=lambda kind: -growth[kind])
    ]
    if growth[first] / total < (SINGLE_OF_MANY if len(growth) > 2 else SINGLE_OF_TWO):
        return Answer(TYPES, False, "no single type", evidence=rows)
    score = rates[first] / max(usual[first], 1.0)
    return Answer(TYPES, True, f"yes: {first} ({growth[first] / total:.0%} of the growth)", score, rows)


def _buffer(live: Live) -> Answer:
    shared = live.target.contract.buffers == "shared"
    inflow = (None if shared else max(live.rates_by_type().values(), default=None)) or live.rate()
    answer = buffer_answer(
        stated=live.target.contract.capacity_events, config=live.config, inflow=inflow, flush_s=_flush_s(live.watched)
    )
    fill = live.watched.last(live.target.metrics.fill) if live.target.metrics is not None else None
    said = [] if fill is None else [f"the fullest buffer is {fill:.0%} full"]
    if fill is not None and fill >= ALMOST_FULL and not answer.suspect:
        text = f"yes: {said[0]}; it is too small for this load, or a flush takes too long"
        # Least of all suspects: whatever keeps flushes from landing fills every buffer.
        return Answer(answer.question, True, text, 1.0, [*answer.evidence, *live.notes])
    return Answer(answer.question, answer.suspect, answer.answer, answer.score, [*answer.evidence, *said, *live.notes])


def _flush_s(watched: Watched) -> float | None:
    """What a flush took before the watch began, by the target's counters; None without one."""
    seconds, flushes = _before(watched)
    return sum(seconds.values()) / flushes if flushes else None


def _before(watched: Watched) -> tuple[dict[str, float], float]:
    first_s = watched.answered_s[0]
    flushes = watched.by_label(FLUSHES, "", first_s).get("", 0.0)
    return watched.by_label(STAGES, "stage", first_s), flushes


def _path(question: str, stages: tuple[str, ...], probe: Callable[[Probes], Probe | None]) -> Callable[[Live], Answer]:
    def ask(live: Live) -> Answer:
        asked = probe(live.probes)
        said = [_stages_said(live.watched, stages), None if asked is None else _probe_said(asked)]
        return weighed(question, said, unknown="no flush ended, and the target file does not say where to ask")

    return ask


def _stages_said(watched: Watched, stages: tuple[str, ...]) -> Said | None:
    """Compare a flush of the watch with those before."""
    if not watched.answered_s:
        return None
    now, flushes = watched.growth(STAGES, "stage"), watched.growth(FLUSHES).get("", 0.0)
    if not now or not flushes:
        return None
    now_ms = sum(now.get(stage, 0.0) for stage in stages) / flushes * 1e3
    before, count = _before(watched)
    what = f"stages {' + '.join(stages)}"
    if not count:
        return 0.0, f"{what}: {number(now_ms)} ms a flush, by the target's own metrics; there was none before"
    usual_ms = sum(before.get(stage, 0.0) for stage in stages) / count * 1e3
    return slowness(
        usual_ms, now_ms
    ), f"{what}: {number(usual_ms)} -> {number(now_ms)} ms a flush, by the target's own metrics"


def _probe_said(probe: Probe) -> Said:
    if probe.error is not None:
        return SCORE_FULL, f"{probe.what} failed: {probe.error}"
    typical = statistics.median(probe.ms)
    score = 3 * typical / SLOW_PROBE_MS if typical >= SLOW_PROBE_MS else 0.0
    return score, f"{probe.what} took {number(typical)} ms"


def _network(live: Live) -> Answer:
    door = live.probes.door
    return weighed(NETWORK, [None if door is None else _probe_said(door)], unknown="the door was not tried")


def _still(live: Live) -> Answer:
    watched, metrics = live.watched, live.target.metrics
    silent = len(watched.asked_s) - len(watched.answered_s)
    said: list[Said | None] = [
        (
            SCORE_FULL * silent / len(watched.asked_s),
            f"it answered {len(watched.answered_s)} of {len(watched.asked_s)} scrapes",
        )
    ]
    if metrics is not None and metrics.flushes_failed is not None:
        failed = sum(watched.growth(metrics.flushes_failed).values())
        said.append(
            (
                min(10 * failed, SCORE_FULL / 2),
                f"{failed:,.0f} flushes failed, or ended undecided, while it was watched",
            )
        )
    said.append(_commit_said(live))
    return weighed(STILL, said, unknown="", bad="no", good="yes")


def _commit_said(live: Live) -> Said | None:
    metrics, watched = live.target.metrics, live.watched
    last, held = (watched.last(metrics.last_commit_s), watched.last(metrics.buffered)) if metrics else (None, None)
    if not last or held is None:
        return None
    age_s, limit_s = watched.answered_s[-1] - last, live.target.contract.freshness_s
    text = f"the last commit was {number(max(age_s, 0.0))} s ago, and {held:,.0f} events wait"
    overdue = held > 0 and limit_s is not None and age_s > limit_s
    return (3 * age_s / limit_s if overdue and limit_s else 0.0), text


_r2 = _path(R2, ("put", "manifests"), lambda probes: probes.store)
_catalog = _path(CATALOG, ("commit", "load_table"), lambda probes: probes.catalog)

QUESTIONS: tuple[Callable[[Live], Answer], ...] = (_spike, _types, _buffer, _r2, _catalog, _network, _still)
