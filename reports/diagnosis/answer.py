"""An answer to one question of the root-cause page, and the order in which answers are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from loadtests.records.target_config import TargetConfig
from reports.inflow import SIZE, capacity_in_force
from reports.wording import number

SPIKE = "Is there an unusual spike in events?"
TYPES = "Are specific event types surging?"
BUFFER = "Is the buffer too small for this load?"
R2 = "Is R2 slow or failing?"
CATALOG = "Is the Iceberg catalog slow or failing?"
NETWORK = "Is the network in front of the collector slow or failing?"
STILL = "Does the target answer, and do its flushes end?"

SLOWER = 3.0
"""A path or stage is suspected when it takes at least this many times what is usual..."""
SLOWER_BY_MS = 100.0
"""...and at least so much more."""
SCORE_FULL = 100.0
"""The score of something that fails altogether."""


@dataclass(frozen=True)
class Answer:
    """One question of the root-cause page.

    Attributes:
        suspect: True: look here; False: as usual; None: it cannot be told.
        score: How strongly; answers are ordered by it.
    """

    question: str
    suspect: bool | None
    answer: str
    score: float = 0.0
    evidence: list[str] = field(default_factory=list)


Said = tuple[float, str]
"""One piece of evidence: how suspicious it is (0: not at all), and a sentence."""


def ordered(answers: Iterable[Answer]) -> list[Answer]:
    """Return the most suspicious first, then what is as usual, then what cannot be told."""
    return sorted(answers, key=lambda a: (a.suspect is not True, a.suspect is None, -a.score))


def weighed(
    question: str, said: Iterable[Said | None], *, unknown: str, bad: str = "yes", good: str = "as usual"
) -> Answer:
    """Answer by the most suspicious piece of evidence; without any, that it is *unknown*."""
    known = [one for one in said if one is not None]
    if not known:
        return Answer(question, None, unknown)
    worst = max(known, key=lambda one: one[0])
    evidence = [text for _, text in known]
    if worst[0] > 0:
        return Answer(question, True, f"{bad}: {worst[1]}", worst[0], evidence)
    return Answer(question, False, good, evidence=evidence)


def slowness(usual_ms: float, now_ms: float) -> float:
    """Return how many times slower it is, when that is suspicious; else zero."""
    slower = now_ms >= SLOWER * usual_ms and now_ms - usual_ms >= SLOWER_BY_MS
    return now_ms / max(usual_ms, 1.0) if slower else 0.0


def buffer_answer(
    *, stated: int | None, config: TargetConfig | None, inflow: float | None, flush_s: float | None
) -> Answer:
    """Answer whether the buffer is too small: for its load, or smaller than the target file says it is.

    Args:
        stated: `contract.capacity_events`.
        config: What the target says is in force; None when it was not asked.
        inflow: Events a second into the busiest buffer.
        flush_s: What a flush usually takes.
    """
    capacity = capacity_in_force(config) or stated
    if capacity is None or not inflow:
        return Answer(BUFFER, None, f"neither contract.capacity_events nor {SIZE} is known, or nothing came in")
    full_s = capacity / inflow
    held = f"{capacity:,} events a buffer, {number(inflow)} events/s into the busiest: full after {number(full_s)} s without a flush"
    evidence = [
        held,
        *([f"a flush usually takes {number(flush_s)} s"] if flush_s is not None else []),
        *_changed(config),
    ]
    if stated is not None and capacity < stated:
        text = f"yes: {SIZE} is {capacity:,}, and the target file states {stated:,}; it is full after {number(full_s)} s without a flush"
        return Answer(BUFFER, True, text, SLOWER * stated / capacity, evidence)
    if flush_s is not None and flush_s > full_s / 2:
        return Answer(BUFFER, True, "yes: it fills while a flush is under way", flush_s / full_s * SLOWER, evidence)
    return Answer(BUFFER, False, f"not by itself: it holds {number(full_s)} s without a flush", evidence=evidence)


def _changed(config: TargetConfig | None) -> list[str]:
    changed = {} if config is None else config.changed()
    buffer = {name: value for name, value in changed.items() if "BUFFER" in name}
    return [f"not at its default: {name}={value} (default {_default(config, name)})" for name, value in buffer.items()]


def _default(config: TargetConfig | None, name: str) -> str:
    return "none" if config is None else config.defaults.get(name, "none")
