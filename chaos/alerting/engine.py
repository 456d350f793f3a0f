"""What each alert did over a run: Prometheus' pending and firing, evaluation by evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.alerting.errors import AlertRuleError
from chaos.alerting.promql import Vector
from chaos.alerting.rules import Group, Rule
from chaos.alerting.samples import Labels, Samples

_NAME = "__name__"


@dataclass(frozen=True)
class Episode:
    """One stretch in which an alert's condition held.

    Attributes:
        crossed_s: The first evaluation that found it.
        fired_s: When it began to fire; None when it ended before `for` had passed.
        cleared_s: The evaluation that no longer found it (after keep_firing_for); None when the run ended first.
    """

    rule: Rule
    labels: Labels
    crossed_s: float
    fired_s: float | None
    cleared_s: float | None


@dataclass
class _Active:
    crossed_s: float
    fired_s: float | None = None
    gone_s: float | None = None


class Evaluator:
    """Evaluates one group of rules, again and again, at ascending instants.

    Recording rules add to the samples. Rules that cannot be evaluated here are left out.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self._active: list[dict[Labels, _Active]] = [{} for _ in group.rules]

    def evaluate(self, samples: Samples, now_s: float) -> list[Episode]:
        """Evaluate every rule once; return the episodes that ended.

        Raises:
            AlertRuleError: an expression matches many series to many.
        """
        ended: list[Episode] = []
        for position, rule in enumerate(self.group.rules):
            if rule.expression is None:
                continue
            found = _evaluated(rule, samples, now_s)
            if rule.record:
                _record(rule, found, samples, now_s, job=f"{self.group.name}/{position}")
            else:
                ended += _step(rule, self._active[position], set(found), now_s)
        return ended

    def open(self) -> list[Episode]:
        """Return the episodes that have not ended: pending ones have not fired."""
        pairs = zip(self.group.rules, self._active, strict=True)
        return [_episode(rule, labels, one, None) for rule, ones in pairs for labels, one in ones.items()]


def evaluate(groups: Sequence[Group], samples: Samples, start_s: float, end_s: float) -> list[Episode]:
    """Evaluate *groups* every interval from *start_s* to *end_s*, both included; episodes in the order they began.

    Raises:
        AlertRuleError: an expression matches many series to many.
    """
    episodes: list[Episode] = []
    for group in groups:
        evaluator = Evaluator(group)
        for index in range(int((end_s - start_s) / group.interval_s + 1e-9) + 1):
            episodes += evaluator.evaluate(samples, start_s + index * group.interval_s)
        episodes += evaluator.open()
    return sorted(episodes, key=lambda e: (e.crossed_s, e.rule.name, sorted(e.labels)))


def _evaluated(rule: Rule, samples: Samples, now_s: float) -> Vector:
    assert rule.expression is not None
    try:
        value = rule.expression.at(samples, now_s)
    except AlertRuleError as error:
        raise AlertRuleError(f"rule {rule.name}: {error}") from error
    vector = {frozenset(): value} if isinstance(value, float) else value
    own = frozenset(rule.labels.items())
    return {_with(labels, own): number for labels, number in vector.items()}


def _with(labels: Labels, own: Labels) -> Labels:
    taken = {name for name, _ in own} | {_NAME}
    return frozenset(pair for pair in labels if pair[0] not in taken) | own


def _record(rule: Rule, found: Vector, samples: Samples, now_s: float, *, job: str) -> None:
    for labels, value in found.items():
        samples.add(now_s, rule.name, value, labels, job=job)
    samples.end_of_scrape(now_s, job=job)


def _step(rule: Rule, active: dict[Labels, _Active], found: set[Labels], now_s: float) -> list[Episode]:
    """Move every instance of one alert by one evaluation; return those that ended."""
    ended = []
    for labels in found:
        one = active.setdefault(labels, _Active(now_s))
        one.gone_s = None
        if one.fired_s is None and now_s - one.crossed_s >= rule.for_s:
            one.fired_s = now_s
    for labels in set(active) - found:
        one = active[labels]
        if one.gone_s is None:
            one.gone_s = now_s
        if one.fired_s is None or now_s - one.gone_s >= rule.keep_firing_s:
            ended.append(_episode(rule, labels, active.pop(labels), now_s))
    return ended


def _episode(rule: Rule, labels: Labels, one: _Active, cleared_s: float | None) -> Episode:
    return Episode(rule, labels, one.crossed_s, one.fired_s, cleared_s)
