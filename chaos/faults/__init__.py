"""The fault catalogue: names are data (catalogue.yaml), mechanisms are Python (one file each).

A mechanism is a frozen msgspec Struct of its parameters with one method, `inject(env, name)`, which applies the fault and
returns an `Injection`. `nothing.py` is the smallest one, and the control experiment.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from chaos.faults.clients import BadClients
from chaos.faults.clock import ClockStep
from chaos.faults.crash import CrashPoint
from chaos.faults.env import Mechanism
from chaos.faults.flushes import ConcurrentFlushes
from chaos.faults.foreign import ForeignWriter
from chaos.faults.freeze import Freeze
from chaos.faults.hook import OwnersHook
from chaos.faults.host import LockedDatabase, SyscallError
from chaos.faults.http import GatewayRule
from chaos.faults.micro import Micro
from chaos.faults.nothing import Nothing
from chaos.faults.object import DamagedObject
from chaos.faults.power import PowerCut
from chaos.faults.process import KillProcess
from chaos.faults.second import SecondProcess
from chaos.faults.server import KillServer
from chaos.faults.stages import Stage
from chaos.faults.torn import TornTail
from chaos.faults.toxic import Toxic
from loadtests.records.documents import load_yaml

CATALOGUE = Path(__file__).parent / "catalogue.yaml"

MECHANISMS: dict[str, type[Mechanism]] = {
    "nothing": Nothing,
    "toxic": Toxic,
    "http": GatewayRule,
    "process": KillProcess,
    "crash": CrashPoint,
    "freeze": Freeze,
    "second": SecondProcess,
    "server": KillServer,
    "host": SyscallError,
    "lock": LockedDatabase,
    "clock": ClockStep,
    "clients": BadClients,
    "hook": OwnersHook,
    "object": DamagedObject,
    "foreign": ForeignWriter,
    "flushes": ConcurrentFlushes,
    "torn": TornTail,
    "power": PowerCut,
}


class FaultSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"params": "with"}):
    """One named fault.

    Attributes:
        about: What breaks, in one sentence.
        mechanism: A key of `MECHANISMS`.
        stages: Where in the pipeline it bites; none for the control experiment, and for what only its owner knows.
        params: Its parameters; a scenario's `with` overrides them one by one.
        micro: How `icequake catalogue` tries it.
    """

    about: str
    mechanism: str
    stages: list[Stage]
    params: dict[str, Any] = field(default_factory=dict)
    micro: Micro = field(default_factory=Micro)
    name: str = ""

    def with_params(self, params: dict[str, Any]) -> FaultSpec:
        """Return this fault with *params* laid over its own. Raises ValueError or msgspec.ValidationError."""
        spec = msgspec.structs.replace(self, params={**self.params, **params})
        spec.build()
        return spec

    def build(self) -> Mechanism:
        """Return the mechanism with these parameters. Raises ValueError or msgspec.ValidationError."""
        if self.mechanism not in MECHANISMS:
            raise ValueError(f"there is no mechanism {self.mechanism!r}; there are {', '.join(MECHANISMS)}.")
        mechanism: Mechanism = msgspec.convert(self.params, MECHANISMS[self.mechanism])
        return mechanism


@lru_cache(maxsize=1)
def catalogue() -> dict[str, FaultSpec]:
    """Return every named fault. Raises InvalidDocument when catalogue.yaml is wrong."""
    entries = load_yaml(CATALOGUE, dict[str, FaultSpec])
    return {name: msgspec.structs.replace(spec, name=name).with_params({}) for name, spec in entries.items()}
