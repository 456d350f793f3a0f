"""The load generator of a run: Locust as a process, its counts as it reports them, and the probe that follows it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.errors import ChaosError, NotReady
from chaos.scenario import Scenario, TrafficSpec
from chaos.target import free_port
from chaos.warden_client import PACKAGE_ROOT, Child, Warden
from loadtests.records.jsonl import JsonlTail
from loadtests.records.rundir import RunDir
from loadtests.records.target import Ingest

START_S = 30.0
STOP_S = 20.0
WORKERS_STOP_S = 60.0
"""Workers await their answers, and those of other machines send the last of their records."""
POLL_S = 0.1
PROBE_PRODUCER = 60_000
"""Far from the producers of any generator process."""
PROBE_DEADLINE_S = 180.0
COUNTS = ("attempted", "acked", "refused", "unknown", "not_sent", "unwanted", "sent")


@dataclass(frozen=True)
class Workers:
    """How many processes send, and whether other machines may join them.

    Attributes:
        processes: Locust workers on this machine; one sends by itself, without a master.
        join: Loopback port at which workers of other machines are taken too, through a tunnel of theirs.
    """

    processes: int = 1
    join: int | None = None

    @property
    def distributed(self) -> bool:
        """Whether there is a master."""
        return self.processes > 1 or self.join is not None

    def arguments(self) -> list[str]:
        """Return Locust's arguments."""
        if not self.distributed:
            return []
        port = str(self.join or free_port())
        return [
            "--processes", str(self.processes), "--master-bind-host", "127.0.0.1", "--master-bind-port", port,
            "--master-port", port, "--enable-rebalancing",
        ]  # fmt: skip


ALONE = Workers()


class Generator:
    """Traffic of one run.

    Args:
        url: Where events are posted.
        ingest: The target's ingest section, secret headers included.
        warden: The parent of Locust.
        workers: Which processes send.
    """

    def __init__(
        self, run: RunDir, scenario: Scenario, ingest: Ingest, url: str, warden: Warden, workers: Workers = ALONE
    ) -> None:
        self._workers, self._news = workers, JsonlTail(run.root / "workers.jsonl")
        self._lost: set[str] = set()
        self._run, self._scenario, self._ingest, self._warden = run, scenario, ingest, warden
        self._child: Child | None = None
        self._status: dict[Path, tuple[JsonlTail, dict[str, Any]]] = {}
        self._counting = threading.Lock()  # the runner asks, and so does a drill, in its own thread
        self._mode = scenario.traffic.mode or ingest.mode
        self._url = ingest.address(url, self._mode)
        single = self._mode in ("structured", "binary")  # these modes carry one event a request
        self._batch = 1 if single else scenario.traffic.batch

    def start(self, idle: Callable[[], None]) -> None:
        """Start Locust and wait until its first attempt. Raises NotReady, ChaosError.

        Args:
            idle: Called while waiting.
        """
        self._child = self._warden.spawn(
            "locust", self._argv(), env=self._environment(), cwd=self._run.logs, log=self._run.logs / "locust.log"
        )
        deadline = time.monotonic() + START_S
        while self.counts()["attempted"] == 0:
            self.check()
            if time.monotonic() > deadline:
                raise NotReady("the load generator", START_S, self._child.log_tail())
            idle()
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise ChaosError when Locust has ended although nobody asked it to."""
        status = self._child.poll() if self._child is not None else None
        if status is not None:
            raise ChaosError(f"the load generator ended with status {status}: {self._last_line()}")

    def stop(self) -> str | None:
        """End Locust; return a sentence when it did not end well, such as with a ledger it could not write."""
        if self._child is None:
            return None
        status = self._child.stop(grace_s=WORKERS_STOP_S if self._workers.distributed else STOP_S)
        return None if status in (0, None) else f"the load generator ended with status {status}: {self._last_line()}"

    def counts(self) -> dict[str, int]:
        """Return `COUNTS` (see `loadtests.recorder.Counts`) so far, over all generator processes; any thread may ask."""
        with self._counting:
            return self._count()

    def _count(self) -> dict[str, int]:
        for path in self._run.status.glob("*.jsonl"):
            tail, latest = self._status.get(path, (JsonlTail(path), {}))
            for line in tail.read():
                latest = line
            self._status[path] = (tail, latest)
        total = {name: sum(int(latest.get(name, 0)) for _, latest in self._status.values()) for name in COUNTS}
        # What a lost worker was waiting for is never answered.
        total["unknown"] += sum(
            int(latest.get("inflight", 0)) for path, (_, latest) in self._status.items() if path.stem in self._lost
        )
        return total

    def news(self) -> list[dict[str, Any]]:
        """Return which workers joined, were lost or came back since the last call (`process`, `state`)."""
        entries = list(self._news.read())
        for entry in entries:
            (self._lost.add if entry["state"] == "lost" else self._lost.discard)(entry["process"])
        return entries

    def probe(self) -> dict[str, int]:
        """Send a second of traffic at the baseline rate, each request once, and return what was answered.

        The keys are `attempted`, `acked`, `refused`, `unknown`, `producer` and `first`. Raises ChaosError.
        """
        rate = self._scenario.traffic.events_per_s
        argv = [
            sys.executable, "-m", "loadtests.probe", "--run-dir", str(self._run.root.resolve()), "--url", self._url,
            "--count", str(max(self._batch, round(rate))), "--batch", str(self._batch), "--rate", str(rate),
            "--producer", str(PROBE_PRODUCER), "--mode", self._mode,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                argv,
                cwd=PACKAGE_ROOT,
                env=self._environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=PROBE_DEADLINE_S,
            )
        except subprocess.TimeoutExpired as error:
            raise ChaosError(f"the probe did not end within {PROBE_DEADLINE_S:g} s.") from error
        if done.returncode != 0:
            raise ChaosError(f"the probe ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
        answer: dict[str, int] = json.loads(done.stdout)
        return answer

    def _argv(self) -> list[str]:
        scenario, traffic = self._scenario, self._scenario.traffic
        requests_per_s = traffic.events_per_s / self._batch
        users = max(1, math.ceil(requests_per_s / traffic.requests_per_user_s))
        return [
            sys.executable, "-m", "locust", "-f", str(PACKAGE_ROOT / "loadtests" / "locustfile.py"), "--headless",
            "--host", self._url, "--users", str(users), "--spawn-rate", str(users),
            "--run-time", f"{math.ceil(scenario.baseline_s + traffic.for_s + 2)}s",
            "--run-dir", str(self._run.root.resolve()), "--seed", str(self._run.info.seed),
            "--rate-per-user", repr(requests_per_s / users), "--batch", str(self._batch),
            "--mode", self._mode, "--traffic", traffic.profile, *_curve(traffic),
            "--arrivals", traffic.arrivals or "as-named",
            "--gzip", "yes" if traffic.gzip else "no", "--keep-alive", "yes" if traffic.keep_alive else "no",
            "--retry-attempts", str(traffic.attempts), "--retry-within", str(traffic.retry_within_s),
            "--request-timeout", str(traffic.timeout_s),
            "--loglevel", "WARNING", *self._workers.arguments(),
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "ICEQUAKE_INGEST_HEADERS": json.dumps(self._ingest.headers)}

    def _last_line(self) -> str:
        """The last error that Locust logged; behind it come its tables."""
        lines = self._child.log_tail(20_000).strip().splitlines() if self._child is not None else []
        errors = [line.partition("/ERROR/")[2] for line in lines if "/ERROR/" in line]
        return (errors or lines or ["it said nothing"])[-1]


def _curve(traffic: TrafficSpec) -> list[str]:
    """One pass of the curve takes the whole run, unless the scenario says how fast it passes."""
    return ["--curve-period", str(traffic.for_s)] if traffic.speed is None else ["--speed", str(traffic.speed)]
