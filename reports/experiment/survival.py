"""Survival: how long an outage does this buffer hold at which rate, and how long does it take to drain?

Predicted from rate, buffer, retry cap and drain bandwidth, then measured at enough points to show the prediction right. While
nothing can be flushed, the busiest buffer gains `rate * share` events a second, so it refuses after
`(capacity - held) / (rate * share)`, where `held` is what it holds when the outage begins: on average half of what a flush takes away.

Draining begins with the next attempt after the heal, which a target that backs off with jitter makes at any time up to its retry cap,
and then takes `backlog / (drain bandwidth - rate)`; the bandwidth is measured at the first point. So when it has drained is predicted
as a range, from that time to that time and the retry cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reports.experiment.lab import Outcome, Point, Run

AGREES = 0.15
"""A prediction within this share of the measurement is right."""
TEN_MINUTES_S = 600.0
RETRY_CAP_S = 10.0
"""The longest wait between two attempts of the reference collector."""
SHORTEST_DRAIN_S = 0.1
LOOK_S = 1.0
"""How much later than it happened the auditor may see that all has landed."""


@dataclass(frozen=True)
class Buffer:
    """What is known of the buffer: events of one partition, what of it triggers a flush, the age that does, the busiest one's share."""

    capacity_events: int
    flush_at: float
    timeout_s: float
    hottest_share: float

    def held(self, events_per_s: float) -> float:
        """Events that the busiest buffer holds on average when an outage begins."""
        return min(self.capacity_events * self.flush_at, events_per_s * self.hottest_share * self.timeout_s) / 2

    def survives_s(self, events_per_s: float) -> float:
        """Seconds of outage until the first refusal."""
        return (self.capacity_events - self.held(events_per_s)) / (events_per_s * self.hottest_share)

    def capacity_for(self, events_per_s: float, outage_s: float) -> int:
        """The capacity that holds an outage, rounded up to a hundred."""
        needed = events_per_s * self.hottest_share * (outage_s + self.timeout_s / 2)
        return int(-(-needed // 100) * 100)


@dataclass(frozen=True)
class Measured:
    """One outage.

    Attributes:
        predicted_refusal_s: None where none was predicted.
        drains_s: From the heal until all is in the table, at least and at most, as predicted; None at the point that the bandwidth is
            taken from.
    """

    outcome: Outcome
    outage_s: float
    predicted_refusal_s: float | None
    drains_s: tuple[float, float] | None = None

    @property
    def error(self) -> float | None:
        """How far the predicted first refusal is off, as a share of the measured; None when one of them did not happen."""
        measured, predicted = self.outcome.first_refusal_s, self.predicted_refusal_s
        return None if measured is None or predicted is None else predicted / measured - 1

    @property
    def agrees(self) -> bool:
        """Refused when predicted, within `AGREES`; or none was predicted and there was none, not even after the outage."""
        error = self.error
        if error is not None:
            return abs(error) <= AGREES
        return self.predicted_refusal_s is None and not self.outcome.refused_requests

    @property
    def drained_in_time(self) -> bool | None:
        """Whether it had drained by the latest time predicted; None where none was predicted."""
        if self.drains_s is None:
            return None
        drained_s = self.outcome.drained_s
        return drained_s is not None and drained_s <= self.drains_s[1] * (1 + AGREES) + LOOK_S


@dataclass(frozen=True)
class Survival:
    """The answer.

    Attributes:
        retry_cap_s: The longest wait of the target between two attempts.
        bandwidth_events_per_s: What it drained with, as measured at the first point; None when that did not drain.
        lossless: No outage lost, doubled or altered anything; refusing is not losing.
    """

    buffer: Buffer
    measured: list[Measured] = field(default_factory=list)
    retry_cap_s: float = RETRY_CAP_S
    bandwidth_events_per_s: float | None = None

    @property
    def lossless(self) -> bool:
        """Whether every point kept what it acknowledged."""
        return all(not one.outcome.wrong and one.outcome.verdict != "FAIL" for one in self.measured)

    @property
    def proven(self) -> bool:
        """Whether the prediction holds at every point."""
        return bool(self.measured) and all(one.agrees for one in self.measured)

    def sentence(self, events_per_s: float, outage_s: float = TEN_MINUTES_S) -> str:
        """Say it for one rate."""
        needed = self.buffer.capacity_for(events_per_s, outage_s)
        held = self.buffer.survives_s(events_per_s)
        proof = "as measured" if self.proven else "but the measurements differ from the prediction"
        return (
            f"At {events_per_s:,.0f} events/s this buffer survives a {held:,.0f} s catalog outage ({proof}); "
            f"for {outage_s / 60:g} minutes set ICEBERG_BUFFER_SIZE={needed}."
        )


def measure_survival(
    run: Run,
    buffer: Buffer,
    rates: Sequence[float],
    *,
    fault: str = "catalog-down",
    shares: Sequence[float] = (1.5, 0.6),
    retry_cap_s: float = RETRY_CAP_S,
) -> Survival:
    """Measure outages of *shares* times the predicted survival at each of *rates*."""
    measured: list[Measured] = []
    bandwidth: float | None = None
    for rate in rates:
        for share in shares:
            survives_s = buffer.survives_s(rate)
            outage_s = round(survives_s * share, 1)
            step = {"fault": fault, "at_s": 2, "for_s": outage_s}
            outcome = run(Point(rate, for_s=outage_s + 8, steps=(step,), batch=20))
            backlog = rate * min(outage_s, survives_s)
            drains_s = _drains(backlog, rate, bandwidth, retry_cap_s)
            measured.append(Measured(outcome, outage_s, survives_s if share > 1 else None, drains_s))
            if bandwidth is None:
                bandwidth = _bandwidth(backlog, rate, outcome)
    return Survival(buffer, measured, retry_cap_s, bandwidth)


def _bandwidth(backlog: float, rate: float, outcome: Outcome) -> float | None:
    """Events a second that were landed, from the first commit after the heal until all was in the table."""
    if outcome.drained_s is None:
        return None
    took_s = max(outcome.drained_s - (outcome.resumed_s or 0.0), SHORTEST_DRAIN_S)
    return backlog / took_s + rate


def _drains(backlog: float, rate: float, bandwidth: float | None, retry_cap_s: float) -> tuple[float, float] | None:
    if bandwidth is None or bandwidth <= rate:
        return None
    took_s = backlog / (bandwidth - rate)
    return took_s, took_s + retry_cap_s
