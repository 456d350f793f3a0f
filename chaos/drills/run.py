"""A run that is about one drill: traffic before, during and after it, and the verdict of any run."""

from __future__ import annotations

import time

from chaos.runner import Runner
from chaos.settling import POLL_S

AFTER_S = 2.0
"""Traffic flows so long after the drill."""


class DrillRunner(Runner):
    """Runs a scenario whose traffic ends soon after its drills; see `Runner`."""

    def _traffic_flows(self) -> None:
        deadline = time.monotonic() + self._plan.scenario.traffic.for_s
        while self._drills is not None and self._drills.busy:
            if self._traffic_ends.is_set() or time.monotonic() > deadline:
                return  # the drill goes on without traffic
            self._until(POLL_S)
        self._until(min(AFTER_S, deadline - time.monotonic()))
