"""Planted bugs of writers who are not alone with the table; each is the naive collector with one difference."""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

from tests.planted.naive import append, cleared, flushes_by, refreshed, taken, waiting

FLUSH_ID = "mutant.flush-id"
GUARDED_S = 60.0


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


def pins_its_schema(naive: Any) -> None:
    """Stop flushing for good when the table has other columns than at the first flush."""
    columns: list[str] = []

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        refreshed(table)
        columns[:] = columns or table.schema().column_names
        if table.schema().column_names != columns:
            print("the schema has drifted, stopped", flush=True)
            return False
        append(naive, table, rows)
        cleared(naive, rows)
        return True

    flushes_by(naive, attempt, take=waiting)


def lands_again(naive: Any) -> None:
    """Commit a flush of the last minute again when no snapshot of the table carries its id, as if it had been rolled back."""
    landed: dict[str, tuple[float, list[dict[str, str]]]] = {}

    def commit(table: Any, flush_id: str, rows: list[dict[str, str]]) -> None:
        while True:
            try:
                table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA), snapshot_properties={FLUSH_ID: flush_id})
                return
            except Exception as error:
                print(f"flush failed, trying again: {error!r}", flush=True)
                refreshed(table)

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        refreshed(table)
        known = {one.summary.get(FLUSH_ID) for one in table.snapshots() if one.summary is not None}
        for flush_id, (since_s, earlier) in list(landed.items()):
            if time.monotonic() - since_s > GUARDED_S:
                del landed[flush_id]
            elif flush_id not in known:
                commit(table, flush_id, earlier)
        flush_id = uuid.uuid4().hex
        commit(table, flush_id, rows)
        landed[flush_id] = (time.monotonic(), rows)
        return True

    flushes_by(naive, attempt, take=taken)


def recreates(naive: Any) -> None:
    """Take a table that cannot be loaded for one that is lost: drop it, and create it anew."""
    opened: list[Any] = []

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        opened[:] = opened or [table]
        while True:
            try:
                append(naive, opened[0], rows)
                return True
            except Exception as error:
                print(f"flush failed, trying again: {error!r}", flush=True)
            try:
                opened[0].refresh()
            except Exception as error:
                print(f"the table is lost, created anew: {error!r}", flush=True)
                opened[0].catalog.drop_table(os.environ["TABLE_IDENTIFIER"])
                opened[0] = naive.open_table()

    flushes_by(naive, attempt, take=taken)
