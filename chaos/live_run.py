"""One run of a live session: a person holds the load and the faults, everything else is as in any run."""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from chaos.alerting.live import LiveAlerts
from chaos.display import Display
from chaos.drills import find_drill
from chaos.errors import ChaosError, NotNow
from chaos.interactive import Interactive, checked
from chaos.live_traffic import UiTraffic
from chaos.loopback import open_url
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import DrillStep
from chaos.settling import POLL_S
from chaos.stack import Stack
from chaos.warden_client import Warden
from loadtests.records.rundir import RunDir

HISTORY_S = 1200
"""Seconds of history that a page is given when it is loaded."""
ENTRIES_MAX = 100
PARTITIONS_MAX = 60
FLUSH_S = 60.0
ANSWER_BYTES_MAX = 1_000_000
_PARTITION = re.compile(r"^collector_partition_fill_ratio\{(.*)\}$")
_OUTCOME = re.compile(r"^collector_flushes_total\{outcome=(\w+)\}$")


class LiveRunner(Runner):
    """A run whose traffic lasts until Stop and whose operator may inject, heal, mark, flush and halt.

    Args:
        check_ui, stop_ui: See `UiTraffic`.
    """

    def __init__(
        self,
        request: Request,
        *,
        stack: Stack,
        warden: Warden,
        display: Display,
        check_ui: Callable[[], None],
        stop_ui: Callable[[], None],
    ) -> None:
        self._hands = {"check_ui": check_ui, "stop_ui": stop_ui}
        self._steps: dict[int, dict[str, Any]] = {}
        self._drilled: dict[int, dict[str, Any]] = {}
        self._entries: deque[dict[str, Any]] = deque(maxlen=ENTRIES_MAX)
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_S)
        self._counts: dict[str, int] = {}
        self._look: dict[str, Any] = {}
        self._flushes = Totals()
        self._alerts = LiveAlerts(request.target)
        self.ready: Future[dict[str, Any]] = Future()
        self.failure: str | None = None
        self._pen, self._over = threading.Lock(), False
        self._first_by_hand = len(request.plan.scenario.steps)
        super().__init__(request, stack=stack, warden=warden, display=display)
        starts_target = self._target.process is not None
        self._interactive = Interactive(self._first_by_hand, self._env_of, self._timeline, starts_target=starts_target)

    # -- how a live run differs

    def _make_generator(self) -> UiTraffic:
        self._traffic = UiTraffic(
            self.run,
            self._plan.scenario,
            self._target.ingest,
            self._under_test.ingest_url(),
            self._warden,
            **self._hands,
        )
        return self._traffic

    def _preflight(self) -> None:
        super()._preflight()
        self.ready.set_result({"run_dir": str(self.run.root.resolve()), "url": self._under_test.ingest_url()})

    def _until(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._traffic.ended and not self._traffic_ends.is_set():
            self._traffic.check()
            self._refresh()
            time.sleep(POLL_S)

    def _teardown(self) -> None:
        with self._pen:  # the timeline is closed after this: nobody may write to it any more
            self._over = True
        super()._teardown()

    def _settle(self) -> None:
        super()._settle()
        self._refresh()  # the last numbers stay on show

    def _active_faults(self) -> list[str]:
        return [*super()._active_faults(), *self._interactive.active]

    def _end_faults(self) -> None:
        try:
            self._interactive.close()
        finally:
            super()._end_faults()

    def _heard(self, entry: dict[str, Any]) -> None:
        super()._heard(entry)
        t_s = self._at_s(entry["t_ns"])
        if entry["event"] == "step":
            known = {"step": entry["step"], "fault": entry["fault"], "by_hand": entry["step"] >= self._first_by_hand}
            step = self._steps.setdefault(entry["step"], known)
            step["state"] = entry["state"]
            step[f"{entry['state']}_s"] = self._at_s(entry.get("began_ns", entry["t_ns"]))
            step |= {key: entry[key] for key in ("params", "requests_affected", "reason", "error") if key in entry}
        elif entry["event"] == "drill":
            self._drill_heard(entry, t_s)
        else:
            plain = {key: value for key, value in entry.items() if key not in ("t_ns", "unix_ns")}
            self._entries.append({"t_s": t_s, **plain})

    def _drill_heard(self, entry: dict[str, Any], t_s: float) -> None:
        drill = self._drilled.setdefault(
            entry["step"],
            {"step": entry["step"], "drill": entry["drill"], "began_s": t_s, "state": "armed", "checks": []},
        )
        if entry["state"] in ("checked", "reached"):
            told = {"state": entry["state"], "check": entry.get("check", entry.get("milestone"))}
            told |= {"ok": entry.get("ok", True), "detail": entry.get("detail", "")}
            drill["checks"] = [*drill["checks"], told]
        else:
            drill |= {"state": entry["state"], "ended_s": t_s}
            drill |= {key: entry[key] for key in ("params", "seconds", "reason") if key in entry}

    def _refresh(self) -> None:
        super()._refresh()
        self._counts = self._generator.counts()
        self._flushes.take(outcomes(self._sampler.samples) or {})
        now_s = self._at_s(time.monotonic_ns())
        if not self._history or now_s - self._history[-1]["t_s"] >= 1:
            self._history.append({"t_s": now_s, **self._numbers()})
            self._watch()

    def _watch(self) -> None:
        for name, state in self._alerts.look(time.time(), self._sampler.samples, self._sampler.visible):
            self._timeline.write("alert", name=name, state=state)

    def _at_s(self, t_ns: int) -> float:
        return round((t_ns - self.run.info.started_mono_ns) / 1e9, 2)

    # -- what is on show

    def _numbers(self) -> dict[str, Any]:
        return {
            **self._counts,
            **{key: self._looked().get(key) for key in ("visible", "pending", "duplicated")},
            "freshness_s": self._freshness_s(),
            "fill_ratio": self._sampler.samples.get(self._fill_name or "", None),
        }

    @property
    def _fill_name(self) -> str | None:
        return self._target.metrics.fill if self._target.metrics is not None else None

    def _looked(self) -> dict[str, Any]:
        """The auditor's last look that saw the table."""
        line = self._sampler.visible
        if "error" not in line:
            self._look = line
        return self._look

    def _freshness_s(self) -> float | None:
        """The age of the oldest acked event that is not visible, by the auditor's last look; None when that saw nothing."""
        value: float | None = None if "error" in self._sampler.visible else self._looked().get("freshness_s")
        return value

    def _table(self) -> dict[str, Any]:
        """The last look that saw the table, when that was, and why there is no later one."""
        look = {key: value for key, value in self._looked().items() if key != "files"}
        at_s = {"at_s": self._at_s(look["t_ns"])} if "t_ns" in look else {}
        return {**look, **at_s, "error": self._sampler.visible.get("error")}

    def state(self, since_s: float) -> dict[str, Any]:
        """Return everything on show; every time in it is seconds since the run began."""
        info, samples = self.run.info, self._sampler.samples
        now_s = self._at_s(time.monotonic_ns() if info.ended_mono_ns is None else info.ended_mono_ns)
        return {
            "run": {
                "id": info.run_id,
                "directory": self.run.root.name,
                "scenario": info.scenario,
                "target": info.target,
                "seed": info.seed,
                "phase": info.phase,
                "elapsed_s": now_s,
                "traffic_ended": self._traffic.ended,
                "stopped": info.stopped,
                "failure": self.failure,
            },
            "contract": {
                "freshness_s": self._target.contract.freshness_s,
                "capacity_events": self._target.contract.capacity_events,
            },
            "counts": self._counted(),
            "table": self._table(),
            "freshness_s": self._freshness_s(),
            "buffer": {
                "fill_ratio": samples.get(self._fill_name or ""),
                "events": samples.get((self._target.metrics.buffered if self._target.metrics else None) or ""),
                "answers": bool(samples),
                "partitions": partitions(samples),
            },
            "flushes": self._flushes.now() or None,
            "faults": self._active_faults(),
            "steps": [dict(step) for _, step in sorted(self._steps.copy().items())],
            "drills": [dict(drill) for _, drill in sorted(self._drilled.copy().items())],
            "entries": list(self._entries),
            "alerts": self._alerts.table(self.run.info.started_unix_ns / 1e9),
            "history": [point for point in list(self._history) if point["t_s"] > since_s],
            "verdict": self._verdict(),
        }

    def _counted(self) -> dict[str, int]:
        """Events by outcome; what the probe after settling sent is in the auditor's number of acked events only."""
        acked = max(self._counts.get("acked", 0), self._sampler.visible.get("acked") or 0)
        return {**self._counts, "acked": acked} if self._counts else {}

    def _verdict(self) -> dict[str, Any] | None:
        if self.run.info.phase != "done":
            return None
        try:
            document = json.loads(self.run.verdict.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        checks = [{key: check[key] for key in ("id", "verdict", "claim")} for check in document["checks"]]
        return {
            "verdict": document["verdict"],
            "first_screen": document["first_screen"],
            "totals": document["totals"],
            "checks": [check for check in checks if check["verdict"] != "PASS"],
        }

    # -- the operator's hands; called from threads of the control API

    @property
    def over(self) -> bool:
        """Whether the run was judged or has failed."""
        return self.run.info.phase == "done" or self.failure is not None

    @property
    def settling(self) -> bool:
        """Whether Stop was pressed and the verdict is still to come."""
        return self._traffic.ended and not self.over

    def inject(self, fault: str, params: dict[str, Any], for_s: float | None) -> dict[str, Any]:
        """Begin a step. Raises BadInput, NotNow."""
        self._check_open("faults")
        if self._drilling() and checked(fault, params).mechanism == "process":
            raise NotNow("a drill stops and starts the target by itself; wait until it is done.")
        step = self._interactive.inject(fault, params, for_s)
        self._operator("inject", fault=fault, step=step, params=params, for_s=for_s)
        return {"step": step}

    def drill(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Begin a drill; what becomes of it stands in the timeline. Raises BadInput, NotNow."""
        drill = find_drill(name, params)
        problem = drill.problem(self._target)
        if problem is not None:
            raise NotNow(f"{problem}.")
        self._check_open("drills")
        if self._drilling() or self._interactive.restarting:
            raise NotNow("a drill is being done, or the target is being killed or restarted; wait until that is over.")
        assert self._drills is not None
        step = self._interactive.take_index()
        self._operator("drill", drill=name, step=step, params=params)
        self._drills.add(DrillStep(step, drill, 0.0, None))
        return {"step": step, "run": self.run.info.run_id}

    def _check_open(self, what: str) -> None:
        if self.run.info.phase != "inject" or self._traffic.ended or self._drills is None:
            raise NotNow(f"{what} are for the time between baseline and Stop; this run is in phase {_said(self.run)}.")

    def _drilling(self) -> bool:
        ours = [drill["state"] for step, drill in self._drilled.copy().items() if step >= self._first_by_hand]
        return bool(self._drills and self._drills.active) or "armed" in ours or "begun" in ours

    def heal(self, step: int | None) -> dict[str, Any]:
        """Heal one step that was injected by hand, or all of them. Raises BadInput, ChaosError."""
        self._operator("heal", step=step)
        if step is None:
            self._interactive.heal_all()
        else:
            self._interactive.heal(step)
        return {"faults": self._active_faults()}

    def mark(self, text: str) -> dict[str, Any]:
        """Write a word of the operator into the timeline."""
        self._operator("mark", text=text)
        return {}

    def flush(self) -> dict[str, Any]:
        """Ask the target's admin listener to flush; returns its answer. Raises NotNow, ChaosError."""
        admin = self._target.admin
        if admin is None:
            raise NotNow("the target file names no `admin` listener, so it cannot be told to flush.")
        token = (
            self._under_test.placed.admin_token
            if self._target.process is not None
            else os.environ.get(admin.token_env, "")
        )
        try:
            answer = ask_flush(f"{admin.url.rstrip('/')}/flush", token)
        except ChaosError as error:
            self._operator("flush", ok=False, detail=str(error))
            raise
        flushes = answer.get("flushes", [])
        self._operator("flush", ok=True, flushes=len(flushes), buffered=answer.get("buffered_events"))
        return {"flushes": flushes, "buffered_events": answer.get("buffered_events")}

    def halt(self) -> dict[str, Any]:
        """Heal everything at once, then end the run, which cannot PASS."""
        self._operator("halt")
        if self.run.info.stopped is None:
            self.run.info.stopped = "halted by the operator"
        self._end_faults()
        left = [healed["what"] for healed in self._warden.heal_all() if not healed["ok"]]
        if left:
            raise ChaosError(f"not healed: {', '.join(left)}; run `icequake heal`.")
        threading.Thread(target=self._traffic.stop, name="halt", daemon=True).start()
        return {"faults": self._active_faults()}

    def end(self, problem: str | None) -> None:
        """The load generator's test is over."""
        self._traffic.end(problem)

    def _operator(self, action: str, **fields: Any) -> None:
        with self._pen:
            if self._over:
                raise NotNow(f"the run is over (phase {self.run.info.phase}).")
            self._timeline.write("operator", action=action, **fields)


def _said(run: RunDir) -> str:
    return "inject, its traffic ended" if run.info.phase == "inject" else run.info.phase


def partitions(samples: dict[str, float]) -> list[dict[str, Any]]:
    """Return the fill of each partition buffer the target tells of, the fullest first."""
    found: list[dict[str, Any]] = [
        {"name": " ".join(pair.partition("=")[2] for pair in reversed(match[1].split(","))), "fill_ratio": value}
        for name, value in samples.items()
        if (match := _PARTITION.match(name))
    ]
    return sorted(found, key=lambda one: (-one["fill_ratio"], one["name"]))[:PARTITIONS_MAX]


def outcomes(samples: dict[str, float]) -> dict[str, int] | None:
    """Return how many flushes were committed, failed or are undecided; None when the target does not say."""
    found = {match[1]: round(value) for name, value in samples.items() if (match := _OUTCOME.match(name))}
    return found or None


class Totals:
    """Counters of a process that may be started again: what it counted before is kept."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def take(self, counters: dict[str, int]) -> None:
        """Take what the process says now; nothing while it does not answer."""
        for name, value in counters.items():
            if value < self._last.get(name, 0):
                self._before[name] = self._before.get(name, 0) + self._last[name]
        self._last = {**self._last, **counters}

    def now(self) -> dict[str, int]:
        """Return the totals since the first."""
        return {name: self._before.get(name, 0) + value for name, value in self._last.items()}


def ask_flush(url: str, token: str) -> dict[str, Any]:
    """POST to an admin listener and return its JSON answer. Raises ChaosError with what went wrong."""
    request = urllib.request.Request(  # noqa: S310  # the target file's http URL
        url, data=b"", method="POST", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with open_url(request, timeout=FLUSH_S) as answer:
            document = json.loads(answer.read(ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ChaosError(f"the target did not flush: {error}") from error
    if not isinstance(document, dict):
        raise ChaosError("the target did not flush: its answer is not a JSON object.")
    return document
