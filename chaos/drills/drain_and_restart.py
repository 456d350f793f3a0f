"""Drain the collector and restart it.

1. Read how many events the buffer holds: GET /admin/buffer.
2. SIGTERM. The exit status is 0 when all was flushed, 3 when events are left on disk for the next start.
3. Start it. After a drain with status 0 the buffer held nothing: all that was acknowledged before is in the table.
4. Events are accepted again.
"""

from __future__ import annotations

from chaos.drills.desk import Desk

DRAINED, LEFT_ON_DISK = 0, 3


def perform(desk: Desk) -> None:
    """Do it."""
    before = desk.wait_for_events(200)
    status = desk.stop()
    desk.check(
        "ended", status in (DRAINED, LEFT_ON_DISK), f"it ended with status {status}, {before} were buffered before"
    )
    if status == DRAINED:
        acked = desk.acked()
        landed = desk.wait(lambda: desk.visible() >= acked, 20.0)
        desk.check("drained", landed, f"the table shows {desk.visible()} of {acked} acknowledged events")
    desk.start({})
    acked = desk.acked()
    flows = desk.wait(lambda: desk.acked() > acked, 20.0)
    desk.check("accepts", flows, f"{desk.acked() - acked} events were acknowledged since the start")
