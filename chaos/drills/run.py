"""A run in whose middle a drill is done: traffic before, during and after it, and the verdict of any run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog

from chaos.display import Display
from chaos.drills import Drill
from chaos.drills.desk import AdminClient, Desk, DrillFailed
from chaos.drills.desk import perform as perform_drill
from chaos.errors import BadTarget
from chaos.runner import POLL_S, Request, Runner
from chaos.stack import Stack
from chaos.target import TargetProcess
from chaos.warden_client import Warden
from loadtests.records.target import Target

AFTER_S = 2.0
"""Traffic flows so long after the drill."""


class CatalogFiles:
    """Data files of a table, read past every fault.

    Args:
        properties: pyiceberg catalog properties.
    """

    def __init__(self, properties: Mapping[str, str], identifier: str) -> None:
        self._properties, self._identifier = dict(properties), identifier

    def rows_of(self, paths: list[str]) -> dict[str, int]:
        """Return the number of rows in the footer of each of *paths* that the current snapshot references."""
        try:
            table = load_catalog("drill", **self._properties).load_table(self._identifier)
            referenced = {task.file.file_path for task in table.scan().plan_files()}
            return {path: self._rows(table, path) for path in paths if path in referenced}
        except Exception as error:  # whatever pyiceberg, Arrow or the network has to say, the files were not readable
            raise DrillFailed(f"the table could not be read: {error}") from error

    @staticmethod
    def _rows(table: Any, path: str) -> int:
        with table.io.new_input(path).open() as file:
            return int(pq.read_table(file).num_rows)


def check_target(target: Target) -> None:
    """Raise BadTarget unless a drill can be done with *target*."""
    if target.process is None or target.admin is None:
        raise BadTarget(
            f"target {target.name!r} has no `process` or no `admin`: a drill starts the collector and talks to its admin listener."
        )


def visible_of(look: Mapping[str, Any]) -> int:
    """Return how many acknowledged events the table showed at a look of the auditor; 0 before the first whole one."""
    acked, pending = look.get("acked"), look.get("pending")
    return acked - pending if isinstance(acked, int) and isinstance(pending, int) else 0


class DrillRunner(Runner):
    """Runs one drill on a stack that is up; see `Runner`."""

    def __init__(self, request: Request, drill: Drill, *, stack: Stack, warden: Warden, display: Display) -> None:
        self._drill = drill
        super().__init__(request, stack=stack, warden=warden, display=display)

    def _traffic_flows(self) -> None:
        if perform_drill(self._drill.name, self._drill.perform, self._desk()):
            self._flow(AFTER_S)

    def _flow(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._idle()
            time.sleep(POLL_S)

    def _idle(self) -> None:
        if self._window.traffic_end_ns is None:
            self._generator.check()
        self._refresh()

    def _desk(self) -> Desk:
        process, admin = self._process, self._target.admin
        assert process is not None
        assert admin is not None
        return Desk(
            name=self._drill.name,
            admin=AdminClient(admin.url, self._placed.admin_token),
            table=CatalogFiles(self._stack.pyiceberg_properties(direct=True), self._table_identifier()),
            stop=lambda: self._stop_target(process),
            start=lambda env: self._start_target(process, env),
            end_traffic=self._end_traffic,
            acked=lambda: self._generator.counts()["acked"],
            visible=self._visible,
            idle=self._idle,
            write=self._timeline.write,
        )

    def _visible(self) -> int:
        return visible_of(self._sampler.refresh_visible())

    def _stop_target(self, process: TargetProcess) -> int | None:
        self._noticed.add("target-ended")
        pid, status = process.pid, process.stop()
        self._timeline.write("process", name="target", state="exited", pid=pid, status=status)
        return status

    def _start_target(self, process: TargetProcess, env: Mapping[str, str]) -> None:
        process.start(env=env)
        self._timeline.write("process", name="target", state="ready", pid=process.pid)
        self._noticed.discard("target-ended")
