"""One run: preflight, baseline, inject, heal, settle, verify, judge.

Nothing here decides whether the target is right: the runner records, and other processes (`reports.observe`, `reports.judge`,
`reports.render`) read what was recorded. Whatever ends a run early (Ctrl-C, SIGTERM, a failing process) heals first, writes
what is known, and is judged like any other; such a run cannot PASS.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos.display import Display
from chaos.drills.hands import Hands
from chaos.drills.sent import Sent
from chaos.drills.steps import DrillSteps
from chaos.drills.table import RunTable
from chaos.errors import ChaosError, NotAllowed
from chaos.faults.env import Env
from chaos.faults.object import put_back_originals
from chaos.fingerprint import environment, versions
from chaos.generator import Generator
from chaos.interrupt import Interrupted, Signalled, signals_interrupt
from chaos.nemesis import Nemesis
from chaos.readers import Readers
from chaos.request import Request, Result
from chaos.requests_seen import RequestsSeen
from chaos.sampler import Sampler
from chaos.scenario import Step
from chaos.settling import POLL_S, Settling
from chaos.stack import Stack
from chaos.stopping import Readings, obey
from chaos.table.errors import TableError
from chaos.under_test import UnderTest
from chaos.warden_client import Child, Warden
from loadtests.records.rundir import RoundTrip, RunDir, RunInfo, SettleEnd, new_run_id
from loadtests.records.timeline import Timeline
from loadtests.traffic import traffic_named

ROOM_BYTES = 200_000_000
ROUNDTRIP_S = 30.0


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
        self._under_test = UnderTest(request.target_path, request.target, stack)
        self._target = self._under_test.target
        self.run = self._create()
        self._window = self.run.info.window
        self._timeline = Timeline(self.run.timeline, self.run.info.run_id, listener=self._heard)
        self._seen = RequestsSeen(self.run)
        self._sampler = Sampler(self._target, self.run)
        self._generator = self._make_generator()
        self._readings = Readings(self._generator, self._sampler)
        self._settling = Settling(self._generator, self._sampler)
        self._readers = self._make_readers()
        self._auditor: Child | None = None
        self._nemesis: Nemesis | None = None
        self._drills: DrillSteps | None = None
        self._traffic_ends = threading.Event()
        self._noticed: set[str] = set()
        self.interrupted = self.signalled = False

    # -- what another way of driving a run may replace

    def _make_generator(self) -> Generator:
        scenario, url, workers = self._plan.scenario, self._under_test.ingest_url(), self._request.workers
        return Generator(self.run, scenario, self._target.ingest, url, self._warden, workers)

    def _make_readers(self) -> Readers:
        return Readers(self.run, self._stack.addresses)

    def _heard(self, entry: dict[str, Any]) -> None:
        """Take note of an entry that was written to the timeline."""
        self._display.entry(entry)

    def _traffic_flows(self) -> None:
        """Wait as long as traffic is to flow while faults come and go."""
        self._until(self._plan.scenario.traffic.for_s)

    def _active_faults(self) -> list[str]:
        return self._nemesis.active if self._nemesis is not None else []

    def _end_faults(self) -> None:
        """Heal every step that is on and let none begin. Raises ChaosError when a step failed."""
        try:
            try:
                if self._drills is not None:
                    self._drills.stop()
            finally:
                if self._nemesis is not None:
                    self._nemesis.stop()
        except ChaosError:
            self._warden.heal_all()  # a step that failed must not leave the others on
            raise

    # -- the whole

    def execute(self) -> Result:
        """Run every phase and return the result. Raises ChaosError when the harness itself fails; all is healed then."""
        try:
            with signals_interrupt():
                try:
                    self._phases()
                except Interrupted as why:
                    self.interrupted, self.signalled = True, isinstance(why, Signalled)
                    self._stopped(str(why))
                except ChaosError as error:
                    self._stopped(f"the harness failed: {error}")
                    self._teardown()
                    self._judge_what_is_known()
                    raise
                self._teardown()
                return Result(self.run, self._judge())
        finally:
            self._teardown()
            self._put_back()
            self._stack.note = lambda _: None
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
        if problem := self._under_test.keep_quarantine(self.run):
            self._say(problem)

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
        with suppress(ChaosError):
            self._heal()
        self.run.save()  # `icequake halt` waits for it
        self._end_traffic()

    # -- preflight

    def _create(self) -> RunDir:
        scenario, request = self._plan.scenario, self._request
        mix = traffic_named(scenario.traffic.profile).mix
        info = RunInfo(
            run_id=new_run_id(),
            scenario=scenario.name,
            target=self._target.name,
            seed=request.seed,
            stack=self._stack.name,
            mix=dict(mix.types),
            phases=mix.phases,
            argv=list(request.argv),
            versions=versions(),
            environment=environment(),
            expect=request.expect,
            night=request.night,
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
        self._under_test.permit()
        self._warden.use_journal(self.run.journal, self.run.info.run_id)
        self._stack.note = self._say
        self._stack.reset()
        self._stack.set_gateway_log(self.run.gateway_log, run_id=self.run.info.run_id, seed=self._request.seed)
        self._measure_stack()
        self._under_test.lead_clients_to_it()
        mechanisms = [step.spec.build() for step in self._plan.steps]
        self._under_test.start(self.run, self._warden, self._timeline, self._plan.scenario.env, mechanisms)
        self._auditor = self._readers.start_auditor(self._warden)
        self._sampler.start()

    def _measure_stack(self) -> None:
        """Record what the storage can show, as tried now; one that the target does not use is left alone."""
        if self._under_test.ours:
            self.run.info.capabilities = self._stack.measure()
            self.run.save()

    def _check_faults(self) -> None:
        for step in self._plan.steps:
            problem = step.spec.build().problem(starts_target=self._under_test.ours)
            if problem:
                self._timeline.write(
                    "step", step=step.index, fault=step.spec.name, state="void", reason=f"not possible here: {problem}"
                )
        for one in self._plan.drills:
            if problem := one.drill.problem(self._target):
                self._timeline.write("drill", step=one.index, drill=one.drill.name, state="void", reason=problem)

    def _possible(self, step: Step) -> bool:
        return step.spec.build().problem(starts_target=self._under_test.ours) is None

    # -- baseline, inject, heal

    def _baseline(self) -> None:
        self._generator.start(self._refresh)
        self._window.baseline_start_ns = time.monotonic_ns()
        self._until(self._plan.scenario.baseline_s)
        counts = self._generator.counts()
        self._probe("acks", counts["acked"] > 0, f"{counts['acked']} of {counts['attempted']} events acknowledged")
        if not counts["acked"]:
            self._stopped("the steady state did not hold before anything was touched: no event was acknowledged")

    def _inject(self) -> None:
        origin_ns = time.monotonic_ns()
        self._window.inject_start_ns = origin_ns
        self.run.save()
        steps = [step for step in self._plan.steps if self._possible(step)]
        self._nemesis = Nemesis(steps, self._env_of, self._timeline)
        self._drills = self._drill_steps()
        self._nemesis.start(origin_ns)
        self._drills.start(origin_ns)
        self._traffic_flows()
        self._drills.seal()
        self._end_traffic()
        while self._drills.busy:
            self._refresh()
            time.sleep(POLL_S)

    def _drill_steps(self) -> DrillSteps:
        direct, faulted = (self._stack.pyiceberg_properties(direct=direct) for direct in (True, False))
        table = RunTable(
            direct,
            faulted,
            self._table_name,
            self._target.table.columns,
            backup=self.run.root / "repair-backup",
        )
        hands = Hands(
            self._under_test.placed, self._under_test.process, self._timeline, self._env_of,
            acked=self._settling.acked, sent=Sent(self.run), table=table,
            end_traffic=self._traffic_ends.set, traffic_ended=lambda: self._window.traffic_end_ns is not None,
            noticed=self._noticed,
        )  # fmt: skip
        drills = [one for one in self._plan.drills if one.drill.problem(self._target) is None]
        return DrillSteps(drills, hands.desk, self._timeline, seen=self._seen, read=self._readings.read)

    def _env_of(self, step: Step) -> Env:
        rng = random.Random(f"{self._request.seed}:step:{step.index}")
        return Env(
            self._stack, self._warden, self._under_test.process, self._seen, rng,
            read=self._readings.read, hooks=self._target.hooks, data_dir=self.run.root / "target-data",
            here=self._under_test.here, table=self._table_name, originals=self._originals, flush=self._under_test.flush(),
        )  # fmt: skip

    def _end_traffic(self) -> None:
        if self._window.baseline_start_ns is None or self._window.traffic_end_ns is not None:
            return
        problem = self._generator.stop()
        self._window.traffic_end_ns = time.monotonic_ns()
        if problem is not None and self.run.info.stopped is None:
            self.run.info.stopped = problem

    def _heal(self) -> None:
        self._end_faults()
        for revived in self._stack.revive():
            self._timeline.write("note", text=revived)
            self.run.info.stopped = self.run.info.stopped or revived
        left = [healed for healed in self._warden.heal_all() if not healed["ok"]]
        if left:
            raise ChaosError(f"not healed: {left[0]['what']} ({left[0]['detail']}); run `icequake heal`.")
        self._window.healed_ns = self._window.healed_ns or time.monotonic_ns()

    # -- settle, verify, judge

    def _settle(self) -> None:
        reason = self._settling.wait_empty(self._plan.scenario.settle_s, meanwhile=self._refresh)
        self._window.settle = reason if self.run.info.stopped is None else "interrupted"
        self._window.settle_end_ns = time.monotonic_ns()
        self._window.buffered_at_end = self._sampler.buffered()
        self._timeline.write("settled", reason=reason, buffered=self._window.buffered_at_end)

    def _verify(self) -> None:
        if self.run.info.stopped is not None:
            return
        answer = self._generator.probe()
        self._window.refusing_probe = SettleEnd(attempted=answer["attempted"], refused=answer["refused"])
        ok = False
        if self._window.settle == "empty" and answer["acked"]:
            ok = self._settling.wait_probe(answer["acked"], max(ROUNDTRIP_S, self._plan.scenario.settle_s))
        self._window.roundtrip = RoundTrip(
            ok=ok, producer=answer["producer"], first=answer["first"], buffered=self._sampler.buffered()
        )

    def _judge(self) -> int:
        info = self.run.info
        info.phase, info.ended_unix_ns, info.ended_mono_ns = "judge", time.time_ns(), time.monotonic_ns()
        self.run.save()
        self._display.progress.phase = "judge"
        self._display.say(f"{self._display.progress.elapsed_s:5.1f} s  phase judge")
        code = self._readers.judge()
        info.phase = "done"
        self.run.save()
        return code

    @property
    def _table_name(self) -> str:
        return self._under_test.table(self.run.info.run_id)

    @property
    def _originals(self) -> Path:
        return self.run.root / "originals"

    def _put_back(self) -> None:
        """Put damaged objects back, now that the verdict is about the damage; a table that is beyond that is left."""
        try:
            properties = self._stack.pyiceberg_properties(direct=True)
            for one in put_back_originals(self._originals, properties):
                self._timeline.write(
                    "note", text=f"{'put back' if one.done else 'not put back'}: {one.path} ({one.detail})"
                )
        except (TableError, ChaosError) as error:
            self._timeline.write("note", text=f"not put back: {error}; `icequake put-back` does it.")

    def _judge_what_is_known(self) -> None:
        """A failed run is judged too once traffic has flowed; its own error is the one to report."""
        if self._window.baseline_start_ns is not None:
            with suppress(ChaosError):
                self._judge()

    def _teardown(self) -> None:
        self._generator.stop()
        if self._auditor is not None:
            with suppress(ChaosError):
                self._auditor.stop(grace_s=10)
            self._auditor = None
        self._under_test.stop()
        self._sampler.stop()

    # -- helpers

    def _until(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._traffic_ends.is_set():
            self._generator.check()
            self._refresh()
            time.sleep(POLL_S)

    def _notice_servers(self) -> None:
        """End the run when a server of the stack died that no fault has killed; bring it back first, so that all can be healed."""
        for name, status in self._stack.lost().items():
            self._stack.restart(name)
            raise Interrupted(f"{name} ended by itself with status {status}; it was started again")

    def _notice_target(self) -> None:
        """Record a target that ended by itself; what it owes is judged as ever."""
        process = self._under_test.process
        ended = process is not None and process.pid is None
        if ended and not self._display.progress.faults and "target-ended" not in self._noticed:
            self._noticed.add("target-ended")
            self._timeline.write("process", name="target", state="exited", pid=None)

    def _refresh(self) -> None:
        progress, counts = self._display.progress, self._generator.counts()
        progress.attempted, progress.acked = counts["attempted"], counts["acked"]
        progress.refused, progress.unknown = counts["refused"], counts["unknown"]
        progress.visible = self._sampler.refresh_visible().get("visible")
        progress.fill_ratio, progress.flushes = self._sampler.fill_ratio, self._sampler.flushes
        progress.faults = self._active_faults()
        obey(self._plan, self.run, self._readings, self._generator)
        self._notice_target()
        self._notice_servers()
        for worker in self._generator.news():
            self._timeline.write("process", name=worker["process"], state=worker["state"], pid=None)
        self._display.tick()

    def _say(self, text: str) -> None:
        self._timeline.write("note", text=text)

    def _probe(self, name: str, ok: bool, detail: str) -> None:
        self._timeline.write("probe", name=name, ok=ok, detail=detail)
