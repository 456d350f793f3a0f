"""PromQL's functions over a range of one series: (times, values, start, end) -> a value, or None for "no sample"."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

RangeFunction = Callable[[list[float], list[float], float, float], float | None]


def increase(times: list[float], values: list[float], start_s: float, end_s: float) -> float | None:
    """How much a counter grew, its resets mended, extrapolated to the whole range."""
    return _extrapolated(times, values, start_s, end_s, counter=True)


def rate(times: list[float], values: list[float], start_s: float, end_s: float) -> float | None:
    """`increase` a second."""
    grown = _extrapolated(times, values, start_s, end_s, counter=True)
    return None if grown is None else grown / (end_s - start_s)


def delta(times: list[float], values: list[float], start_s: float, end_s: float) -> float | None:
    """How much a gauge changed, extrapolated to the whole range."""
    return _extrapolated(times, values, start_s, end_s, counter=False)


def _extrapolated(
    times: list[float], values: list[float], start_s: float, end_s: float, *, counter: bool
) -> float | None:
    """Prometheus' extrapolatedRate: to the edges when samples come near them, else by half an interval; never below zero."""
    if len(times) < 2:
        return None
    grown = values[-1] - values[0]
    if counter:
        grown += sum(before for before, after in itertools.pairwise(values) if after < before)
    sampled_s = times[-1] - times[0]
    interval_s = sampled_s / (len(times) - 1)
    to_start_s, to_end_s = times[0] - start_s, end_s - times[-1]
    if to_start_s >= interval_s * 1.1:
        to_start_s = interval_s / 2
    if counter and grown > 0 and values[0] >= 0:
        to_start_s = min(to_start_s, sampled_s * values[0] / grown)
    if to_end_s >= interval_s * 1.1:
        to_end_s = interval_s / 2
    return grown * (sampled_s + to_start_s + to_end_s) / sampled_s


def predict_linear(times: list[float], values: list[float], now_s: float, ahead_s: float) -> float | None:
    """Where a straight line through the samples (least squares) will be, *ahead_s* from now."""
    fit = _line(times, values, now_s)
    return None if fit is None else fit[1] + fit[0] * ahead_s


def deriv(times: list[float], values: list[float], _start_s: float, _end_s: float) -> float | None:
    """The slope of that line, a second."""
    fit = _line(times, values, times[0])
    return None if fit is None else fit[0]


def _line(times: list[float], values: list[float], zero_s: float) -> tuple[float, float] | None:
    """Return slope and value at *zero_s*."""
    if len(times) < 2:
        return None
    if all(value == values[0] for value in values):
        return (0.0, values[0]) if math.isfinite(values[0]) else (math.nan, math.nan)
    n = len(times)
    x = [t - zero_s for t in times]
    sum_x, sum_y = math.fsum(x), math.fsum(values)
    covariance = math.fsum(a * b for a, b in zip(x, values, strict=True)) - sum_x * sum_y / n
    variance = math.fsum(a * a for a in x) - sum_x * sum_x / n
    slope = covariance / variance
    return slope, sum_y / n - slope * sum_x / n


def _changes(values: list[float]) -> float:
    return float(sum(1 for a, b in itertools.pairwise(values) if a != b))


def _resets(values: list[float]) -> float:
    return float(sum(1 for a, b in itertools.pairwise(values) if b < a))


def _of_values(function: Callable[[list[float]], float]) -> RangeFunction:
    return lambda _times, values, _start, _end: float(function(values))


RANGE_FUNCTIONS: dict[str, RangeFunction] = {
    "increase": increase,
    "rate": rate,
    "delta": delta,
    "deriv": deriv,
    "changes": _of_values(_changes),
    "resets": _of_values(_resets),
    "max_over_time": _of_values(max),
    "min_over_time": _of_values(min),
    "sum_over_time": _of_values(math.fsum),
    "avg_over_time": _of_values(lambda v: math.fsum(v) / len(v)),
    "count_over_time": _of_values(len),
    "last_over_time": _of_values(lambda v: v[-1]),
    "present_over_time": _of_values(lambda _: 1.0),
}
