"""Planted bugs in what the collector says of itself; each is the reference collector with one difference (`tests.planted.reference`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.planted.reference import Patch, module

CLAMP = 0.5


def hides_what_it_flushes() -> list[Patch]:
    """Leave what is in a flush out of every gauge of what is buffered."""
    fill = module("fill")
    state = fill.Fills._state

    def waiting_only(self: Any, key: Any, fill: Any, now: float) -> Any:
        told = state(self, key, fill, now)
        return replace(told, events=fill.events, fill_ratio=(fill.events + fill.storing) / self.capacity)

    return [(fill.Fills, "_state", waiting_only)]


def clamps_its_fill() -> list[Patch]:
    """Never say that a buffer is more than half full."""
    fill = module("fill")
    state = fill.Fills._state

    def clamped(self: Any, key: Any, fill: Any, now: float) -> Any:
        told = state(self, key, fill, now)
        return replace(told, fill_ratio=min(told.fill_ratio, CLAMP))

    return [(fill.Fills, "_state", clamped)]


def counts_attempts() -> list[Patch]:
    """Count every attempt to flush as one that was committed."""
    metrics = module("telemetry").Metrics
    flushed = metrics.flushed

    def succeeded(self: Any, result: Any, now_s: float) -> None:
        flushed(self, replace(result, outcome="committed"), now_s)

    return [(metrics, "flushed", succeeded)]


def counts_arrivals() -> list[Patch]:
    """Count events as accepted when they arrive, whatever they are answered."""
    app, metrics = module("app").IngestApp, module("telemetry").Metrics
    check_fits, accepted = app._check_fits, metrics.accepted

    def arrived(self: Any, events: Any) -> None:
        check_fits(self, events)
        accepted(self._service.metrics, len(events))

    return [(app, "_check_fits", arrived), (metrics, "accepted", lambda _self, _events: None)]
