"""The first screen of a run, worked out again from raw files by other means than the report's.

Nothing of `reports/` is used: ledgers are read with their own headers, JSON lines with `json`, series with pyarrow, the table's
data files with pyarrow, and events are counted one by one in dictionaries or in SQL. Only the generator's own arithmetic (which id and
which content belong to a sequence) is taken from `loadtests.records`.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from loadtests.records.content import Content
from loadtests.records.identity import Identity

S = 1_000_000_000
NORMAL, POISON, OVER_LIMIT, NOT_SENT = 0, 3, 4, 5
ACKED, REFUSED, UNKNOWN = 1, 2, 3
Event = tuple[int, int]
"""Producer and sequence."""


@dataclass
class Told:
    """What the clients' own records say: of each event its first ack, whether it was in doubt, and how often it was sent."""

    acked_ns: dict[Event, int] = field(default_factory=dict)
    doubtful: set[Event] = field(default_factory=set)
    sent: Counter[Event] = field(default_factory=Counter)
    due_ns: list[int] = field(default_factory=list)
    due_events: int = 0
    lags_ms: list[float] = field(default_factory=list)
    refusals_ns: list[int] = field(default_factory=list)

    @property
    def unknown(self) -> set[Event]:
        """Events of which no client was told anything for certain."""
        return self.doubtful - set(self.acked_ns)


@dataclass
class Row:
    """One row of the table: the event its id and source stand for, whether it is what was sent, and the file it is in."""

    event: Event
    true: bool
    path: str


@dataclass
class DataFile:
    """One data file of the current snapshot: its rows as a table, and when its snapshot was committed."""

    path: str
    rows: pa.Table
    committed_ms: int


def lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines without their header."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def ledger(path: Path) -> np.ndarray[Any, Any]:
    """Read one ledger by what its own header says of its records."""
    raw = path.read_bytes()
    end = raw.index(b"\n") + 1
    header = json.loads(raw[:end])
    kind = np.dtype([(name, form) for name, form in header["record"]])
    whole = (len(raw) - end) // kind.itemsize
    return np.frombuffer(raw, kind, count=whole, offset=end)


def told(run: Path) -> Told:
    """Fold all ledgers of a run, event by event."""
    found = Told()
    for path in sorted((run / "ledger").glob("*.ledger")):
        _fold(found, ledger(path))
    return found


def _fold(found: Told, records: np.ndarray[Any, Any]) -> None:
    answers = {int(r["request"]): r for r in records if r["record"] == 2}
    for r in records:
        kind, count = int(r["kind"]), int(r["count"])
        if kind == NOT_SENT:
            found.due_ns.append(int(r["intended_ns"]))
            found.due_events += count
        elif r["record"] == 1:
            _attempt(found, r, answers.get(int(r["request"])))


def _attempt(found: Told, r: np.void, answer: np.void | None) -> None:
    kind, first, count = int(r["kind"]), int(r["first"]), int(r["count"])
    if kind == NORMAL and r["attempt"] == 1:
        found.due_ns.append(int(r["intended_ns"]))
        found.due_events += count
        found.lags_ms.append((int(r["sent_ns"]) - int(r["intended_ns"])) / 1e6)
    if kind in (POISON, OVER_LIMIT):
        return
    outcome = UNKNOWN if answer is None else int(answer["outcome"])
    for sequence in range(first, first + count):
        event = (int(r["producer"]), sequence)
        found.sent[event] += 1
        if outcome == ACKED and answer is not None:
            found.acked_ns[event] = min(found.acked_ns.get(event, 2**62), int(answer["done_ns"]))
        elif outcome == UNKNOWN:
            found.doubtful.add(event)
    if outcome == REFUSED and answer is not None and answer["status"] > 0:
        found.refusals_ns.append(int(answer["done_ns"]))


def rows_of(run: Mapping[str, Any], files: list[DataFile], events: set[Event]) -> list[Row]:
    """Turn the table's rows back into events: by a table of all ids that this run minted, and by their content."""
    identity, content = Identity(run["seed"], run["run_id"]), Content(run["seed"], run["mix"] or None)
    minted: dict[tuple[str, str], Event] = {}
    expected: dict[Event, bytes] = {}
    by_producer: dict[int, list[int]] = defaultdict(list)
    for producer, sequence in events:
        by_producer[producer].append(sequence)
    for producer, sequences in by_producer.items():
        numbers = np.array(sorted(sequences), dtype=np.uint64)
        source = f"urn:icequake:{run['run_id']}:{producer}"
        ids, bodies = identity.ids_of(producer, numbers), content.expected(producer, numbers)
        for sequence, minted_id, body in zip(numbers.tolist(), ids, bodies, strict=True):
            minted[source, bytes(minted_id).decode()] = (producer, sequence)
            expected[producer, sequence] = bytes(body)
    found = []
    for file in files:
        columns = (file.rows[name].to_pylist() for name in ("source", "id", "data"))
        for source, event_id, data in zip(*columns, strict=True):
            event = minted.get((source, event_id), (-1, -1))
            true = json.loads(data) == json.loads(expected[event]) if event in expected else False
            found.append(Row(event, true, file.path))
    return found


def fault_windows(timeline: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Return each fault with when its injection began and when it was gone, by start."""
    began: dict[int, tuple[str, int]] = {}
    found = []
    for entry in timeline:
        if entry.get("event") != "step":
            continue
        if entry["state"] == "injected":
            began.setdefault(entry["step"], (entry["fault"], entry["began_ns"]))
        elif entry["state"] in ("healed", "failed", "void") and entry["step"] in began:
            found.append((*began.pop(entry["step"]), entry["t_ns"]))
    return sorted(found, key=lambda window: window[1])


def responsible(windows: list[tuple[str, int, int]], t_ns: int, *, lost: bool) -> str:
    """Name the fault that something is ascribed to: active, else (for losses) about to begin, else just over."""
    active = [name for name, start, end in windows if start <= t_ns <= end]
    if active:
        return f", during {active[-1]}"
    coming = [name for name, start, _ in windows if t_ns < start <= t_ns + 30 * S]
    if lost and coming:
        return f", shortly before {coming[0]}"
    over = [name for name, _, end in windows if end < t_ns <= end + 5 * S]
    return f", shortly after {over[-1]}" if over else ""


class FirstScreen:
    """Every number of a first screen, by its label, as the phrases it has to stand in.

    Args:
        root: The run directory.
        files: The data files of the table's current snapshot.
        orphans: Data objects in the store that the current snapshot does not reference, which hold events of this run.
    """

    def __init__(self, root: Path, files: list[DataFile], orphans: int) -> None:
        self.root, self.files, self.orphans = root, files, orphans
        self.run = json.loads((root / "run.json").read_text())
        self.timeline = lines(root / "timeline.jsonl")
        self.contract = yaml.safe_load((root / "target.yaml").read_text())["contract"]
        self.told = told(root)
        self.rows = rows_of(self.run, files, set(self.told.sent))
        self.windows = fault_windows(self.timeline)
        self.copies = self._copies()
        present = set(self.copies)
        self.missing = set(self.told.acked_ns) - present
        self.present = set(self.told.acked_ns) & present
        self.doubled = {event for event, copies in self.copies.items() if copies > 1}
        self.altered = {row.event for row in self.rows if not row.true}

    def _copies(self) -> dict[Event, int]:
        """Count the copies of each event, in SQL."""
        events = pa.table({"p": [r.event[0] for r in self.rows], "s": [r.event[1] for r in self.rows]})
        counted = duckdb.connect().register("events", events).sql("select p, s, count(*) from events group by p, s")
        return {(p, s): n for p, s, n in counted.fetchall()}

    @property
    def failed(self) -> bool:
        """Whether anything is wrong with the events."""
        return bool(self.missing or self.doubled or self.altered)

    def phrases(self) -> dict[str, list[str]]:
        """Return label -> phrases; the two headlines are `title` and `summary`."""
        return {
            "title": self._title(),
            "summary": self._summary(),
            "Where": list(self._where()),
            "Capacity": list(self._capacity()),
            "Flush": list(self._flush()),
            "Recovery": list(self._recovery()),
            "Trust": list(self._trust()),
            "Next": [str(self.run["run_id"]), f"--seed {self.run['seed']}"],
        }

    def _utc(self, mono_ns: int) -> str:
        unix_ns = mono_ns - self.run["started_mono_ns"] + self.run["started_unix_ns"]
        return time.strftime("%H:%M:%S", time.gmtime(unix_ns / 1e9))

    def _title(self) -> list[str]:
        window = self.run["window"]
        ends = [window.get(n) for n in ("settle_end_ns", "healed_ns", "traffic_end_ns")] + [self.run["ended_mono_ns"]]
        seconds = round((max(t for t in ends if t) - self.run["started_mono_ns"]) / 1e9)
        length = f"{seconds // 60} m {seconds % 60:02} s" if seconds >= 60 else f"{seconds} s"
        started = time.gmtime(self.run["started_unix_ns"] / 1e9)
        date = f"{started.tm_mday} {time.strftime('%b %H:%M', started)} UTC"
        verdict = ("FAIL", 1) if self.failed else ("PASS", 0)
        return [verdict[0], date, f"· {length} ·", f"seed {self.run['seed']}", f"exit {verdict[1]}"]

    def _summary(self) -> list[str]:
        head = f"all {len(self.present):,} acknowledged events are in the table"
        if self.missing:
            head = f"{len(self.missing):,} of {len(self.told.acked_ns):,} acknowledged events are missing"
        unknown = self.told.unknown
        landed = len(unknown & set(self.copies))
        tail = "" if not unknown else f" ({landed:,} landed)" if landed else ", none landed"
        return [
            head,
            f"{len(self.doubled):,} duplicated",
            f"{len(self.altered):,} altered",
            f"{len(unknown):,} unknown{tail}",
        ]

    def _where(self) -> Iterator[str]:
        if not self.failed:
            yield f"{len(self.rows):,} rows in {len(self.files):,} data files"
            return
        commit_ns = {f.path: f.committed_ms * 1_000_000 for f in self.files}
        shift = self.run["started_mono_ns"] - self.run["started_unix_ns"]
        if self.missing:
            yield self._located({e: [self.told.acked_ns[e]] for e in self.missing}, "acked", lost=True)
        if self.doubled:
            times: dict[Event, list[int]] = defaultdict(list)
            for row in self.rows:
                if row.event in self.doubled:
                    times[row.event].append(commit_ns[row.path] + shift)
            yield self._located(times, "committed", lost=False)

    def _located(self, times: Mapping[Event, list[int]], verb: str, *, lost: bool) -> str:
        """Say when the largest group of events happened, and which fault they are ascribed to."""
        groups: dict[str, list[Event]] = defaultdict(list)
        for event, stamps in times.items():
            groups[responsible(self.windows, max(stamps), lost=lost)].append(event)
        fault, members = max(groups.items(), key=lambda group: len(group[1]))
        stamps = [t for event in members for t in times[event]]
        begin, end = self._utc(min(stamps)), self._utc(max(stamps))
        part = "" if len(members) == len(times) else f" ({len(members):,} of {len(times):,})"
        return f"{verb} {begin}" + (f"-{end}" if end != begin else "") + fault + part

    def _capacity(self) -> Iterator[str]:
        told = self.told
        rate = told.due_events / ((max(told.due_ns) - min(told.due_ns)) / 1e9)
        held = []
        for name, start, end in self.windows:
            inside = [t for t in told.refusals_ns if start <= t <= end]
            held.append((bool(inside), ((min(inside) if inside else end) - start) / 1e9, name))
        _, seconds, name = max(held, key=lambda h: h[:2])
        yield f"held {seconds:.0f} s of {name} at {rate:,.0f} events/s"
        fill = [
            value
            for path in (self.root / "series").glob("*.parquet")
            for series, value in zip(*(pq.read_table(path)[c].to_pylist() for c in ("name", "value")), strict=True)
            if series == "fill_ratio" and np.isfinite(value)
        ]
        yield f"fullest buffer {max(fill):.0%}"
        if told.refusals_ns:
            yield f"first refusal {self._utc(min(told.refusals_ns))}, {len(told.refusals_ns):,} requests refused"

    def _flush(self) -> Iterator[str]:
        commits = [
            e for e in lines(self.root / "gateway.jsonl")
            if e.get("object") == "commit" and e.get("verb") == "POST" and "begin" not in e and "released" not in e
        ]  # fmt: skip
        answered = sum(e["outcome"] == "passed" and 200 <= (e["status"] or 0) < 300 for e in commits)
        refused = sum(e["outcome"] in ("passed", "refused") and 400 <= (e["status"] or 0) < 500 for e in commits)
        yield f"{answered} of {len(commits)} commits answered"
        if refused:
            yield f"{refused} refused"
        if doubt := len(commits) - answered - refused:
            # Every snapshot is a commit that was applied: those that nobody was told of are the doubtful ones that landed.
            yield f"{doubt} undecided -> {len({f.committed_ms for f in self.files}) - answered} landed"
        yield self._caught_up()

    def seen_ns(self) -> dict[Event, int]:
        """When each event was first seen in the table, by the auditor's first sight of its file."""
        files: dict[str, int] = {}
        for look in lines(self.root / "visible.jsonl"):
            for entry in look.get("files", ()) if not look.get("error") else ():
                files.setdefault(entry["path"], look["t_ns"])
        seen: dict[Event, int] = {}
        for row in self.rows:
            if row.path in files:
                seen[row.event] = min(seen.get(row.event, 2**62), files[row.path])
        return seen

    def _caught_up(self) -> str:
        healed = max(end for _, _, end in self.windows)
        before = {event for event, t_ns in self.told.acked_ns.items() if t_ns <= healed}
        if before & self.missing:
            return "caught up: never"
        seen = self.seen_ns()
        newest = max(seen[event] for event in before if event in seen)
        return f"caught up {max(newest - healed, 0) / 1e9:.0f} s after heal"

    def visible_p99_s(self) -> float:
        """The age at which 99 of 100 events were seen, exactly."""
        seen = self.seen_ns()
        ages = [max(seen[e] - t, 0) / 1e9 for e, t in self.told.acked_ns.items() if e in seen]
        return float(np.percentile(ages, 99, method="inverted_cdf"))

    def _recovery(self) -> Iterator[str]:
        wrong = [
            f"{len(events):,} {name}"
            for name, events in (("lost", self.missing), ("duplicated", self.doubled), ("altered", self.altered))
            if events
        ]
        yield f"wrong ({', '.join(wrong)})" if wrong else "correct: every acknowledged event exactly once, unaltered"
        if self.orphans:
            yield f"{self.orphans} orphan objects"

    def _trust(self) -> Iterator[str]:
        yield f"lag p99 {np.percentile(self.told.lags_ms, 99):.0f} ms"
        times = sum(self.told.sent.values()) / len(self.told.sent)
        if times >= 1.005:
            yield f"each event sent {times:.2f} times"
        steps = {e["step"] for e in self.timeline if e.get("event") == "step"}
        met = {
            e["step"] for e in self.timeline
            if e.get("event") == "step" and e["state"] == "healed" and e.get("requests_affected", 0) > 0
        }  # fmt: skip
        yield f"{len(met)} of {len(steps)} faults took effect"
