"""Fault windows and steps of a run, as its timeline tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NO_FAULTS = frozenset({"nothing"})
"""Faults that are meant to have no effect: the control experiment."""


@dataclass
class Step:
    """One step of the scenario as it happened.

    Attributes:
        state: The last state: armed, injected, healed, void or failed.
        start_ns: When its injection began: it acts before its effect has been measured, and only then it counts as injected.
        affected: Target requests that met the fault; None where the mechanism cannot count them.
    """

    index: int
    fault: str
    state: str = "armed"
    start_ns: int | None = None
    end_ns: int | None = None
    affected: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class FaultWindow:
    """When a fault was active, in monotonic nanoseconds. `end_ns` is the end of the run where it was never healed."""

    fault: str
    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """How long the fault was active."""
        return (self.end_ns - self.start_ns) / 1e9


def steps_of(timeline: Iterable[Mapping[str, Any]]) -> list[Step]:
    """Return the steps in order of their index."""
    steps: dict[int, Step] = {}
    for entry in timeline:
        if entry.get("event") != "step" or not isinstance(entry.get("step"), int):
            continue
        step = steps.setdefault(entry["step"], Step(entry["step"], str(entry.get("fault", "?"))))
        step.state = str(entry.get("state", step.state))
        affected = entry.get("requests_affected", entry.get("affected"))
        if isinstance(affected, int):
            step.affected = affected
        if step.state == "injected" and step.start_ns is None:
            began_ns = entry.get("began_ns")
            step.start_ns = began_ns if isinstance(began_ns, int) else entry["t_ns"]
        if step.state in ("healed", "failed", "void") and step.start_ns is not None:
            step.end_ns = entry["t_ns"]
        step.reason = entry.get("reason", entry.get("error", step.reason))
    return [steps[index] for index in sorted(steps)]


def fault_windows(steps: Iterable[Step], *, end_ns: int) -> list[FaultWindow]:
    """Return the windows of all faults that were injected, ordered by start; no-op faults have none."""
    windows = [
        FaultWindow(step.fault, step.start_ns, step.end_ns if step.end_ns is not None else end_ns)
        for step in steps
        if step.start_ns is not None and step.fault not in NO_FAULTS
    ]
    return sorted(windows, key=lambda window: window.start_ns)


LINGERS_NS = 5_000_000_000
"""A fault is held responsible for what happens until so long after it was healed."""

FORESHADOWS_NS = 30_000_000_000
"""A fault is held responsible for the loss of what was acked at most so long before it: it was buffered then."""


@dataclass(frozen=True)
class Ascription:
    """The fault that something is ascribed to; str() says how close it was, such as `shortly before kill-collector`."""

    fault: str
    relation: str

    def __str__(self) -> str:
        return f"{self.relation} {self.fault}"


def ascribe(windows: Sequence[FaultWindow], t_ns: int | None, *, foreshadowed: bool = False) -> Ascription | None:
    """Name the fault that was active at *t_ns*, else one that began shortly after (if *foreshadowed*), else one that had
    ended shortly before. Of several the latest to start wins, except that of later ones the next does."""
    if t_ns is None:
        return None
    active = [w for w in windows if w.start_ns <= t_ns <= w.end_ns]
    if active:
        return Ascription(active[-1].fault, "during")
    coming = [w for w in windows if t_ns < w.start_ns <= t_ns + FORESHADOWS_NS]
    if foreshadowed and coming:
        return Ascription(coming[0].fault, "shortly before")
    over = [w for w in windows if w.end_ns < t_ns <= w.end_ns + LINGERS_NS]
    return Ascription(over[-1].fault, "shortly after") if over else None


def ascription_boundaries(windows: Iterable[FaultWindow]) -> list[int]:
    """Return the ascending instants at which `ascribe` changes its answer."""
    return sorted(
        {t for w in windows for t in (w.start_ns - FORESHADOWS_NS, w.start_ns, w.end_ns + 1, w.end_ns + LINGERS_NS + 1)}
    )
