"""Traffic whose load and end a person decides in Locust's web UI."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable

from chaos.errors import ChaosError
from chaos.generator import START_S, STOP_S, Generator
from chaos.scenario import Scenario
from chaos.settling import POLL_S
from chaos.warden_client import Warden
from loadtests.records.rundir import RunDir
from loadtests.records.target import Ingest


class UiTraffic(Generator):
    """Traffic that Locust's web UI starts and stops; its counts and its probe are those of any generator.

    Args:
        check_ui: Raises ChaosError when Locust has ended.
        stop_ui: Presses Stop, and returns when Locust has answered.
    """

    def __init__(
        self,
        run: RunDir,
        scenario: Scenario,
        ingest: Ingest,
        url: str,
        warden: Warden,
        *,
        check_ui: Callable[[], None],
        stop_ui: Callable[[], None],
    ) -> None:
        super().__init__(run, scenario, ingest, url, warden)
        self._check_ui, self._stop_ui = check_ui, stop_ui
        self._ended = threading.Event()
        self._begun = False
        self._problem: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the load generator said that its test is over."""
        return self._ended.is_set()

    def start(self, idle: Callable[[], None]) -> None:
        """Wait for the first attempt, or for a Stop before it. Raises ChaosError."""
        self._begun = True
        deadline = time.monotonic() + START_S
        while self.counts()["attempted"] == 0 and not self.ended:
            self.check()
            if time.monotonic() > deadline:
                raise ChaosError(f"Locust sent nothing within {START_S:g} s of Start; logs/locust.log says why.")
            idle()
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise ChaosError when Locust has ended."""
        if not self.ended:
            self._check_ui()

    def end(self, problem: str | None) -> None:
        """Note that the load generator's test is over, and why when it did not end well."""
        self._problem = self._problem or problem
        self._ended.set()

    def stop(self) -> str | None:
        """Press Stop unless the test is over; return what the load generator said went wrong."""
        if self._begun and not self.ended:
            try:
                self._stop_ui()
                self._ended.wait(STOP_S)
            except (OSError, http.client.HTTPException, ChaosError) as error:
                self._problem = self._problem or f"Locust could not be stopped: {error}"
            self._ended.set()
        return self._problem
