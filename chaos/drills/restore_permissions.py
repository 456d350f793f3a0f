"""Restore a permission: find out which one is missing, grant it, and see the backlog drain.

1. Try every operation that the collector needs below its prefix, with its own credentials and by its own way; all are allowed.
   (`icequake doctor` does it. A test with an operator's credentials at the root of the bucket says nothing.)
2. The permission is gone (here: the gateway answers 403). Flushes fail, events wait, and clients go on being served.
3. Try again: exactly what is missing is named.
4. Grant it, and try once more: nothing is missing.
5. What was acknowledged before the grant comes to be in the table: the backlog has drained.

Parameters: operation (PUT, GET, HEAD or DELETE of data files).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chaos.drills.desk import Desk, DrillFailed

VERBS = {"PUT": ["PUT", "POST"], "GET": ["GET"], "HEAD": ["HEAD"], "DELETE": ["DELETE"]}
NAMED = {"PUT": {"PUT", "multipart upload", "conditional PUT"}}
"""What a store cannot do without the permission, when it is more than the operation itself."""
WRITES = frozenset(("PUT",))
"""Without these no flush can land."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which permission is lost."""

    operation: Literal["PUT", "GET", "HEAD", "DELETE"] = "PUT"


def perform(desk: Desk, params: Params) -> None:
    """Do it."""
    lost = params.operation
    desk.wait_for_events(100)
    desk.admin.post("flush")  # there must be a table to try permissions below
    denied = desk.table.denied()
    desk.check("before", not denied, _said(denied))
    with desk.fault("r2-403", {"match": {"upstream": "r2", "object": "data-file", "verb": VERBS[lost]}}):
        held = desk.wait_for_events(100)
        if lost in WRITES:
            desk.check("held", not _landed(desk), f"no flush landed while {held} events waited")
            desk.check("kept", desk.buffered() >= held, f"{desk.buffered()} events wait, {held} did before")
        denied = desk.table.denied()
        desk.check("named", set(denied) == NAMED.get(lost, {lost}), _said(denied))
        desk.reached("detected", _said(denied))
    restored_s = desk.clock()
    denied = desk.table.denied()
    desk.check("restored", not denied, _said(denied))
    desk.reached("mitigated", f"{lost} is allowed again")
    if desk.all_there("drained", restored_s):
        desk.reached("recovered", "the backlog has drained")


def _said(denied: dict[str, str]) -> str:
    return f"denied: {'; '.join(f'{name} ({why})' for name, why in denied.items()) or 'nothing'}"


def _landed(desk: Desk) -> bool:
    try:
        flushes = desk.admin.post("flush")["flushes"]
    except DrillFailed:
        return False
    return any(flush["outcome"] == "committed" for flush in flushes)
