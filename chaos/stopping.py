"""What the run's readings are now, and whether somebody or something wants the run to end."""

from __future__ import annotations

import time

from chaos import halt
from chaos.generator import Generator
from chaos.interrupt import Interrupted
from chaos.sampler import Sampler
from chaos.scenario import Plan
from loadtests.records.rundir import RunDir


class Readings:
    """The values that conditions of scenarios are about (`chaos.condition.READINGS`)."""

    def __init__(self, generator: Generator, sampler: Sampler) -> None:
        self._generator, self._sampler = generator, sampler

    def read(self, name: str) -> float | None:
        """Return the present value of a reading; None when nobody takes it."""
        if name == "fill":
            return self._sampler.fill_ratio
        if name == "buffered":
            return self._sampler.buffered()
        if name in ("pending", "duplicated", "unseen_s"):
            value = self._sampler.refresh_visible().get("freshness_s" if name == "unseen_s" else name)
            return None if value is None else float(value)
        return float(self._generator.counts()[name])


def obey(plan: Plan, run: RunDir, readings: Readings, generator: Generator) -> None:
    """Raise Interrupted when somebody asked for the end of the run, or a stop condition of its scenario holds."""
    if halt.asked(run.root):
        raise Interrupted("`icequake halt` asked for it")
    stop, window = plan.scenario.stop, run.info.window
    began_ns = window.inject_start_ns
    if began_ns is None or window.healed_ns is not None:
        return
    if stop.after_s is not None and time.monotonic_ns() - began_ns > stop.after_s * 1e9:
        raise Interrupted(f"stop.after_s: {stop.after_s:g} s are over")
    if plan.stop is not None and plan.stop.holds(readings.read):
        raise Interrupted(f"stop.when: {plan.stop}")
    counts = generator.counts()
    lost = counts["refused"] + counts["unknown"]
    if stop.refused_share is not None and lost > stop.refused_share * max(1, counts["attempted"]):
        raise Interrupted(f"stop.refused_share: {lost} of {counts['attempted']} events were refused or not answered")
