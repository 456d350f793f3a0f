"""The check `metrics.truth`: what the target's own metrics say, against what is true of it.

Who watches a pipeline believes its gauges and counters; one that says less than is buffered, or counts commits that never were,
keeps every alert silent. A comparison is made of bounds that hold for any honest target, whatever is slow, lost or restarted:

* **buffered, fill** (at every reading): at least the events that were acknowledged before the reading began, less how old the
  target's values may be (`metrics.stale_s`), and that the auditor did not find in the table when it looked after the reading had
  ended. Events that never came to the table are left out, for they may have been lost, and so are readings during drills, in which
  operators take events out, and tables that were set back. Fill is compared where all events belong to one hour.
* **accepted**: from one reading to another of the same process, at least the events of requests that left after the one and were
  acknowledged before the other, at most those of all requests that may have been taken in between.
* **refused_requests**: in the same way, at least the refusals by contract.
* **flushes_committed**: over the whole run, at most the snapshots there are (where some are gone, the commits that may have landed), one
  more for each time the process may have been started anew (it may have died between commit and count), one for each request that
  repeated events (a flush of nothing but duplicates needs no snapshot) and one for each event in quarantine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reports.metrics.compared import Compared
from reports.metrics.counters import compare_counters
from reports.metrics.gauges import compare_gauges
from reports.metrics.scrapes import scrapes_of
from reports.runrecords import RunRecords
from reports.verdict import Check, Verdict

CHECK = "metrics.truth"
GAUGES = ("buffered", "fill")
COUNTERS = ("accepted", "refused_requests", "flushes_committed")


@dataclass(frozen=True)
class Told:
    """What the target's metrics said.

    Attributes:
        readings: How often they were read.
        compared: Each metric that something bounds: a buffer that is always empty bounds no gauge.
    """

    readings: int
    compared: list[Compared]


def compare_metrics(records: RunRecords) -> Told | None:
    """Hold the metrics that the target file names against the truth; None where it names none that can be."""
    metrics = records.target.metrics
    named = {word: getattr(metrics, word) for word in (*GAUGES, *COUNTERS)} if metrics is not None else {}
    named = {word: selector for word, selector in named.items() if selector is not None}
    if metrics is None or not named:
        return None
    scrapes = scrapes_of(
        records, *({word: named[word] for word in words if word in named} for words in (GAUGES, COUNTERS))
    )
    if not len(scrapes.begin_ns):
        return Told(0, [])
    both = [*compare_gauges(records, metrics, scrapes), *compare_counters(records, metrics, scrapes)]
    return Told(len(scrapes.begin_ns), both)


def metrics_checks(records: RunRecords, told: Told | None) -> list[Check]:
    """Return the check, or none for a target whose file names no metrics."""
    if told is None:
        return []
    if not told.readings:
        claim = "the target's metrics could never be read, so nothing is known of their truth"
        return [Check(id=CHECK, verdict=Verdict.INCONCLUSIVE, claim=claim)]
    lies = [one for one in told.compared if one.broken]
    counts = {"readings": told.readings, "metrics": len(told.compared)}
    if not lies:
        names = ", ".join(one.metric for one in told.compared)
        claim = f"what the target's own metrics say is true ({names or 'nothing was held long enough to compare'})"
        return [Check(id=CHECK, verdict=Verdict.PASS, claim=claim, counts=counts)]
    worst = lies[0]
    return [
        Check(
            id=CHECK,
            verdict=Verdict.FAIL,
            claim=f"the target's own metrics do not tell the truth: {worst.sentence}",
            counts={**counts, "broken": sum(one.broken for one in lies)},
            evidence=[f"{one.sentence}{_when(records, one)}; {one.broken} of {one.readings} readings" for one in lies],
            cause=f"metrics.{worst.metric} of the target file",
        )
    ]


def _when(records: RunRecords, one: Compared) -> str:
    return "" if one.at_ns is None else f", {(one.at_ns - records.info.started_mono_ns) / 1e9:.1f} s into the run"


def metrics_section(told: Told | None) -> dict[str, Any]:
    """Return the rows of the report's flush section: each metric against its bounds."""
    rows = [
        {
            "metric": one.metric,
            "said": round(one.said, 4),
            "at_least": None if one.at_least is None else round(one.at_least, 4),
            "at_most": None if one.at_most is None else round(one.at_most, 4),
            "readings": one.readings,
            "out_of_bounds": one.broken,
        }
        for one in (told.compared if told is not None else ())
    ]
    return {"told_and_true": rows} if rows else {}
