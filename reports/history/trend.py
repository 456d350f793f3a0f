"""Does a figure drift? Night by night, against its own noise.

The usual value is the median of the nights before; noise is their standard deviation without outliers, but never less than half
of the figure's floor. A regression is called when the last two nights are both worse than usual by more than one noise, and their
mean by more than two and a half. One bad night alone is never called: machines have bad nights. After a call the new
level is the usual one only when the baseline is pinned anew (`icequake trend --pin`).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from reports.history.entry import Entry, Figure

NIGHTS_MIN = 7
"""Nights that a usual value needs."""
NIGHTS_MAX = 20
OUTLIER = 3.5
_MAD_TO_SIGMA = 1.4826
_ONE, _MEAN_OF_TWO = 1.0, 2.5


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


def drift_of(figure: Figure, nights: Sequence[Entry], *, pinned: Sequence[Entry] = ()) -> Drift:
    """Compare the last two of *nights* (oldest first) with *pinned*, or with up to twenty nights before them."""
    measured = [entry for entry in nights if figure.name in entry.figures and entry.verdict is not None]
    values = tuple(entry.figures[figure.name] for entry in measured)
    base = [entry.figures[figure.name] for entry in pinned if figure.name in entry.figures]
    base = base or list(values[:-2])[-NIGHTS_MAX:]
    if len(base) < NIGHTS_MIN or len(values) < 2:
        return Drift(figure, values, None, None, None, None, None)
    usual = statistics.median(base)
    if usual <= 0:
        return Drift(figure, values, usual, None, None, False, None)
    noise = max(_spread(base, usual) / usual, figure.floor / 2)
    last = [value / usual - 1 for value in values[-2:]]
    signed = last if figure.higher_is_worse else [-change for change in last]
    change = statistics.mean(last)
    worse = min(signed) > _ONE * noise and statistics.mean(signed) > _MEAN_OF_TWO * noise
    return Drift(figure, values, usual, noise, change, worse, measured[-2].run_id if worse else None)


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
