"""Locust's entry: `locust -f loadtests/locustfile.py --host http://127.0.0.1:8787/events --web-host 127.0.0.1`.

A user is a rate: it offers --rate-per-user requests a second by its own schedule, whatever the target does, so that users
x rate per user is the offered rate. Without --run-dir each test makes its own run directory below runs/.

Exit codes: 0, whatever the target answered (the judge decides about that); 254 for wrong arguments; 255 when the generator
could not record or go on. SIGTERM ends the test: nothing new is sent, answers in flight are awaited, records are closed.

Always pass --web-host 127.0.0.1 (and --master-bind-host 127.0.0.1): by default Locust listens on every interface.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import gevent
import pandas  # noqa: F401  # pyarrow imports it with the first series: seconds, in which arrivals would be due
from gevent.lock import RLock
from locust import User, events, task
from locust.runners import STATE_SPAWNING, MasterRunner, WorkerRunner

from loadtests import panel
from loadtests.answers import BREACHES
from loadtests.control_client import ControlClient
from loadtests.errors import TrafficError
from loadtests.gathering import Gathering
from loadtests.records.errors import RecordError
from loadtests.records.ledger import Outcome, Status
from loadtests.records.rundir import RunDir
from loadtests.remote import FINISH, SHIPPED, Away, Offer, offer_of
from loadtests.sender import Attempted
from loadtests.session import Session, create_run, finish_run
from loadtests.settings import Settings, add_arguments, read_settings

FAILED = "icequake-failed"
logger = logging.getLogger("icequake")


class CollectorUser(User):  # type: ignore[misc]  # Locust ships no types we follow
    """One share of the offered rate."""

    def stop(self, force: bool = False) -> bool:  # noqa: ARG002
        """Stop at once: a user holds no request, so there is nothing to wait for."""
        return bool(super().stop(force=True))

    @task  # type: ignore[untyped-decorator]
    def arrive(self) -> None:
        """Submit this user's requests as they become due, until stopped."""
        _test_of(self.environment).walk()


class _Test:
    """The test that runs in this process, if any; started and stopped by Locust's events."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._session: Session | None = None
        self._own_run: RunDir | None = None
        self._control = None if isinstance(environment.runner, WorkerRunner) else ControlClient.from_environment()
        self._asked_for_run = False
        self._stopped: str | None = None
        self._gathering = self._begin_gathering()
        worker = isinstance(environment.runner, WorkerRunner)
        self._away = Away(environment.runner, environment.parsed_options) if worker else None
        self._run_id = ""
        self._stopping = RLock()

    def _begin_gathering(self) -> Gathering | None:
        runner = self._environment.runner
        if not isinstance(runner, MasterRunner):
            return None
        return Gathering(runner, lambda node: self._base() + int(runner.get_worker_index(node)))

    def _base(self) -> int:
        return int(self._environment.parsed_options.producer_base)

    def settings(self) -> Settings:
        environment = self._environment
        stop_timeout_s = float(environment.stop_timeout or 0)
        return read_settings(environment.parsed_options, host=environment.host, stop_timeout_s=stop_timeout_s)

    def start(self) -> None:
        settings = self.settings()
        self._stopped = None
        if self._control is not None:
            settings, run = self._begin(self._control, settings)
        else:
            offer = Offer.of(self._environment.parsed_options) if self._away is not None else None
            if self._away is not None and offer is not None and self._away.takes(offer):
                self._away.open(offer, settings, self._make_session, self._fail)
                return
            run = RunDir.open(settings.run_dir) if settings.run_dir else self._create(settings)
        if self._gathering is not None:
            self._environment.parsed_options.run_offer = offer_of(run)
            self._gathering.begin(run)
        else:
            self._run_id = run.info.run_id
            self._session = self._make_session(settings, run)

    def _make_session(self, settings: Settings, run: RunDir, **rest: Any) -> Session:
        index = max(self._environment.runner.worker_index, 0)
        return Session(settings, run, worker=index, observe=self._observe, fail=self._fail, **rest)

    def _create(self, settings: Settings) -> RunDir:
        run = self._own_run = create_run(settings)
        logger.info("recording to %s", run.root)
        if isinstance(self._environment.runner, MasterRunner):
            # Locust hands these options to the workers with the first users.
            self._environment.parsed_options.run_dir = str(run.root.resolve())
        return run

    def _begin(self, control: ControlClient, settings: Settings) -> tuple[Settings, RunDir]:
        """Ask the live session for a run: it starts the target, and says where events go and are recorded."""
        options = self._environment.parsed_options
        users = self._environment.runner.target_user_count or options.num_users or 1
        self._asked_for_run = True
        # Until the target is ready; a page that reads "ready" for so long goes back to its form and stays there.
        self._environment.runner.update_state(STATE_SPAWNING)
        answer = control.begin(settings, users=users)
        # The form's host is not used: events must take the path on which faults are injected.
        self._environment.host = options.host = answer["url"]
        if isinstance(self._environment.runner, MasterRunner):
            options.run_dir = answer["run_dir"]
        return self.settings(), RunDir.open(Path(answer["run_dir"]))

    def walk(self) -> None:
        session = self._session or (self._away.session() if self._away is not None else None)
        if session is not None:
            session.walk()
        gevent.sleep(1.0)  # no session: the test is about to end, see `fail`

    def stop(self) -> None:
        with self._stopping:  # Locust and the master may both want it; who comes second waits for the first
            self._stop()

    def _stop(self) -> None:
        session, self._session = self._session, None
        run, self._own_run = self._own_run, None
        asked, self._asked_for_run = self._asked_for_run, False
        if (run is not None or asked) and isinstance(self._environment.runner, MasterRunner):
            self._environment.parsed_options.run_dir = self._environment.parsed_options.run_offer = ""
        try:
            if session is not None:
                session.stop()
            if self._away is not None and not self._away.close():
                self._environment.runner.send_message(SHIPPED, {"run": self._run_id})
            if self._gathering is not None:
                self._gathering.end()
        finally:
            if run is not None:
                finish_run(run, stopped=self._stopped)
            if asked and self._control is not None:
                self._control.end(self._stopped)

    def finish(self, run_id: str) -> None:
        """The master wants the end of a test."""
        self._run_id = run_id
        _on_test_stop(self._environment)

    def _observe(self, attempted: Attempted) -> None:
        """Show an attempt in Locust's tables. Refusals by contract have rows of their own and are no failures."""
        outcome, status = attempted.outcome, _status_name(attempted.answer.status)
        request_type, name = "POST", "events"
        exception: Exception | None = None
        if attempted.breach is not None:
            request_type, name = "breach", status
            exception = BrokenContract(BREACHES[attempted.breach])
        elif outcome == Outcome.REFUSED:
            request_type, name = "refused", status
        elif outcome == Outcome.UNKNOWN:
            request_type, name = "unknown", status
            exception = UnknownOutcome(f"no verdict on these events: {status}")
        self._environment.events.request.fire(
            request_type=request_type,
            name=name,
            response_time=attempted.latency_ms,
            response_length=attempted.body_bytes,
            exception=exception,
            context={},
        )

    def _fail(self, error: TrafficError) -> None:
        """End the test, from whichever greenlet: report once, set the exit code, and let Locust quit."""
        fail(self._environment, error)

    def note_failure(self, sentence: str) -> None:
        self._stopped = self._stopped or sentence


class BrokenContract(Exception):
    """Stands in Locust's Failures tab for an answer that the target's contract does not allow."""


class UnknownOutcome(Exception):
    """Stands in Locust's Failures tab for an attempt that may or may not have been kept."""


def _status_name(status: int) -> str:
    return str(status) if status > 0 else Status(status).name.lower().replace("_", " ")


_tests: dict[int, _Test] = {}


def _test_of(environment: Any) -> _Test:
    if id(environment) not in _tests:
        _tests[id(environment)] = _Test(environment)
    return _tests[id(environment)]


def fail(environment: Any, error: TrafficError | RecordError) -> None:
    """End the test because of *error*: one sentence, the exit code, and an orderly stop.

    Locust swallows exceptions of listeners, so nothing may rely on raising them.
    """
    logger.error("%s", error)
    environment.process_exit_code = max(environment.process_exit_code or 0, _exit_code(error))
    _test_of(environment).note_failure(str(error))
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        runner.send_message(FAILED, {"sentence": str(error), "exit_code": _exit_code(error)})
    elif environment.web_ui is None:
        gevent.spawn(runner.quit)
    else:
        gevent.spawn(runner.stop)


def _exit_code(error: TrafficError | RecordError) -> int:
    if isinstance(error, TrafficError):
        return error.exit_code
    return 255 if type(error) is RecordError else 254  # the base: a directory could not be made


class WorkerFailed(TrafficError):
    """A worker process could not go on; the whole test ends."""


def _on_parser(parser: Any, **_: Any) -> None:
    add_arguments(parser)


def _on_init(environment: Any, runner: Any, **_: Any) -> None:
    if isinstance(runner, MasterRunner):
        runner.register_message(FAILED, _on_worker_failed)
    test = _test_of(environment)
    if isinstance(runner, WorkerRunner):
        runner.register_message(FINISH, lambda msg, **_: test.finish(msg.data["run"]), concurrent=True)
    control = ControlClient.from_environment()
    if environment.web_ui is not None and control is not None:
        panel.install(environment, control)
    if environment.web_ui is None and not isinstance(runner, WorkerRunner):
        _check_arguments(environment)
    # Loading all this took a while, and --run-time would count it: gevent's timers start from a cached clock.
    gevent.get_hub().loop.update_now()


def _check_arguments(environment: Any) -> None:
    try:
        settings = _test_of(environment).settings()
        if settings.run_dir:
            RunDir.open(settings.run_dir)
    except (TrafficError, RecordError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(254) from None


def _on_worker_failed(environment: Any, msg: Any, **_: Any) -> None:
    error = WorkerFailed(f"a worker failed: {msg.data['sentence']}")
    error.exit_code = int(msg.data["exit_code"])
    fail(environment, error)


def _on_test_start(environment: Any, **_: Any) -> None:
    try:
        _test_of(environment).start()
    except (TrafficError, RecordError) as error:
        fail(environment, error)


def _on_test_stop(environment: Any, **_: Any) -> None:
    try:
        _test_of(environment).stop()
    except (TrafficError, RecordError) as error:
        if environment.process_exit_code != 255:  # otherwise `fail` has said it
            logger.error("%s", error)  # noqa: TRY400  # a sentence for a person, not a traceback
        environment.process_exit_code = 255


def _on_quitting(environment: Any, **_: Any) -> None:
    # Before Locust decides on the exit code; on SIGTERM the users are still running here.
    if isinstance(environment.runner, MasterRunner):
        environment.runner.stop()  # workers await their answers, and send the last of their records
    _on_test_stop(environment)
    if environment.process_exit_code is None:
        environment.process_exit_code = 0


events.init_command_line_parser.add_listener(_on_parser)
events.init.add_listener(_on_init)
events.test_start.add_listener(_on_test_start)
events.test_stop.add_listener(_on_test_stop)
events.quitting.add_listener(_on_quitting)
