"""Requests that were answered already and are forwarded later: zombies."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from chaos.gateway.errors import UpstreamLost
from chaos.gateway.rulebook import ActiveRule
from chaos.gateway.rules import Zombie

if TYPE_CHECKING:
    from chaos.gateway.exchange import Exchange


class HeldRequest:
    """One request held by a zombie rule.

    Args:
        exchange: The request; its client has been, or is being, answered.
        content: Its whole body.
        rule, action: The rule that holds it.

    Attributes:
        done: Set when the request was forwarded or given up.
    """

    def __init__(self, exchange: Exchange, content: bytes, rule: ActiveRule, action: Zombie) -> None:
        self._exchange = exchange
        self._content = content
        self._rule = rule
        self._action = action
        self._verb = (action.next_verb or exchange.request.verb).upper()
        self._released = asyncio.Event()
        self.done = asyncio.Event()

    def awaits(self, exchange: Exchange, until: str) -> bool:
        """Return whether *exchange* is the next request that this one waits for."""
        return (
            self._action.until == until
            and exchange is not self._exchange
            and exchange.route is self._exchange.route
            and exchange.request.verb == self._verb
            and exchange.request.path == self._exchange.request.path
        )

    def release(self) -> None:
        """Let it go now."""
        self._released.set()

    async def run(self) -> None:
        """Wait for the release, then forward the request as it was sent and log what the upstream said."""
        try:
            outcome = await self._forward() if await self._is_to_be_applied() else "refused"
            self._log(outcome)
        finally:
            self.done.set()

    async def _is_to_be_applied(self) -> bool:
        released = asyncio.ensure_future(self._released.wait())
        futures: set[asyncio.Future[object]] = {released, self._rule.deleted}  # type: ignore[arg-type]
        await asyncio.wait(futures, timeout=self._action.seconds, return_when=asyncio.FIRST_COMPLETED)
        released.cancel()
        dropped = self._rule.deleted.done() and not self._released.is_set() and self._rule.rule.on_delete == "drop"
        return not dropped

    async def _forward(self) -> str:
        try:
            self._status, _ = await self._exchange.route.fetch(self._exchange.request, self._content)
        except UpstreamLost:
            return "upstream-error"
        return "zombie"

    _status: int | None = None

    def _log(self, outcome: str) -> None:
        exchange = self._exchange
        line = {"t_ns": time.monotonic_ns(), "n": exchange.number, "released": True, **exchange.identity()}
        exchange.gateway.log.write(line | {"upstream_status": self._status, "outcome": outcome})
