"""Drills: recovery procedures that are done, timed and checked, instead of being believed.

One procedure a module: its docstring is the procedure, as a person would do it, and `perform` does it while traffic flows.
Every post-condition is a line of the timeline (event `drill`); the judge turns them into the check `drill.<name>`.

A module has `perform(desk)`, or `perform(desk, params)` and `Params` (a frozen msgspec Struct of what can be given `with`). It
may have `NEEDS`, what of the target file it cannot do without; by default `process` and `admin`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from chaos.drills.desk import Desk, NoParams
from chaos.errors import BadInput
from loadtests.records.target import Target

MODULES = {
    "flush-and-verify": "flush_and_verify",
    "export-clear-replay": "export_clear_replay",
    "reset-accounted": "reset_accounted",
    "scale-buffer": "scale_buffer",
    "restore-permissions": "restore_permissions",
    "drain-and-restart": "drain_and_restart",
    "repair-the-table": "repair_the_table",
    "restore-from-export": "restore_from_export",
}
NEEDS = ("process", "admin")


@dataclass(frozen=True)
class Drill:
    """A procedure.

    Attributes:
        text: What a person does, and what must hold afterwards.
        perform: Does it.
        needs: Sections of the target file that it cannot do without.
        params: Its parameters as they are in force.
        schema: JSON Schema of them.
    """

    name: str
    text: str
    perform: Callable[[Desk], None]
    needs: tuple[str, ...] = NEEDS
    params: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """Its first line."""
        return self.text.partition("\n")[0].rstrip(".")

    def problem(self, target: Target) -> str | None:
        """Say in a sentence why this cannot be done with *target*, or None."""
        lacks = [f"`{section}`" for section in self.needs if getattr(target, section) is None]
        if not lacks:
            return None
        return f"target {target.name!r} has no {' and no '.join(lacks)}, which the drill {self.name} cannot do without"


def find_drill(name: str, params: Mapping[str, Any] | None = None) -> Drill:
    """Return a drill with *params* laid over its own. Raises BadInput."""
    if name not in MODULES:
        raise BadInput(f"there is no drill {name!r}; there are {', '.join(MODULES)}.")
    module = importlib.import_module(f"chaos.drills.{MODULES[name]}")
    kind = getattr(module, "Params", NoParams)
    try:
        given = msgspec.convert(dict(params or {}), kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadInput(f"drill {name}: {error}") from error
    return Drill(
        name,
        inspect.cleandoc(module.__doc__ or ""),
        partial(module.perform, params=given) if hasattr(module, "Params") else module.perform,
        tuple(getattr(module, "NEEDS", NEEDS)),
        msgspec.to_builtins(given),
        msgspec.json.schema(kind),
    )
