"""What a live target says of itself while it is watched: its metrics, scrape by scrape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from chaos.alerting.promql import Expression
from chaos.alerting.samples import Samples, parse_sample_name

STEP_S = 1.0
_JOB = "target"


@dataclass
class Watched:
    """Scrapes of one target, oldest first.

    Attributes:
        asked_s: When it was scraped, in seconds since 1970.
        answered_s: When it answered.
    """

    asked_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    samples: Samples = field(default_factory=Samples)

    @property
    def seconds(self) -> float:
        """From the first answer to the last."""
        return self.answered_s[-1] - self.answered_s[0] if self.answered_s else 0.0

    def take(self, now_s: float, scraped: Mapping[str, float] | None) -> None:
        """Add a scrape; None: no answer."""
        self.asked_s.append(now_s)
        if scraped is not None:
            self.answered_s.append(now_s)
            for name, value in scraped.items():
                metric, labels = parse_sample_name(name)
                self.samples.add(now_s, metric, value, labels, job=_JOB)
        self.samples.end_of_scrape(now_s, job=_JOB)

    def by_label(self, selector: str, label: str, now_s: float) -> dict[str, float]:
        """Return the values of *selector* at an answered scrape, added up by *label* ("" where a series has none)."""
        found: dict[str, float] = {}
        value = Expression.parse(selector).at(self.samples, now_s)
        for labels, number in value.items() if isinstance(value, dict) else ():
            name = dict(labels).get(label, "")
            found[name] = found.get(name, 0.0) + number
        return found

    def last(self, selector: str | None) -> float | None:
        """Return the sum of *selector* at the last answer; None when there is no such series."""
        found = self.by_label(selector, "", self.answered_s[-1]) if selector and self.answered_s else {}
        return sum(found.values()) if found else None

    def growth(self, selector: str, label: str = "") -> dict[str, float]:
        """Return how much counters grew while watched, by *label*; one that began anew counts from zero."""
        readings = [self.by_label(selector, label, t) for t in self.answered_s]
        names = {name for reading in readings for name in reading}
        return {name: _grown([reading[name] for reading in readings if name in reading]) for name in names}

    def rise(self, selector: str, label: str) -> dict[str, float]:
        """Return how much gauges rose while watched, what they fell left out, by *label*; one that is new rose from zero."""
        readings = [self.by_label(selector, label, t) for t in self.answered_s]
        names = {name for reading in readings for name in reading}
        return {
            name: sum(max(b.get(name, 0.0) - a.get(name, 0.0), 0.0) for a, b in pairwise(readings)) for name in names
        }


def _grown(values: Sequence[float]) -> float:
    return sum(b - a if b >= a else b for a, b in pairwise(values))


def watch(
    scrape: Callable[[], Mapping[str, float]],
    seconds: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], object],
) -> Watched:
    """Scrape once a second for *seconds*. *scrape* raises OSError or ValueError when it gets no answer that can be read."""
    watched, begin = Watched(), clock()
    while True:
        now_s = clock()
        try:
            watched.take(now_s, scrape())
        except (OSError, ValueError):
            watched.take(now_s, None)
        if clock() - begin >= seconds:
            return watched
        sleep(STEP_S)
