"""What a drill works with: the collector's admin listener, its process, the table, and a place to write down what held."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from chaos.errors import ChaosError
from chaos.loopback import open_url

ANSWER_S = 120.0
ANSWER_BYTES_MAX = 1 << 30
LINE_BYTES_MAX = 1 << 26
POLL_S = 0.1
SCAN_S = 0.5
"""Between two reads of the whole table."""
NOTHING: Mapping[str, str] = {}


class DrillFailed(ChaosError):
    """The procedure could not be done: the collector refused or did not answer."""

    code = "drill_failed"


class DrillStopped(Exception):
    """The run ends, and the drill with it; it proves nothing."""


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a drill that can be done in one way only."""


Key = tuple[str, str]
"""CloudEvents `source` and `id`."""


class Ledger(Protocol):
    """What was sent so far; see `chaos.drills.sent.Sent`."""

    def acked_before(self, moment_s: float) -> set[Key]:
        """Return the events that were acknowledged before a moment of the monotonic clock."""
        ...

    def again_since(self, moment_s: float) -> set[Key]:
        """Return the events that were sent since a moment although they had been sent before."""
        ...


@dataclass(frozen=True)
class Mended:
    """One step of a repair.

    Attributes:
        recipe: What was done; None when there was nothing to do, or nothing that could be done.
        rows_lost: Rows that are gone for good by it.
        left: What cannot be mended, and why, in sentences.
    """

    recipe: str | None = None
    rows_lost: int = 0
    left: tuple[str, ...] = ()


class Table(Protocol):
    """What a drill asks of the table; each method raises DrillFailed."""

    def rows_of(self, paths: list[str]) -> dict[str, int]:
        """Return the number of rows read from each of *paths* that the current snapshot references."""
        ...

    def holds(self, keys: set[Key]) -> set[Key]:
        """Return those of *keys* that a scan returns."""
        ...

    def critical(self) -> list[str]:
        """Let the doctor look at the table; return its critical findings, in sentences."""
        ...

    def mend(self, *, accept_loss: bool, export: bytes | None = None) -> Mended:
        """Do the next step of a repair, with a backup of what it replaces; rows of lost files are taken from *export*."""
        ...

    def denied(self) -> dict[str, str]:
        """Try what the collector needs of the object store, by its own way and with its credentials; return what is denied
        (PUT, HEAD, GET, LIST, multipart upload, conditional PUT, DELETE) and the answer."""
        ...


class AdminClient:
    """The admin listener of a collector like the reference one.

    Args:
        url: Ends with `/admin`.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token

    def get(self, path: str) -> bytes:
        """GET a resource. Raises DrillFailed."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: bytes = b"") -> dict[str, Any]:
        """POST and return the JSON answer. Raises DrillFailed."""
        return _object(path, self._ask("POST", path, body))

    def read(self, path: str) -> dict[str, Any]:
        """GET a JSON document. Raises DrillFailed."""
        return _object(path, self.get(path))

    def lines(self, path: str) -> Iterator[dict[str, Any]]:
        """GET a stream of JSON objects, one a line; one is in memory at a time. Raises DrillFailed."""
        with self._open("GET", path, None) as answer:
            while line := answer.readline(LINE_BYTES_MAX):
                yield _object(path, line)

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        with self._open(method, path, body) as answer:
            content: bytes = answer.read(ANSWER_BYTES_MAX)
        return content

    @contextmanager
    def _open(self, method: str, path: str, body: bytes | None) -> Iterator[http.client.HTTPResponse]:
        request = urllib.request.Request(  # noqa: S310  # the target file's http URL
            f"{self._url}/{path}", data=body, method=method, headers={"Authorization": f"Bearer {self._token}"}
        )
        try:
            with open_url(request, timeout=ANSWER_S) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            said = error.read(500).decode(errors="replace")
            raise DrillFailed(f"{method} /{path} was answered with {error.code}: {said}") from error
        except (OSError, http.client.HTTPException) as error:
            raise DrillFailed(f"{method} /{path} failed: {error}") from error


def _object(path: str, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise DrillFailed(f"/{path} did not answer JSON.") from error
    if not isinstance(document, dict):
        raise DrillFailed(f"/{path} did not answer a JSON object.")
    return document


@dataclass(frozen=True)
class Backup:
    """An export as it was received."""

    content: bytes
    events: int
    sha256: str

    @property
    def receipt(self) -> bytes:
        """The body of a reset under it."""
        return json.dumps({"receipt": {"events": self.events, "sha256": self.sha256}}).encode()

    def lines(self) -> list[bytes]:
        """Its events, each with its line feed."""
        return self.content.splitlines(keepends=True)[:-1]

    def keys(self) -> set[Key]:
        """Which events it holds."""
        return {key_of(line) for line in self.lines()}

    def half(self) -> bytes:
        """Its first half, cut between lines: what a replay that crashed had sent."""
        lines = self.content.splitlines(keepends=True)
        return b"".join(lines[: len(lines) // 2])


def key_of(line: bytes) -> Key:
    """Return which event a line of an export holds."""
    event = json.loads(line)
    return event["source"], event["id"]


def read_backup(content: bytes) -> Backup:
    """Read an export's receipt. Raises DrillFailed when it was cut off."""
    try:
        receipt = json.loads(content.splitlines()[-1])["receipt"]
        return Backup(content, int(receipt["events"]), str(receipt["sha256"]))
    except (ValueError, LookupError, TypeError) as error:
        raise DrillFailed("the export does not end with a receipt: it was cut off.") from error


@dataclass
class Desk:
    """One drill's tools.

    Attributes:
        admin: The collector's admin listener.
        table: The table, for what is asked of it past every fault.
        stop: Ends the collector with SIGTERM; returns its exit status.
        start: Starts it, with more environment, and returns when it is ready.
        end_traffic: Ends the traffic and waits for the last answers.
        kill: Ends the collector with SIGKILL.
        acked: How many events were acknowledged so far.
        ledger: Which.
        fault: A fault of the catalogue, with parameters, that is on for the length of a `with` block.
        idle: Called while waiting; raises when the run cannot go on.
        write: Writes a line of the timeline.
    """

    name: str
    admin: AdminClient
    table: Table
    stop: Callable[[], int | None]
    kill: Callable[[], None]
    start: Callable[[Mapping[str, str]], None]
    end_traffic: Callable[[], None]
    acked: Callable[[], int]
    ledger: Ledger
    fault: Callable[[str, Mapping[str, Any]], AbstractContextManager[None]]
    idle: Callable[[], None]
    write: Callable[..., Any]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def check(self, what: str, ok: bool, detail: str) -> None:
        """Write down whether a post-condition holds, with the numbers it is about."""
        self.write("drill", drill=self.name, state="checked", check=what, ok=ok, detail=detail)

    def reached(self, milestone: str, detail: str = "") -> None:
        """Write down that the damage is `detected`, `mitigated` or `recovered`; the report counts from when it was done."""
        self.write("drill", drill=self.name, state="reached", milestone=milestone, detail=detail)

    def wait(self, holds: Callable[[], bool], at_most_s: float, *, every_s: float = POLL_S) -> bool:
        """Wait until *holds*; tell whether it did in time."""
        deadline = self.clock() + at_most_s
        while not holds():
            if self.clock() > deadline:
                return False
            self.idle()
            self.sleep(every_s)
        return True

    def missing(self, moment_s: float) -> set[Key]:
        """Events that were acknowledged before a moment and are not in the table. Raises DrillFailed."""
        owed = self.ledger.acked_before(moment_s)
        return owed - self.table.holds(owed)

    def all_there(self, what: str, moment_s: float, at_most_s: float = 60.0) -> bool:
        """Check that every event that was acknowledged before a moment comes to be in the table; tell whether it did."""
        found: list[set[Key]] = []

        def there() -> bool:
            found[:] = [self.missing(moment_s)]
            return not found[0]

        holds = self.wait(there, at_most_s, every_s=SCAN_S)
        owed = len(self.ledger.acked_before(moment_s))
        self.check(what, holds, f"{len(found[0])} of {owed} events acknowledged by then are not in the table")
        return holds

    def accepts(self, at_most_s: float = 20.0) -> None:
        """Check that events are accepted."""
        before = self.acked()
        flows = self.wait(lambda: self.acked() > before, at_most_s)
        self.check("accepts", flows, f"{self.acked() - before} events were acknowledged since")

    def buffered(self) -> int:
        """Events that the collector holds now. Raises DrillFailed."""
        return int(self.admin.read("buffer")["events"])

    def wait_for_events(self, least: int, at_most_s: float = 20.0) -> int:
        """Wait until the buffer holds something worth a drill; return how many. Raises DrillFailed."""
        if not self.wait(lambda: self.buffered() >= least, at_most_s):
            raise DrillFailed(f"the buffer did not hold {least} events within {at_most_s:g} s.")
        return self.buffered()

    def wait_behind_a_flush(self, least: int, at_most_s: float = 20.0) -> None:
        """Leave a flush in flight, while a fault keeps it from landing, and wait until so many events were acked behind it.

        They stay in the buffer as long as the fault is on: without one, they might leave by their age at any moment.
        Raises DrillFailed.
        """
        with suppress(DrillFailed):  # it cannot land, which is what it is for
            self.admin.post("flush")
        acked = self.acked()
        if not self.wait(lambda: self.acked() >= acked + least, at_most_s):
            raise DrillFailed(
                f"no {least} events were acknowledged within {at_most_s:g} s behind a flush that cannot land."
            )

    def restart(self, env: Mapping[str, str] = NOTHING) -> int | None:
        """Stop and start the collector; return the exit status of the stop."""
        status = self.stop()
        self.start(env)
        return status


def perform(drill: str, procedure: Callable[[Desk], None], desk: Desk) -> bool:
    """Do one drill, timed; a procedure that cannot be done is written down like a post-condition that does not hold.

    An answer of the collector that lacks what it must hold makes the drill fail, not the harness. Returns whether it was done
    to its end; a drill whose run ended before it has no end, and proves nothing.
    """
    began = desk.clock()

    def ended(state: str, **fields: Any) -> None:
        desk.write("drill", drill=drill, state=state, **fields, seconds=round(desk.clock() - began, 3))

    desk.write("drill", drill=drill, state="begun")
    try:
        procedure(desk)
    except DrillFailed as error:
        ended("failed", reason=str(error))
        return False
    except (LookupError, TypeError, ValueError) as error:
        ended("failed", reason=f"an answer of the collector was not as it must be ({error!r})")
        return False
    except DrillStopped as error:
        ended("stopped", reason=str(error))
        return False
    ended("done")
    return True
