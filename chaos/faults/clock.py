"""A wall clock that steps: an NTP correction, a suspended virtual machine, an operator with `date -s`.

The target runs under libfaketime, which lets its clock be set while it runs, and leaves its monotonic clock and every other
process alone. Where libfaketime comes from: `apt-get install libfaketime`, `brew install libfaketime`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from chaos.errors import HealFailed, NotPossible
from chaos.faults.env import Effect, Env

FILE = "clock-offset"
"""Where libfaketime reads the offset, in the run directory."""
SEEN_WITHIN_S = 15.0
"""libfaketime looks once a second, and servers renew the `Date` of their answers about as often, later on a busy machine."""
NEAR_S = 10.0
LEAST_STEP_S = 60.0
POLL_S = 0.1
LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
    "/opt/homebrew/lib/faketime/libfaketime.1.dylib",
)
MISSING = "there is no libfaketime on this machine (apt-get install libfaketime)"


class ClockStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The target's wall clock steps by *step_s* seconds (back, when negative), and steps to the right time at the end."""

    step_s: Annotated[float, Meta(ge=-1e9, le=1e9)]

    def __post_init__(self) -> None:
        """Refuse a step that could not be told from a slow answer. Raises ValueError."""
        if abs(self.step_s) < LEAST_STEP_S:
            raise ValueError(f"step_s is shorter than {LEAST_STEP_S:g} s, which nothing could show.")

    def problem(self, *, starts_target: bool) -> str | None:
        """Only a process that we start can be given another clock."""
        return None if starts_target else "the target file has no `process`, so its clock cannot be set"

    def target_env(self, run: Path) -> dict[str, str]:
        """Return what the target must be started with; nothing where libfaketime is missing."""
        library = find_libfaketime()
        if library is None:
            return {}
        set_clock(run / FILE, 0)
        preload = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"
        return {
            preload: str(library),
            "FAKETIME_TIMESTAMP_FILE": str((run / FILE).resolve()),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # its name in older versions
            "NO_FAKE_STAT": "1",
        }

    def inject(self, env: Env, name: str) -> ClockInjection:  # noqa: ARG002  # the mechanism's signature
        """Step. Only the target's own clock is wrong, so it ends with it and there is nothing to journal. Raises NotPossible."""
        return ClockInjection(self, env)


class ClockInjection:
    """A target with a wrong clock."""

    def __init__(self, clock: ClockStep, env: Env) -> None:
        assert env.target is not None
        self._env, self._target, self._step_s = env, env.target, clock.step_s
        self._file = env.data_dir.parent / FILE
        if find_libfaketime() is None:
            raise NotPossible(MISSING)
        if not self._file.exists():
            raise NotPossible("the target was not started under libfaketime; a clock steps in scenarios only")
        self._before = self._target.clock_offset_s()
        self._since_ns = self._until_ns = time.monotonic_ns()
        set_clock(self._file, clock.step_s)
        self._during = self._reaches(clock.step_s)
        self._after: float | None = None

    def finished(self) -> bool:
        """It lasts as long as the step."""
        return False

    def heal(self) -> None:
        """Set the clock right and see that it is. Raises HealFailed."""
        set_clock(self._file, 0)
        self._until_ns = time.monotonic_ns()
        self._after = self._reaches(0)
        if self._after is not None and not _near(self._after, 0):
            raise HealFailed(f"the target's clock is still {self._after:+.0f} s off after it was set right.")

    def effect(self) -> Effect:
        """Count what clients sent meanwhile; none counts unless the target itself told the wrong time."""
        measured = {
            f"clock_offset_s_{when}": None if offset is None else round(offset)
            for when, offset in (("before", self._before), ("during", self._during), ("after", self._after))
        }
        met = self._env.seen.on_path("ingest", self._since_ns, self._until_ns)
        if self._during is None:
            return Effect(
                0, met, "answers of the target have no `Date`, so nothing shows that its clock stepped", measured
            )
        if not _near(self._during, self._step_s):
            why = f"the target's clock was {self._during:+.0f} s off, not {self._step_s:+.0f} s"
            return Effect(0, met, why, measured)
        return Effect(met, 0, None if met else "nothing was sent to the target meanwhile", measured)

    def _reaches(self, offset_s: float) -> float | None:
        """Wait until the target tells a time that is *offset_s* off, or time is over; return what it told last."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        told: float | None = None
        while time.monotonic() < deadline:
            now = self._target.clock_offset_s()
            told = told if now is None else now
            if told is not None and _near(told, offset_s):
                break
            time.sleep(POLL_S)
        return told


def environment_for(mechanisms: Iterable[object], run: Path) -> Mapping[str, str]:
    """Return what a target must be started with, so that these mechanisms can be injected into it later."""
    env: dict[str, str] = {}
    for mechanism in mechanisms:
        if isinstance(mechanism, ClockStep):
            env |= mechanism.target_env(run)
    return env


def find_libfaketime() -> Path | None:
    """Find the library where package managers put it."""
    return next((path for pattern in LIBRARIES for path in sorted(Path("/").glob(pattern.lstrip("/")))), None)


def set_clock(file: Path, offset_s: float) -> None:
    """Let libfaketime add *offset_s* from now on."""
    part = file.with_suffix(".part")
    part.write_text(f"{offset_s:+f}\n", encoding="ascii")
    os.replace(part, file)


def _near(offset_s: float, wanted_s: float) -> bool:
    return abs(offset_s - wanted_s) < NEAR_S
