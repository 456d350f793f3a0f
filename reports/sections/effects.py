"""What each step did to requests: how many there were, on which path, before it, while it was on, and after; from records alone.

The steps say themselves what they affected. This says it again without them: from the gateway's log for the paths to the object
store and the catalog, from the ledgers for the path to the target. A step that nothing broke (`nothing`) is the baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.records.jsonl import read_jsonl
from loadtests.records.ledger import Kind, Ledger, Outcome, Record
from reports.runrecords import RunRecords
from reports.windows import Step

PROBE_PREFIX = "/icequake-probe"
PATHS = ("ingest", "r2", "catalog")
WHEN = ("before", "during", "after")
ABSENT = 404
"""Asking for an object that is not there is how its absence is learned."""
REFUSED = 400
UNWANTED = (Kind.POISON, Kind.OVER_LIMIT)
"""Requests that a target is to refuse, so that a refusal disturbs nobody."""


@dataclass(frozen=True)
class Requests:
    """Requests on one path: when each began and ended (monotonic nanoseconds), and whether its sender got what it asked for."""

    begun_ns: npt.NDArray[np.int64]
    ended_ns: npt.NDArray[np.int64]
    disturbed: npt.NDArray[np.bool_]


def effects_section(records: RunRecords) -> list[dict[str, Any]]:
    """Return a row a step and path that saw requests; see `effects`. Empty where nothing was recorded."""
    lines = read_jsonl(records.run.gateway_log, "gateway") if records.run.gateway_log.is_file() else iter(())
    return effects(records.steps, {"ingest": ingest_requests(records.ledgers), **gateway_requests(lines)})


def gateway_requests(lines: Iterable[Mapping[str, Any]]) -> dict[str, Requests]:
    """Read the gateway's log: what the target asked, by path, probes left out."""
    rows: dict[str, list[tuple[int, int, bool]]] = {path: [] for path in PATHS[1:]}
    for line in lines:
        counts = not line.get("begin") and not line.get("released") and line.get("upstream") in rows
        if counts and not str(line.get("path", "")).startswith(PROBE_PREFIX):
            begun_ns = int(line["t_ns"])
            ended_ns = begun_ns + int(float(line.get("ms") or 0) * 1e6)
            rows[line["upstream"]].append((begun_ns, ended_ns, _is_disturbed(line)))
    return {path: _requests(found) for path, found in rows.items()}


def _requests(rows: Sequence[tuple[int, int, bool]]) -> Requests:
    begun, ended, disturbed = zip(*rows, strict=True) if rows else ((), (), ())
    return Requests(np.array(begun, np.int64), np.array(ended, np.int64), np.array(disturbed, np.bool_))


def _is_disturbed(line: Mapping[str, Any]) -> bool:
    status = line.get("status")
    return line.get("outcome") != "passed" or status is None or (status >= REFUSED and status != ABSENT)


def ingest_requests(ledgers: Iterable[Ledger]) -> Requests:
    """Read the ledgers: what clients sent, and whether it was acknowledged."""
    parts = [ledger.records[ledger.records["record"] == Record.DONE] for ledger in ledgers]
    done = [part[part["sent_ns"] > 0] for part in parts]
    if not done:
        return _requests([])
    whole = np.concatenate(done)
    disturbed = (whole["outcome"] != Outcome.ACKED) & ~np.isin(whole["kind"], UNWANTED)
    return Requests(whole["sent_ns"].astype(np.int64), whole["done_ns"].astype(np.int64), disturbed)


def effects(steps: Sequence[Step], by_path: Mapping[str, Requests]) -> list[dict[str, Any]]:
    """Return a row a step and path: requests, those of them disturbed, and the median in ms, before, during and after.

    Before and after are spans as long as the step, of requests that began in them; during counts those that were open in it. A
    path without any is left out.
    """
    rows: list[dict[str, Any]] = [
        {"step": step.index, "fault": step.fault, "path": path, **_spans(by_path[path], step.start_ns, step.end_ns)}
        for step in steps
        if step.start_ns is not None and step.end_ns is not None
        for path in PATHS
    ]
    return [row for row in rows if any(row[when]["requests"] for when in WHEN)]


def _spans(requests: Requests, start_ns: int, end_ns: int) -> dict[str, dict[str, Any]]:
    begun, ended, length_ns = requests.begun_ns, requests.ended_ns, end_ns - start_ns
    chosen = (
        (begun >= start_ns - length_ns) & (begun < start_ns),
        (begun <= end_ns) & (ended >= start_ns),
        (begun > end_ns) & (begun <= end_ns + length_ns),
    )
    return {when: _measured(requests, one) for when, one in zip(WHEN, chosen, strict=True)}


def _measured(requests: Requests, chosen: npt.NDArray[np.bool_]) -> dict[str, Any]:
    ms = (requests.ended_ns[chosen] - requests.begun_ns[chosen]) / 1e6
    return {
        "requests": int(chosen.sum()),
        "disturbed": int(requests.disturbed[chosen].sum()),
        "p50_ms": round(float(np.median(ms)), 1) if len(ms) else None,
    }
