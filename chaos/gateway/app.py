"""Put together what a configuration asks for, and listen."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.gateway.config import Config, address
from chaos.gateway.control import Control
from chaos.gateway.errors import GatewayError, PortTaken
from chaos.gateway.log import GatewayLog
from chaos.gateway.proxy import Gateway
from chaos.gateway.rewrite import Rewriter
from chaos.gateway.route import Route
from chaos.gateway.rulebook import RuleBook
from chaos.gateway.server import Handler, ServerConnection
from chaos.gateway.sigv4 import Resigner
from chaos.gateway.upstream import Upstream


@dataclass(frozen=True)
class Running:
    """A gateway that listens.

    Attributes:
        gateway: What it shares between requests.
        listeners: Address ("host:port") by listener name.
        control: Address of the control interface.
    """

    gateway: Gateway
    listeners: dict[str, str]
    control: str


@asynccontextmanager
async def running(
    config: Config,
    *,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.monotonic,
    log: GatewayLog | None = None,
) -> AsyncIterator[Running]:
    """Listen while the context is open; leaving it resets every connection at once.

    Args:
        config: What to listen on and where it leads.
        environment: Where credentials are looked up.
        clock: Monotonic seconds, for rules that depend on time.
        log: The log to write; by default a new one as configured.

    Raises:
        GatewayError: a port is taken, or a log or credential is not to be had.
    """
    gateway = Gateway(RuleBook(config.seed, clock), log or _open_log(config), clock=clock)
    routes = _routes(config, environment)
    connections: set[ServerConnection] = set()
    servers: list[asyncio.Server] = []
    bound: dict[str, str] = {}
    sweeper = asyncio.create_task(gateway.sweep())
    try:
        for listener, route in zip(config.listeners, routes, strict=True):
            server = await _listen(listener.name, listener.listen, gateway.handler(route), connections)
            servers.append(server)
            bound[listener.name] = _bound_to(server)
        control = Control(gateway, config.token, frozenset(bound))
        servers.append(await _listen("control", config.control, control.handle, connections))
        yield Running(gateway, bound, _bound_to(servers[-1]))
    finally:
        sweeper.cancel()
        for server in servers:
            server.close()
        for connection in list(connections):
            connection.abort()
        for route in routes:
            route.upstream.close()
        await gateway.close()


def _routes(config: Config, environment: Mapping[str, str]) -> list[Route]:
    resigner, learn = None, None
    if config.resign is not None:
        credentials = config.resign.credentials(environment)
        resigner = Resigner(credentials, region=config.resign.region, service=config.resign.service)
        learn = resigner.learn if config.resign.vended else None
    rewriter = Rewriter(config.rewrite_s3_endpoint, learn) if config.rewrite_s3_endpoint or learn else None
    return [
        Route(
            listener.name,
            listener.speaks,
            Upstream(listener.upstream),
            resigner=resigner if listener.speaks == "s3" else None,
            rewriter=rewriter if listener.speaks == "iceberg" else None,
        )
        for listener in config.listeners
    ]


def _open_log(config: Config) -> GatewayLog:
    log = GatewayLog(config.run)
    if config.log is not None:
        try:
            log.switch(Path(config.log))
        except OSError as error:
            raise GatewayError(f"The gateway's log {config.log} cannot be opened: {error.strerror}.") from None
    return log


async def _listen(name: str, where: str, handler: Handler, connections: set[ServerConnection]) -> asyncio.Server:
    host, port = address(where)
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(lambda: ServerConnection(handler, connections), host, port, backlog=1024)
    except OSError as error:
        raise PortTaken(name, where, os.strerror(error.errno) if error.errno else str(error)) from None


def _bound_to(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"{host}:{port}"
