"""One test of one generator process: from the first arrival to the last answer, written into a run directory."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from random import Random
from typing import Any

import gevent
from gevent.event import Event

from loadtests.client import Connection
from loadtests.errors import BadTraffic, GeneratorFailed
from loadtests.events import PRODUCERS_MAX, EventFactory
from loadtests.recorder import Clock, Recorder
from loadtests.records.content import UNIFORM
from loadtests.records.identity import twin_of
from loadtests.records.rundir import RunDir, RunInfo, new_run_id
from loadtests.records.target import Contract, Ingest, Target
from loadtests.requests import Requests
from loadtests.sender import Attempted, Sender
from loadtests.settings import Settings
from loadtests.shapes import Shapes
from loadtests.traffic import Mix, arrivals_after
from loadtests.turn import LoopTurn

_GOLDEN = 0.6180339887498949
_BREATH = 64


class Session:
    """Send one process's share of the traffic.

    Args:
        settings: What to send.
        run: Where it is recorded; its target's contract says what a refusal is.
        worker: Index of this process among those of the test.
        observe: Called after each attempt.
        fail: Called once when the generator cannot go on; the caller then ends the test.
        clock: Monotonic nanoseconds, of the machine that judges.
        cover: See `Requests`.

    Raises:
        BadTraffic: settings and run directory do not fit each other.
        GeneratorFailed, RecordError: the records cannot be opened.
    """

    def __init__(
        self,
        settings: Settings,
        run: RunDir,
        *,
        worker: int = 0,
        observe: Callable[[Attempted], None],
        fail: Callable[[GeneratorFailed], None],
        clock: Clock = time.monotonic_ns,
        cover: Callable[[int], None] = lambda _upto: None,
    ) -> None:
        self._settings = settings
        self._producer = settings.producer_base + worker
        if self._producer >= PRODUCERS_MAX:
            raise BadTraffic(f"producer {self._producer} is not below {PRODUCERS_MAX}; lower --producer-base.")
        if settings.seed != run.info.seed:
            raise BadTraffic(f"--seed {settings.seed} is not the run's; use --seed {run.info.seed}.")
        process = f"locust-{self._producer}"
        self._clock, self._cover = clock, cover
        self._users = count()
        recorder = Recorder(run, process=process, clock=self._clock)
        self._recorder = recorder
        self._turn = LoopTurn()
        contract = run.load_target().contract
        self._sender = Sender(
            connect=lambda: Connection(settings.endpoint, timeout_s=settings.timeout_s, keep_alive=settings.keep_alive),
            requests=self._requests(run, contract),
            recorder=recorder,
            contract=contract,
            policy=settings.retry,
            limits=settings.limits,
            random=Random(f"{settings.seed}:{process}:jitter"),
            clock=self._clock,
            unix_offset_ns=time.time_ns() - self._clock(),
            observe=observe,
            fail=fail,
            turn_began=lambda: self._turn.began_ns,
        )
        self._start_ns = self._clock()
        self._stopping = False
        self._stopped = Event()
        self._ticker = gevent.spawn(self._tick_every_second)

    def _requests(self, run: RunDir, contract: Contract) -> Requests:
        """Everything that decides what this process sends. Raises BadTraffic."""
        settings, producer = self._settings, self._producer
        mix = _mix(settings, run)
        if mix.collisions and twin_of(producer) >= PRODUCERS_MAX:
            raise BadTraffic(f"producer {producer} has no twin for colliding ids; lower --producer-base below 4096.")
        shapes = Shapes(
            mix,
            batch=settings.batch,
            mode=settings.mode,
            contract=contract,
            seed=settings.seed,
            producer=producer,
            compressed=settings.gzip,
        )
        return Requests(
            lambda of: _factory(settings, run, of, mix),
            producer=producer,
            shapes=shapes,
            limits=contract.limits,
            compress=settings.gzip,
            phase_of=self._phase_at if mix.phases else None,
            turned=self._recorder.turned,
            cover=self._cover,
        )

    def _phase_at(self, intended_ns: int) -> int:
        traffic = self._settings.traffic
        return traffic.curve.phase(max(intended_ns - self._start_ns, 0) / 1e9, len(traffic.mix.phases))

    @property
    def counts(self) -> Any:
        """The events so far; see `loadtests.recorder.Counts`."""
        return self._recorder.counts

    def walk(self) -> None:
        """Be one user: submit each of its arrivals when it is due. Runs until the greenlet is killed.

        A user that joins after others starts at the present moment of the curve. When the process is late, every arrival
        that is due is submitted at once: none is skipped.
        """
        settings, number = self._settings, next(self._users)
        arrivals = arrivals_after(
            (self._clock() - self._start_ns) / 1e9,
            curve=settings.traffic.curve,
            rate_per_s=settings.rate_per_user,
            arrivals=settings.traffic.arrivals,
            seed=f"{settings.seed}:{self._producer}:{number}",
            # Multiples of the golden ratio spread any number of users evenly over one gap.
            phase=(number * _GOLDEN + self._producer * _GOLDEN**2) % 1.0,
        )
        in_a_row = 0
        for at_s in arrivals:
            intended_ns = self._start_ns + int(at_s * 1e9)
            late = intended_ns <= self._clock()
            # Without a pause a late user would keep the connections from running at all.
            in_a_row = in_a_row + 1 if late else 0
            if in_a_row and in_a_row % _BREATH == 0:
                gevent.sleep(0)
            # gevent's timers count from a cached clock and may end early; a request never leaves before it is due.
            while (wait_ns := intended_ns - self._clock()) > 0:
                gevent.sleep(wait_ns / 1e9)
            self._sender.submit(intended_ns)
        while True:  # the curve ended: Locust would call again at once
            gevent.sleep(3600)

    def stop(self) -> None:
        """End the test: no more arrivals, wait for answers in flight (bounded), close the records. Idempotent.

        Raises:
            GeneratorFailed: something could not be recorded.
        """
        if self._stopping:
            self._stopped.wait()
            return
        self._stopping = True
        try:
            self._sender.drain(self._settings.drain_s)
            self._recorder.close(now_ns=self._clock())
        finally:
            self._ticker.kill()
            self._turn.close()
            self._stopped.set()

    def _tick_every_second(self) -> None:
        due_ns = self._start_ns
        while self._sender.failure is None:
            due_ns += 1_000_000_000
            gevent.sleep(max(0.0, (due_ns - self._clock()) / 1e9))
            self._sender.tick()


def _factory(settings: Settings, run: RunDir, producer: int, mix: Mix) -> EventFactory:
    return EventFactory(
        seed=settings.seed,
        run_id=run.info.run_id,
        producer=producer,
        mix=mix,
        mode=settings.mode,
        path=settings.endpoint.path,
        batch=settings.batch,
    )


def _mix(settings: Settings, run: RunDir) -> Mix:
    """The traffic's mix. run.json says which types the judge expects, so the two must agree."""
    mix = settings.traffic.mix
    expected = run.info.mix or dict(UNIFORM)
    if _shares(mix.types) != _shares(expected) or mix.phases != run.info.phases:
        raise BadTraffic(
            f"--traffic {settings.traffic.name} sends the types {dict(mix.types)}, but run.json of {run.root.name} "
            f"says {expected}; write the traffic's mix there when the run directory is made."
        )
    return mix


def _shares(types: dict[str, float]) -> dict[str, float]:
    total = sum(types.values())
    return {name: round(weight / total, 6) for name, weight in types.items() if weight}


def create_run(settings: Settings) -> RunDir:
    """Make a run directory for a test that no runner prepared: scenario `locust`, a target known by its URL only.

    Raises:
        RecordError: it cannot be created.
    """
    endpoint = settings.endpoint
    url = f"{endpoint.scheme}://{endpoint.authority}{endpoint.path}"
    info = RunInfo(
        run_id=new_run_id(),
        scenario="locust",
        target="locust",
        seed=settings.seed,
        phase="inject",
        argv=sys.argv,
        versions=_versions(),
        environment={"platform": platform.platform(), "python": platform.python_version()},
        mix=dict(settings.traffic.mix.types),
        phases=settings.traffic.mix.phases,
    )
    ingest = Ingest(url=url, mode=settings.mode, headers=dict(endpoint.headers))  # type: ignore[arg-type]
    text = f"# Sent by Locust alone, without a scenario.\ntraffic: {settings.traffic.name}\n"
    run = RunDir.create(settings.runs, info, scenario_text=text, target=Target(name="locust", ingest=ingest))
    run.info.window.baseline_start_ns = run.info.window.inject_start_ns = time.monotonic_ns()
    run.save()
    return run


def finish_run(run: RunDir, *, stopped: str | None) -> None:
    """Write the end of a run that `create_run` began; *stopped* says why it ended early."""
    run.info.phase = "done"
    run.info.stopped = stopped
    run.info.window.traffic_end_ns = run.info.ended_mono_ns = time.monotonic_ns()
    run.info.ended_unix_ns = time.time_ns()
    run.save()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "locust": version("locust")}
    try:
        return {"icequake": version("icequake"), **versions}
    except PackageNotFoundError:  # run from a source tree
        return versions
