"""Planted bugs in commits; each is the naive collector with one difference."""

from __future__ import annotations

import time
from typing import Any

from tests.planted.flushing import gives_up
from tests.planted.naive import append, flushes_by, taken

SOME = 5
"""More data files than there are when damage is done in a micro-scenario, fewer than come while it lasts."""


def no_retries(naive: Any) -> None:
    """Commit with `commit.retry.num-retries` 0, as those do who retry for themselves."""
    open_table = naive.open_table

    def opened() -> Any:
        table = open_table()
        with table.transaction() as change:
            change.set_properties({"commit.retry.num-retries": "0"})
        return table

    naive.open_table = opened


def gives_up_at_once(naive: Any) -> None:
    """Drop a batch whose first attempt to commit was not the last."""
    no_retries(naive)
    gives_up(naive)


def forces_commits(naive: Any) -> None:
    """Commit without asserting anything and without a parent, so that the catalog cannot refuse what is out of date."""
    open_table = naive.open_table

    def opened() -> Any:
        table = open_table()
        commit = table.catalog.commit_table
        table.catalog.commit_table = lambda table, _requirements, updates: commit(
            table, (), tuple(_orphaned(update) for update in updates)
        )
        return table

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        try:
            table.refresh()
            append(naive, table, rows)
        except Exception as error:
            print(f"flush failed, with the next one again: {error!r}", flush=True)
            with naive.lock:
                naive.buffer[:0] = rows
        return True

    naive.open_table = opened
    flushes_by(naive, attempt, take=taken)


def _orphaned(update: Any) -> Any:
    """Take the parent out of a new snapshot."""
    if update.action != "add-snapshot":
        return update
    return update.model_copy(update={"snapshot": update.snapshot.model_copy(update={"parent_snapshot_id": None})})


def compacts(naive: Any) -> None:
    """Rewrite the table into one file when it has some, of what can be read, as if the rest were nobody's."""

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        while True:
            try:
                table.refresh()
                files = [task.file.file_path for task in table.scan().plan_files()]
                if len(files) < SOME:
                    append(naive, table, rows)
                else:
                    table.overwrite(naive.pa.concat_tables([*_readable(naive, table, files), _new(naive, rows)]))
            except Exception as error:
                print(f"flush failed, trying again: {error!r}", flush=True)
                time.sleep(naive.TIMEOUT_S)
            else:
                return True

    flushes_by(naive, attempt, take=taken)


def _new(naive: Any, rows: list[dict[str, str]]) -> Any:
    return naive.pa.Table.from_pylist(rows, naive.SCHEMA)


def _readable(naive: Any, table: Any, files: list[str]) -> list[Any]:
    import pyarrow.parquet as pq

    read = []
    for path in files:
        try:
            with table.io.new_input(path).open() as stream:
                read.append(pq.read_table(stream).select(naive.SCHEMA.names).cast(naive.SCHEMA))
        except Exception as error:
            print(f"left out: {error!r}", flush=True)
    return read
