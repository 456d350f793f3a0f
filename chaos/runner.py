"""One run: preflight, baseline, inject, heal, settle, verify, judge.

Nothing here decides whether the target is right: the runner records, and other processes (`reports.observe`, `reports.judge`,
`reports.render`) read what was recorded. Whatever ends a run early (Ctrl-C, SIGTERM, a failing process) heals first, writes
what is known, and is judged like any other; such a run cannot PASS.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaos.display import Display
from chaos.errors import ChaosError, NotAllowed, NotReady
from chaos.faults.env import Env
from chaos.fingerprint import environment, versions
from chaos.nemesis import Nemesis
from chaos.requests_seen import RequestsSeen
from chaos.sampler import Sampler
from chaos.scenario import Plan, Step
from chaos.stack import Stack
from chaos.target import TargetProcess, inherited_environment, place
from chaos.warden_client import PACKAGE_ROOT, Child, Warden
from loadtests.records.documents import write_document
from loadtests.records.jsonl import JsonlTail
from loadtests.records.rundir import RoundTrip, RunDir, RunInfo, SettleEnd, new_run_id
from loadtests.records.target import Target
from loadtests.records.timeline import Timeline
from loadtests.traffic import traffic_named

ROOM_BYTES = 200_000_000
GENERATOR_START_S = 30.0
POLL_S = 0.1
PROBE_PRODUCER = 60_000
ROUNDTRIP_S = 30.0


class Interrupted(Exception):
    """A person or a scheduler asked the run to end."""


@dataclass(frozen=True)
class Request:
    """What to run.

    Attributes:
        target_path: Where the target file is; `{here}` in it means its directory.
        argv: The command line, for the record and to reproduce it.
    """

    plan: Plan
    target_path: Path
    target: Target
    runs: Path
    seed: int
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """A finished run and the exit code of its verdict (0 PASS, 1 FAIL, 2 INCONCLUSIVE)."""

    run: RunDir
    exit_code: int


class Runner:
    """Runs one `Request` on a stack that is up.

    Args:
        stack: A running stack; it can serve many runs, one after the other.
        warden: The parent of every process of this run.
        display: Shows progress.
    """

    def __init__(self, request: Request, *, stack: Stack, warden: Warden, display: Display) -> None:
        self._request, self._stack, self._warden, self._display = request, stack, warden, display
        self._plan = request.plan
        self._placed = place(request.target_path, request.target)
        self._target = self._placed.target
        self.run = self._create()
        self._window = self.run.info.window
        self._timeline = Timeline(self.run.timeline, self.run.info.run_id, listener=display.entry)
        self._seen = RequestsSeen(self.run)
        self._sampler = Sampler(self._target, self.run)
        self._status: dict[Path, tuple[JsonlTail, dict[str, Any]]] = {}
        self._process: TargetProcess | None = None
        self._auditor: Child | None = None
        self._locust: Child | None = None
        self._nemesis: Nemesis | None = None

    # -- the whole

    def execute(self) -> Result:
        """Run every phase and return the result. Raises ChaosError when the harness itself fails; all is healed then."""
        try:
            with _signals_interrupt():
                try:
                    self._phases()
                except Interrupted as why:
                    self._stopped(str(why))
                except ChaosError as error:
                    self._stopped(f"the harness failed: {error}")
                    self._teardown()
                    raise
                self._teardown()
                return Result(self.run, self._judge())
        finally:
            self._teardown()
            self._timeline.close()
            with suppress(ChaosError):  # the stack may be gone; its log ends with it
                self._stack.set_gateway_log(None)

    def _phases(self) -> None:
        self._phase("preflight", self._preflight)
        self._phase("baseline", self._baseline)
        if self.run.info.stopped is None:
            self._phase("inject", self._inject)
        self._phase("heal", self._heal)
        self._phase("settle", self._settle)
        self._phase("verify", self._verify)

    def _phase(self, name: str, work: Any) -> None:
        self.run.info.phase = name
        self.run.save()
        self._display.progress.phase = name
        self._timeline.write("phase", phase=name)
        work()
        self.run.save()

    def _stopped(self, why: str) -> None:
        if self.run.info.stopped is None:
            self.run.info.stopped = why
            self._window.settle = self._window.settle or "interrupted"
            self._timeline.write("note", text=f"stopped: {why}")
        self._end_traffic()
        with suppress(ChaosError):
            self._heal()

    # -- preflight

    def _create(self) -> RunDir:
        scenario, request = self._plan.scenario, self._request
        info = RunInfo(
            run_id=new_run_id(),
            scenario=scenario.name,
            target=self._target.name,
            seed=request.seed,
            stack=self._stack.name,
            mix=dict(traffic_named(scenario.traffic.profile).mix.types),
            argv=list(request.argv),
            versions=versions(),
            environment=environment(),
            capabilities=self._stack.capabilities(),
        )
        progress = self._display.progress
        progress.scenario, progress.target = scenario.name, self._target.name
        return RunDir.create(request.runs, info, scenario_text=self._plan.text, target=self._target)

    def _preflight(self) -> None:
        room = shutil.disk_usage(self.run.root).free
        if room < ROOM_BYTES:
            raise NotAllowed(
                f"only {room // 1_000_000} MB are free where runs are kept ({self._request.runs}); free some."
            )
        self._check_faults()
        self._warden.use_journal(self.run.journal, self.run.info.run_id)
        self._stack.reset()
        self._stack.set_gateway_log(self.run.gateway_log, run_id=self.run.info.run_id, seed=self._request.seed)
        self._stack.point_ingest_at(self._ingest_port())
        self._write_stack()
        if self._target.process is not None:
            log = self.run.logs / "target.log"
            env = self._target_environment()
            self._process = TargetProcess(self._target.process, warden=self._warden, env=env, log=log)
            self._process.start()
            self._timeline.write("process", name="target", state="ready", pid=self._process.pid)
        self._auditor = self._reader("auditor", "reports.auditor")
        self._sampler.start()

    def _check_faults(self) -> None:
        for step in self._plan.steps:
            problem = step.spec.build().problem(starts_target=self._target.process is not None)
            if problem:
                self._timeline.write(
                    "step", step=step.index, fault=step.spec.name, state="void", reason=f"not possible here: {problem}"
                )

    def _possible(self, step: Step) -> bool:
        return step.spec.build().problem(starts_target=self._target.process is not None) is None

    def _ingest_port(self) -> int:
        parts = urlsplit(self._target.ingest.url)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1") and parts.hostname not in self._target.allow:
            raise NotAllowed(
                f"{self._target.ingest.url} is not on this machine; list {parts.hostname!r} under `allow` in the target "
                "file when it is yours to load."
            )
        return parts.port or (443 if parts.scheme == "https" else 80)

    def _write_stack(self) -> None:
        document = {
            "schema": "icequake.stack/1.0",
            "direct": {"catalog": _without_secrets(self._stack.pyiceberg_properties(direct=True))},
            "table": self._table_identifier(),
        }
        write_document(self.run.stack, document)

    def _table_identifier(self) -> str:
        return self._target.table.identifier or f"run_{self.run.info.run_id}.events"

    def _target_environment(self) -> dict[str, str]:
        addresses, contract = self._stack.addresses, self._target.contract
        data = self.run.root / "target-data"
        data.mkdir(mode=0o700, exist_ok=True)
        own = {
            "LISTEN_HOST": "127.0.0.1",
            "LISTEN_PORT": str(self._placed.port),
            "ADMIN_HOST": "127.0.0.1",
            "ADMIN_PORT": str(self._placed.admin_port),
            "ADMIN_TOKEN": self._admin_token(),
            "DATA_DIR": str(data.resolve()),
            "S3_ENDPOINT": addresses.s3_faulted,
            "S3_REGION": addresses.region,
            "AWS_ACCESS_KEY_ID": addresses.access_key,
            "AWS_SECRET_ACCESS_KEY": addresses.secret_key,
            "CATALOG_URI": addresses.catalog_faulted,
            "CATALOG_WAREHOUSE": addresses.warehouse,
            "CATALOG_CREDENTIAL": f"{addresses.access_key}:{addresses.secret_key}",
            "CATALOG_OAUTH2_URI": f"{addresses.catalog_faulted}/v1/oauth/tokens",
            "TABLE_IDENTIFIER": self._table_identifier(),
            "PYTHONPATH": str(PACKAGE_ROOT),
        }
        if contract.capacity_events is not None:
            own["ICEBERG_BUFFER_SIZE"] = str(contract.capacity_events)
        return {**inherited_environment(), **own, **self._plan.scenario.env}

    def _admin_token(self) -> str:
        if not hasattr(self, "_token"):
            self._token = "".join(random.SystemRandom().choices("abcdefghijklmnopqrstuvwxyz0123456789", k=40))
        return self._token

    # -- baseline, inject, heal

    def _baseline(self) -> None:
        self._locust = self._start_locust()
        deadline = time.monotonic() + GENERATOR_START_S
        while self._counts()["attempted"] == 0:
            self._watch_generator()
            if time.monotonic() > deadline:
                raise NotReady("the load generator", GENERATOR_START_S, self._locust.log_tail())
            time.sleep(POLL_S)
        self._window.baseline_start_ns = time.monotonic_ns()
        self._until(self._plan.scenario.baseline_s)
        counts = self._counts()
        self._probe("acks", counts["acked"] > 0, f"{counts['acked']} of {counts['attempted']} events acknowledged")
        if not counts["acked"]:
            self._stopped("the steady state did not hold before anything was touched: no event was acknowledged")

    def _start_locust(self) -> Child:
        scenario, target = self._plan.scenario, self._target
        traffic = scenario.traffic
        requests_per_s = traffic.events_per_s / traffic.batch
        users = max(1, math.ceil(requests_per_s / traffic.requests_per_user_s))
        run_time_s = scenario.baseline_s + traffic.for_s + 2
        argv = [
            sys.executable, "-m", "locust", "-f", str(PACKAGE_ROOT / "loadtests" / "locustfile.py"), "--headless",
            "--host", self._ingest_url(), "--users", str(users), "--spawn-rate", str(users),
            "--run-time", f"{math.ceil(run_time_s)}s", "--run-dir", str(self.run.root.resolve()),
            "--seed", str(self._request.seed), "--rate-per-user", repr(requests_per_s / users),
            "--batch", str(traffic.batch), "--mode", target.ingest.mode, "--traffic", traffic.profile,
            "--curve-period", str(traffic.for_s), "--loglevel", "WARNING",
        ]  # fmt: skip
        env = {**os.environ, "ICEQUAKE_INGEST_HEADERS": json.dumps(self._request.target.ingest.headers)}
        return self._warden.spawn("locust", argv, env=env, cwd=self.run.logs, log=self.run.logs / "locust.log")

    def _ingest_url(self) -> str:
        parts = urlsplit(self._target.ingest.url)
        return f"{self._stack.addresses.ingest_faulted}{parts.path or '/'}"

    def _inject(self) -> None:
        origin_ns = time.monotonic_ns()
        self._window.inject_start_ns = origin_ns
        self.run.save()
        steps = [step for step in self._plan.steps if self._possible(step)]
        self._nemesis = Nemesis(steps, self._env_of, self._timeline)
        self._nemesis.start(origin_ns)
        self._until(self._plan.scenario.traffic.for_s)
        self._end_traffic()

    def _env_of(self, step: Step) -> Env:
        rng = random.Random(f"{self._request.seed}:step:{step.index}")
        return Env(self._stack, self._warden, self._process, self._seen, rng)

    def _end_traffic(self) -> None:
        if self._locust is None or self._window.traffic_end_ns is not None:
            return
        status = self._locust.stop(grace_s=20)
        self._window.traffic_end_ns = time.monotonic_ns()
        if status not in (0, None) and self.run.info.stopped is None:
            self.run.info.stopped = f"the load generator ended with status {status}: {_last_line(self._locust)}"

    def _heal(self) -> None:
        if self._nemesis is not None:
            self._nemesis.stop()
        left = [healed for healed in self._warden.heal_all() if not healed["ok"]]
        if left:
            raise ChaosError(f"not healed: {left[0]['what']} ({left[0]['detail']}); run `icequake heal`.")
        self._window.healed_ns = self._window.healed_ns or time.monotonic_ns()

    # -- settle, verify, judge

    def _settle(self) -> None:
        reason = self._wait_empty(self._plan.scenario.settle_s)
        self._window.settle = reason if self.run.info.stopped is None else "interrupted"
        self._window.settle_end_ns = time.monotonic_ns()
        self._window.buffered_at_end = self._sampler.buffered()
        self._timeline.write("settled", reason=reason, buffered=self._window.buffered_at_end)

    def _wait_empty(self, wait_s: float) -> str:
        """Wait until the target holds nothing and the table shows all that was acknowledged, or time is over."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if self._is_settled():
                return "empty"
            self._refresh()
            time.sleep(POLL_S)
        return "timeout"

    def _is_settled(self) -> bool:
        visible = self._sampler.refresh_visible()
        acked = visible.get("acked")
        complete = acked is not None and acked >= self._acked_now() and visible.get("pending") == 0
        return complete and self._sampler.buffered() in (0, None)

    def _acked_now(self) -> int:
        return self._counts()["acked"]

    def _verify(self) -> None:
        if self.run.info.stopped is not None:
            return
        traffic = self._plan.scenario.traffic
        events = max(traffic.batch, round(traffic.events_per_s))
        answer = self._run_probe(events, traffic.batch, traffic.events_per_s)
        self._window.refusing_probe = SettleEnd(attempted=answer["attempted"], refused=answer["refused"])
        ok = False
        if self._window.settle == "empty" and answer["acked"]:
            ok = self._wait_probe(answer["acked"])
        self._window.roundtrip = RoundTrip(ok=ok, producer=answer["producer"], first=answer["first"])

    def _wait_probe(self, probe_acked: int) -> bool:
        wanted = self._acked_now() + probe_acked
        deadline = time.monotonic() + max(ROUNDTRIP_S, self._plan.scenario.settle_s)
        while time.monotonic() < deadline:
            visible = self._sampler.refresh_visible()
            if (visible.get("acked") or 0) >= wanted and visible.get("pending") == 0:
                return True
            time.sleep(POLL_S)
        return False

    def _run_probe(self, events: int, batch: int, rate: float) -> dict[str, int]:
        argv = [
            sys.executable, "-m", "loadtests.probe", "--run-dir", str(self.run.root.resolve()),
            "--url", self._ingest_url(), "--count", str(events), "--batch", str(batch), "--rate", str(rate),
            "--producer", str(PROBE_PRODUCER),
        ]  # fmt: skip
        done = subprocess.run(argv, cwd=PACKAGE_ROOT, capture_output=True, text=True, check=False, timeout=180)
        if done.returncode != 0:
            raise ChaosError(f"the probe ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
        answer: dict[str, int] = json.loads(done.stdout)
        return answer

    def _judge(self) -> int:
        info = self.run.info
        info.phase, info.ended_unix_ns, info.ended_mono_ns = "judge", time.time_ns(), time.monotonic_ns()
        self.run.save()
        self._display.progress.phase = "judge"
        self._display.say(f"{self._display.progress.elapsed_s:5.1f} s  phase judge")
        self._stage("reports.observe", ok=(0,))
        code = self._stage("reports.judge", ok=(0, 1, 2))
        self._stage("reports.render", ok=(0,))
        info.phase = "done"
        self.run.save()
        return code

    def _stage(self, module: str, *, ok: tuple[int, ...]) -> int:
        log = self.run.logs / f"{module.rpartition('.')[2]}.log"
        with log.open("ab") as stream:
            argv = [sys.executable, "-m", module, str(self.run.root.resolve())]
            process = subprocess.Popen(
                argv, cwd=PACKAGE_ROOT, stdout=stream, stderr=stream, env={**os.environ, **self._reader_secrets()}
            )
            try:
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if code not in ok:
            tail = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise ChaosError(f"{module} ended with status {code}: {tail[0] if tail else 'it said nothing'}")
        return code

    def _teardown(self) -> None:
        for child in (self._locust, self._auditor):
            if child is not None:
                with suppress(ChaosError):
                    child.stop(grace_s=10)
        self._locust = self._auditor = None
        if self._process is not None:
            with suppress(ChaosError):
                self._process.stop()
            self._process = None
        self._sampler.stop()

    # -- helpers

    def _reader(self, name: str, module: str) -> Child:
        argv = [sys.executable, "-m", module, str(self.run.root.resolve())]
        env = {**os.environ, **self._reader_secrets()}
        return self._warden.spawn(name, argv, env=env, cwd=PACKAGE_ROOT, log=self.run.logs / f"{name}.log")

    def _reader_secrets(self) -> dict[str, str]:
        addresses = self._stack.addresses
        return {
            "ICEQUAKE_S3_ACCESS_KEY": addresses.access_key,
            "ICEQUAKE_S3_SECRET_KEY": addresses.secret_key,
            "ICEQUAKE_CATALOG_CREDENTIAL": f"{addresses.access_key}:{addresses.secret_key}",
        }

    def _until(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._watch_generator()
            self._refresh()
            time.sleep(POLL_S)

    def _watch_generator(self) -> None:
        status = self._locust.poll() if self._locust is not None else None
        if status is not None:
            assert self._locust is not None
            self._window.traffic_end_ns = time.monotonic_ns()
            raise ChaosError(f"the load generator ended with status {status}: {_last_line(self._locust)}")

    def _refresh(self) -> None:
        progress, counts = self._display.progress, self._counts()
        progress.attempted, progress.acked = counts["attempted"], counts["acked"]
        progress.refused, progress.unknown = counts["refused"], counts["unknown"]
        progress.visible = self._sampler.refresh_visible().get("visible")
        progress.fill_ratio, progress.flushes = self._sampler.fill_ratio, self._sampler.flushes
        progress.faults = self._nemesis.active if self._nemesis is not None else []
        self._display.tick()

    def _counts(self) -> dict[str, int]:
        for path in self.run.status.glob("*.jsonl"):
            tail, latest = self._status.get(path, (JsonlTail(path), {}))
            for line in tail.read():
                latest = line
            self._status[path] = (tail, latest)
        names = ("attempted", "acked", "refused", "unknown", "not_sent")
        return {name: sum(int(latest.get(name, 0)) for _, latest in self._status.values()) for name in names}

    def _probe(self, name: str, ok: bool, detail: str) -> None:
        self._timeline.write("probe", name=name, ok=ok, detail=detail)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into Interrupted; a second one is left to end the process."""

    def interrupt(number: int, _frame: object) -> None:
        for sig, handler in before.items():
            signal.signal(sig, handler)
        raise Interrupted(f"{signal.Signals(number).name} was received")

    before = {sig: signal.signal(sig, interrupt) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


_SECRET_PROPERTIES = ("s3.access-key-id", "s3.secret-access-key", "credential", "token")


def _without_secrets(properties: dict[str, str]) -> dict[str, str]:
    return {key: "***" if key in _SECRET_PROPERTIES else value for key, value in properties.items()}


def _last_line(child: Child) -> str:
    lines = child.log_tail().strip().splitlines()
    return lines[-1] if lines else "it said nothing"
