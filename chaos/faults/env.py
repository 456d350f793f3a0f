"""What a fault may use, and what it must answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from chaos.condition import Read
from chaos.requests_seen import RequestsSeen
from chaos.stack import Stack
from chaos.target import TargetProcess
from chaos.warden_client import Warden
from loadtests.records.target import Hook

Flush = Callable[[], object]
"""Asks the target's admin listener to flush, and waits for its answer. Raises ChaosError when that is no success."""


@dataclass(frozen=True)
class Env:
    """The running pipeline, as a fault sees it.

    Attributes:
        target: The process under test, or None when it is not ours to start and kill.
        seen: What the gateway and the ledgers say passed since a moment.
        rng: The step's own random numbers, from the run's seed.
        read: The present value of a reading (`chaos.condition.READINGS`); None when nobody takes it.
        hooks: The owner's own faults, by name, from the target file.
        data_dir: Where the target keeps what it must not lose.
        here: The directory of the target file.
        table: The run's table, `namespace.name`.
        originals: Where objects are kept that a fault damages.
        flush: Asks the target to flush; None where its file names no admin listener.
    """

    stack: Stack
    warden: Warden
    target: TargetProcess | None
    seen: RequestsSeen
    rng: random.Random
    read: Read = lambda _: None
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    data_dir: Path = Path()
    here: Path = Path()
    table: str = ""
    originals: Path = Path("originals")
    flush: Flush | None = None


@dataclass(frozen=True)
class Effect:
    """Proof, or lack of proof, that a fault took effect.

    Attributes:
        affected: Target requests that met it, from records. None: they left no record (a dead path keeps them from whoever would
            count); what shows that there were some is in `measured`.
        escaped: Target requests that passed while it was on and did not meet it.
        reason: Why it counts as void, in one sentence; None when it took effect.
        measured: What was probed, for the timeline.
    """

    affected: int | None
    escaped: int
    reason: str | None
    measured: dict[str, Any]


class Injection(Protocol):
    """A fault that is on."""

    def finished(self) -> bool:
        """Tell whether it has done all it was meant to, so that it may be healed before its time."""

    def heal(self) -> None:
        """Remove it and verify that it is gone. Raises ChaosError when that cannot be shown."""

    def effect(self) -> Effect:
        """Tell what it did; asked once, after `heal`."""


class Mechanism(Protocol):
    """A way of breaking things, with its parameters.

    One that ends the target and starts it again has `restarts_target = True` (a ClassVar): such steps wait for one another.
    """

    def inject(self, env: Env, name: str) -> Injection:
        """Apply the fault; *name* is unique in the run. The undoing is journaled before anything is changed."""

    def problem(self, *, starts_target: bool) -> str | None:
        """Say in a sentence why this cannot be injected on such a target, or None."""
