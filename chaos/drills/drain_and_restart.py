"""Drain the collector and restart it.

1. Keep clients away (here: the way to the collector is cut), so that what is acknowledged stands still.
2. SIGTERM. The exit status is 0 when all was flushed, 3 when events are left on disk for the next start.
3. After status 0 every acknowledged event is in the table. After status 3 exactly those are missing that the next start finds.
4. Start it, and read what it holds: GET /admin/buffer. After status 0 that is nothing; after status 3 flush it, and nothing is
   missing any more.
5. Let clients in. Events are accepted again.
"""

from __future__ import annotations

from chaos.drills.desk import Desk

DRAINED, LEFT_ON_DISK = 0, 3
LOOK_S = 20.0
"""How long the auditor may take to see what is there."""


def perform(desk: Desk) -> None:
    """Do it."""
    before = desk.wait_for_events(200)
    with desk.fault("ingest-down", {}):
        status = desk.stop()
        ended = f"it ended with status {status}, {before} were buffered before"
        desk.check("ended", status in (DRAINED, LEFT_ON_DISK), ended)
        stopped_s = desk.clock()
        seen = desk.wait(lambda: desk.look().t_s > stopped_s and desk.look().acked >= desk.acked(), LOOK_S)
        missing = desk.acked() - desk.visible()
        if status == DRAINED:
            drained = desk.all_visible(stopped_s, LOOK_S)
            desk.check("drained", drained, f"the table shows {desk.visible()} of {desk.acked()} acknowledged events")
        desk.start({})
        held = desk.buffered()
        if status == DRAINED:
            desk.check("empty", held == 0, f"{held} events were there after the start")
        else:
            left = f"{missing} acknowledged events were missing, {held} were there after the start"
            desk.check("left on disk", seen and 0 < missing <= held, left)
            desk.admin.post("flush")
            back = desk.all_visible(desk.clock(), LOOK_S)
            desk.check("came back", back, f"the table shows {desk.visible()} of {desk.acked()} acknowledged events")
    desk.accepts()
