"""The rules in force: which of them touch a request, how often they did, and who waits for their end."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import Callable

from chaos.gateway.rules import COMBINING, Rule, names

REMEMBERED_RULES = 1000
"""Deleted rules whose counters are still told."""


def draw(seed: int, rule_id: str, purpose: str, occurrence: int) -> random.Random:
    """Return the generator for one decision: a pure function of its arguments, whatever else happened before."""
    digest = hashlib.blake2b(f"{seed}/{rule_id}/{purpose}/{occurrence}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


class ActiveRule:
    """A rule that was put, with its counters.

    Attributes:
        matched: Requests for which everything but nth, every, first and share held.
        applied: Requests on which the action took effect.
        passed: Matched requests that went through untouched.
        deleted: Done when the rule is deleted or replaced.
        put_s: When it was put, by the gateway's clock.
    """

    def __init__(self, rule_id: str, rule: Rule, seed: int, clock: Callable[[], float]) -> None:
        self.id = rule_id
        self.rule = rule
        self.seed = seed if rule.seed is None else rule.seed
        self.action = rule.action
        self.combines = isinstance(rule.action, COMBINING)
        self.matched = self.applied = self.passed = 0
        self.reserved = 0
        self.deleted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.put_s = clock()
        self._clock = clock
        self._upstreams = names(rule.match.upstream)
        self._verbs = frozenset(verb.upper() for verb in names(rule.match.verb))
        self._kinds = names(rule.match.object)
        self._path = re.compile(rule.match.path) if rule.match.path is not None else None

    @property
    def counters(self) -> dict[str, int]:
        """Return what `GET /counters` tells of this rule."""
        return {"matched": self.matched, "applied": self.applied, "passed": self.passed}

    def concerns(self, upstream: str, verb: str, kind: str, path: str) -> bool:
        """Return whether a request fits, its turn and the draw left aside."""
        if self._upstreams and upstream not in self._upstreams:
            return False
        if self._kinds and kind not in self._kinds:
            return False
        return self.covers(verb, path) and self._is_time()

    def covers(self, verb: str, path: str) -> bool:
        """Return whether verb and path fit."""
        if self._verbs and verb not in self._verbs:
            return False
        return self._path is None or self._path.search(path) is not None

    def chooses(self) -> bool:
        """Count one more matching request and return whether it is this one's turn."""
        self.matched += 1
        match = self.rule.match
        if match.nth is not None:
            turn = self.matched in ((match.nth,) if isinstance(match.nth, int) else match.nth)
        elif match.every is not None:
            turn = self.matched % match.every == 0
        else:
            turn = match.first is None or self.reserved < match.first
        if turn and match.share < 1.0:
            turn = self.random("share", self.matched).random() < match.share
        if turn:
            self.reserved += 1
        else:
            self.passed += 1
        return turn

    def took_effect(self) -> None:
        """The action was carried out on a chosen request."""
        self.applied += 1

    def gave_back(self) -> None:
        """A chosen request went through after all; it does not count against `first`."""
        self.reserved -= 1
        self.passed += 1

    def random(self, purpose: str, occurrence: int | None = None) -> random.Random:
        """Return the seeded generator for one decision about one occurrence (default: the latest)."""
        return draw(self.seed, self.id, purpose, self.matched if occurrence is None else occurrence)

    def _is_time(self) -> bool:
        during = self.rule.match.during
        if during.to_s is None and during.from_s == 0:
            return True
        age_s = self._clock() - self.put_s
        return age_s >= during.from_s and (during.to_s is None or age_s < during.to_s)


class RuleBook:
    """All rules, in the order in which they were put.

    Args:
        seed: For rules that bring none.
        clock: Monotonic seconds.
    """

    def __init__(self, seed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.seed = seed
        self._clock = clock
        self._active: dict[str, ActiveRule] = {}
        self._past: dict[str, dict[str, int]] = {}
        self.totals: dict[str, dict[str, int]] = {}

    @property
    def active(self) -> tuple[ActiveRule, ...]:
        """Return the rules in force."""
        return tuple(self._active.values())

    def put(self, rule_id: str, rule: Rule) -> None:
        """Add a rule, or replace the one of that name; its counters start at zero."""
        self.delete(rule_id)
        self._past.pop(rule_id, None)
        self._active[rule_id] = ActiveRule(rule_id, rule, self.seed, self._clock)

    def delete(self, rule_id: str) -> bool:
        """Remove a rule and let go of what it holds; return whether it was there."""
        active = self._active.pop(rule_id, None)
        if active is None:
            return False
        if not active.deleted.done():
            active.deleted.set_result(None)
        self._past[rule_id] = active.counters
        while len(self._past) > REMEMBERED_RULES:
            del self._past[next(iter(self._past))]
        return True

    def clear(self) -> int:
        """Remove every rule; return how many there were."""
        return sum(self.delete(rule_id) for rule_id in list(self._active))

    def choose(self, upstream: str, verb: str, kind: str, path: str) -> list[ActiveRule]:
        """Return the rules that touch this request: any number that combine, and at most one other."""
        if not self._active:
            return []
        chosen: list[ActiveRule] = []
        taken = False
        for active in self._active.values():
            if not active.concerns(upstream, verb, kind, path) or not active.chooses():
                continue
            if taken and not active.combines:
                active.gave_back()
                continue
            taken = taken or not active.combines
            chosen.append(active)
        return chosen

    def count(self, upstream: str, kind: str) -> None:
        """Add one request to the totals."""
        kinds = self.totals.setdefault(upstream, {})
        kinds[kind] = kinds.get(kind, 0) + 1

    def counters(self) -> dict[str, object]:
        """Return `{"rules": {id: {...}}, "totals": {upstream: {kind: n}}}`; deleted rules are still told."""
        rules = self._past | {rule_id: active.counters for rule_id, active in self._active.items()}
        return {"rules": rules, "totals": self.totals}
