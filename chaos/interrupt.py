"""The end of a run that somebody asks for: by a signal, by `icequake halt`, or by the scenario's own stop conditions."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """A person or a scheduler asked the run to end."""


class Signalled(Interrupted):
    """A signal did, so the whole command is to end."""


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into Signalled; a second one is left to end the process."""

    def interrupt(number: int, _frame: object) -> None:
        for sig, handler in before.items():
            signal.signal(sig, handler)
        raise Signalled(f"{signal.Signals(number).name} was received")

    before = {sig: signal.signal(sig, interrupt) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
