"""Scraped samples by metric, as an alert rule selects them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Labels = frozenset[tuple[str, str]]
"""A label set without the metric's name."""

LOOKBACK_S = 300.0
"""How long a sample stands for its series when no newer one came: Prometheus' default."""

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?")


@dataclass
class Series:
    """One time series, ascending in time.

    Attributes:
        t_s: Seconds; one clock for all series.
        stale_s: Instants at which a scrape no longer had the series, ascending: from there until the next sample it is absent.
    """

    labels: Labels
    t_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    stale_s: list[float] = field(default_factory=list)

    def at(self, t_s: float) -> float | None:
        """Return the value that stands at an instant; None when there is none, it is too old, or the series had ended."""
        last = bisect_right(self.t_s, t_s) - 1
        if last < 0 or t_s - self.t_s[last] >= LOOKBACK_S:
            return None
        ended = bisect_right(self.stale_s, t_s) - 1
        if ended >= 0 and self.stale_s[ended] > self.t_s[last]:
            return None
        return self.values[last]

    def between(self, after_s: float, until_s: float) -> tuple[list[float], list[float]]:
        """Return times and values in the half-open interval (after, until]."""
        part = slice(bisect_right(self.t_s, after_s), bisect_right(self.t_s, until_s))
        return self.t_s[part], self.values[part]


class Samples:
    """All series of a run, or of a test.

    Build one by `add`, in ascending time, and `end_of_scrape` after each scrape: a series that the scrape lacked is stale from
    there, as in Prometheus.
    """

    def __init__(self) -> None:
        self._series: dict[str, dict[Labels, Series]] = defaultdict(dict)
        self._touched: dict[str, set[tuple[str, Labels]]] = defaultdict(set)
        self._live: dict[str, set[tuple[str, Labels]]] = defaultdict(set)

    def add(self, t_s: float, name: str, value: float, labels: Labels = frozenset(), *, job: str = "") -> None:
        """Add a sample; *job* names the scrape it came with."""
        series = self._series[name].get(labels)
        if series is None:
            series = self._series[name][labels] = Series(labels)
        series.t_s.append(t_s)
        series.values.append(value)
        self._touched[job].add((name, labels))

    def end_of_scrape(self, t_s: float, *, job: str = "") -> None:
        """Mark what the scrape before had and this one lacks."""
        touched = self._touched.pop(job, set())
        for name, labels in self._live[job] - touched:
            self._series[name][labels].stale_s.append(t_s)
        self._live[job] = touched

    def named(self, name: str) -> Iterator[Series]:
        """Return the series of a metric."""
        yield from self._series.get(name, {}).values()

    def names(self) -> set[str]:
        """Return all metric names."""
        return set(self._series)

    def all(self) -> Iterable[tuple[str, Series]]:
        """Return every series with its metric's name."""
        return ((name, series) for name, found in self._series.items() for series in found.values())


def labels_of(pairs: Mapping[str, str]) -> Labels:
    """Return a label set."""
    return frozenset(pairs.items())


def parse_sample_name(text: str) -> tuple[str, Labels]:
    """Split `name{k=v,...}` as a run's series writes it. A comma within a value cannot be told from one between labels."""
    match = _SAMPLE.fullmatch(text)
    if match is None:
        return text, frozenset()
    pairs = [part.partition("=") for part in (match["labels"] or "").split(",") if "=" in part]
    return match["name"], frozenset((key, value) for key, _, value in pairs)
