"""Drills: recovery procedures that are done, timed and checked, instead of being believed.

One procedure a module: its docstring is the procedure, as a person would do it, and `perform` does it while traffic flows.
Every post-condition is a line of the timeline (event `drill`); the judge turns them into the check `drill.<name>`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from chaos.drills.desk import Desk
from chaos.errors import BadInput

MODULES = {
    "flush-and-verify": "flush_and_verify",
    "export-clear-replay": "export_clear_replay",
    "reset-accounted": "reset_accounted",
    "scale-buffer": "scale_buffer",
    "drain-and-restart": "drain_and_restart",
}


@dataclass(frozen=True)
class Drill:
    """A procedure.

    Attributes:
        text: What a person does, and what must hold afterwards.
        perform: Does it.
    """

    name: str
    text: str
    perform: Callable[[Desk], None]

    @property
    def about(self) -> str:
        """Its first line."""
        return self.text.partition("\n")[0].rstrip(".")


def find_drill(name: str) -> Drill:
    """Return a drill. Raises BadInput."""
    if name not in MODULES:
        raise BadInput(f"there is no drill {name!r}; there are {', '.join(MODULES)}.")
    module = importlib.import_module(f"chaos.drills.{MODULES[name]}")
    return Drill(name, inspect.cleandoc(module.__doc__ or ""), module.perform)
