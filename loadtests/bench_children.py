"""One load generator in a process of its own, measured from within: `python -m loadtests.bench_children '{"generator": ...}'`.

Locust is used as a library, so that its start-up is not measured. Prints one JSON object, a `Measured`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import locust
import msgspec
from locust import FastHttpUser, constant, constant_throughput, task
from locust.argument_parser import get_parser
from locust.env import Environment

from loadtests import locustfile, recorder
from loadtests.bench_job import WARM_UP_S, Job, Measured
from loadtests.events import EventFactory
from loadtests.records.histogram import max_ms, merged, percentiles_ms
from loadtests.records.identity import Identity
from loadtests.records.rundir import RunDir
from loadtests.traffic import Mix


class NoLedger:
    """Stands for the ledger where its cost is to be seen."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Open nothing."""

    def attempt(self, **_: Any) -> int:
        """Write nothing."""
        return 0

    def done(self, *_: Any, **__: Any) -> None:
        """Write nothing."""

    def not_sent(self, **_: Any) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Close nothing."""


@dataclass
class _Meter:
    """Requests, wall and processor time since it was made."""

    environment: Any

    def __post_init__(self) -> None:
        total = self.environment.stats.total
        self._requests, self._failed = total.num_requests, total.num_failures
        self._cpu_s, self._at_s = _now()

    def read(self) -> dict[str, Any]:
        total = self.environment.stats.total
        cpu_s, at_s = _now()
        return {
            "requests": total.num_requests - self._requests,
            "failed": total.num_failures - self._failed,
            "seconds": at_s - self._at_s,
            "cpu_s": cpu_s - self._cpu_s,
        }


def _now() -> tuple[float, float]:
    return time.process_time(), time.monotonic()


def run_ours(job: Job) -> Measured:
    """Run our generator as `locust -f loadtests/locustfile.py` would."""
    if job.generator == "ours-no-ledger":
        setattr(recorder, "LedgerWriter", NoLedger)  # noqa: B010  # the module does not export the name
    options = get_parser(default_config_files=[]).parse_args(
        [
            "--host",
            job.url,
            "--batch",
            str(job.batch),
            "--runs",
            job.runs,
            "--rate-per-user",
            repr(job.rate / job.users),
        ]
    )
    environment = Environment(
        user_classes=[locustfile.CollectorUser], events=locust.events, host=job.url, parsed_options=options
    )
    measured = _drive(environment, job)
    run = RunDir.find(Path(job.runs), "last")
    corrected, lag = merged(run.hist, "corrected"), merged(run.hist, "lag")
    p50_ms, p99_ms = percentiles_ms(corrected, (50, 99))
    lag_p50_ms, lag_p99_ms = percentiles_ms(lag, (50, 99))
    last = msgspec.json.decode(next(run.status.glob("*.jsonl")).read_bytes().splitlines()[-1])
    return Measured(
        **measured,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        max_ms=max_ms(corrected),
        lag_p50_ms=lag_p50_ms,
        lag_p99_ms=lag_p99_ms,
        lag_max_ms=max_ms(lag),
        offered=last["offered"] // job.batch,
        not_sent=last["not_sent"] // job.batch,
        began_ns=run.info.window.baseline_start_ns or 0,
    )


def run_stock(job: Job) -> Measured:
    """Run Locust's own fast client: events as dicts for it to write as JSON, or as bytes that are ready but for their ids."""
    environment = Environment(user_classes=[stock_user(job)], host=job.url)
    measured = _drive(environment, job)
    total = environment.stats.total
    percentile = total.get_response_time_percentile
    return Measured(**measured, p50_ms=percentile(0.5), p99_ms=percentile(0.99), max_ms=total.max_response_time)


def stock_user(job: Job) -> type[FastHttpUser]:
    """Return a user as its users write them."""
    identity = Identity(1, "ab12cd34")
    events = EventFactory(seed=1, run_id="ab12cd34", producer=0, mix=Mix(), batch=job.batch)
    template = events.render(0, job.batch, unix_ns=0)
    dicts = msgspec.json.decode(template.body)
    pieces = template.body
    for event in dicts:
        pieces = pieces.replace(event["id"].encode(), b"@@")
    texts, headers, sent = pieces.split(b"@@"), dict(template.headers), iter(range(0, 1 << 60, job.batch))

    class Stock(FastHttpUser):  # type: ignore[misc]
        wait_time = constant_throughput(job.rate / job.users) if job.rate else constant(0)

        @task  # type: ignore[untyped-decorator]
        def post(self) -> None:
            ids = [value.decode() for value in identity.ids(0, next(sent), job.batch)]
            if job.generator == "stock-dicts":
                body = [{**event, "id": one} for event, one in zip(dicts, ids, strict=True)]
                self.client.post("", name="events", json=body)
            else:
                data = b"".join(part for pair in zip(texts, [i.encode() for i in ids], strict=False) for part in pair)
                self.client.post("", name="events", data=data + texts[-1], headers=headers)

    return Stock


def _drive(environment: Any, job: Job) -> dict[str, Any]:
    runner = environment.create_local_runner()
    runner.start(job.users, spawn_rate=job.users)
    gevent.sleep(WARM_UP_S)
    meter = _Meter(environment)
    gevent.sleep(job.seconds)
    measured = meter.read()
    runner.quit()
    return measured


def main() -> None:
    """Run the job of the command line."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    measured = run_ours(job) if job.generator.startswith("ours") else run_stock(job)
    sys.stdout.write(f"{msgspec.json.encode(measured).decode()}\n")


if __name__ == "__main__":
    main()
