"""Earlier states of tables, for catalogs that answer from a lagging replica or cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from chaos.gateway.body import Headers
from chaos.gateway.messages import Answer
from chaos.gateway.rulebook import ActiveRule
from chaos.gateway.rules import Stale


@dataclass
class _State:
    content: bytes
    headers: Headers
    reads_left: int | None
    until_s: float | None

    def spent(self, now_s: float) -> bool:
        return self.reads_left == 0 or (self.until_s is not None and now_s >= self.until_s)


class StaleTables:
    """What each `stale` rule remembers, by table path.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: WeakKeyDictionary[ActiveRule, dict[str, _State]] = WeakKeyDictionary()

    def wants(self, rule: ActiveRule, path: str) -> bool:
        """Return whether *rule* has nothing to remember yet for this table, or is to begin again."""
        state = self._states.get(rule, {}).get(path)
        if state is None:
            return True
        return isinstance(rule.action, Stale) and rule.action.repeat and state.spent(self._clock())

    def remember(self, rule: ActiveRule, path: str, content: bytes, headers: Headers) -> None:
        """Keep an answer; its reads and seconds are counted from now."""
        action = rule.action
        assert isinstance(action, Stale)
        until_s = None if action.seconds is None else self._clock() + action.seconds
        self._states.setdefault(rule, {})[path] = _State(content, headers, action.reads, until_s)

    def answer(self, rule: ActiveRule, path: str) -> Answer | None:
        """Return the earlier state as an answer and count the read, or None when there is none (any more)."""
        state = self._states.get(rule, {}).get(path)
        if state is None or state.spent(self._clock()):
            return None
        if state.reads_left is not None:
            state.reads_left -= 1
        return Answer.of(200, state.content, state.headers)
