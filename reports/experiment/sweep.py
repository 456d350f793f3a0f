"""Sweep: buffer size x flush timeout x R2 latency, what each costs, and what to set for stated goals.

More events a flush mean fewer and larger files, fewer commits, and staler data; a larger buffer survives longer and needs more
memory. The Pareto front has every setting that no other beats, at the same R2 latency, in freshness, files a minute and memory at once;
what differs by less than `SAME` is the same.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from reports.experiment.lab import Outcome, Point, Run

WORKER_BYTES = 128 * 2**20
"""The memory of one Cloudflare Worker isolate."""
EVENT_BYTES_WORST = 64 * 2**10
"""The size up to which an intermediary must forward an event (CloudEvents 1.0), so what a buffer must be able to hold."""
SAME = 0.05
"""Two runs of one setting differ by so much in what they need and how long they take."""
PARTITIONS = 3
"""Buffers that are in use at once: the steady mix has three event types."""


@dataclass(frozen=True)
class Setting:
    """One configuration; timeouts in milliseconds, as its variable has them."""

    size: int
    timeout_ms: int

    def env(self) -> dict[str, str]:
        """The environment that sets it."""
        return {"ICEBERG_BUFFER_SIZE": str(self.size), "ICEBERG_BUFFER_TIMEOUT_MS": str(self.timeout_ms)}

    def worst_bytes(self) -> int:
        """What full buffers of the largest events take."""
        return self.size * PARTITIONS * EVENT_BYTES_WORST

    def wrangler(self) -> str:
        """The same as a patch of wrangler.jsonc."""
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in self.env().items())
        return '{\n  "vars": {\n' + lines + "\n  }\n}\n"


@dataclass(frozen=True)
class Cell:
    """One setting at one R2 latency."""

    setting: Setting
    r2_latency_ms: int
    outcome: Outcome

    def objectives(self) -> tuple[float, float, float]:
        """Freshness, files a minute, memory: all the less the better; what was not measured is the worst."""
        worst = float("inf")
        freshness_s, rss = self.outcome.freshness_p99_s, self.outcome.rss_max_bytes
        return (
            worst if freshness_s is None else freshness_s,
            self.outcome.files_per_minute,
            worst if rss is None else rss,
        )

    def meets(self, goals: Goals) -> bool:
        """Whether it lost and refused nothing, and meets the goals that a run can show."""
        outcome = self.outcome
        if not outcome.clean:
            return False
        if goals.freshness_s is not None and (
            outcome.freshness_p99_s is None or outcome.freshness_p99_s > goals.freshness_s
        ):
            return False
        return goals.files_per_minute is None or outcome.files_per_minute <= goals.files_per_minute


@dataclass(frozen=True)
class Goals:
    """What somebody wants; None: does not matter."""

    freshness_s: float | None = None
    files_per_minute: float | None = None
    outage_s: float | None = None


@dataclass(frozen=True)
class Recommendation:
    """What to set.

    Attributes:
        warnings: What speaks against it, and what was counted.
    """

    setting: Setting
    why: str
    warnings: list[str] = field(default_factory=list)


def sweep(
    run: Run,
    sizes: Sequence[int],
    timeouts_ms: Sequence[int],
    latencies_ms: Sequence[int],
    *,
    events_per_s: float,
    for_s: float = 10.0,
) -> list[Cell]:
    """Run every combination once."""
    cells = []
    for size, timeout_ms, latency_ms in itertools.product(sizes, timeouts_ms, latencies_ms):
        setting = Setting(size, timeout_ms)
        point = cell_point(setting, latency_ms, events_per_s=events_per_s, for_s=for_s)
        cells.append(Cell(setting, latency_ms, run(point)))
    return cells


def cell_point(setting: Setting, r2_latency_ms: int, *, events_per_s: float, for_s: float, repeat: int = 0) -> Point:
    """Return the run of one setting at one R2 latency, which lasts as long as the traffic."""
    slow = {"fault": "slow-r2", "at_s": 0, "for_s": for_s, "with": {"latency_ms": r2_latency_ms, "jitter_ms": 0}}
    steps = (slow,) if r2_latency_ms else ()
    return Point(events_per_s, for_s=for_s, env=setting.env(), steps=steps, repeat=repeat, batch=20)


def pareto(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that no other beats at their R2 latency; those that were not clean are never on the front."""
    clean = [cell for cell in cells if cell.outcome.clean]
    return [cell for cell in clean if not any(_beats(other, cell) for other in clean)]


def _beats(one: Cell, other: Cell) -> bool:
    if one.r2_latency_ms != other.r2_latency_ms:
        return False
    pairs = list(zip(one.objectives(), other.objectives(), strict=True))
    return all(a <= b * (1 + SAME) for a, b in pairs) and any(a < b / (1 + SAME) for a, b in pairs)


def recommend(
    cells: Sequence[Cell], goals: Goals, *, events_per_s: float, hottest_share: float
) -> Recommendation | None:
    """Return the setting that meets the goals with the fewest files a minute; None when none does.

    A size that no run had is recommended where an outage demands it: size decides survival, which is arithmetic.
    """
    by_setting: dict[Setting, list[Cell]] = {}
    for cell in cells:
        by_setting.setdefault(cell.setting, []).append(cell)
    fitting = [setting for setting, found in by_setting.items() if all(cell.meets(goals) for cell in found)]
    if not fitting:
        return None
    files = {setting: max(cell.outcome.files_per_minute for cell in by_setting[setting]) for setting in fitting}
    best = min(fitting, key=lambda setting: (files[setting], setting.size, setting.timeout_ms))
    size = best.size
    if goals.outage_s is not None:
        needed = events_per_s * hottest_share * (goals.outage_s + best.timeout_ms / 1000)
        size = max(size, int(-(-needed // 100) * 100))
    setting = Setting(size, best.timeout_ms)
    why = f"fewest files a minute ({files[best]:.0f}) of {len(fitting)} settings that meet the goals"
    return Recommendation(setting, why, _warnings(setting))


def _warnings(setting: Setting) -> list[str]:
    worst = setting.worst_bytes()
    counted = f"{PARTITIONS} buffers of {setting.size:,} events of 64 KiB are {worst / 2**20:,.0f} MiB"
    if worst <= WORKER_BYTES:
        return [f"{counted}: they fit into the 128 MiB of a Worker isolate"]
    fits = WORKER_BYTES // EVENT_BYTES_WORST // PARTITIONS
    return [
        f"{counted}: more than the 128 MiB of a Worker isolate, which holds {fits:,} each; keep the buffer on disk, or bound it in bytes"
    ]
