"""Scale the buffer from 2000 to 5000 events, and see that nothing of it was lost.

1. GET /admin/config: ICEBERG_BUFFER_SIZE as it is in force, not as some file says.
2. Stop the collector (SIGTERM: it drains) and start it with ICEBERG_BUFFER_SIZE=5000.
3. GET /admin/config and /admin/buffer: the new capacity is in force.
4. Events are accepted again.

The verdict of the run says whether an acknowledged event was lost on the way.
"""

from __future__ import annotations

from chaos.drills.desk import Desk

BEFORE, AFTER = 2000, 5000
SIZE = "ICEBERG_BUFFER_SIZE"


def perform(desk: Desk) -> None:
    """Do it."""
    desk.wait_for_events(200)
    variables = desk.admin.read("config")["variables"]
    desk.check("before", variables.get(SIZE) == str(BEFORE), f"{SIZE} was {variables.get(SIZE)}")
    desk.restart({SIZE: str(AFTER)})
    variables, buffer = desk.admin.read("config")["variables"], desk.admin.read("buffer")
    desk.check("configured", variables.get(SIZE) == str(AFTER), f"{SIZE} is {variables.get(SIZE)}")
    desk.check("in force", buffer["capacity_events"] == AFTER, f"a partition holds {buffer['capacity_events']} events")
    desk.accepts()
