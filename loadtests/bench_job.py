"""What a benchmark asks of a load generator in a process of its own, and what it hears; importing it never imports Locust."""

from __future__ import annotations

from typing import Literal

import msgspec

Generator = Literal["ours", "ours-no-ledger", "stock-dicts", "stock-bytes"]
WARM_UP_S = 1.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to run.

    Attributes:
        rate: Offered requests per second; 0 lets stock users run as fast as they can. Ours always needs one.
        runs: Where ours makes its run directory.
    """

    generator: Generator
    url: str
    seconds: float
    batch: int
    users: int
    rate: float
    runs: str


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, from the end of the warm-up on; the latencies and lags are in milliseconds, from the beginning on.

    Attributes:
        cpu_s: User and system time of this process.
        p50_ms, p99_ms, max_ms: What the generator says the latency was: ours from the instant a request was due.
        lag_p50_ms, lag_p99_ms, lag_max_ms: From due to sent; ours only.
        offered, not_sent: Requests that were due in all, and those that were never sent; ours only.
        began_ns: Monotonic, when the first request was due.
    """

    requests: int
    failed: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    lag_p50_ms: float = 0.0
    lag_p99_ms: float = 0.0
    lag_max_ms: float = 0.0
    offered: int = 0
    not_sent: int = 0
    began_ns: int = 0
