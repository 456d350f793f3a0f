"""Force a flush, and see that it did what it says.

1. Read how many events the buffer holds: GET /admin/buffer.
2. POST /admin/flush and wait for its answer: each flush must be `committed`.
3. Open every data file it names: the current snapshot references it, and its rows are as many as the flush says.
4. Read the buffer again: it holds fewer events than before, and none that was there when the flush was asked for.

The verdict of the run says whether any acknowledged event was lost.
"""

from __future__ import annotations

import time

from chaos.drills.desk import Desk


def perform(desk: Desk) -> None:
    """Do it."""
    before = desk.wait_for_events(200)
    asked_s = time.monotonic()
    answer = desk.admin.post("flush")
    flushes = answer["flushes"]
    committed = [flush for flush in flushes if flush["outcome"] == "committed"]
    desk.check(
        "committed", bool(flushes) and committed == flushes, f"{len(committed)} of {len(flushes)} flushes landed"
    )
    paths = [path for flush in committed for path in flush["files"]]
    rows = desk.table.rows_of(paths)
    desk.check(
        "files", set(rows) == set(paths) != set(), f"{len(rows)} of {len(paths)} data files are referenced and readable"
    )
    events = sum(flush["events"] for flush in committed)
    desk.check(
        "rows", sum(rows.values()) == events, f"{sum(rows.values())} rows were read, the flushes say {events} events"
    )
    ages_s = [float(part["oldest_age_s"]) for part in desk.admin.read("buffer").get("partitions", ())]
    oldest_s, since_s = max(ages_s, default=0.0), time.monotonic() - asked_s
    # A flush that was under way already may have taken most of what was buffered: what counts is that nothing of it is left.
    desk.check(
        "flushed", oldest_s <= since_s,
        f"{events} events were flushed; the oldest that is buffered came {oldest_s:.1f} s ago, the flush was asked for {since_s:.1f} s ago",
    )  # fmt: skip
    held = answer["buffered_events"]
    desk.check("fill", held < before, f"{held} events are buffered after it, {before} before")
