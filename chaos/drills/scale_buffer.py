"""Scale the buffer from 2000 to 5000 events, see that it holds more, and that nothing of it was lost.

1. GET /admin/config: ICEBERG_BUFFER_SIZE as it is in force, not as some file says.
2. Stop the collector (SIGTERM: it drains) and start it with ICEBERG_BUFFER_SIZE=5000.
3. GET /admin/config and /admin/buffer: the new capacity is in force.
4. Events are accepted again.
5. Do not take its word for it: while nothing can be flushed (here data files cannot be written), a partition comes to hold more
   than it could before.

The verdict of the run says whether an acknowledged event was lost on the way. Parameters: after (the new size), prove (do step 5).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from chaos.drills.desk import Desk

BEFORE = 2000
SIZE = "ICEBERG_BUFFER_SIZE"
FILL_S = 100.0
"""How long a partition may take to fill beyond its former capacity."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large it becomes, and whether that is tried."""

    after: Annotated[int, msgspec.Meta(gt=BEFORE, le=1_000_000)] = 5000
    prove: bool = True


def perform(desk: Desk, params: Params) -> None:
    """Do it."""
    desk.wait_for_events(200)
    variables = desk.admin.read("config")["variables"]
    desk.check("before", variables.get(SIZE) == str(BEFORE), f"{SIZE} was {variables.get(SIZE)}")
    desk.restart({SIZE: str(params.after)})
    variables, buffer = desk.admin.read("config")["variables"], desk.admin.read("buffer")
    desk.check("configured", variables.get(SIZE) == str(params.after), f"{SIZE} is {variables.get(SIZE)}")
    capacity = buffer["capacity_events"]
    desk.check("in force", capacity == params.after, f"a partition holds {capacity} events, it says")
    desk.accepts()
    if params.prove:
        with desk.fault("r2-403-data", {}):
            more = desk.wait(lambda: _fullest(desk) > BEFORE, FILL_S, every_s=0.5)
            desk.check(
                "holds more", more, f"the fullest partition holds {_fullest(desk)} events, {BEFORE} were its limit"
            )


def _fullest(desk: Desk) -> int:
    partitions = desk.admin.read("buffer")["partitions"]
    return max((int(one["events"]) for one in partitions), default=0)
