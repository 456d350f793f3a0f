"""The kinds of toxic: which parameters each takes, what Toxiproxy is told, and what a probe must feel while it is on.

Durations are milliseconds here and where Toxiproxy takes them; its slicer counts microseconds and its bandwidth kB/s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chaos.faults.probe import Probe, Reading

Params = Mapping[str, int]
LEAST_FELT_MS = 40.0
"""Shorter delays cannot be told from a busy machine; then only Toxiproxy's own list shows that the toxic is on."""
DEAD_MS = 1000.0
"""How long a probe waits for an answer that a black hole swallows."""


@dataclass(frozen=True)
class Kind:
    """One kind of toxic.

    Attributes:
        about: What it does, for documentation.
        required, optional: Names of its parameters, beside `path` and `stream`.
        attributes: The parameters as Toxiproxy takes them; None where no toxic but the proxy itself is switched.
        felt: Why a probe shows that it is not on, given (params, stream, before, during); None: it is on, or cannot be told.
        blocks: Requests that meet it do not come whole to the other side.
    """

    about: str
    required: frozenset[str]
    optional: frozenset[str]
    attributes: Callable[[Params], dict[str, int]] | None
    felt: Callable[[Params, str, Reading, Reading], str | None]
    blocks: bool = False


def _at_least(least_ms: float, took_ms: float | None) -> str | None:
    if least_ms < LEAST_FELT_MS or (took_ms is not None and took_ms >= 0.8 * least_ms):
        return None
    return f"a probe on the same path took {took_ms if took_ms is not None else 0:g} ms; at least {0.8 * least_ms:g} ms were planned"


def _moved(reading: Reading, stream: str) -> int:
    return reading.sent_bytes if stream == "upstream" else reading.answer_bytes


def _late(params: Params, _stream: str, _before: Reading, during: Reading) -> str | None:
    if not during.whole:
        return None  # later than the probe's patience
    return _at_least(params["latency_ms"] - params.get("jitter_ms", 0), during.ms)


def _narrow(params: Params, stream: str, before: Reading, during: Reading) -> str | None:
    if not during.whole:
        return None
    return _at_least(_moved(during, stream) / params["rate_kb_s"] - before.ms, during.ms)


def _sliced(params: Params, stream: str, _before: Reading, during: Reading) -> str | None:
    pieces = _moved(during, stream) // (2 * params["size_bytes"])  # pieces vary in size
    return _at_least(max(0, pieces - 1) * params.get("delay_ms", 0), during.ms) if during.whole else None


def _unanswered(_params: Params, _stream: str, _before: Reading, during: Reading) -> str | None:
    return "a probe on the same path was answered whole all the same" if during.whole else None


def _closes_late(params: Params, _stream: str, _before: Reading, during: Reading) -> str | None:
    return _at_least(params["delay_ms"], during.closed_ms)


KINDS: dict[str, Kind] = {
    "latency": Kind(
        "every chunk of data is late; an upload of several requests pays it several times",
        frozenset({"latency_ms"}), frozenset({"jitter_ms"}),
        lambda p: {"latency": p["latency_ms"], "jitter": p.get("jitter_ms", 0)}, _late,
    ),
    "bandwidth": Kind(
        "data crawls", frozenset({"rate_kb_s"}), frozenset(), lambda p: {"rate": p["rate_kb_s"]}, _narrow,
    ),
    "timeout": Kind(
        "a black hole: data is swallowed; the connection is closed after timeout_ms, or never (0)",
        frozenset(), frozenset({"timeout_ms"}), lambda p: {"timeout": p.get("timeout_ms", 0)}, _unanswered, blocks=True,
    ),
    "reset_peer": Kind(
        "connections are reset, after timeout_ms",
        frozenset(), frozenset({"timeout_ms"}), lambda p: {"timeout": p.get("timeout_ms", 0)}, _unanswered, blocks=True,
    ),
    "slow_close": Kind(
        "connections end late", frozenset({"delay_ms"}), frozenset(), lambda p: {"delay": p["delay_ms"]}, _closes_late,
    ),
    "slicer": Kind(
        "data comes in small pieces, each late",
        frozenset({"size_bytes"}), frozenset({"delay_ms"}),
        lambda p: {
            "average_size": p["size_bytes"], "size_variation": p["size_bytes"] // 3, "delay": p.get("delay_ms", 0) * 1000,
        },
        _sliced,
    ),
    "limit_data": Kind(
        "every connection ends after so many bytes",
        frozenset({"size_bytes"}), frozenset(), lambda p: {"bytes": p["size_bytes"]}, _unanswered, blocks=True,
    ),
    "down": Kind("nothing listens: connections are refused, those there are cut", frozenset(), frozenset(), None, _unanswered, blocks=True),
    "flapping": Kind(
        "down and up in turn", frozenset({"down_ms", "up_ms"}), frozenset(), None, _unanswered, blocks=True,
    ),
}  # fmt: skip


def probe_for(kind: str, base: str, params: Params, stream: str) -> Probe:
    """Make the probe that can feel a toxic of this kind."""
    if kind == "bandwidth" and stream == "upstream":
        return Probe(base, send_bytes=min(8_000, params["rate_kb_s"] * 500))
    if kind == "limit_data" and stream == "upstream":
        return Probe(base, send_bytes=params["size_bytes"] + 8_000, deadline_s=DEAD_MS / 1000)
    return Probe(base, deadline_s=DEAD_MS / 1000) if KINDS[kind].blocks else Probe(base)
