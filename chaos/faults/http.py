"""Faults that speak HTTP: one gateway rule (see `chaos.gateway.rules`) from injection to healing."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from chaos.errors import ControlHung, ServerGone
from chaos.faults.env import Effect, Env
from chaos.gateway.errors import BadRule
from chaos.gateway.rules import decode_rule

UPSTREAMS = frozenset(("r2", "catalog"))
"""What the gateway of every stack stands in front of."""


class GatewayRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gateway rule.

    Attributes:
        match: Which requests.
        action: What happens to them.
        times: Healed as soon as it was applied so often; None: it stays as long as the step lasts. Healing lets go of what a rule
            holds (a zombie, a late answer), so such a rule has none.
        on_delete: What becomes of requests that the rule still holds when it is healed.
        counts: Which requests met it: those it was `applied` to, or all that were `judged` by it (for a rule that is a law of the
            object store rather than a failure, such as `r2-limits`).
    """

    match: dict[str, Any]
    action: dict[str, Any]
    times: Annotated[int, Meta(ge=1)] | None = None
    on_delete: Literal["release", "drop"] = "release"
    counts: Literal["applied", "judged"] = "applied"

    def __post_init__(self) -> None:
        """Refuse what the gateway would refuse, before anything runs. Raises ValueError."""
        try:
            decode_rule(json.dumps(self.as_rule()).encode(), upstreams=UPSTREAMS)
        except BadRule as error:
            raise ValueError(str(error)) from error

    def as_rule(self) -> dict[str, Any]:
        """Return the rule as the gateway takes it."""
        return {"match": self.match, "action": self.action, "on_delete": self.on_delete}

    def problem(self, *, starts_target: bool) -> str | None:
        """A target that runs elsewhere does not write through our gateway."""
        return (
            None
            if starts_target
            else "the target is not started by the harness, so its requests do not pass our gateway"
        )

    def inject(self, env: Env, name: str) -> RuleInjection:
        """Put the rule, journaled first."""
        return RuleInjection(self, env, name)


class RuleInjection:
    """One gateway rule that is on."""

    def __init__(self, rule: GatewayRule, env: Env, name: str) -> None:
        self._rule, self._env, self._name = rule, env, name
        self._applied, self._passed = 0, 0
        self._undo = env.warden.undo(env.stack.gateway.undo_entry(name), secrets=env.stack.gateway.headers)
        env.stack.gateway.put_rule(name, rule.as_rule())

    def finished(self) -> bool:
        """Tell whether it was applied as often as it was meant to be."""
        self._count()
        return self._rule.times is not None and self._applied >= self._rule.times

    def heal(self) -> None:
        """Delete the rule and see that the gateway no longer lists it; a gateway that hangs is replaced, and its rules end with it.

        Raises ControlHung when a hung gateway is not ours to replace.
        """
        self._count()
        try:
            self._delete()
        except ServerGone:
            pass  # the rule went with it; whoever killed it, or the run, starts it again
        except ControlHung:
            if not self._env.stack.owned:
                raise
            self._env.stack.replace("gateway")
        self._undo.done()

    def _delete(self) -> None:
        self._env.stack.gateway.delete_rule(self._name)
        if self._name in self._env.stack.gateway.rules():
            raise ControlHung(f"the gateway still lists rule {self._name} after it was deleted.")

    def effect(self) -> Effect:
        """Tell how many requests the gateway applied it to."""
        affected, escaped = self._applied, self._passed
        if self._rule.counts == "judged":
            affected, escaped = affected + escaped, 0
        reason = None if affected else "no request matched it while it was on"
        return Effect(affected, escaped, reason, {})

    def _count(self) -> None:
        counted: dict[str, int] = {}
        with suppress(ControlHung):  # what it had counted before stands
            counted = self._env.stack.gateway.rule_counters(self._name)
        # A gateway that was killed meanwhile has forgotten the rule and what it counted.
        self._applied = max(self._applied, counted.get("applied", 0))
        self._passed = max(self._passed, counted.get("passed", 0))
