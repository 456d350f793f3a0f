"""Inject nothing: the control experiment, and the smallest mechanism. What it measures is what other faults are compared with."""

from __future__ import annotations

import time

from msgspec import Struct

from chaos.faults.env import Effect, Env
from chaos.faults.probe import PATHS, Probe, base_of

PATIENCE_S = 3.0


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters, no effect."""

    def inject(self, env: Env, name: str) -> NothingInjected:  # noqa: ARG002  # the mechanism's signature
        """Do nothing, and measure every path as it is."""
        return NothingInjected(env)

    def problem(self, *, starts_target: bool) -> str | None:  # noqa: ARG002  # the mechanism's signature
        """Nothing can always be done."""
        return None


class NothingInjected:
    """The baseline of every path: how long a probe takes, and how many requests of the target pass."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._since_ns = self._until_ns = time.monotonic_ns()
        self._probed = {"before": self._ask(), "during": self._ask()}

    def finished(self) -> bool:
        """It lasts as long as the scenario says."""
        return False

    def heal(self) -> None:
        """There is nothing to remove."""
        self._until_ns = time.monotonic_ns()
        self._probed["after"] = self._ask()

    def effect(self) -> Effect:
        """No request is affected, all escape, and that is right."""
        seen = self._env.seen
        passed = {f"requests_{path}": seen.on_path(path, self._since_ns, self._until_ns) for path in PATHS}
        probed = {f"probe_ms_{path}_{when}": ms for when, asked in self._probed.items() for path, ms in asked.items()}
        return Effect(0, sum(passed.values()), None, {**passed, **probed})

    def _ask(self) -> dict[str, float | None]:
        asked: dict[str, float | None] = {}
        for path in PATHS:
            probe = Probe(base_of(self._env.stack.addresses, path), deadline_s=PATIENCE_S)
            reading = probe.ask()
            probe.close()
            asked[path] = reading.ms if reading.whole else None
        return asked
