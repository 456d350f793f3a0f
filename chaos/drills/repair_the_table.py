"""Repair the table: find the damage, stop the writer, mend it from what can be proved, and let the writer go on.

1. Run the doctor until it names the damage: `icequake doctor`. (Detected.)
2. Stop the collector: SIGTERM. What it cannot flush stays on its disk; an append would build on the damage.
3. `icequake repair`: step by step, each with its evidence, a backup of what it replaces, and the doctor before the next one,
   until nothing is left to mend.
4. The doctor finds nothing critical any more. (Mitigated.)
5. Start the collector. Events are accepted again, and all that was acknowledged before it was stopped is visible; what a repair
   could not bring back is missing, exactly as many events as it said. (Recovered.)

Parameters: fault (the damage; empty when a step of the scenario does it), detect_s (how long the doctor may take to see it),
accept_loss (do a step that loses rows for good; their number is accounted for, and the verdict is about them).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from chaos.drills.desk import SCAN_S, Desk, DrillFailed
from chaos.faults import catalogue

MOST_STEPS = 50


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is damaged, and what may be done about it."""

    fault: str = "manifest-deleted"
    detect_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 60.0
    accept_loss: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no damage. Raises ValueError."""
        if self.fault and (self.fault not in catalogue() or catalogue()[self.fault].mechanism != "object"):
            damage = [name for name, spec in catalogue().items() if spec.mechanism == "object"]
            raise ValueError(f"fault {self.fault!r} damages no object; there are {', '.join(damage)}")


def perform(desk: Desk, params: Params) -> None:
    """Do it."""
    if params.fault:
        _two_flushes(desk)
        with desk.fault(params.fault, {}):
            _repair(desk, params)
    else:
        _repair(desk, params)


def _two_flushes(desk: Desk) -> None:
    """Damage is done to what a later append does not read."""
    for _ in range(2):
        desk.wait_for_events(100)
        desk.admin.post("flush")


def _repair(desk: Desk, params: Params) -> None:
    found: list[str] = []

    def sees() -> bool:
        found[:] = desk.table.critical()
        return bool(found)

    if not desk.wait(sees, params.detect_s):
        raise DrillFailed(
            f"the doctor found nothing critical within {params.detect_s:g} s: there was nothing to repair."
        )
    desk.check("found", True, "; ".join(found[:3]))
    desk.reached("detected", f"{len(found)} critical findings, first {found[0]}")

    status = desk.stop()
    stopped_s = desk.clock()
    desk.check("stopped", status in (0, 3), f"the collector ended with status {status}")
    rows_lost = _mend(desk, params)
    left = desk.table.critical()
    desk.check("sound", not left, "; ".join(left[:3]) or "the doctor finds nothing critical")
    if not left:
        desk.reached("mitigated", "the table is sound again")

    desk.start({})
    desk.accepts()
    if rows_lost:
        _account(desk, rows_lost, stopped_s)
    elif desk.all_there("all back", stopped_s) and not left:
        desk.reached("recovered", "all that was acknowledged before is in the table, and events are accepted")


def _mend(desk: Desk, params: Params) -> int:
    """Do steps until there is none; return how many rows they lost."""
    done: list[Any] = []
    while len(done) < MOST_STEPS:
        desk.idle()
        step = desk.table.mend(accept_loss=params.accept_loss)
        if step.recipe is None:
            break
        done.append(step)
    else:
        raise DrillFailed(f"after {MOST_STEPS} steps the table still needs one.")
    said = ", ".join(one.recipe for one in done) or "nothing was done"
    desk.check("mended", bool(done) and not step.left, f"{said}; not mended: {'; '.join(step.left) or 'nothing'}")
    return sum(one.rows_lost for one in done)


def _account(desk: Desk, rows_lost: int, stopped_s: float) -> None:
    exact = desk.wait(lambda: len(desk.missing(stopped_s)) == rows_lost, 60.0, every_s=SCAN_S)
    missing = len(desk.missing(stopped_s))
    desk.check("accounted", exact, f"{missing} acknowledged events are missing, the repair said {rows_lost} rows")
    if exact:
        desk.reached("recovered", f"all but {rows_lost} events are in the table, and events are accepted")
