"""A generator process on another machine: it records to its own disk, and the master of the test gathers the records.

A worker whose master's run directory is not on its disk makes one of its own, from what the master hands out with the first
users. Its records are sent to the master over Locust's own message channel as they grow, its times are those of the master's
clock, and no event is sent whose sequence the master has not been told of before: so whatever a worker that dies had sent, the
master knows how far it can have come.

Messages (worker to master, and the answer):
icequake-clock    {t}                          {t, master_ns}
icequake-lease    {run, producer, upto}        {run, upto}            before sequences below `upto` are sent
icequake-records  {run, path, offset, data}    {run, path, size}      how much of the file the master has
icequake-shipped  {run}                        -                      the test is over here, and the master has all of it
icequake-finish   (from the master) {run}                             end the test; Locust itself waits for nobody when it quits
"""

from __future__ import annotations

import json
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import gevent
import msgspec
from gevent.event import Event

from loadtests.errors import GeneratorFailed, TrafficError
from loadtests.records.documents import write_document
from loadtests.records.errors import RecordError
from loadtests.records.rundir import RunDir, RunInfo
from loadtests.session import Session
from loadtests.settings import Settings

CLOCK, LEASE, RECORDS = "icequake-clock", "icequake-lease", "icequake-records"
SHIPPED, FINISH = "icequake-shipped", "icequake-finish"
CHUNK_BYTES = 512_000
SHIP_S = 0.5
ANSWER_S = 10.0
"""How long the master may take to answer."""
PINGS = 8
GROWING = ("ledger", "hist", "status")
WHOLE = ("series",)
LEASE_LEAST = 512
LEASE_BEFORE_S = 2.0
"""A lease that lasts less than this is doubled the next time."""


class Channel(Protocol):
    """Locust's runner, as far as messages go."""

    def send_message(self, msg_type: str, data: dict[str, Any]) -> None:
        """Send to the master."""


def offer_of(run: RunDir) -> str:
    """Return what a worker elsewhere needs of a run, for the master's options."""
    files = {"scenario": run.scenario, "target": run.target}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    document = {"run": msgspec.to_builtins(run.info), "directory": str(run.root.resolve()), "machine": machine()}
    return json.dumps({**document, **texts})


def machine() -> str:
    """Return what this machine's processes share, and with it its monotonic clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{platform.node()}-{uuid.getnode():x}"


@dataclass(frozen=True)
class Offer:
    """What the master handed out."""

    info: RunInfo
    directory: Path
    machine: str
    scenario: str
    target: str

    @classmethod
    def read(cls, text: str) -> Offer:
        """Read `offer_of`."""
        document = json.loads(text)
        info = msgspec.convert(document["run"], RunInfo)
        return cls(info, Path(document["directory"]), *(document[name] for name in ("machine", "scenario", "target")))

    @classmethod
    def of(cls, options: Any) -> Offer | None:
        """Return the one among Locust's options; None when the master has made none."""
        text = getattr(options, "run_offer", None)
        return cls.read(text) if text else None

    def is_here(self) -> bool:
        """Tell whether the master is on this machine, and its run directory in our sight."""
        try:
            return self.machine == machine() and RunDir.open(self.directory).info.run_id == self.info.run_id
        except RecordError:
            return False

    def make(self, runs: Path) -> RunDir:
        """Make a run directory of our own below *runs*. Raises RecordError."""
        root = runs / f"{self.directory.name}-worker"
        try:
            for name in (*GROWING, *WHOLE):
                (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            run = RunDir(root, self.info)
            run.scenario.write_text(self.scenario, encoding="utf-8")
            run.target.write_text(self.target, encoding="utf-8")
            write_document(root / "run.json", self.info)
        except OSError as error:
            raise RecordError(f"the run directory {root} cannot be created: {error.strerror}.") from error
        return run


class MasterClock:
    """The master's monotonic clock, as far as messages can tell.

    Args:
        channel: Pings go this way.

    Attributes:
        offset_ns: What has to be added to this machine's clock.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._answers: list[tuple[int, int]] = []
        self.offset_ns = 0

    def __call__(self) -> int:
        """Return the master's time in nanoseconds."""
        return time.monotonic_ns() + self.offset_ns

    def answered(self, data: dict[str, Any]) -> None:
        """Take an answer; called by Locust."""
        now_ns = time.monotonic_ns()
        round_trip_ns = now_ns - int(data["t"])
        self._answers.append((round_trip_ns, int(data["master_ns"]) - int(data["t"]) - round_trip_ns // 2))

    def measure(self) -> None:
        """Compare clocks. Raises GeneratorFailed when the master does not answer."""
        self._answers.clear()
        deadline = time.monotonic() + ANSWER_S
        for _ in range(PINGS):
            self._channel.send_message(CLOCK, {"t": time.monotonic_ns()})
            gevent.sleep(0.02)
        while not self._answers:
            if time.monotonic() > deadline:
                raise GeneratorFailed(f"the master did not tell its time within {ANSWER_S:g} s.")
            gevent.sleep(0.05)
        _, self.offset_ns = min(self._answers)  # of the shortest round trip: right within half of it


class Lease:
    """The sequences that may be sent because the master knows of them.

    Args:
        ask: Tells the master that sequences below its argument will be sent.
    """

    def __init__(self, ask: Callable[[int], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self._asked = self._granted = 0
        self._size = LEASE_LEAST
        self._asked_at = clock()
        self._news = Event()

    def grant(self, upto: int) -> None:
        """The master knows of sequences below *upto*."""
        self._granted = max(self._granted, upto)
        self._news.set()

    def cover(self, upto: int) -> None:
        """Return when sequences below *upto* may be sent; usually at once. Raises GeneratorFailed."""
        if upto + self._size // 2 > self._asked:
            now = self._clock()
            quick = now - self._asked_at < LEASE_BEFORE_S
            self._size, self._asked_at = self._size * 2 if quick else self._size, now
            self._asked = upto + self._size
            self._ask(self._asked)
        while upto > self._granted:
            self._news.clear()
            if not self._news.wait(ANSWER_S):
                raise GeneratorFailed(f"the master did not answer within {ANSWER_S:g} s; nothing more is sent.")


@dataclass
class _File:
    sent: int = 0
    has: int = 0
    """Bytes that the master has, as it says."""
    asked_at: float = field(default_factory=time.monotonic)


class Shipper:
    """Send the records of a run directory to the master as they grow, until it has all of them.

    Args:
        channel: Locust's runner.
        run: The worker's own.
    """

    def __init__(self, channel: Channel, run: RunDir) -> None:
        self._channel, self._run = channel, run
        self._files: dict[str, _File] = {}
        self._greenlet: Any = gevent.spawn(self._forever)

    def has(self, data: dict[str, Any]) -> None:
        """The master says how much it has of a file."""
        if data["run"] == self._run.info.run_id:
            self._files.setdefault(str(data["path"]), _File()).has = int(data["size"])

    def finish(self) -> None:
        """Send what is left, in the background, until the master has it; the records are closed."""
        self._greenlet.kill()
        gevent.spawn(self._finish)

    def ship(self) -> None:
        """Send what the master was not sent yet."""
        for path in self._paths():
            self._ship(path)

    def _forever(self) -> None:
        while True:
            gevent.sleep(SHIP_S)
            self.ship()

    def _finish(self) -> None:
        deadline = time.monotonic() + 6 * ANSWER_S
        while time.monotonic() < deadline:
            self.ship()
            if all(self._file(path).has >= path.stat().st_size for path in self._paths()):
                self._channel.send_message(SHIPPED, {"run": self._run.info.run_id})
                return
            gevent.sleep(SHIP_S / 5)

    def _paths(self) -> Iterator[Path]:
        for name in GROWING:
            yield from sorted((self._run.root / name).glob("locust-*"))
        for name in WHOLE:
            yield from sorted((self._run.root / name).glob("locust-*.parquet"))

    def _file(self, path: Path) -> _File:
        return self._files.setdefault(path.relative_to(self._run.root).as_posix(), _File())

    def _ship(self, path: Path) -> None:
        file, size, now = self._file(path), path.stat().st_size, time.monotonic()
        if file.sent > file.has and now - file.asked_at > ANSWER_S / 2:
            file.sent = file.has  # an answer is missing: a message was lost with a connection
        while file.sent < size:
            with path.open("rb") as stream:
                stream.seek(file.sent)
                data = stream.read(CHUNK_BYTES if path.parent.name in GROWING else -1)
            name = path.relative_to(self._run.root).as_posix()
            message = {"run": self._run.info.run_id, "path": name, "offset": file.sent, "data": data}
            self._channel.send_message(RECORDS, message)
            file.sent, file.asked_at = file.sent + len(data), now


class Away:
    """The part of a worker that its master is far from: opens tests, and gives back their records.

    Args:
        runner: Locust's worker; messages for it are registered here.
        options: Its own, before those of the master are laid over them.
    """

    def __init__(self, runner: Any, options: Any) -> None:
        self._runner = runner
        self._runs, self._apart = Path(options.runs), bool(options.apart)
        self._clock = MasterClock(runner)
        self._lease: Lease | None = None
        self._shipper: Shipper | None = None
        self._opening: Any = None
        self._session: Session | None = None
        self._run_id = ""
        runner.register_message(CLOCK, lambda msg, **_: self._clock.answered(msg.data))
        runner.register_message(LEASE, self._granted)
        runner.register_message(RECORDS, self._has)

    def takes(self, offer: Offer) -> bool:
        """Tell whether this worker is to record by itself."""
        return self._apart or not offer.is_here()

    def open(
        self,
        offer: Offer,
        settings: Settings,
        make: Callable[..., Session],
        fail: Callable[[TrafficError], None],
    ) -> None:
        """Begin to open a test; returns at once, since the master's answers come by the caller's greenlet.

        Args:
            make: Makes the session, given settings, run, `clock` and `cover`.
            fail: Called when it cannot be opened.
        """
        self._shipper = None
        self._opening = gevent.spawn(self._open, offer, settings, make, fail)

    def session(self) -> Session | None:
        """Return the session of the test, once it is open; None when there is none."""
        if self._opening is not None:
            self._opening.join()
        return self._session

    def close(self) -> bool:
        """End the test, and send the last of its records; tell whether there are any. Idempotent. Raises GeneratorFailed."""
        if self._opening is not None:
            self._opening.kill()
        session, self._session, self._opening = self._session, None, None
        if session is None or self._shipper is None:
            return self._shipper is not None
        try:
            session.stop()
        finally:
            self._shipper.ship()  # before Locust tells the master that we have stopped
            self._shipper.finish()
        return True

    def _open(
        self, offer: Offer, settings: Settings, make: Callable[..., Session], fail: Callable[[TrafficError], None]
    ) -> None:
        try:
            self._clock.measure()
            run = offer.make(self._runs)
            producer = settings.producer_base + max(self._runner.worker_index, 0)
            self._run_id = run.info.run_id
            name = {"run": self._run_id, "producer": producer}
            self._lease = Lease(lambda upto: self._runner.send_message(LEASE, {**name, "upto": upto}))
            session = make(settings, run, clock=self._clock, cover=self._lease.cover)
            self._shipper = Shipper(self._runner, run)
            self._session = session
        except TrafficError as error:
            fail(error)
        except RecordError as error:
            fail(GeneratorFailed(str(error)))

    def _granted(self, msg: Any, **_: Any) -> None:
        if self._lease is not None and msg.data["run"] == self._run_id:
            self._lease.grant(int(msg.data["upto"]))

    def _has(self, msg: Any, **_: Any) -> None:
        if self._shipper is not None:
            self._shipper.has(msg.data)
