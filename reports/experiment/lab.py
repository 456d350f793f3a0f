"""One point of an experiment, and what came of running it.

The questions are pure functions over `Run`: a point in, an outcome out. `Lab` is the real one, on a warm stack.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from chaos.commands.session import Session
from chaos.display import Display
from chaos.guard import refuse
from chaos.interrupt import Interrupted
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import load_plan
from chaos.target import find_target
from loadtests.records.jsonl import read_jsonl
from loadtests.records.rundir import RunDir
from reports.experiment.stop import Stopped
from reports.measures import last_heal_ns
from reports.runrecords import RunRecords, read_run
from reports.verdict import Verdict, VerdictDoc, read_verdict

BATCH = 100
WARM_UP_S = 3.0
"""Traffic flows so long before it counts; what the target refuses in that time is not held against it, what it loses is."""
NOT_SENT_ALLOWED = 0.001
"""The share of events that a generator may give up and still have offered the rate."""


@dataclass(frozen=True)
class Point:
    """One run to be made.

    Attributes:
        env: Environment of the target, beside the experiment's own.
        steps: As in a scenario.
        repeat: Distinguishes runs of the same point: their seeds differ.
        batch: Events a request.
        traffic: A name from `icequake list traffic`.
    """

    events_per_s: float
    for_s: float = 10.0
    env: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    repeat: int = 0
    batch: int = BATCH
    settle_s: float = 60.0
    traffic: str = "steady"

    def scenario(self, name: str, question: str, env: Mapping[str, str]) -> str:
        """Write the scenario."""
        document = {
            "name": name,
            "question": question,
            "traffic": {
                "events_per_s": self.events_per_s, "batch": self.batch, "for_s": self.for_s, "profile": self.traffic,
            },
            "baseline_s": WARM_UP_S,
            "settle_s": self.settle_s,
            "env": {**env, **self.env},
            "steps": [dict(step) for step in self.steps],
        }  # fmt: skip
        return yaml.safe_dump(document, sort_keys=False)


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
        behind: The generator did not keep its schedule: the rate was not really offered.
        refused_requests: Refusals by contract, after the warm-up.
        refused_after_s: From the end of the warm-up until the first of them; None without one.
        first_refusal_s: From the start of the longest fault; None without a refusal in it.
        resumed_s: From the last heal until the first commit after it was answered; None when there was none, or without a fault.
        drained_s: From the last heal until everything was visible; None when that never was, or without a fault.
        files, file_bytes, commits: Data files in the table, their mean size, commits confirmed; over `seconds` of traffic.
    """

    point: Point
    run_id: str
    verdict: Verdict
    offered_events_per_s: float
    seconds: float
    acked: int
    wrong: int
    unknown: int
    refused_requests: int
    late: int
    behind: bool
    max_fill: float | None = None
    refused_after_s: float | None = None
    first_refusal_s: float | None = None
    resumed_s: float | None = None
    drained_s: float | None = None
    freshness_p99_s: float | None = None
    latency_p99_ms: float | None = None
    files: int = 0
    file_bytes: float | None = None
    commits: int = 0
    rss_max_bytes: float | None = None
    cpu_us_per_event: float | None = None

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled, altered, stuck, refused, late or unanswered; an empty run is not clean."""
        good = self.verdict is Verdict.PASS and self.acked > 0
        return good and not (self.wrong or self.refused_requests or self.late or self.unknown)

    @property
    def told_nothing(self) -> bool:
        """Whether nothing follows from it: no verdict, and nothing of the target's doing that explains that."""
        of_the_target = self.wrong or self.refused_requests or self.late or self.unknown
        return self.verdict is Verdict.INCONCLUSIVE and not of_the_target

    @property
    def files_per_minute(self) -> float:
        """Data files a minute of traffic."""
        return self.files / self.seconds * 60 if self.seconds else 0.0


Run = Callable[[Point], Outcome]


class Lab:
    """Makes runs on a warm stack.

    Args:
        env: Environment of the target in every run.
        watch: Makes what shows how one run gets on.
        begins: Told about each run before it begins: the point, its number from 1, and how many there will be (None: not known).
        ended: Told about each run when it ends.
        outcomes: Where what a run came to is put, one that was stopped included.

    Attributes:
        total: How many runs there will be, as far as that is known.
    """

    def __init__(
        self, running: Session, *, name: str, question: str, target: str, runs: Path, seed: int, env: Mapping[str, str],
        argv: tuple[str, ...], watch: Callable[[], Display], begins: Callable[[Point, int, int | None], None],
        ended: Callable[[Outcome], None], outcomes: list[Outcome],
    ) -> None:  # fmt: skip
        self._running, self._name, self._question, self._target = running, name, question, target
        self._runs, self._seed, self._env, self._argv = runs, seed, env, argv
        self._watch, self._begins, self._ended = watch, begins, ended
        self.outcomes = outcomes
        self.total: int | None = None

    def run(self, point: Point) -> Outcome:
        """Make one run.

        Raises:
            ChaosError: icequake itself failed.
            Stopped: a person or a scheduler asked for the end.
        """
        self._begins(point, len(self.outcomes) + 1, self.total)
        request = self._request(point)
        display = self._watch()
        try:
            with display:
                runner = Runner(request, stack=self._running.stack, warden=self._running.warden, display=display)
                result = runner.execute()
        except Interrupted as why:
            raise Stopped(str(why)) from why
        outcome = outcome_of(point, result.run, read_verdict(result.run.verdict))
        self.outcomes.append(outcome)
        self._ended(outcome)
        if runner.interrupted:
            raise Stopped(result.run.info.stopped or "it was asked for")
        return outcome

    def _request(self, point: Point) -> Request:
        with tempfile.TemporaryDirectory(prefix="icequake-") as scratch:
            scenario = Path(scratch) / f"{self._name}.yaml"
            scenario.write_text(point.scenario(self._name, self._question, self._env), encoding="utf-8")
            plan = load_plan(scenario)
        path, target = find_target(self._target)
        refuse(plan, target)
        return Request(plan, path, target, self._runs, self._seed + point.repeat, self._argv)


def outcome_of(point: Point, run: RunDir, doc: VerdictDoc) -> Outcome:
    """Read what a run came to from its verdict and its records."""
    records = read_run(run.root)
    refused_s = _refused_after_warm_up(records)
    capacity, flush, totals = doc.sections["capacity"], doc.sections["flush"], doc.totals
    longest = capacity["longest"] or {}
    corrected = capacity["latency"]["corrected"] or {}
    wrong = totals.lost + totals.duplicated + totals.altered + totals.unexpected + totals.resurrected + totals.stuck
    return Outcome(
        point=point,
        run_id=doc.run_id,
        verdict=doc.verdict,
        offered_events_per_s=capacity["offered_events_per_s"] or 0.0,
        seconds=_traffic_s(run),
        acked=totals.acked,
        wrong=wrong,
        unknown=totals.unknown,
        refused_requests=len(refused_s),
        late=totals.late,
        behind=_behind(doc),
        max_fill=capacity["max_fill"],
        refused_after_s=min(refused_s, default=None),
        first_refusal_s=longest.get("refused_at_s"),
        resumed_s=_resumed_s(records),
        drained_s=flush["caught_up_s"],
        freshness_p99_s=flush["freshness_p99_s"],
        latency_p99_ms=corrected.get("p99_ms"),
        files=flush["data_files"],
        file_bytes=mean_file_bytes(run),
        commits=flush["committed"],
        rss_max_bytes=capacity["cost"]["rss_max_bytes"],
        cpu_us_per_event=capacity["cost"]["cpu_us_per_event"],
    )


def _behind(doc: VerdictDoc) -> bool:
    """Tell whether the rate was not really offered, faults or not."""
    check = doc.check("run.on_schedule")
    return check.verdict is not Verdict.PASS or check.counts["not_sent"] > NOT_SENT_ALLOWED * doc.totals.attempted


def _refused_after_warm_up(records: RunRecords) -> list[float]:
    """Seconds from the end of the warm-up to each refusal after it."""
    warm_ns = records.info.window.inject_start_ns
    if warm_ns is None:
        return []
    return [round((int(at) - warm_ns) / 1e9, 3) for at in records.history.refused_ns if at >= warm_ns]


def _resumed_s(records: RunRecords) -> float | None:
    healed_ns = last_heal_ns(records)
    if healed_ns is None:
        return None
    ends = [line["t_ns"] + int((line.get("ms") or 0) * 1e6) for line in records.commits if line.get("status") == 200]
    after = [end for end in ends if end >= healed_ns]
    return round((min(after) - healed_ns) / 1e9, 3) if after else None


def _traffic_s(run: RunDir) -> float:
    window = run.info.window
    if window.baseline_start_ns is None or window.traffic_end_ns is None:
        return 0.0
    return (window.traffic_end_ns - window.baseline_start_ns) / 1e9


def mean_file_bytes(run: RunDir) -> float | None:
    """Return the mean size of the data files that were stored, whole or in parts; None where no gateway saw them."""
    if not run.gateway_log.is_file():
        return None
    sizes: dict[str, int] = {}
    for line in read_jsonl(run.gateway_log, "gateway"):
        if line.get("verb") == "PUT" and line.get("object") == "data-file" and line.get("status") == 200:
            path = line["path"].partition("?")[0]
            sizes[path] = sizes.get(path, 0) + line["request_bytes"]
    return sum(sizes.values()) / len(sizes) if sizes else None
