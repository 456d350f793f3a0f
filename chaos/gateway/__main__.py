"""`python -m chaos.gateway --config FILE`: run the gateway until it is told to end.

Prints one line, `{"ready": true, "listeners": {name: "host:port"}, "control": "host:port"}`, when all listeners are bound. Ends at
once on SIGTERM (0). A taken port: one sentence, exit 255; a wrong configuration or command line: one sentence, exit 254.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from chaos.gateway.app import running
from chaos.gateway.config import Config, load_config
from chaos.gateway.errors import GatewayError

if sys.platform == "win32":
    from asyncio import new_event_loop as new_event_loop
else:
    from uvloop import new_event_loop as new_event_loop


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
    """Listen, say so on stdout, and go on until SIGTERM or SIGINT.

    Raises:
        GatewayError: a port is taken, or a log or credential is not to be had.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with running(config) as gateway:
        ready = {"ready": True, "listeners": gateway.listeners, "control": gateway.control}
        print(msgspec.json.encode(ready).decode(), flush=True)
        await ended.wait()


if __name__ == "__main__":
    sys.exit(main())
