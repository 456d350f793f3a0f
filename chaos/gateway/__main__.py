"""`python -m chaos.gateway --config FILE`: run the gateway until it is told to end.

Prints one line, `{"ready": true, "listeners": {name: "host:port"}, "control": "host:port"}`, when all listeners are bound. Ends at
once on SIGTERM (0). A taken port: one sentence, exit 255; a wrong configuration or command line: one sentence, exit 254.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from chaos.gateway.config import Config, address, load_config
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

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(254, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway; return the exit code."""
    parser = _Parser(prog="python -m chaos.gateway", description="Forward S3 and catalog traffic, with faults by rule.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file, mode 0600")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(config))
    except GatewayError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


async def serve(config: Config) -> None:
    """Listen, say so, and go on until SIGTERM or SIGINT.

    Raises:
        GatewayError: a port is taken, or a log or credential is not to be had.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    gateway = Gateway(RuleBook(config.seed), _open_log(config))
    connections: set[ServerConnection] = set()
    bound: dict[str, str] = {}
    routes = _routes(config)
    for listener, route in zip(config.listeners, routes, strict=True):
        bound[listener.name] = await _listen(listener.name, listener.listen, gateway.handler(route), connections)
    control = Control(gateway, config.token, frozenset(bound))
    control_address = await _listen("control", config.control, control.handle, connections)
    sweeper = asyncio.create_task(gateway.sweep())
    print(msgspec.json.encode({"ready": True, "listeners": bound, "control": control_address}).decode(), flush=True)
    await ended.wait()
    sweeper.cancel()
    for connection in list(connections):
        connection.abort()
    for route in routes:
        route.upstream.close()
    gateway.log.close()


def _routes(config: Config) -> list[Route]:
    resigner, learn = None, None
    if config.resign is not None:
        credentials = config.resign.credentials(os.environ)
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


async def _listen(name: str, where: str, handler: Handler, connections: set[ServerConnection]) -> str:
    host, port = address(where)
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: ServerConnection(handler, connections), host, port, backlog=1024
        )
    except OSError as error:
        raise PortTaken(name, where, os.strerror(error.errno) if error.errno else str(error)) from None
    return f"{host}:{server.sockets[0].getsockname()[1]}"


if __name__ == "__main__":
    sys.exit(main())
