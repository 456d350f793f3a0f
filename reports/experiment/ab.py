"""One configuration against another, in turn, with the difference and its noise.

Pairs alternate (A B, B A, A B, ...), both of a pair with the same seed, so that what drifts hits both. The difference of a figure is
the median over the pairs of log(B/A), with a 95 % interval from the exact distribution of the median (order statistics); when it
contains zero, there is no difference that this many pairs can show. Below `MATTERS` none is called one, however steady it is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reports.experiment.lab import Outcome, Point, Run

MATTERS = 0.05
"""Differences below this share are not called different: a machine that is used by others has as much of its own."""

FIGURES: Mapping[str, Callable[[Outcome], float | None]] = {
    "latency_p99_ms": lambda o: o.latency_p99_ms,
    "freshness_p99_s": lambda o: o.freshness_p99_s,
    "cpu_us_per_event": lambda o: o.cpu_us_per_event,
    "rss_max_bytes": lambda o: o.rss_max_bytes,
    "files_per_minute": lambda o: o.files_per_minute or None,
    "max_fill": lambda o: o.max_fill or None,
}


@dataclass(frozen=True)
class Difference:
    """One figure: medians of A and B, B over A minus one, and its 95 % interval (None: too few pairs for one)."""

    figure: str
    a: float
    b: float
    change: float
    low: float | None
    high: float | None

    @property
    def real(self) -> bool:
        """Whether the interval leaves zero out, and the change matters."""
        if self.low is None or self.high is None:
            return False
        return (self.low > 0 or self.high < 0) and abs(self.change) >= MATTERS


@dataclass(frozen=True)
class Comparison:
    """The answer: pairs of runs, differences, and what either of them got wrong."""

    pairs: list[tuple[Outcome, Outcome]]
    differences: list[Difference] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Runs that were not PASS: no speed makes up for one."""
        return [
            f"{letter}: run {outcome.run_id} is {outcome.verdict}"
            for pair in self.pairs
            for letter, outcome in zip("AB", pair, strict=True)
            if outcome.verdict != "PASS"
        ]


def alternate(run: Run, a: Point, b: Point, pairs: int) -> Comparison:
    """Run *pairs* pairs in turn."""
    made: list[tuple[Outcome, Outcome]] = []
    for index in range(pairs):
        points = (replace(a, repeat=index), replace(b, repeat=index))
        first, second = points if index % 2 == 0 else points[::-1]
        outcomes = {id(first): run(first), id(second): run(second)}
        made.append((outcomes[id(points[0])], outcomes[id(points[1])]))
    return Comparison(made, [d for name in FIGURES if (d := difference(name, made)) is not None])


def difference(name: str, pairs: Sequence[tuple[Outcome, Outcome]]) -> Difference | None:
    """Compare one figure over the pairs in which both measured it; None when there are none."""
    values = [(FIGURES[name](a), FIGURES[name](b)) for a, b in pairs]
    both = [(a, b) for a, b in values if a and b and a > 0 and b > 0]
    if not both:
        return None
    logs = sorted(math.log(b / a) for a, b in both)
    rank = _rank(len(logs))
    return Difference(
        name,
        statistics.median(a for a, _ in both),
        statistics.median(b for _, b in both),
        math.expm1(statistics.median(logs)),
        None if rank is None else math.expm1(logs[rank]),
        None if rank is None else math.expm1(logs[-1 - rank]),
    )


def _rank(pairs: int) -> int | None:
    """Return k such that the interval from the k-th smallest to the k-th largest covers the median with at least 95 %."""
    best = None
    for k in range(pairs // 2):
        if _outside(pairs, k) <= 0.05:
            best = k
    return best


def _outside(pairs: int, k: int) -> float:
    """The chance that the median is not between the k-th smallest and the k-th largest."""
    return 2.0 * sum(math.comb(pairs, i) for i in range(k + 1)) / float(2**pairs)


def false_alarm(pairs: int) -> float | None:
    """The chance that one figure is called different and does not differ; None with too few pairs for an interval."""
    rank = _rank(pairs)
    return None if rank is None else _outside(pairs, rank)
