"""``python -m collector``: read the configuration, open the buffer, serve, and drain on SIGTERM.

Exit codes: 0 drained, 3 events are left on disk and will be flushed by the next start, 254 bad configuration,
255 the buffer or a listener could not be opened.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

import uvicorn

from collector import telemetry
from collector.admin import AdminApp
from collector.app import IngestApp
from collector.buffer import Buffer
from collector.clock import SystemClock
from collector.config import Config, Listener, from_environ, help_text
from collector.crashpoints import NONE, CrashPoints
from collector.errors import BufferUnavailable, CollectorError, ConfigError
from collector.landed import Landed
from collector.protocol import bounded_protocol
from collector.service import Service

if TYPE_CHECKING:
    from collector.flusher import Flusher, FlushResult

EXIT_DRAINED, EXIT_LEFT_ON_DISK, EXIT_BAD_CONFIG, EXIT_NOT_OPENED = 0, 3, 254, 255

_GRACE_S = 2.0
"""Time for a thread to end after the drain deadline; whatever it does is safe to interrupt."""

log = logging.getLogger("collector")

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the collector; returns its exit code."""
    allow_faults = _arguments(argv).allow_faults
    try:
        config = from_environ(os.environ)
        crash = _crash_points(config.faults, allow_faults=allow_faults)
    except ConfigError as error:
        print(f"collector: {error}", file=sys.stderr)
        return EXIT_BAD_CONFIG
    telemetry.configure_logging(config.secrets())
    try:
        return _run(config, crash)
    except ConfigError as error:
        log.critical("%s", error)
        return EXIT_BAD_CONFIG
    except (CollectorError, OSError) as error:
        log.critical("cannot start: %s", error)
        return EXIT_NOT_OPENED


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m collector",
        description="Accepts CloudEvents over HTTP, keeps them on disk, and appends each to an Iceberg table once.",
        epilog=f"environment variables [default]:\n{help_text()}\n\nexit codes: 0 drained; 3 events are left on disk; "
        "254 bad configuration; 255 cannot open the buffer or a listener",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--allow-faults", action="store_true", help="honour COLLECTOR_FAULTS; for tests only")
    return parser.parse_args(argv)


def _crash_points(faults: str, *, allow_faults: bool) -> CrashPoints:
    if not faults:
        return NONE
    if not allow_faults:
        raise ConfigError("COLLECTOR_FAULTS is set; unset it, or start with --allow-faults if this is a test")
    return CrashPoints.parse(faults)


def _run(config: Config, crash: CrashPoints) -> int:
    with contextlib.ExitStack() as stack:
        ingest = stack.enter_context(_bind(config.ingest, "LISTEN"))
        admin = stack.enter_context(_bind(config.admin, "ADMIN"))
        buffer = Buffer(
            config.data_dir,
            capacity_events=config.flush.size_events,
            clock=SystemClock(),
            crash=crash,
            max_partitions=config.buffer_max_partitions,
            dedupe_window_s=config.dedupe.window_s,
            dedupe_max_events=config.dedupe.max_events,
        )
        stack.callback(buffer.close)
        runner = asyncio.Runner(loop_factory=_loop_factory())
        stack.enter_context(runner)
        return runner.run(_serve(config, crash, buffer, ingest, admin))


async def _serve(
    config: Config, crash: CrashPoints, buffer: Buffer, ingest: socket.socket, admin: socket.socket
) -> int:
    return await _Process(config, crash, buffer).run(ingest, admin)


def _bind(listener: Listener, prefix: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    try:
        return socket.create_server((listener.host.strip("[]"), listener.port), family=family, backlog=2048)
    except OSError as error:
        raise BufferUnavailable(
            f"cannot listen on {listener.host}:{listener.port} ({prefix}_HOST, {prefix}_PORT): {error.strerror}"
        ) from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


class _Server(uvicorn.Server):
    """A server that leaves signals to the process: there are two of them, and one drain."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _in_thread(work: Callable[[], T]) -> Future[T]:
    """Run ``work`` on a daemon thread: unlike an executor's, it does not hold up the end of the process."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


class _Process:
    """The life of a collector between its first socket and its exit code."""

    def __init__(self, config: Config, crash: CrashPoints, buffer: Buffer) -> None:
        self._config = config
        self._crash = crash
        self._buffer = buffer
        self._clock = SystemClock()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._metrics = telemetry.Metrics(buffer.snapshot, crash)
        self._flusher = asyncio.wrap_future(_in_thread(self._make_flusher))
        self._service = Service(config, buffer, self._metrics, self._clock, crash, self._flusher)

    async def run(self, ingest: socket.socket, admin: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        admin_app = AdminApp(self._service, self._buffer, self._landed)
        servers = [self._server(IngestApp(self._service)), self._server(admin_app)]
        serving = [
            asyncio.create_task(server.serve(sockets=[listener]))
            for server, listener in zip(servers, (ingest, admin), strict=True)
        ]
        ticking = asyncio.create_task(self._log_periodically())
        log.info("serving", extra={"fields": {"ingest": _address(ingest), "admin": _address(admin)}})
        self._flusher.add_done_callback(self._check_flusher)
        await self._stop.wait()
        drained = await self._drain()
        ticking.cancel()
        for server in servers:
            server.should_exit = True
        await asyncio.wait(serving, timeout=_GRACE_S)
        log.info("stopped", extra={"fields": {"drained": drained, "left_events": self._buffer.snapshot().events}})
        return EXIT_DRAINED if drained else EXIT_LEFT_ON_DISK

    def _check_flusher(self, starting: asyncio.Future[Flusher]) -> None:
        """Stop when the flusher cannot start: a collector that never flushes only looks alive."""
        if not starting.cancelled() and starting.exception():
            log.critical("the flusher cannot start", exc_info=starting.exception())
            self._stop.set()

    def _on_signal(self) -> None:
        """The first signal drains, the second one cuts the drain short."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    def _server(self, app: Callable[..., object]) -> uvicorn.Server:
        return _Server(
            uvicorn.Config(
                app,
                http=bounded_protocol(self._config.limits),
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )

    def _make_flusher(self) -> Flusher:
        """Import and start what talks to the table: the import takes longer than everything else at start."""
        from collector.commit import rest_table
        from collector.flusher import Flusher

        config = self._config
        table = rest_table(
            config.catalog, config.s3, clock=self._clock, maintenance=config.maintenance, crash=self._crash
        )
        flusher = Flusher(
            self._buffer,
            table,
            policy=config.flush,
            clock=self._clock,
            on_result=self._on_flush,
            crash=self._crash,
            maintenance=config.maintenance,
        )
        flusher.start()
        return flusher

    def _landed(self) -> Landed:
        """What a replay asks of the table: by a connection of its own, since that of the flusher is the flusher's."""
        from collector.commit import rest_table

        return Landed(rest_table(self._config.catalog, self._config.s3, clock=self._clock).keys)

    def _on_flush(self, result: FlushResult) -> None:
        """Report an attempt; called on the flusher's thread."""
        self._metrics.flushed(result, self._clock.time())
        self._service.table = "reachable" if result.outcome == "committed" else f"{result.outcome}: {result.error}"
        telemetry.log_flush(result, self._buffer.snapshot())

    async def _log_periodically(self) -> None:
        while True:
            telemetry.log_buffer(self._buffer.snapshot())
            await asyncio.sleep(self._config.log_interval_s)

    async def _drain(self) -> bool:
        """Finish the requests in flight and flush the rest; tell whether nothing is left."""
        self._service.draining = True
        log.info("draining", extra={"fields": {"deadline_s": self._config.drain_s}})
        draining = asyncio.create_task(self._flush_rest())
        hurrying = asyncio.create_task(self._hurry.wait())
        await asyncio.wait(
            {draining, hurrying}, timeout=self._config.drain_s + _GRACE_S, return_when=asyncio.FIRST_COMPLETED
        )
        drained = draining.done() and draining.exception() is None and draining.result()
        draining.cancel()
        hurrying.cancel()
        if self._flusher.done() and not self._flusher.exception():
            stopping = asyncio.wrap_future(_in_thread(self._flusher.result().stop))
            await asyncio.wait({stopping}, timeout=_GRACE_S)
        return drained

    async def _flush_rest(self) -> bool:
        deadline = self._clock.monotonic() + self._config.drain_s
        while self._service.in_flight and self._clock.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if not self._buffer.snapshot().events:
            return True
        flusher = await asyncio.shield(self._flusher)
        left_s = max(0.0, deadline - self._clock.monotonic())
        return await asyncio.wrap_future(_in_thread(lambda: flusher.drain(left_s)))


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    sys.stdout.flush()
    # A flusher that is still waiting for the catalog must not hold up the exit: all it knows is on disk.
    os._exit(exit_code)
