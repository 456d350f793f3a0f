"""Ending an experiment early: Ctrl-C and SIGTERM end it between runs as they do in one, and what was measured is kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """Somebody asked for the end; the text says how."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Stopped` for as long as the block lasts; a run inside heals first."""

    def stop(number: int, _frame: object) -> None:
        raise Stopped(f"{signal.Signals(number).name} was received")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
