"""Objects that nothing references, each with the flush attempt that left it: when it was put, and what its commit came to.

The gateway's log has every upload and every commit in order: a flush uploads its data files, then its manifests, then commits.
The commit that follows an upload was to reference it, unless the target went down or began another flush in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loadtests.records.errors import MissingRecord
from loadtests.records.jsonl import read_jsonl
from reports.observed import ObservedFile
from reports.runrecords import RunRecords
from reports.story import Landing, landing_of
from reports.windows import ascribe

MOST = 50
"""So many orphans are explained one by one; all are counted."""

_COMMIT = {
    Landing.COMMITTED: "the next commit was answered 200, and the table does not reference it",
    Landing.FAILED: "the next commit was refused",
    Landing.UNDECIDED: "the next commit got no clear answer, and did not land",
}
NO_COMMIT = "no commit followed the upload"
NOT_SEEN = "its upload did not pass the gateway"


WENT_DOWN = f"{NO_COMMIT}: the target went down"
BEGAN_ANEW = f"{NO_COMMIT}: the target began another flush"


@dataclass(frozen=True)
class Write:
    """A request that wrote an object, as the gateway saw it; `key` is bucket and key."""

    begin_ns: int
    end_ns: int
    key: str
    kind: str
    answer: str


def orphans_section(records: RunRecords) -> list[dict[str, Any]]:
    """Return a row for each orphan of this run: flush, object, events, when and how it was left, what became of the flush."""
    orphans = [file for file in records.observed.files if file.stage == "object" and file.ours]
    if not orphans:
        return []
    writes = list(_writes(records))
    last = {write.key: write for write in writes}
    landed = {flush for file in records.observed.files if file.stage == "scan" for flush in file.flush_ids}
    rows = [_row(records, file, last.get(_key(file.path)), writes, landed) for file in orphans]
    return sorted(rows, key=lambda row: (row["put_at_s"] is None, row["put_at_s"] or 0.0, row["object"]))[:MOST]


def _row(
    records: RunRecords, file: ObservedFile, put: Write | None, writes: list[Write], landed: set[str]
) -> dict[str, Any]:
    near = None if put is None else ascribe(records.windows, put.end_ns)
    again = landed.intersection(file.flush_ids)
    if not file.flush_ids:
        became = "cannot be told: the object names no flush"
    else:
        became = "landed in another file" if again else "did not land under this id"
    return {
        "flush": ", ".join(file.flush_ids) or None,
        "object": "/".join(file.path.split("/")[-3:]),
        "events": file.ours,
        "put_at_s": None if put is None else round((put.end_ns - records.info.started_mono_ns) / 1e9, 3),
        "left_because": NOT_SEEN if put is None else f"{put.answer}{_commit_after(records, put, writes)}",
        "flush_became": became,
        "fault": None if near is None else str(near),
    }


def _commit_after(records: RunRecords, put: Write, writes: list[Write]) -> str:
    """Say what the first commit after an upload came to, unless it belongs to a later flush."""
    commit = next((line for line in records.commits if line["t_ns"] >= put.end_ns - _SLACK_NS), None)
    until_ns = records.end_ns if commit is None else commit["t_ns"]
    if any(put.end_ns <= t_ns <= until_ns for t_ns in _downs_ns(records)):
        return WENT_DOWN
    manifested = min(
        (w.begin_ns for w in writes if w.kind == "manifest" and w.begin_ns >= put.end_ns), default=until_ns
    )
    if any(w.kind == "data-file" and manifested < w.begin_ns < until_ns for w in writes):
        return BEGAN_ANEW
    return NO_COMMIT if commit is None else _COMMIT[landing_of(commit)]


_SLACK_NS = 1_000_000
"""The log's times and lengths are rounded; a commit may seem to begin so long before the upload's answer."""


def _downs_ns(records: RunRecords) -> list[int]:
    """When the target was seen to be down: by the controller, or by a scrape that got no answer."""
    said = [e["t_ns"] for e in records.timeline if e.get("event") == "process" and e.get("state") in _GONE]
    times, up = records.sample("target_up")
    return [*said, *(int(t) for t in times[up == 0])]


_GONE = ("killed", "exited", "crashed", "died", "stopped")


def _writes(records: RunRecords) -> Iterator[Write]:
    """Yield every request that wrote a data file or a manifest, in the order of the log."""
    for line in _gateway(records):
        if line.get("object") not in ("data-file", "manifest") or line.get("verb") not in ("PUT", "POST"):
            continue
        begin_ns = line.get("t_ns")
        if not isinstance(begin_ns, int):
            continue
        clear = line.get("outcome") == "passed" and 200 <= (line.get("status") or 0) < 300
        answer = "" if clear else f"its upload ended in {line.get('status') or 'no answer'} to the target; "
        key = str(line.get("path", "")).partition("?")[0].strip("/")
        yield Write(begin_ns, begin_ns + int(float(line.get("ms") or 0) * 1e6), key, str(line["object"]), answer)


def _gateway(records: RunRecords) -> Iterator[dict[str, Any]]:
    try:
        yield from read_jsonl(records.run.gateway_log, "gateway")
    except MissingRecord:
        return


def _key(path: str) -> str:
    return path.partition("://")[2] or path.strip("/")
