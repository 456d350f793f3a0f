"""Many operators who ask the target to flush, all at the same time and while it flushes by itself."""

from __future__ import annotations

import threading
import time
from typing import Annotated

from msgspec import Meta, Struct

from chaos.errors import ChaosError, NotPossible
from chaos.faults.env import Effect, Env, Flush

LAST_ANSWERS_S = 3.0
"""How long the last answers are awaited. One that takes longer, since the target's catalog does, is no longer counted."""


class ConcurrentFlushes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask the admin listener to flush, *at_once* times at once, again and again.

    Attributes:
        at_once: How many ask at the same time.
        every_s: How long each waits between an answer and its next question.
    """

    at_once: Annotated[int, Meta(ge=2, le=200)] = 20
    every_s: Annotated[float, Meta(ge=0, le=60)] = 0.1

    def problem(self, *, starts_target: bool) -> str | None:  # noqa: ARG002  # the mechanism's signature
        """Whoever may flush can do it twice at once; whether there is a listener the injection sees."""
        return None

    def inject(self, env: Env, name: str) -> FlushesInjection:  # noqa: ARG002  # the mechanism's signature
        """Begin to ask. Nothing outlives this process, so there is nothing to journal. Raises NotPossible."""
        if env.flush is None:
            raise NotPossible("the target file names no `admin` listener, so nobody can ask for a flush")
        return FlushesInjection(self, env.flush)


class FlushesInjection:
    """Operators at work."""

    def __init__(self, spec: ConcurrentFlushes, flush: Flush) -> None:
        self._spec, self._flush = spec, flush
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._answered = self._failed = self._asking = self._most = 0
        self._threads = [
            threading.Thread(target=self._ask, name=f"flush-{n}", daemon=True) for n in range(spec.at_once)
        ]
        for thread in self._threads:
            thread.start()

    def finished(self) -> bool:
        """It lasts as long as the step."""
        return False

    def heal(self) -> None:
        """Ask no more, and wait for the last answers."""
        self._end.set()
        deadline = time.monotonic() + LAST_ANSWERS_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def effect(self) -> Effect:
        """Count the flushes that were answered while another was asked for."""
        measured = {"answered": self._answered, "failed": self._failed, "most_at_once": self._most}
        if not self._answered:
            return Effect(0, 0, "no flush was answered with a success", measured)
        if self._most < 2:  # two are at once
            return Effect(0, 0, "no two flushes were asked for at the same time", measured)
        return Effect(self._answered, 0, None, measured)

    def _ask(self) -> None:
        while not self._end.is_set():
            with self._lock:
                self._asking += 1
                self._most = max(self._most, self._asking)
            try:
                self._flush()
            except ChaosError:
                answered = 0
            else:
                answered = 1
            with self._lock:
                self._asking -= 1
                self._answered += answered
                self._failed += 1 - answered
            self._end.wait(self._spec.every_s)
