"""What a run lets its drills do: stop and start the target, talk to its admin listener, end the traffic, inject a fault."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chaos.drills.desk import AdminClient, Desk, DrillFailed
from chaos.drills.sent import Sent
from chaos.drills.table import RunTable
from chaos.errors import NotReady
from chaos.faults import catalogue
from chaos.faults.env import Env
from chaos.nemesis import Nemesis
from chaos.scenario import DrillStep, Step
from chaos.target import Placed, TargetProcess
from loadtests.records.timeline import Timeline

UNTIL_HEALED_S = 86_400.0
NO_ADMIN = "http://127.0.0.1:9/admin"


@dataclass(frozen=True)
class Hands:
    """One run's.

    Attributes:
        process: The target, or None when it is not ours to stop.
        env_of: Gives a step its environment.
        acked: Events acknowledged so far.
        sent: What clients sent.
        table: The run's.
        end_traffic: Ends the traffic; returns at once.
        traffic_ended: Whether the last answers are there.
        noticed: What the run already knows of; the target's ending by a drill is added.
    """

    placed: Placed
    process: TargetProcess | None
    timeline: Timeline
    env_of: Callable[[Step], Env]
    acked: Callable[[], int]
    sent: Sent
    table: RunTable
    end_traffic: Callable[[], None]
    traffic_ended: Callable[[], bool]
    noticed: set[str]

    def desk(self, step: DrillStep, idle: Callable[[], None], write: Callable[..., Any]) -> Desk:
        """Return the desk of one drill; it calls *idle* while it waits and *write* for its lines."""
        admin = self.placed.target.admin
        desk = Desk(
            name=step.drill.name,
            admin=AdminClient(admin.url if admin is not None else NO_ADMIN, self._token()),
            table=self.table,
            stop=self._stop,
            kill=self._kill,
            start=self._start,
            end_traffic=lambda: self._end_traffic(desk),
            acked=self.acked,
            ledger=self.sent,
            fault=lambda name, params: self._fault(step.index, name, params),
            idle=idle,
            write=write,
        )
        return desk

    def _token(self) -> str:
        admin = self.placed.target.admin
        if self.process is not None or admin is None:
            return self.placed.admin_token
        return os.environ.get(admin.token_env, "")

    def _process(self) -> TargetProcess:
        if self.process is None:
            raise DrillFailed("the target is not a process of the harness.")
        return self.process

    def _stop(self) -> int | None:
        process = self._process()
        self.noticed.add("target-ended")
        pid, status = process.pid, process.stop()
        self.timeline.write("process", name="target", state="exited", pid=pid, status=status)
        return status

    def _kill(self) -> None:
        process = self._process()
        self.noticed.add("target-ended")
        pid, status = process.pid, process.kill()
        self.timeline.write("process", name="target", state="killed", pid=pid, status=status)

    def _start(self, env: Mapping[str, str]) -> None:
        process = self._process()
        try:
            process.start(env=env)
        except NotReady as error:
            raise DrillFailed(error.sentence) from error
        self.noticed.discard("target-ended")

    def _end_traffic(self, desk: Desk) -> None:
        self.end_traffic()
        if not desk.wait(self.traffic_ended, 60.0):
            raise DrillFailed("traffic did not end within 60 s.")

    @contextmanager
    def _fault(self, index: int, name: str, params: Mapping[str, Any]) -> Iterator[None]:
        step = Step(index, catalogue()[name].with_params(dict(params)), 0.0, None, UNTIL_HEALED_S)
        nemesis = Nemesis([step], self.env_of, self.timeline)
        nemesis.start(time.monotonic_ns())
        try:
            while nemesis.states[0].state == "armed":
                time.sleep(0.01)
            yield
        finally:
            nemesis.stop()
