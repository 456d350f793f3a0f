"""A wall clock that steps: an NTP correction, a suspended virtual machine, an operator with `date -s`.

The target runs under libfaketime, which lets its clock be set while it runs, and leaves its monotonic clock and every other
process alone. It is found in the Python package of that name, or where package managers put it. Version 0.9.10, which
distributions still have, lets sleeps fail that count on the monotonic clock, so whatever is found is tried before it is used.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
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
PACKAGE = "libfaketime"
LIBRARIES = (
    "/usr/lib/*/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
    "/opt/homebrew/lib/faketime/libfaketime.1.dylib",
)
MISSING = "there is no libfaketime that works on this machine (`pip install libfaketime` brings one)"
TRIAL = "import time; a = time.monotonic(); time.sleep(0.01); print(round(time.time()), time.monotonic() - a < 9)"
TRIAL_S = 10.0


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
        return preloaded(library, run / FILE)

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


@lru_cache(maxsize=1)
def find_libfaketime() -> Path | None:
    """Find a libfaketime that works here; None when there is none."""
    return next((path for path in _candidates() if works(path)), None)


def _candidates() -> Iterator[Path]:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    yield from (Path(str(file.locate())) for file in files if file.name in ("libfaketime.so.1", "libfaketime.1.dylib"))
    for pattern in LIBRARIES:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))


def works(library: Path) -> bool:
    """Tell whether a program under *library* tells a time that was set, and still sleeps and measures as it should."""
    ahead_s = 86_400
    with tempfile.TemporaryDirectory(prefix="icequake-") as scratch:
        file = Path(scratch) / FILE
        set_clock(file, ahead_s)
        argv = [sys.executable, "-S", "-c", TRIAL]
        env = {**os.environ, **preloaded(library, file)}
        try:
            said = subprocess.run(
                argv, env=env, capture_output=True, text=True, check=True, timeout=TRIAL_S
            ).stdout.split()
        except (OSError, subprocess.SubprocessError):
            return False
    return len(said) == 2 and _near(int(said[0]) - time.time(), ahead_s) and said[1] == "True"


def preloaded(library: Path, file: Path) -> dict[str, str]:
    """Return the environment in which a program's wall clock is ahead by what *file* says."""
    preload = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"
    return {
        preload: str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file.resolve()),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def set_clock(file: Path, offset_s: float) -> None:
    """Let libfaketime add *offset_s* from now on."""
    part = file.with_suffix(".part")
    part.write_text(f"{offset_s:+f}\n", encoding="ascii")
    os.replace(part, file)


def _near(offset_s: float, wanted_s: float) -> bool:
    return abs(offset_s - wanted_s) < NEAR_S
