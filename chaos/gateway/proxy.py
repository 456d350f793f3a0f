"""The gateway itself: its rules, its log and what it holds, and the handler of each listener."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from chaos.gateway.actions import handle
from chaos.gateway.body import HELD_BYTES
from chaos.gateway.errors import ClientGone, UpstreamLost
from chaos.gateway.exchange import Exchange
from chaos.gateway.held import HeldRequest
from chaos.gateway.limits import R2States
from chaos.gateway.log import GatewayLog
from chaos.gateway.messages import Request
from chaos.gateway.route import Route
from chaos.gateway.rulebook import ActiveRule, RuleBook
from chaos.gateway.rules import Stale
from chaos.gateway.server import Handler, ServerConnection
from chaos.gateway.stale import StaleTables

LONG_NS = 1_000_000_000
"""A request that takes longer gets a `begin` line, so that whoever waits for it in the log sees it."""

SWEEP_S = 0.25


class Gateway:
    """Everything that requests share.

    Args:
        book: The rules in force.
        log: Where each request leaves its line.
        held_bytes: Largest body that is kept whole; a request with a larger one passes rules that need to keep it.
        clock: Monotonic seconds, for stale states and R2's rate.
    """

    def __init__(
        self,
        book: RuleBook,
        log: GatewayLog,
        *,
        held_bytes: int = HELD_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.book = book
        self.log = log
        self.held_bytes = held_bytes
        self.r2 = R2States(clock)
        self.stale = StaleTables(clock)
        self._held: dict[HeldRequest, asyncio.Task[None]] = {}
        self._open: set[Exchange] = set()
        self._number = 0

    def handler(self, route: Route) -> Handler:
        """Return what handles the requests of one listener."""

        async def handler(request: Request, client: ServerConnection) -> None:
            self._number += 1
            exchange = Exchange(self, route, request, client, self._number)
            self._open.add(exchange)
            try:
                await self._before(exchange)
                await handle(exchange)
            except ClientGone:
                if exchange.outcome == "passed":
                    exchange.outcome = "client-gone"
                raise
            except UpstreamLost:
                exchange.outcome = "upstream-error"
                raise
            finally:
                self._open.discard(exchange)
                self.book.count(route.name, exchange.kind)
                exchange.finish()
                self._release(exchange, "next-answered")

        return handler

    @property
    def open_requests(self) -> int:
        """Return how many requests are neither answered nor given up, zombies included."""
        return len(self._open) + len(self._held)

    def hold(self, held: HeldRequest) -> None:
        """Keep a request that is forwarded later."""
        task = asyncio.get_running_loop().create_task(held.run())
        self._held[held] = task
        task.add_done_callback(lambda _: self._held.pop(held, None))

    def announce_long_requests(self) -> None:
        """Write a `begin` line for each request that has taken longer than a second."""
        now_ns = time.monotonic_ns()
        for exchange in self._open:
            if not exchange.announced and now_ns - exchange.request.started_ns >= LONG_NS:
                exchange.announced = True
                self.log.write(exchange.begin_line())

    async def sweep(self) -> None:
        """Announce long requests for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.announce_long_requests()

    async def close(self) -> None:
        """Give up what is held and end the log."""
        tasks = list(self._held.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.log.close()

    async def _before(self, exchange: Exchange) -> None:
        if self._held:
            for held in self._release(exchange, "next-arrives"):
                await held.done.wait()
        if exchange.kind == "commit":
            for rule in self.book.active:
                if isinstance(rule.action, Stale) and rule.action.since == "commit":
                    await self._remember(exchange, rule)

    def _release(self, exchange: Exchange, until: str) -> list[HeldRequest]:
        released = [held for held in self._held if held.awaits(exchange, until)]
        for held in released:
            held.release()
        return released

    async def _remember(self, exchange: Exchange, rule: ActiveRule) -> None:
        """Read the table as it is before this commit, in the committer's name."""
        path = exchange.request.path
        if not rule.concerns(exchange.route.name, "GET", "load-table", path) or not self.stale.wants(rule, path):
            return
        unwanted = (b"content-length", b"content-type", b"transfer-encoding", b"expect", b"content-encoding")
        headers = [field for field in exchange.request.headers if field[0].lower() not in unwanted]
        reading = Request("GET", path.encode("latin-1"), headers, exchange.request.body)
        try:
            status, answer = await exchange.route.fetch(reading, b"")
        except UpstreamLost:
            return
        if status == 200:
            self.stale.remember(rule, path, answer.body.take(), answer.headers)
