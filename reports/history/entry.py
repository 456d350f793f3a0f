"""One run as history knows it: its verdict, where it ran, and the figures that are followed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.records.errors import RecordError
from loadtests.records.rundir import NightPart, RunDir, RunInfo
from reports.verdict import Verdict, VerdictDoc, in_a_sentence, read_verdict


@dataclass(frozen=True)
class Figure:
    """One number that is followed.

    Attributes:
        path: Where it is in the verdict's sections.
        higher_is_worse: Which direction is a regression.
        floor: Differences below this share of the usual value are never called a change.
    """

    name: str
    unit: str
    path: tuple[str, ...]
    higher_is_worse: bool = True
    floor: float = 0.04


FIGURES: tuple[Figure, ...] = (
    Figure("calibrated_cpu_us_per_event", "us", ("capacity", "cost", "calibrated_cpu_us_per_event")),
    Figure("latency_p50_ms", "ms", ("capacity", "latency", "corrected", "p50_ms"), floor=0.25),
    Figure("latency_p99_ms", "ms", ("capacity", "latency", "corrected", "p99_ms"), floor=0.5),
    Figure("freshness_p99_s", "s", ("flush", "freshness_p99_s"), floor=0.25),
    Figure("caught_up_s", "s", ("flush", "caught_up_s"), floor=0.5),
    Figure("max_fill", "", ("capacity", "max_fill"), floor=0.25),
    Figure("rss_max_bytes", "bytes", ("capacity", "cost", "rss_max_bytes"), floor=0.15),
)
"""Latency and freshness are of the machine as much as of the target, so they have wide floors; CPU an event is calibrated."""


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        verdict: None when there is none; `problem` says why.
        fingerprint: Eight digits of what the run ran on; runs with different ones are not compared.
        figures: Those of `FIGURES` that were measured.
        losses: Events lost, duplicated, altered, unexpected, resurrected or stuck; what no trend may hide.
        expect: The verdict it had to have, when whoever started it said so.
        night: Which part of a night it was; None for a run of its own.
    """

    root: Path
    run_id: str
    scenario: str
    target: str
    stack: str
    seed: int
    started_unix_ns: int
    duration_s: float
    verdict: Verdict | None
    headline: str
    fingerprint: str
    versions: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    losses: int = 0
    failed_checks: tuple[str, ...] = ()
    problem: str | None = None
    expect: Verdict | None = None
    night: NightPart | None = None

    @property
    def broken(self) -> bool:
        """Whether it lost anything, or failed otherwise, though it had not to; or passed though it had to fail."""
        if self.expect is Verdict.FAIL:
            return self.verdict is Verdict.PASS
        return bool(self.losses) or self.verdict is Verdict.FAIL

    @property
    def kind(self) -> tuple[str, str, str]:
        """Runs of one kind can be compared: scenario, target, environment."""
        return (self.scenario, self.target, self.fingerprint)


def fingerprint_of(info: RunInfo) -> str:
    """Return eight hex digits of machine, system and stack: what makes figures comparable. Versions are not part of it."""
    environment = info.environment
    memory_gib = round(environment.get("memory_bytes", 0) / 2**30)
    parts = [*(str(environment.get(k)) for k in ("system", "machine", "cpus")), str(memory_gib), info.stack]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def entry_of(root: Path) -> Entry | None:
    """Read a run directory; None when it is not one at all. A half-written run is an entry with a problem."""
    try:
        info = RunDir.open(root).info
    except RecordError as error:
        return None if not (root / "run.json").exists() else _unreadable(root, str(error))
    try:
        doc = read_verdict(root / "verdict.json")
    except RecordError as error:
        reason = f"it ended in phase {info.phase}" if not (root / "verdict.json").exists() else str(error)
        return _entry(root, info, None, f"no verdict: {reason}")
    return _entry(root, info, doc, None)


def _entry(root: Path, info: RunInfo, doc: VerdictDoc | None, problem: str | None) -> Entry:
    return Entry(
        root=root,
        run_id=info.run_id,
        scenario=info.scenario,
        target=info.target,
        stack=info.stack,
        seed=info.seed,
        started_unix_ns=info.started_unix_ns,
        duration_s=0.0 if doc is None else doc.duration_s,
        verdict=None if doc is None else doc.verdict,
        headline="" if doc is None else in_a_sentence(doc),
        fingerprint=fingerprint_of(info),
        versions=info.versions,
        figures={} if doc is None else figures_of(doc.sections),
        losses=0 if doc is None else doc.totals.wrong,
        failed_checks=() if doc is None else tuple(c.id for c in doc.checks if c.verdict is Verdict.FAIL),
        problem=problem,
        expect=Verdict(info.expect) if info.expect in {verdict.value for verdict in Verdict} else None,
        night=info.night,
    )


def _unreadable(root: Path, problem: str) -> Entry:
    return Entry(root, root.name, "?", "?", "", 0, 0, 0.0, None, "", "", problem=problem)


def figures_of(sections: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that a verdict's sections hold, those of older versions included as far as they go."""
    found = {figure.name: number_at(sections, figure.path) for figure in FIGURES}
    return {name: value for name, value in found.items() if value is not None}


def number_at(sections: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """Return the number at a path of a verdict's sections; None when there is none there."""
    value: Any = sections
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_history(runs: Path) -> list[Entry]:
    """Return the runs below *runs*, oldest first; links and what is no run are left out."""
    if not runs.is_dir():
        return []
    roots = [path for path in sorted(runs.iterdir()) if path.is_dir() and not path.is_symlink()]
    found = [entry for root in roots if (entry := entry_of(root)) is not None]
    return sorted(found, key=lambda entry: (entry.started_unix_ns, entry.run_id))


def as_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain JSON."""
    plain = json.loads(json.dumps(entry.__dict__, default=str))
    return {**plain, "root": entry.root.name}
