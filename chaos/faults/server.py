"""Kill a server that the target depends on, and bring it back with its data on the same port."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from msgspec import Meta, Struct

from chaos.errors import NotPossible
from chaos.faults.dead_path import on_dead_path
from chaos.faults.env import Effect, Env
from chaos.stack import Stack

ROLES = {"r2": "storage", "catalog": "catalog"}
"""Path -> who serves it."""


class KillServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SIGKILL a server of the stack; it comes back after *down_s*.

    Attributes:
        who: `storage` or `catalog`, which are one process on some stacks. `gateway` and `toxiproxy` take the way to both with
            them; rules of the gateway that other steps have put end with it.
    """

    who: Literal["storage", "catalog", "gateway", "toxiproxy"]
    down_s: Annotated[float, Meta(ge=0, le=3600)] = 2.0

    def problem(self, *, starts_target: bool) -> str | None:
        """A target that runs elsewhere does not depend on our servers."""
        return None if starts_target else "the target is not started by the harness, so it does not use our servers"

    @property
    def needs(self) -> tuple[str, ...]:
        """Capabilities of the stack without which its step is void."""
        return ("survives_kill",) if self.who == "storage" else ()

    def inject(self, env: Env, name: str) -> ServerInjection:  # noqa: ARG002  # the mechanism's signature
        """Kill it. It ends with the run, so there is nothing to journal. Raises NotPossible."""
        return ServerInjection(self, env)


class ServerInjection:
    """A server that is gone."""

    def __init__(self, kill: KillServer, env: Env) -> None:
        self._who, self._env = kill.who, env
        if not env.stack.owned:
            raise NotPossible(f"{kill.who} was started by `icequake up`, so this run cannot kill and restart it")
        if kill.who == "storage" and not env.stack.capabilities().get("survives_kill", True):
            raise NotPossible(f"the storage of the {env.stack.name} stack is memory, so nothing would survive its end")
        self._since_ns = self._until_ns = time.monotonic_ns()
        self._server = env.stack.server(kill.who)
        env.stack.kill(kill.who)
        self._back_at = time.monotonic() + kill.down_s

    def finished(self) -> bool:
        """It has been gone long enough."""
        return time.monotonic() >= self._back_at

    def heal(self) -> None:
        """Start it, with its proxies and log, and wait until it serves. Raises NotReady."""
        self._env.stack.restart(self._who)
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count the target's requests that met a dead server; those that never came to the gateway leave no record."""
        since, until = self._since_ns, self._until_ns
        measured = {"server": self._server, "down_s": round((until - since) / 1e9, 3)}
        return on_dead_path(self._env.seen, paths_of(self._env.stack, self._who), since, until, measured)


def paths_of(stack: Stack, who: str) -> list[str]:
    """Return the paths that lead to, or through, a server."""
    served = [path for path, role in ROLES.items() if stack.server(role) == stack.server(who)]
    return served or list(ROLES)
