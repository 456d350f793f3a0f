"""Capacity: the highest rate at which nothing is lost, doubled, altered, refused, late or unanswered.

An open-model ramp doubles the rate until a run is not clean, then bisection narrows it down; the bisection is repeated with other
seeds, and the answer is their median with a 95 % interval (Student's t on logarithms: rates vary by factors). A rate that the
generator could not offer is a limit of the generator, and said to be.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from reports.experiment.lab import Outcome, Point, Run

Try = Callable[[float, int], Outcome]

_T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


@dataclass(frozen=True)
class Capacity:
    """The answer.

    Attributes:
        events_per_s: None when not even the lowest rate was clean.
        low, high: A 95 % interval; None with one repeat.
        generator_limit_events_per_s: Set when the generator, not the target, ended the search.
        found: What each repeat found.
    """

    events_per_s: float | None
    low: float | None = None
    high: float | None = None
    generator_limit_events_per_s: float | None = None
    found: tuple[float, ...] = ()
    outcomes: list[Outcome] = field(default_factory=list)

    def sentence(self) -> str:
        """Say it."""
        if self.events_per_s is None:
            return "Not even the lowest rate was clean: see the first run."
        at = f"{self.events_per_s:,.0f} events/s"
        if self.generator_limit_events_per_s is not None:
            return f"At least {at}: the generator could not offer {self.generator_limit_events_per_s:,.0f}; use more --processes or machines."
        interval = (
            f" (95 % interval {self.low:,.0f} to {self.high:,.0f}, {len(self.found)} searches)"
            if self.low is not None
            else ""
        )
        return f"Up to {at}{interval} nothing is lost, doubled, altered, refused, late or unanswered."


def find_capacity(
    run: Run,
    *,
    start: float = 500.0,
    highest: float = 1_000_000.0,
    precision: float = 0.1,
    repeats: int = 3,
    for_s: float = 10.0,
) -> Capacity:
    """Search. *precision* is the width at which bisection stops, as a share of the rate."""
    outcomes: list[Outcome] = []

    def clean(rate: float, repeat: int) -> Outcome:
        outcomes.append(run(Point(rate, for_s=for_s, repeat=repeat)))
        return outcomes[-1]

    good, bad, limit = _ramp(clean, start, highest)
    if good is None:
        return Capacity(None, outcomes=outcomes)
    if bad is None or limit is not None:
        return Capacity(good, generator_limit_events_per_s=limit, found=(good,), outcomes=outcomes)
    found = [_bisect(clean, good, bad, precision, 0)]
    for repeat in range(1, repeats):
        low, high = found[0] / 1.4, found[0] * 1.4
        found.append(_bisect(clean, *_bracket(clean, low, high, repeat), precision, repeat))
    low_, high_ = interval(found)
    return Capacity(statistics.median(found), low_, high_, None, tuple(found), outcomes)


def _ramp(clean: Try, start: float, highest: float) -> tuple[float | None, float | None, float | None]:
    """Return the last clean rate, the first that was not, and the rate that the generator could not offer."""
    good, rate = None, start
    while rate <= highest:
        outcome = clean(rate, 0)
        if outcome.behind:
            return good, None, rate
        if not outcome.clean:
            return good, rate, None
        good, rate = rate, rate * 2
    return good, None, None


def _bracket(clean: Try, low: float, high: float, repeat: int) -> tuple[float, float]:
    """Widen (low, high) until low is clean and high is not, at most three times each way."""
    for _ in range(3):
        if clean(low, repeat).clean:
            break
        low, high = low / 2, low
    for _ in range(3):
        outcome = clean(high, repeat)
        if not outcome.clean:
            break
        low, high = high, high * 2
    return low, high


def _bisect(clean: Try, good: float, bad: float, precision: float, repeat: int) -> float:
    while bad - good > precision * good:
        middle = math.sqrt(good * bad)
        if clean(middle, repeat).clean:
            good = middle
        else:
            bad = middle
    return good


def interval(values: list[float]) -> tuple[float | None, float | None]:
    """Return a 95 % interval of the mean, on logarithms; (None, None) of a single value."""
    if len(values) < 2:
        return None, None
    logs = [math.log(value) for value in values]
    half = _T_95.get(len(values), 1.96) * statistics.stdev(logs) / math.sqrt(len(values))
    middle = statistics.mean(logs)
    return math.exp(middle - half), math.exp(middle + half)
