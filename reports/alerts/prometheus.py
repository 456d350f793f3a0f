"""What a real Prometheus did with the same alerts while a run went on: asked afterwards, and held against our evaluation."""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.alerts.assess import Fired, RuleReport
from reports.errors import BadRequest

POINTS_MAX = 10_000
"""Prometheus answers with 11,000 points a series at most."""
TIMEOUT_S = 20
TOLERANCE_S = 30.0
"""Two instants of the same alert may be this far apart: scrape and evaluation of the two are not at the same moments, and Prometheus'
defaults are fifteen seconds each."""


def ask_prometheus(url: str, start_s: float, end_s: float) -> dict[str, Fired]:
    """Return what every alert did in the Prometheus at *url* between two instants (since 1970), by its name.

    Raises:
        BadRequest: nobody answered there, or not as Prometheus does.
    """
    step_s = max(1, math.ceil((end_s - start_s) / POINTS_MAX))
    query = urllib.parse.urlencode({"query": "ALERTS", "start": start_s, "end": end_s, "step": step_s})
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/api/v1/query_range?{query}", timeout=TIMEOUT_S) as answer:  # noqa: S310  # checked
            return _fired(json.load(answer)["data"]["result"], step_s, end_s)
    except (OSError, http.client.HTTPException) as error:
        raise BadRequest(f"Prometheus at {url} cannot be asked: {error}.") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadRequest(f"{url} does not answer as Prometheus does ({type(error).__name__}).") from error


def _fired(series: Sequence[Mapping[str, Any]], step_s: int, end_s: float) -> dict[str, Fired]:
    instants: dict[str, dict[str, list[float]]] = {}
    for one in series:
        states = instants.setdefault(one["metric"]["alertname"], {})
        states.setdefault(one["metric"]["alertstate"], []).extend(float(t) for t, _ in one["values"])
    return {name: _together(states, step_s, end_s) for name, states in instants.items()}


def _together(states: Mapping[str, Sequence[float]], step_s: int, end_s: float) -> Fired:
    firing, every = states.get("firing", ()), [t for found in states.values() for t in found]
    last = max(firing or every)
    open_ = last > end_s - 2 * step_s
    return Fired(
        crossed_s=min(every),
        fired_s=min(firing, default=None),
        cleared_s=None if open_ else last + step_s,
        fired=int(bool(firing)),
        open_=open_,
    )


def differences(rules: Sequence[RuleReport], prometheus: Mapping[str, Fired]) -> Iterator[str]:
    """Yield a sentence for every alert that fired on one side only, or at instants too far apart to be the same."""
    for one in rules:
        ours, theirs = one.own.fired_s, prometheus.get(one.rule.name, Fired()).fired_s
        if one.problem is not None:
            continue
        if ours is not None and theirs is None:
            yield f"{one.rule.name} fired here and not in Prometheus: does it scrape this target, with these rules?"
        elif ours is None and theirs is not None:
            yield f"{one.rule.name} fired in Prometheus and not here."
        elif ours is not None and theirs is not None and abs(theirs - ours) > TOLERANCE_S:
            later = "later" if theirs > ours else "earlier"
            yield f"{one.rule.name} fired {abs(theirs - ours):.0f} s {later} in Prometheus than here."
