"""Did what a scheduler starts run at all, and to its end?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reports.errors import BadRequest
from reports.history.entry import Entry

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def span_s(text: str) -> float:
    """Turn `26h`, `90m` or `2d` into seconds.

    Raises:
        BadRequest: it is none of these.
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        raise BadRequest(f"{text!r} is not a span of time: write 26h, 90m or 2d.")
    return float(match[1]) * _SECONDS[match[2]]


def missed_run(entries: Sequence[Entry], within: str, now_s: float) -> str | None:
    """Say that no run ended with a verdict within the span *within* before *now_s* (since 1970); None when one did.

    Raises:
        BadRequest: *within* is not a span.
    """
    limit_s = span_s(within)
    ages = [_age_s(entry, now_s) for entry in entries if entry.verdict is not None]
    if ages and min(ages) <= limit_s:
        return None
    newest = f"the newest is {min(ages) / 3600:.1f} h old" if ages else "there is none"
    return f"no run with a verdict within {within}: {newest}."


def missed_night(entries: Sequence[Entry], preset: str, within: str, now_s: float) -> str | None:
    """Say that no night of *preset* ended, each of its runs with a verdict, within *within* before *now_s*; None when one did.

    A run of the same scenario that somebody made by hand is no night.

    Raises:
        BadRequest: *within* is not a span.
    """
    limit_s = span_s(within)
    nights: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.night is not None and entry.night.preset == preset and entry.verdict is not None:
            nights.setdefault(entry.night.night, []).append(entry)
    if not nights:
        return f"no night of preset {preset} within {within}: there is none."
    ages = [min(_age_s(entry, now_s) for entry in night) for night in nights.values() if _complete(night)]
    if ages and min(ages) <= limit_s:
        return None
    newest = max(nights.values(), key=lambda night: max(entry.started_unix_ns for entry in night))
    age_h = min(_age_s(entry, now_s) for entry in newest) / 3600
    done = f"{len(_numbers(newest))} of {_length(newest)} runs have a verdict"
    return f"no night of preset {preset} ended within {within}: the newest is {age_h:.1f} h old, and {done}."


def _age_s(entry: Entry, now_s: float) -> float:
    return now_s - entry.started_unix_ns / 1e9 - entry.duration_s


def _numbers(night: Sequence[Entry]) -> set[int]:
    return {entry.night.number for entry in night if entry.night is not None}


def _length(night: Sequence[Entry]) -> int:
    return max(entry.night.of for entry in night if entry.night is not None)


def _complete(night: Sequence[Entry]) -> bool:
    return _numbers(night) >= set(range(1, _length(night) + 1))
