"""Alert rules on what a live session sees each second: the target's own gauge and counters, and the auditor's looks.

A rule holds or it does not; when it has held for its time it fires, and when it holds no more it is resolved. The fill rules are
about the fullest partition buffer as the target tells it; stalled and stale are about the table, whatever the target tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

RECENT_S = 60.0
"""A failed flush is news for so long."""
RUNBOOK_S = 300.0
"""The runbook's alert wants 90 % for so long."""
SILENT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known at one moment; None for what nobody says.

    Attributes:
        t_s: Seconds of the run.
        fill_ratio: Fill of the fullest buffer, 0-1, as the target tells it.
        failed: Flushes that failed, since the target's start.
        undecided: Flushes that may or may not be in the table.
        visible, pending, freshness_s: The auditor's.
        promised_s: The freshness that the contract promises.
        failed_ago_s: Since `failed` rose last; None when it never did.
        still_s: For how long nothing became visible although something is pending.
    """

    t_s: float
    answers: bool
    promised_s: float
    fill_ratio: float | None = None
    failed: float | None = None
    undecided: float | None = None
    visible: int | None = None
    pending: int | None = None
    freshness_s: float | None = None
    failed_ago_s: float | None = None
    still_s: float = 0.0


@dataclass(frozen=True)
class Rule:
    """When an alert fires: *holds* must say yes for *for_s* seconds."""

    name: str
    about: str
    holds: Callable[[Look], bool]
    for_s: float = 0.0


def _filled(threshold: float) -> Callable[[Look], bool]:
    return lambda look: look.fill_ratio is not None and look.fill_ratio >= threshold


RULES = (
    Rule("BufferFill50", "the fullest buffer is at 50 % or more", _filled(0.5)),
    Rule("BufferFill70", "the fullest buffer is at 70 % or more", _filled(0.7)),
    Rule("BufferFill90", "the fullest buffer is at 90 % or more", _filled(0.9)),
    Rule("BufferFill90For5m", "the runbook's: 90 % or more for five minutes", _filled(0.9), RUNBOOK_S),
    Rule(
        "FlushFailing",
        f"a flush failed within the last {RECENT_S:g} s",
        lambda look: look.failed_ago_s is not None and look.failed_ago_s < RECENT_S,
    ),
    Rule("FlushUndecided", "a flush may or may not be in the table", lambda look: bool(look.undecided)),
    Rule(
        "FlushStalled",
        "events are pending, and nothing became visible for half of the promised freshness",
        lambda look: look.still_s > look.promised_s / 2,
    ),
    Rule(
        "DataStale",
        "an acknowledged event is invisible for longer than promised",
        lambda look: look.freshness_s is not None and look.freshness_s > look.promised_s,
    ),
    Rule("MetricsAbsent", "the target does not answer", lambda look: not look.answers, SILENT_S),
)


@dataclass
class _State:
    since_s: float | None = None
    firing: bool = False
    fired: int = 0


@dataclass
class Alerts:
    """Evaluates rules, look by look. Not safe for several threads; `table` may be called from any."""

    rules: tuple[Rule, ...] = RULES
    _states: dict[str, _State] = field(default_factory=dict)
    _before: Look | None = None
    _failed_s: float | None = None
    _moved_s: float = 0.0

    def look(self, look: Look) -> list[tuple[str, str]]:
        """Evaluate every rule; return what changed as (rule, "firing" or "resolved")."""
        look = self._remembering(look)
        changes = [(rule.name, change) for rule in self.rules if (change := self._step(rule, look)) is not None]
        self._before = look
        return changes

    def table(self) -> list[dict[str, Any]]:
        """Return a row a rule: name, about, state (ok, pending, firing), since_s, and how often it fired."""
        return [
            {
                "name": rule.name,
                "about": rule.about,
                "state": "firing" if state.firing else "ok" if state.since_s is None else "pending",
                "since_s": state.since_s,
                "fired": state.fired,
            }
            for rule in self.rules
            for state in [self._states.get(rule.name, _State())]
        ]

    def _remembering(self, look: Look) -> Look:
        before = self._before
        # A counter that fell was restarted; what it counts now happened since.
        if look.failed and before is not None and look.failed != (before.failed or 0.0):
            self._failed_s = look.t_s
        if not look.pending or before is None or look.visible != before.visible:
            self._moved_s = look.t_s
        failed_ago_s = None if self._failed_s is None else look.t_s - self._failed_s
        known = look if before is None or look.failed is not None else replace(look, failed=before.failed)
        return replace(known, failed_ago_s=failed_ago_s, still_s=look.t_s - self._moved_s)

    def _step(self, rule: Rule, look: Look) -> str | None:
        state = self._states.setdefault(rule.name, _State())
        if not rule.holds(look):
            was, state.firing, state.since_s = state.firing, False, None
            return "resolved" if was else None
        if state.since_s is None:
            state.since_s = look.t_s
        if state.firing or look.t_s - state.since_s < rule.for_s:
            return None
        state.firing, state.fired = True, state.fired + 1
        return "firing"
