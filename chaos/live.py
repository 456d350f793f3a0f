"""A live session: one stack, Locust with its web UI, and a run for every Start pressed there.

The main thread executes runs one after the other; threads of the control API call the methods of `LiveSession`. Locust asks
for a run when its test starts (`begin`) and says when it is over (`end`); what follows (heal, settle, verify, judge) needs no
traffic and goes on while the page shows it.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import yaml

from chaos.display import Display
from chaos.errors import BadInput, ChaosError, NotNow, NotReady
from chaos.generator import ALONE, Workers
from chaos.interactive import described, described_drills
from chaos.interrupt import Signalled
from chaos.live_run import LiveRunner
from chaos.loopback import open_url
from chaos.request import Request, Result
from chaos.scenario import Plan, TrafficSpec
from chaos.stack import Stack
from chaos.target import free_port
from chaos.warden_client import PACKAGE_ROOT, Child, Warden
from loadtests.records.target import Target

BEGIN_S = 90.0
"""How long Start may take: the target starts, and says it is ready, within `process.ready_s`."""
UI_READY_S = 120.0
STOP_S = 30.0
UNTIL_STOP_S = 1_000_000.0
"""How long traffic lasts that only a person ends."""
POLL_S = 0.2


class LocustUi:
    """Locust with its web UI, as a child of the warden.

    Attributes:
        url: Where the UI is.
    """

    def __init__(self, warden: Warden, log: Path, *, port: int | None = None, workers: Workers = ALONE) -> None:
        self._warden, self._log, self._workers = warden, log, workers
        self._port = port or free_port()
        self.url = f"http://127.0.0.1:{self._port}/"
        self._child: Child | None = None

    def start(self, arguments: list[str], env: dict[str, str]) -> None:
        """Start it and wait until it serves. Raises NotReady, ProcessFailed."""
        argv = [
            sys.executable, "-m", "locust", "-f", str(PACKAGE_ROOT / "loadtests" / "locustfile.py"),
            "--web-host", "127.0.0.1", "--web-port", str(self._port), "--loglevel", "WARNING", *arguments,
            *self._workers.arguments(),
        ]  # fmt: skip
        self._child = self._warden.spawn("locust", argv, env={**os.environ, **env}, cwd=self._log.parent, log=self._log)
        deadline = time.monotonic() + UI_READY_S
        while not self._serves():
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise NotReady("Locust's web UI", UI_READY_S, self._child.log_tail())
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise ChaosError when it has ended."""
        if self._child is not None and self._child.poll() is not None:
            last = self._child.log_tail().strip().splitlines()[-1:] or ["it said nothing"]
            raise ChaosError(f"Locust ended with status {self._child.poll()}: {last[0]}")

    def press_stop(self) -> None:
        """Press Stop; returns when the test is over. Raises OSError or HTTPException when Locust does not answer."""
        request = urllib.request.Request(f"{self.url}stop", data=b"", method="POST")  # noqa: S310  # loopback
        with open_url(request, timeout=STOP_S) as answer:
            answer.read()

    def stop(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.stop(grace_s=STOP_S)

    def _serves(self) -> bool:
        try:
            with open_url(f"{self.url}stats/requests", timeout=2) as answer:
                workers = json.loads(answer.read()).get("workers", [])
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return not self._workers.distributed or len(workers) >= self._workers.processes


@dataclass(frozen=True)
class Setting:
    """What every run of a session has in common.

    Attributes:
        plan: The scenario whose steps, environment and settle time apply; its traffic is replaced by the form's.
    """

    plan: Plan
    target_path: Path
    target: Target
    runs: Path
    argv: tuple[str, ...]


class LoadForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Locust's form says when a test starts."""

    events_per_s: float
    batch: int
    profile: str
    seed: int
    mode: str


@dataclass
class _Asked:
    form: LoadForm
    answer: Future[dict[str, Any]]


class LiveSession:
    """The operations of the control API, and the loop that executes runs.

    Args:
        ui: Checked while waiting, and told to stop when a run must end.
        finished: Called with each run that was judged.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        stack: Stack,
        warden: Warden,
        display: Callable[[], Display],
        ui: LocustUi,
        finished: Callable[[Result], None] = lambda _: None,
    ) -> None:
        self._setting, self._stack, self._warden = setting, stack, warden
        self._display, self._ui, self._finished = display, ui, finished
        self._asked: queue.Queue[_Asked] = queue.Queue()
        self._runner: LiveRunner | None = None
        self._reports: dict[str, Path] = {}
        self._message: str | None = None
        self._stopped: Callable[[], bool] = lambda: False

    # -- the loop, in the main thread

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Execute runs as they are asked for until *stopped*, or until a run is interrupted.

        Raises:
            ChaosError: Locust, the warden or a server of the stack ended.
        """
        self._stopped = stopped
        while not stopped():
            self._ui.check()
            dead = self._stack.dead()
            if dead:
                raise ChaosError(f"{', '.join(dead)} ended by itself; the session is over.")
            try:
                asked = self._asked.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if self._execute(asked):
                return

    def _execute(self, asked: _Asked) -> bool:
        """Execute one run; tell whether Ctrl-C or SIGTERM interrupted it. A run that failed does not end the session."""
        runner: LiveRunner | None = None
        try:
            runner = self._make_runner(asked.form)
            runner.ready = asked.answer
            self._reports[runner.run.info.run_id] = runner.run.report_html
            self._runner, self._message = runner, None
            self._finished(runner.execute())
        except ChaosError as error:
            self._message = error.sentence
            if runner is not None:
                runner.failure = error.sentence
            if not asked.answer.done():
                asked.answer.set_exception(error)
            self._display().say(f"this run failed: {error}")
            if not self._warden.alive:
                raise
        finally:
            if not asked.answer.done():
                asked.answer.set_exception(NotNow("the run was interrupted before it began."))
        return runner is not None and runner.signalled

    def _make_runner(self, form: LoadForm) -> LiveRunner:
        setting = self._setting
        request = Request(
            plan=live_plan(setting.plan, form),
            target_path=setting.target_path,
            target=with_mode(setting.target, form.mode),
            runs=setting.runs,
            seed=form.seed,
            argv=setting.argv,
        )
        return LiveRunner(
            request,
            stack=self._stack,
            warden=self._warden,
            display=self._display(),
            check_ui=self._check,
            stop_ui=self._ui.press_stop,
        )

    def _check(self) -> None:
        """Raise when Locust has ended, or when the session was to end just before the run began to listen to signals itself."""
        self._ui.check()
        if self._stopped():
            raise Signalled("the session is to end")

    # -- the operations of the control API

    def state(self, since_s: float) -> dict[str, Any]:
        """Return what is on show: the run that goes on, or the last one, and what went wrong with the session."""
        runner = self._runner
        session: dict[str, Any] = {
            "target": self._setting.target.name,
            "stack": self._stack.name,
            "message": self._message,
        }
        session |= {"settling": runner is not None and runner.settling}
        session |= {"can_flush": self._setting.target.admin is not None}
        return {"session": session, **(runner.state(since_s) if runner is not None else {"run": None, "history": []})}

    def faults(self) -> list[dict[str, Any]]:
        """Return the catalogue."""
        return described(starts_target=self._setting.target.process is not None)

    def drills(self) -> list[dict[str, Any]]:
        """Return the drills."""
        return described_drills(self._setting.target)

    def report(self, run_id: str) -> bytes:
        """Return the report of a run of this session. Raises NotNow."""
        path = self._reports.get(run_id)
        if path is None or not path.is_file():
            raise NotNow("this session has no report of that run (yet).")
        return path.read_bytes()

    def act(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do what the operator, or the load generator, asks for. Raises ChaosError."""
        deed: Callable[..., dict[str, Any]] = getattr(self, f"_{action}")
        try:
            return deed(**msgspec.convert(arguments, dict[str, Any]))
        except (TypeError, msgspec.ValidationError) as error:
            raise BadInput(f"{action}: {_argument_error(error)}") from error

    def _begin(self, **form: Any) -> dict[str, Any]:
        asked = _Asked(msgspec.convert(form, LoadForm), Future())
        if self._runner is not None and not self._runner.over:
            raise NotNow("the last run is still settling; press Start again when its verdict is there.")
        self._asked.put(asked)
        try:
            return asked.answer.result(BEGIN_S)
        except TimeoutError as error:
            raise ChaosError(f"the run was not ready within {BEGIN_S:g} s.") from error

    def _end(self, *, problem: str | None = None) -> dict[str, Any]:
        if self._runner is not None:
            self._runner.end(problem)
        return {}

    def _inject(self, *, fault: str, for_s: float | None = None, **rest: Any) -> dict[str, Any]:
        params = _params("inject", rest)
        if not isinstance(for_s, int | float | None) or isinstance(for_s, bool):
            raise BadInput("inject: `for_s` is a number or null.")
        return self._running().inject(str(fault), params, for_s)

    def _heal(self, *, step: int | None = None) -> dict[str, Any]:
        return self._running().heal(step)

    def _drill(self, *, drill: str, **rest: Any) -> dict[str, Any]:
        return self._running().drill(str(drill), _params("drill", rest))

    def _mark(self, *, text: str) -> dict[str, Any]:
        text = " ".join(str(text).split())[:200]
        if not text:
            raise BadInput("mark: give a text, such as paged.")
        return self._running().mark(text)

    def _flush(self) -> dict[str, Any]:
        return self._running().flush()

    def _halt(self) -> dict[str, Any]:
        return self._running().halt()

    def _running(self) -> LiveRunner:
        if self._runner is None:
            raise NotNow("there is no run yet; press Start.")
        return self._runner


def live_plan(plan: Plan, form: LoadForm) -> Plan:
    """Return *plan* with the traffic that the form asks for, lasting until Stop; its text is what was made of it.

    Raises:
        BadInput: the form asks for what no scenario may have.
    """
    try:
        traffic = msgspec.convert(
            {"events_per_s": form.events_per_s, "batch": form.batch, "for_s": UNTIL_STOP_S, "profile": form.profile},
            TrafficSpec,
        )
    except msgspec.ValidationError as error:
        raise BadInput(f"the load cannot be sent: {error}.") from error
    scenario = msgspec.structs.replace(plan.scenario, traffic=traffic)
    text = yaml.safe_dump(json.loads(msgspec.json.encode(scenario)), sort_keys=False)
    return replace(plan, scenario=scenario, text=f"# A live session; traffic as it was at Start.\n{text}")


def with_mode(target: Target, mode: str) -> Target:
    """Return *target* with the CloudEvents mode of the form, and the URL for it. Raises BadInput."""
    try:
        ingest = msgspec.convert({**msgspec.to_builtins(target.ingest), "mode": mode}, type(target.ingest))
    except msgspec.ValidationError as error:
        raise BadInput(f"there is no mode {mode!r}.") from error
    ingest = msgspec.structs.replace(ingest, url=ingest.address(ingest.url, ingest.mode))
    return msgspec.structs.replace(target, ingest=ingest)


def _params(action: str, rest: dict[str, Any]) -> dict[str, Any]:
    params = rest.pop("with", None)
    if rest:
        raise BadInput(f"{action} does not take {', '.join(sorted(rest))}.")
    if not isinstance(params, dict | None):
        raise BadInput(f"{action}: `with` is an object.")
    return params or {}


def _argument_error(error: Exception) -> str:
    text = str(error)
    return text.partition("() ")[2] or text
