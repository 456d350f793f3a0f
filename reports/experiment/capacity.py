"""Capacity: the highest rate at which nothing is lost, doubled, altered, refused, late or unanswered.

An open-model ramp doubles the rate until a run is not clean, then bisection narrows it down; the bisection is repeated with other
seeds between other rates, and the answer is their median with a 95 % interval (Student's t on logarithms: rates vary by factors) that
reaches from the rates that were clean to those that were not. A rate that the generator could not offer is a limit of the generator,
and said to be.

A rate just above the capacity fills a buffer slowly, so a short trial takes it for clean. A trial therefore lasts until a rate that
is too high by the precision asked for would have filled an empty buffer: size / (rate x share x precision) seconds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reports.experiment.lab import BATCH, Outcome, Point, Run

LONGEST_TRIAL_S = 600.0
TRIES = 3
"""A run that tells nothing (the generator was behind) is made so many times at most."""
_T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


@dataclass(frozen=True)
class Trial:
    """How a rate is tried.

    Attributes:
        least_s: Seconds of traffic, at least.
        capacity_events: Of one partition buffer; None when it is not known, and then every trial lasts `least_s`.
        hottest_share: What share of the events goes into the fullest one.
        fault: What is on all the time, as in a step of a scenario (`fault`, `with`); None: nothing.
    """

    least_s: float = 10.0
    capacity_events: int | None = None
    hottest_share: float = 1.0
    fault: Mapping[str, Any] | None = None
    batch: int = BATCH
    traffic: str = "steady"

    def seconds(self, events_per_s: float, excess: float) -> float:
        """How long a trial lasts that tells a rate from one that is *excess* (a share) too high."""
        if self.capacity_events is None:
            return self.least_s
        fills_s = self.capacity_events / (events_per_s * self.hottest_share * excess)
        return float(math.ceil(round(min(max(self.least_s, fills_s), max(self.least_s, LONGEST_TRIAL_S)), 3)))

    def point(self, events_per_s: float, *, for_s: float, repeat: int = 0) -> Point:
        """Return the run to be made."""
        steps = () if self.fault is None else ({"at_s": 0, "for_s": for_s, **self.fault},)
        return Point(
            round(events_per_s, 1), for_s=for_s, steps=steps, repeat=repeat, batch=self.batch, traffic=self.traffic
        )


@dataclass(frozen=True)
class Capacity:
    """The answer.

    Attributes:
        events_per_s: None when not even the lowest rate was clean.
        low, high: A 95 % interval; None with one repeat.
        generator_limit_events_per_s: Set when the generator, not the target, ended the search.
        highest_events_per_s: Set when the search was to go no higher.
        found: The highest clean rate of each repeat.
    """

    events_per_s: float | None
    low: float | None = None
    high: float | None = None
    generator_limit_events_per_s: float | None = None
    highest_events_per_s: float | None = None
    found: tuple[float, ...] = ()
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def longest_trial_s(self) -> float:
        """How long the longest trial lasted."""
        return max((outcome.point.for_s for outcome in self.outcomes), default=0.0)

    def sentence(self) -> str:
        """Say it."""
        if self.events_per_s is None:
            return "Not even the lowest rate was clean: see the first run, and try a lower --start."
        at = f"{self.events_per_s:,.0f} events/s"
        if self.generator_limit_events_per_s is not None:
            return f"At least {at}: the generator could not offer {self.generator_limit_events_per_s:,.0f}; use more --processes or machines."
        if self.highest_events_per_s is not None:
            return f"At least {at}: nothing above {self.highest_events_per_s:,.0f} was to be tried (--highest)."
        interval = (
            f" (95 % interval {self.low:,.0f} to {self.high:,.0f}, {len(self.found)} searches)"
            if self.low is not None
            else ""
        )
        return f"Up to {at}{interval} nothing is lost, doubled, altered, refused, late or unanswered."


class _Search:
    """The runs of one search, in turn."""

    def __init__(self, run: Run, trial: Trial) -> None:
        self._run, self._trial = run, trial
        self.outcomes: list[Outcome] = []

    def tried(self, events_per_s: float, repeat: int, excess: float) -> Outcome:
        """Try a rate, again when a run tells nothing."""
        point = self._trial.point(events_per_s, for_s=self._trial.seconds(events_per_s, excess), repeat=repeat)
        for _ in range(TRIES):
            outcome = self._run(point)
            self.outcomes.append(outcome)
            if not outcome.told_nothing:
                break
        return outcome


def find_capacity(
    run: Run,
    trial: Trial,
    *,
    start: float = 500.0,
    highest: float = 1_000_000.0,
    precision: float = 0.1,
    repeats: int = 3,
) -> Capacity:
    """Search. *precision* is the width at which bisection stops, as a share of the rate."""
    search = _Search(run, trial)

    def clean(rate: float, repeat: int) -> bool:
        return search.tried(rate, repeat, precision).clean

    good, bad, limit = _ramp(search, start, highest)
    if good is not None:
        good, bad = _lowered(clean, good, bad, start)
    if good is None:
        return Capacity(None, outcomes=search.outcomes)
    if bad is None:
        stop = None if limit is not None else highest
        return Capacity(
            good, generator_limit_events_per_s=limit, highest_events_per_s=stop, found=(good,), outcomes=search.outcomes
        )
    brackets = [_bisect(clean, good, bad, precision, 0)]
    for repeat in range(1, repeats):
        low, high = _around(brackets[0][0], precision, repeat / repeats)
        brackets.append(_bisect(clean, *_bracket(clean, low, high, repeat), precision, repeat))
    return _answer(brackets, search.outcomes)


def _answer(brackets: list[tuple[float, float]], outcomes: list[Outcome]) -> Capacity:
    """Return what some searches found, each the highest rate that was clean and the lowest that was not."""
    clean, unclean = ([bracket[side] for bracket in brackets] for side in (0, 1))
    return Capacity(
        statistics.median(clean), interval(clean)[0], interval(unclean)[1], found=tuple(clean), outcomes=outcomes
    )


def _around(events_per_s: float, precision: float, place: float) -> tuple[float, float]:
    """Where another search begins: around what was found, at another *place* (0 to 1) so that it does not try the same rates."""
    spread, shift = 1 + 2 * precision, (1 + precision) ** (place - 0.5)
    return events_per_s / spread * shift, events_per_s * spread * shift


def _ramp(search: _Search, start: float, highest: float) -> tuple[float | None, float | None, float | None]:
    """Return the last clean rate, the first that was not, and the rate that the generator could not offer."""
    good, rate = None, start
    while rate <= highest:
        outcome = search.tried(rate, 0, excess=1.0)
        if outcome.behind and not outcome.refused_requests:
            return good, None, rate
        if not outcome.clean:
            return good, rate, None
        good, rate = rate, rate * 2
    return good, None, None


Clean = Callable[[float, int], bool]


def _lowered(clean: Clean, good: float, bad: float | None, start: float) -> tuple[float | None, float | None]:
    """Try the last clean rate of the ramp for as long as a trial has to last; go down to *start* while it is not clean."""
    while good >= start:
        if clean(good, 0):
            return good, bad
        good, bad = good / 2, good
    return None, bad


def _bracket(clean: Clean, low: float, high: float, repeat: int) -> tuple[float, float]:
    """Widen (low, high) until low is clean and high is not, at most three times each way."""
    for _ in range(3):
        if clean(low, repeat):
            break
        low, high = low / 2, low
    for _ in range(3):
        if not clean(high, repeat):
            break
        low, high = high, high * 2
    return low, high


def _bisect(clean: Clean, good: float, bad: float, precision: float, repeat: int) -> tuple[float, float]:
    """Narrow (good, bad) down to the precision."""
    while bad - good > precision * good:
        middle = math.sqrt(good * bad)
        if clean(middle, repeat):
            good = middle
        else:
            bad = middle
    return good, bad


def interval(values: list[float]) -> tuple[float | None, float | None]:
    """Return a 95 % interval of the mean, on logarithms; (None, None) of a single value."""
    if len(values) < 2:
        return None, None
    logs = [math.log(value) for value in values]
    half = _T_95.get(len(values), 1.96) * statistics.stdev(logs) / math.sqrt(len(values))
    middle = statistics.mean(logs)
    return math.exp(middle - half), math.exp(middle + half)
