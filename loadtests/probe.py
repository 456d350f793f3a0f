"""Send a bounded number of events without Locust: `python -m loadtests.probe --run-dir DIR --url URL --count N ...`.

The runner uses it to see whether a target takes traffic again after a fault, and whether a new event reaches the table. The
events are minted, written to the ledger (kind `probe`) and classified like all others, but sent one request after another
over the standard library's HTTP client, and never retried.

Prints one JSON object: {"attempted", "acked", "refused", "unknown", "producer", "first", "count"}; all but `producer` and
`first` count events. Exit codes: 0 whatever the target answered, 254 for wrong arguments, 255 when the ledger failed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtests.answers import Answer, classify, parse_retry_after
from loadtests.endpoint import Endpoint, parse_headers
from loadtests.errors import BadTraffic, TrafficError
from loadtests.events import MODES, PRODUCERS_MAX, EventFactory, Message
from loadtests.records.errors import LedgerWriteError, RecordError
from loadtests.records.ledger import Kind, LedgerWriter, Outcome, Status, read_ledgers
from loadtests.records.rundir import RunDir
from loadtests.records.target import Refusals
from loadtests.traffic import Mix

Exchange = Callable[[Message], Answer]


@dataclass
class Result:
    """What a probe sent and what was answered, in events."""

    producer: int
    first: int
    count: int
    attempted: int = 0
    acked: int = 0
    refused: int = 0
    unknown: int = 0

    def add(self, outcome: Outcome, count: int) -> None:
        """Count *count* events that were answered with *outcome*."""
        self.attempted += count
        self.acked += count if outcome == Outcome.ACKED else 0
        self.refused += count if outcome == Outcome.REFUSED else 0
        self.unknown += count if outcome == Outcome.UNKNOWN else 0


class Probe:
    """Send the events of one producer at a rate, each request once.

    Args:
        events: Renders requests of at most its `batch` events.
        ledger: Where each attempt is written before it leaves.
        exchange: Sends one message.
        refusals: The target's contract.
        clock: Monotonic nanoseconds.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        *,
        events: EventFactory,
        ledger: LedgerWriter,
        exchange: Exchange,
        refusals: Refusals,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._events = events
        self._ledger = ledger
        self._exchange = exchange
        self._refusals = refusals
        self._clock = clock
        self._sleep = sleep
        self._unix_offset_ns = time.time_ns() - clock()

    def send(self, *, first: int, count: int, rate_per_s: float) -> Result:
        """Send events first .. first+count-1 at *rate_per_s* events a second. Raises LedgerWriteError."""
        result = Result(self._events.producer, first, count)
        start_ns = self._clock()
        for sequence in range(first, first + count, self._events.batch):
            intended_ns = start_ns + int((sequence - first) / rate_per_s * 1e9)
            self._sleep(max(0.0, (intended_ns - self._clock()) / 1e9))
            size = min(self._events.batch, first + count - sequence)
            result.add(self._send_one(sequence, size, intended_ns), size)
        return result

    def _send_one(self, first: int, count: int, intended_ns: int) -> Outcome:
        producer = self._events.producer
        message = self._events.render(first, count, unix_ns=intended_ns + self._unix_offset_ns)
        sent_ns = self._clock()
        request = self._ledger.attempt(
            producer=producer,
            first=first,
            count=count,
            intended_ns=intended_ns,
            sent_ns=sent_ns,
            kind=Kind.PROBE,
            body_bytes=len(message.body),
        )
        answer = self._exchange(message)
        outcome = classify(answer, self._refusals)
        self._ledger.done(
            request,
            producer=producer,
            first=first,
            count=count,
            intended_ns=intended_ns,
            sent_ns=sent_ns,
            done_ns=self._clock(),
            status=answer.status,
            outcome=outcome,
            kind=Kind.PROBE,
        )
        return outcome


def blocking_exchange(endpoint: Endpoint, *, timeout_s: float) -> Exchange:
    """Return a function that posts one message over a connection of its own and never raises for the network.

    *timeout_s* bounds each wait for the network, not their sum.
    """

    def exchange(message: Message) -> Answer:
        kind = http.client.HTTPSConnection if endpoint.scheme == "https" else http.client.HTTPConnection
        connection = kind(endpoint.host, endpoint.port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError:
            connection.close()
            return Answer(Status.CONNECT_FAILED)
        try:
            headers = {**endpoint.headers, **dict(message.headers)}
            connection.request("POST", endpoint.path, body=message.body, headers=headers)
            response = connection.getresponse()
            response.read()
            wait = response.getheader("Retry-After")
            content_type = (response.getheader("Content-Type") or "").lower()
            return Answer(response.status, content_type, parse_retry_after(wait) if wait else None)
        except TimeoutError:
            return Answer(Status.TIMEOUT)
        except http.client.IncompleteRead:
            return Answer(Status.TRUNCATED)
        except (http.client.RemoteDisconnected, OSError):
            return Answer(Status.RESET)
        except http.client.HTTPException:
            return Answer(Status.OTHER)
        finally:
            connection.close()

    return exchange


def next_sequence(run: RunDir, producer: int) -> int:
    """Return the first sequence of *producer* that no ledger of *run* mentions, so that probes never mint an id twice."""
    used = [ledger.records[ledger.records["producer"] == producer] for ledger in read_ledgers(run.ledger)]
    return max((int((records["first"] + records["count"]).max()) for records in used if len(records)), default=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the probe; return the exit code."""
    options = _parser().parse_args(argv)
    try:
        result = _run(options)
    except (TrafficError, RecordError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code if isinstance(error, TrafficError) else _exit_code(error)
    print(json.dumps(asdict(result)))
    return 0


def _exit_code(error: RecordError) -> int:
    return 255 if isinstance(error, LedgerWriteError) else 254


def _run(options: argparse.Namespace) -> Result:
    if min(options.count, options.batch) < 1 or not options.rate > 0 or not options.timeout > 0:
        raise BadTraffic("--count, --batch, --rate and --timeout must be greater than 0.")
    if not 0 <= options.producer < PRODUCERS_MAX:
        raise BadTraffic(f"--producer {options.producer} is not between 0 and {PRODUCERS_MAX - 1}.")
    endpoint = Endpoint.parse(options.url, parse_headers(os.environ.get("ICEQUAKE_INGEST_HEADERS", "")))
    run = RunDir.open(options.run_dir)
    target = run.load_target()
    first = next_sequence(run, options.producer)
    process = f"probe-{options.producer}-{first}"
    events = EventFactory(
        seed=run.info.seed,
        run_id=run.info.run_id,
        producer=options.producer,
        mix=Mix(types=run.info.mix, phases=run.info.phases) if run.info.mix else Mix(),
        mode=options.mode or target.ingest.mode,
        path=endpoint.path,
        batch=options.batch,
    )
    ledger = LedgerWriter(run.ledger / f"{process}.ledger", run_id=run.info.run_id, process=process)
    exchange = blocking_exchange(endpoint, timeout_s=options.timeout)
    try:
        probe = Probe(events=events, ledger=ledger, exchange=exchange, refusals=target.contract.refusals)
        return probe.send(first=first, count=options.count, rate_per_s=options.rate)
    finally:
        ledger.close()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(254, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="loadtests.probe", description="Send a bounded number of events and print what was answered.")
    parser.add_argument("--run-dir", type=Path, required=True, help="the run whose ledger the attempts belong to")
    parser.add_argument("--url", required=True, help="where events are posted")
    parser.add_argument("--count", type=int, default=1, help="events in all")
    parser.add_argument("--batch", type=int, default=1, help="events a request")
    parser.add_argument("--rate", type=float, default=100.0, help="events a second")
    parser.add_argument("--producer", type=int, required=True, help="a producer number no generator process uses")
    parser.add_argument("--mode", choices=MODES, default=None, help="CloudEvents mode (default: the target's)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the network")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
