"""Inject nothing: the control experiment, and the smallest mechanism."""

from __future__ import annotations

from msgspec import Struct

from chaos.faults.env import Effect, Env


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters, no effect."""

    def inject(self, env: Env, name: str) -> Nothing:  # noqa: ARG002  # the mechanism's signature
        """Do nothing."""
        return self

    def problem(self, *, starts_target: bool) -> str | None:  # noqa: ARG002  # the mechanism's signature
        """Nothing can always be done."""
        return None

    def finished(self) -> bool:
        """It lasts as long as the scenario says."""
        return False

    def heal(self) -> None:
        """There is nothing to remove."""

    def effect(self) -> Effect:
        """No request is affected, and that is right."""
        return Effect(0, 0, None, {})
