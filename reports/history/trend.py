"""Does a figure drift? Night by night, against its own noise.

The usual value is the median of the nights before; noise is their standard deviation without outliers. A regression is called when the
last two nights are both worse than usual by more than one noise, and their mean by more than chance explains: a night has about a
hundred figures (scenarios times `FIGURES`), and twenty nights have two thousand chances to cry wolf. One bad night alone is never called: machines have bad nights. After a call the new
level is the usual one only when the baseline is pinned anew (`icequake trend --pin`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from reports.history.entry import Entry, Figure

NIGHTS_MIN = 7
"""Nights that a usual value needs."""
NIGHTS_MAX = 20
OUTLIER = 3.5
_MAD_TO_SIGMA = 1.4826
_LEAST_OF_FLOOR = 1.25
"""A mean of two nights nearer to usual than this many floors is never called."""
FALSE_ALARMS, OVER_NIGHTS = 0.05, 20
"""One history of twenty nights in twenty may cry wolf, over all its figures together."""


@dataclass(frozen=True)
class Drift:
    """One figure of one kind of run.

    Attributes:
        usual, noise: Median of the nights compared with, and their spread as a share of it.
        change: The mean of the last two nights over usual, minus one; positive is more.
        worse: Whether that is called a regression; None: too few nights to tell.
        since: The first run of the new level, when it is called.
    """

    figure: Figure
    values: tuple[float, ...]
    usual: float | None
    noise: float | None
    change: float | None
    worse: bool | None
    since: str | None


def drift_of(figure: Figure, nights: Sequence[Entry], *, pinned: Sequence[Entry] = (), figures: int = 1) -> Drift:
    """Compare the last two of *nights* (oldest first) with *pinned*, or with up to twenty nights before them.

    *figures* is how many are judged together: the more there are, the farther off one has to be.
    """
    measured = [entry for entry in nights if figure.name in entry.figures and entry.verdict is not None]
    values = tuple(entry.figures[figure.name] for entry in measured)
    base = [entry.figures[figure.name] for entry in pinned if figure.name in entry.figures]
    base = base or list(values[:-2])[-NIGHTS_MAX:]
    if len(base) < NIGHTS_MIN or len(values) < 2:
        return Drift(figure, values, None, None, None, None, None)
    usual = statistics.median(base)
    if usual <= 0:
        return Drift(figure, values, usual, None, None, False, None)
    spread = _spread(base, usual) / usual
    noise = max(spread, figure.floor / 2)
    last = [value / usual - 1 for value in values[-2:]]
    signed = last if figure.higher_is_worse else [-change for change in last]
    change = statistics.mean(last)
    limit = max(by_chance(len(base), figures) * spread, _LEAST_OF_FLOOR * figure.floor)
    worse = min(signed) > noise and statistics.mean(signed) > limit
    return Drift(figure, values, usual, noise, change, worse, measured[-2].run_id if worse else None)


def by_chance(nights: int, figures: int) -> float:
    """Return how many spreads the mean of two nights is off by chance alone, as rarely as `FALSE_ALARMS` allows.

    Spread and usual value come from so many nights themselves: Student's quantile, by its expansion in powers of 1/(nights - 1)
    (Abramowitz and Stegun, 26.7.5), times the spread of a mean of two about a mean of *nights*.
    """
    z, v = statistics.NormalDist().inv_cdf(1 - FALSE_ALARMS / OVER_NIGHTS / figures), nights - 1
    quantile = (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
    return quantile * math.sqrt(1 / 2 + 1 / nights)


def _spread(values: Sequence[float], usual: float) -> float:
    """The standard deviation of *values* without outliers (beyond three and a half by the median absolute deviation)."""
    limit = OUTLIER * _MAD_TO_SIGMA * statistics.median(abs(value - usual) for value in values)
    kept = [value for value in values if abs(value - usual) <= limit] or list(values)
    return statistics.stdev(kept) if len(kept) > 1 else 0.0


def integrity(nights: Sequence[Entry]) -> list[Entry]:
    """Return the runs that lost, doubled or altered anything, or failed otherwise: no average makes up for one.

    A target that had to fail and did is not among them; one that had to and passed is.
    """
    return [entry for entry in nights if entry.broken]


def newest_two(nights: Sequence[Entry]) -> list[Entry]:
    """Return the last two runs of every kind, in the order of *nights* (oldest first)."""
    kinds: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in nights:
        kinds.setdefault(entry.kind, []).append(entry)
    chosen = {id(entry) for of_kind in kinds.values() for entry in of_kind[-2:]}
    return [entry for entry in nights if id(entry) in chosen]
