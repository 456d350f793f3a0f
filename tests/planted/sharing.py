"""Planted bugs of writers who are not alone with the table; each is the naive collector with one difference."""

from __future__ import annotations

import uuid
from typing import Any

from tests.planted.naive import append, flushes_by, refreshed, taken

FLUSH_ID = "mutant.flush-id"


def checks_head(naive: Any) -> None:
    """Note a flush's id on its snapshot, and look for it on the newest snapshot only when the outcome is not known."""

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        flush_id = uuid.uuid4().hex
        while True:
            try:
                table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA), snapshot_properties={FLUSH_ID: flush_id})
                return True
            except Exception as error:
                print(f"flush undecided, looking: {error!r}", flush=True)
            refreshed(table)
            head = table.current_snapshot()
            if head is not None and head.summary is not None and head.summary.get(FLUSH_ID) == flush_id:
                return True

    flushes_by(naive, attempt, take=taken)


def drops_misfits(naive: Any) -> None:
    """Look at the table before each flush, and drop what does not fit its schema."""

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        while True:
            refreshed(table)
            try:
                append(naive, table, rows)
            except ValueError as error:
                print(f"does not fit, dropped: {error!r}", flush=True)
            except Exception as error:
                print(f"flush failed, trying again: {error!r}", flush=True)
                continue
            return True

    flushes_by(naive, attempt, take=taken)
