"""The generator's arguments: declared for Locust's parser (and its web form), read once into a frozen object."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.answers import RetryPolicy
from loadtests.endpoint import Endpoint, parse_headers
from loadtests.errors import BadTraffic
from loadtests.events import MODES, PRODUCERS_MAX
from loadtests.sender import Limits
from loadtests.traffic import ARRIVALS, JOIN, Traffic, is_file, traffic_named, traffic_names


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a generator process was asked to do.

    Attributes:
        endpoint: Where events are posted.
        traffic: Curve and mix.
        rate_per_user: Requests per second each user offers where the curve is 1.
        batch: Events a request.
        mode: CloudEvents HTTP mode.
        gzip: Bodies are sent gzipped.
        keep_alive: Connections are used again; if not, each request opens its own.
        seed: Decides ids, content, arrivals and jitter.
        producer_base: The first process's producer number; each further process takes the next.
        run_dir: An existing run directory; None: make one below `runs`.
        timeout_s: From connecting to the last byte of an answer.
        drain_s: How long to wait for answers in flight at the end.
    """

    endpoint: Endpoint
    traffic: Traffic
    rate_per_user: float = 1.0
    batch: int = 100
    mode: str = "batch"
    gzip: bool = False
    keep_alive: bool = True
    seed: int = 1
    producer_base: int = 0
    run_dir: Path | None = None
    runs: Path = field(default_factory=lambda: Path("runs"))
    timeout_s: float = 10.0
    drain_s: float = 11.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = field(default_factory=Limits)


class _TrafficNames(list[str]):
    """What the form's drop-down offers; the command line takes files and pairs too, which are read and checked later."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and (is_file(name) or JOIN in name))


def add_arguments(parser: Any) -> None:
    """Declare our arguments; those that make sense before each start stand in the web form too."""
    add = parser.add_argument  # Locust's parser knows include_in_web_ui, argparse's groups do not
    add(
        "--traffic",
        choices=_TrafficNames(traffic_names()),
        default="steady",
        help="Rate curve and event mix, from profiles.yaml, such as spike+late; or a file that `icequake baseline record` wrote",
    )
    add("--arrivals", choices=("as-named", *ARRIVALS), default="as-named", help="How arrivals are spaced on the curve")
    add(
        "--rate-per-user",
        type=float,
        default=1.0,
        help="Requests per second that each user offers; the offered rate is users x this",
    )
    add("--batch", type=int, default=100, help="Events a request (1 for structured and binary mode)")
    add("--mode", choices=MODES, default="batch", help="CloudEvents over HTTP: how events are written")
    add("--gzip", choices=("no", "yes"), default="no", help="Send bodies gzipped")
    add(
        "--keep-alive", choices=("yes", "no"), default="yes", help="Use connections again, or open one for each request"
    )
    add("--seed", type=int, default=1, help="Decides ids, content, arrivals and jitter")
    add("--curve-period", type=float, default=0.0, help="Seconds one pass of the curve takes (0: as in profiles.yaml)")
    add("--speed", type=float, default=1.0, help="How many times faster than in profiles.yaml the curve passes")
    add("--retry-attempts", type=int, default=6, help="Attempts of one request, the first included")
    add(
        "--retry-within",
        type=float,
        default=10.0,
        help="No pause before another attempt is longer than so many seconds, Retry-After apart",
    )
    add("--retry-total", type=float, default=60.0, help="Seconds after which a request is not retried any more")
    add("--request-timeout", type=float, default=10.0, help="Seconds from connecting to the end of an answer")
    hidden: dict[str, Any] = {"include_in_web_ui": False}
    add("--connections", type=int, default=256, help="Requests in flight, at most, a process", **hidden)
    add("--send-within", type=float, default=10.0, help="Seconds after which an unsent arrival is given up", **hidden)
    add("--producer-base", type=int, default=0, help="Producer number of the first process", **hidden)
    add("--run-dir", default="", help="An existing run directory (default: a new one below --runs)", **hidden)
    add(
        "--apart",
        action="store_true",
        help="A worker records to its own --runs, and sends that to its master",
        **hidden,
    )
    add("--runs", default="runs", help="Where new run directories are made", **hidden)
    add(
        "--ingest-headers",
        default="",
        env_var="ICEQUAKE_INGEST_HEADERS",
        help='Further request headers as a JSON object, such as {"Authorization": "Bearer ..."}; better set by '
        "the environment variable, since arguments are visible to every user of the machine",
        **hidden,
    )


def read_settings(options: Namespace, *, host: str | None, stop_timeout_s: float = 0.0) -> Settings:
    """Return the settings in *options*.

    Args:
        options: Locust's parsed options, ours among them.
        host: Locust's host: the URL events are posted to.
        stop_timeout_s: Locust's --stop-timeout; 0 waits as long as one request may take.

    Raises:
        BadTraffic: an argument is missing or out of range.
    """
    if not host:
        raise BadTraffic("--host is missing: give the URL events are posted to, such as http://127.0.0.1:8787/events.")
    _positive("--rate-per-user", options.rate_per_user)
    _positive("--speed", options.speed)
    _positive("--request-timeout", options.request_timeout)
    _positive("--send-within", options.send_within)
    _positive("--retry-within", options.retry_within)
    for name in ("batch", "connections", "retry_attempts"):
        _positive("--" + name.replace("_", "-"), getattr(options, name))
    if not 0 <= options.producer_base < PRODUCERS_MAX:
        raise BadTraffic(f"--producer-base {options.producer_base} is not between 0 and {PRODUCERS_MAX - 1}.")
    if options.curve_period < 0 or options.retry_total < 0:
        raise BadTraffic("--curve-period and --retry-total cannot be negative.")
    if options.mode in ("structured", "binary") and options.batch != 1:
        raise BadTraffic(f"--mode {options.mode} carries one event a request; use --batch 1.")
    return Settings(
        endpoint=Endpoint.parse(host, parse_headers(options.ingest_headers)),
        traffic=traffic_named(
            options.traffic,
            period_s=options.curve_period or None,
            speed=options.speed,
            arrivals=None if options.arrivals == "as-named" else options.arrivals,
        ),
        rate_per_user=options.rate_per_user,
        batch=options.batch,
        mode=options.mode,
        gzip=options.gzip == "yes",
        keep_alive=options.keep_alive == "yes",
        seed=options.seed,
        producer_base=options.producer_base,
        run_dir=Path(options.run_dir) if options.run_dir else None,
        runs=Path(options.runs),
        timeout_s=options.request_timeout,
        drain_s=stop_timeout_s or options.request_timeout + 1.0,
        retry=RetryPolicy(
            attempts_max=options.retry_attempts, total_s_max=options.retry_total, cap_s=options.retry_within
        ),
        limits=Limits(connections=options.connections, send_within_s=options.send_within),
    )


def _positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise BadTraffic(f"{name} must be greater than 0, not {value:g}.")
