"""What a worker and its parent say to each other: JSON lines, each with `is`.

To the worker: trials, then `End`. From it: `Ready` once, `Phase` while a trial goes on, an `Outcome` for each; `Broken` instead when
its stack could not be started.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from chaos.trials.outcome import Outcome, Trial


class Order(Struct, frozen=True, tag="trial", tag_field="is"):
    """Do this trial."""

    trial: Trial


class End(Struct, frozen=True, tag="end", tag_field="is"):
    """There is nothing more to do."""


class Ready(Struct, frozen=True, tag="ready", tag_field="is"):
    """The stack is up."""


class Phase(Struct, frozen=True, tag="phase", tag_field="is"):
    """The trial has come this far."""

    name: str


class Broken(Struct, frozen=True, tag="broken", tag_field="is"):
    """There is no stack, and why."""

    sentence: str


Told = Ready | Phase | Outcome | Broken

ORDERS: msgspec.json.Decoder[Order | End] = msgspec.json.Decoder(Order | End)
TOLD: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)


def line(message: Struct) -> bytes:
    """Return *message* as one line."""
    return msgspec.json.encode(message) + b"\n"
