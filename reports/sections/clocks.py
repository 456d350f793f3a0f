"""How long recovery took, by four clocks that start when a fault is healed, and by three that start when it began.

first_ack_s        until a request was acknowledged that was sent after the heal
errors_normal_s    until the last request that was refused or not answered
drained_s          until everything acknowledged before the heal had been seen in the table
freshness_normal_s until the auditor saw the oldest pending event to be no older than was usual in the baseline, and that lasted

detected_s         from the start of the fault until the first page fired (or an operator marked "paged")
mitigated_s        from the start of the fault until it was healed (or an operator marked "mitigated")
recovered_s        from the start of the fault until the last of the four clocks stopped

None: it never happened while the run looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.records.errors import MissingRecord
from loadtests.records.jsonl import read_jsonl
from loadtests.records.ledger import Kind, Outcome, Record
from reports.runrecords import RunRecords
from reports.windows import FaultWindow

I64 = npt.NDArray[np.int64]

USUAL_SPARE = 1.5
"""Freshness is usual again when it is at most so many times what it was at most in the baseline, or below a second."""


def clocks_section(records: RunRecords, alerts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row a fault window: the seven clocks, in seconds. *alerts* is the verdict's section of that name."""
    done = _done(records)
    looks = list(_looks(records))
    usual_s = _usual_freshness_s(records, looks)
    windows = records.windows
    rows = []
    for index, window in enumerate(windows):
        until_ns = windows[index + 1].start_ns if index + 1 < len(windows) else records.end_ns
        rows.append(_row(records, window, until_ns, done, looks, usual_s, alerts))
    return rows


def _row(
    records: RunRecords, window: FaultWindow, until_ns: int, done: Any, looks: list[tuple[int, float, int]], usual_s: float,
    alerts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    heal = window.end_ns
    clocks = {
        "first_ack_s": _first_ack(done, heal, until_ns),
        "errors_normal_s": _last_error(done, heal, until_ns),
        "drained_s": _drained(looks, heal),
        "freshness_normal_s": _fresh(looks, heal, until_ns, usual_s),
    }
    stopped = [value for value in clocks.values() if value is not None]
    length_s = (heal - window.start_ns) / 1e9
    return {
        "fault": window.fault,
        **{name: None if value is None else round(value, 3) for name, value in clocks.items()},
        "detected_s": _detected(records, window, until_ns, alerts),
        "mitigated_s": _marked(records, "mitigated", window.start_ns, until_ns) or round(length_s, 3),
        "recovered_s": round(length_s + max(stopped), 3) if len(stopped) == len(clocks) else None,
    }


def _done(records: RunRecords) -> npt.NDArray[np.void]:
    rows = [ledger.records[ledger.records["record"] == Record.DONE] for ledger in records.ledgers]
    chosen = [part[np.isin(part["kind"], (Kind.NORMAL, Kind.PROBE, Kind.DUPLICATE))] for part in rows]
    return (
        np.concatenate(chosen)
        if chosen
        else np.empty(0, dtype=[("sent_ns", "<i8"), ("done_ns", "<i8"), ("outcome", "u1")])
    )


def _first_ack(done: npt.NDArray[np.void], heal: int, until_ns: int) -> float | None:
    sent, ended = done["sent_ns"].astype(np.int64), done["done_ns"].astype(np.int64)
    acked = ended[(done["outcome"] == Outcome.ACKED) & (sent >= heal) & (sent <= until_ns)]
    return (int(acked.min()) - heal) / 1e9 if len(acked) else None


def _last_error(done: npt.NDArray[np.void], heal: int, until_ns: int) -> float:
    ended = done["done_ns"].astype(np.int64)
    wrong = ended[(done["outcome"] != Outcome.ACKED) & (ended >= heal) & (ended <= until_ns)]
    return (int(wrong.max()) - heal) / 1e9 if len(wrong) else 0.0


def _looks(records: RunRecords) -> Iterable[tuple[int, float, int]]:
    """Each look of the auditor: when, the age of the oldest pending event, and how many were visible and acked."""
    with suppress(MissingRecord):
        for line in read_jsonl(records.run.visible, "visible"):
            if isinstance(line.get("freshness_s"), int | float):
                yield int(line["t_ns"]), float(line["freshness_s"]), int(line.get("pending") or 0)


def _usual_freshness_s(records: RunRecords, looks: list[tuple[int, float, int]]) -> float:
    begin = records.window.inject_start_ns or 0
    return max([1.0, *(age * USUAL_SPARE for t, age, _ in looks if t < begin)])


def _drained(looks: list[tuple[int, float, int]], heal: int) -> float | None:
    """The first look at which the oldest pending event was acknowledged after the heal, or nothing was pending."""
    for t_ns, age_s, pending in looks:
        if t_ns >= heal and (not pending or t_ns - age_s * 1e9 >= heal):
            return (t_ns - heal) / 1e9
    return None


def _fresh(looks: list[tuple[int, float, int]], heal: int, until_ns: int, usual_s: float) -> float | None:
    """The first look from which on freshness stayed usual until the next fault."""
    after = [(t, age) for t, age, _ in looks if heal <= t <= until_ns]
    if not after:
        return None
    stale = [t for t, age in after if age > usual_s]
    fresh = [t for t, _ in after if not stale or t > stale[-1]]
    return (fresh[0] - heal) / 1e9 if fresh else None


def _detected(records: RunRecords, window: FaultWindow, until_ns: int, alerts: Mapping[str, Any]) -> float | None:
    began_s = (window.start_ns - records.info.started_mono_ns) / 1e9
    until_s = (until_ns - records.info.started_mono_ns) / 1e9
    fired = [
        rule["fired_at_s"] - began_s
        for rule in alerts.get("rules", ())
        if rule["severity"] == "page" and rule["fired_at_s"] is not None and began_s <= rule["fired_at_s"] <= until_s
    ]
    marked = _marked(records, "paged", window.start_ns, until_ns)
    instants: list[float] = [round(float(value), 3) for value in fired] + ([marked] if marked is not None else [])
    return min(instants, default=None)


def _marked(records: RunRecords, word: str, start_ns: int, until_ns: int) -> float | None:
    """Seconds from *start_ns* to the first mark of an operator that has *word* in it."""
    for entry in records.timeline:
        said = entry.get("event") == "operator" and entry.get("action") == "mark" and word in str(entry.get("text", ""))
        if said and start_ns <= entry["t_ns"] <= until_ns:
            return round((int(entry["t_ns"]) - start_ns) / 1e9, 3)
    return None


def detection_power(records: RunRecords, lost: int) -> dict[str, Any]:
    """Return how often the target was killed, and what that bounds when nothing was lost: with 95 % at most 3/k a kill."""
    kills = sum(_kills(entry) for entry in records.timeline)
    return {"kills": kills, "loss_per_kill_below": round(min(1.0, 3 / kills), 3) if kills and not lost else None}


def _kills(entry: Mapping[str, Any]) -> int:
    """A step that ended the target by SIGKILL says so with the status of the process; a drill notes the process."""
    if entry.get("event") == "process":
        return int(entry.get("name") == "target" and entry.get("state") == "killed")
    measured = entry.get("measured") if entry.get("event") == "step" and entry.get("state") == "healed" else None
    return int(measured.get("times", 1)) if isinstance(measured, Mapping) and measured.get("status") == -9 else 0
