"""When a run has settled: the target holds nothing, and the table shows all that was acknowledged (docs/decisions/0002)."""

from __future__ import annotations

import time
from collections.abc import Callable

from chaos.generator import Generator
from chaos.sampler import Sampler

POLL_S = 0.1


class Settling:
    """Looks at the table and at the target's own gauge until there is nothing to wait for."""

    def __init__(self, generator: Generator, sampler: Sampler) -> None:
        self._generator, self._sampler = generator, sampler

    def acked(self) -> int:
        """Return how many events were acknowledged so far."""
        return self._generator.counts()["acked"]

    def wait_empty(self, wait_s: float, *, meanwhile: Callable[[], None]) -> str:
        """Wait until all is empty, or time is over; return `empty` or `timeout`."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if self._shows(self.acked()) and self._sampler.buffered() in (0, None):
                return "empty"
            meanwhile()
            time.sleep(POLL_S)
        return "timeout"

    def wait_probe(self, acked: int, wait_s: float) -> bool:
        """Wait until the table shows *acked* more events than were acknowledged before settling; tell whether it does."""
        wanted = self.acked() + acked
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if self._shows(wanted):
                return True
            time.sleep(POLL_S)
        return False

    def _shows(self, wanted: int) -> bool:
        visible = self._sampler.refresh_visible()
        acked = visible.get("acked")
        return acked is not None and acked >= wanted and visible.get("pending") == 0
