"""Waiting for the moment at which a step of a scenario begins: a time, a request that the gateway saw, or a condition."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from chaos.condition import Condition, Read
from chaos.trigger import Trigger

POLL_S = 0.05


class Planned(Protocol):
    """A step as far as its beginning goes: exactly one of the three is given."""

    @property
    def at_s(self) -> float | None:
        """Seconds after the origin."""

    @property
    def trigger(self) -> Trigger | None:
        """A request, counted since the origin."""

    @property
    def condition(self) -> Condition | None:
        """What must hold."""


class Requests(Protocol):
    """Tells of requests; see `chaos.requests_seen.RequestsSeen`."""

    def wait_for(self, trigger: Trigger, since_ns: int, stop: threading.Event) -> bool:
        """Wait until *trigger* has happened; False when *stop* was set first."""


def moment_came(
    step: Planned,
    seen: Requests,
    read: Read,
    origin_ns: int,
    stop: threading.Event,
    *,
    clock: Callable[[], int],
    wait: Callable[[threading.Event, float], bool],
) -> bool:
    """Wait for the moment of *step*; False when *stop* was set first.

    Args:
        origin_ns: What `at_s` and triggers count from.
        clock: Monotonic nanoseconds.
        wait: Waits for an event, at most so many seconds; tells whether it was set.
    """
    if step.trigger is not None:
        return seen.wait_for(step.trigger, origin_ns, stop)
    if step.condition is not None:
        while not step.condition.holds(read):
            if wait(stop, POLL_S):
                return False
        return True
    wait_s = (step.at_s or 0) - (clock() - origin_ns) / 1e9
    return not wait(stop, max(0.0, wait_s))
