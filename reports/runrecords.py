"""Everything a verdict is made from, read from the run directory and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from loadtests.records.errors import MissingRecord
from loadtests.records.identity import U64, Identity, parse_source
from loadtests.records.jsonl import read_jsonl
from loadtests.records.ledger import Ledger, read_ledgers
from loadtests.records.quarantine import read_quarantine
from loadtests.records.rundir import RunDir, RunInfo, RunWindow
from loadtests.records.series import read_series
from loadtests.records.target import Target
from loadtests.records.timeline import read_timeline
from reports.errors import NothingObserved
from reports.obligations import History, fold
from reports.observed import Observed, ObservedFile, read_index, read_keys
from reports.reconcile import FileKeys
from reports.sightings import FirstSeen, Watch, watch_of
from reports.stages import Stage
from reports.windows import FaultWindow, Step, fault_windows, steps_of


@dataclass(frozen=True)
class RunRecords:
    """One run, read.

    Attributes:
        commits: The gateway's lines about commit requests.
        timeline: All entries, in order.
    """

    run: RunDir
    target: Target
    ledgers: list[Ledger]
    history: History
    observed: Observed
    files: list[FileKeys]
    watch: Watch
    steps: list[Step]
    timeline: list[dict[str, Any]]
    commits: list[dict[str, Any]]

    @property
    def info(self) -> RunInfo:
        """Who, what, when."""
        return self.run.info

    @property
    def window(self) -> RunWindow:
        """The phases of the run."""
        return self.run.info.window

    @cached_property
    def end_ns(self) -> int:
        """The last instant of the run."""
        window = self.window
        ends = [window.settle_end_ns, window.healed_ns, window.traffic_end_ns, self.info.ended_mono_ns]
        return max((t for t in ends if t is not None), default=self.observed.read_mono_ns)

    @cached_property
    def windows(self) -> list[FaultWindow]:
        """When faults were active."""
        return fault_windows(self.steps, end_ns=self.end_ns)

    @cached_property
    def identity(self) -> Identity:
        """What turns sequences into ids."""
        return Identity(self.info.seed, self.info.run_id)

    @cached_property
    def quarantined(self) -> dict[int, U64]:
        """Events of this run that the target says it keeps aside: sorted sequences by producer."""
        ids: dict[int, list[bytes]] = {}
        for line in read_quarantine(self.run.root):
            whose = parse_source(str(line.get("source")))
            if whose is not None and whose[0] == self.info.run_id and len(str(line.get("id"))) == 16:
                ids.setdefault(whose[1], []).append(str(line["id"]).encode())
        return {
            producer: np.unique(self.identity.invert(producer, np.array(found, dtype="S16")))
            for producer, found in ids.items()
        }

    @cached_property
    def by_number(self) -> dict[int, ObservedFile]:
        """Data files by their number in `files`."""
        return dict(enumerate(self.observed.files))

    def unix_ns(self, mono_ns: int) -> int:
        """Turn monotonic into wall time, by the pair of clocks noted when the run started."""
        return mono_ns - self.info.started_mono_ns + self.info.started_unix_ns

    def mono_ns(self, unix_ms: int) -> int:
        """Turn wall time (of a committer whose clock is ours) into monotonic."""
        return unix_ms * 1_000_000 - self.info.started_unix_ns + self.info.started_mono_ns

    def series(self, *names: str) -> pa.Table:
        """Return samples of *names*, sorted by time."""
        return (
            read_series(self.run.series, names) if self.run.series.is_dir() else read_series(Path(), names).slice(0, 0)
        )

    def sample(self, name: str) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.float64]]]:
        """Return times and values of one series, finite values only."""
        table = self.series(name)
        times, values = table["t_ns"].to_numpy(), table["value"].to_numpy()
        finite = np.isfinite(values)
        return times[finite], values[finite]


def read_run(root: Path, *, observed: bool = True) -> RunRecords:
    """Read a run directory; with *observed* false also that of a run that goes on, whose table nobody has read yet.

    Raises:
        NothingObserved: the table was never read, and *observed* is true.
        RecordError: a record is missing where it must not, or cannot be read.
    """
    run = RunDir.open(root)
    seen = _observed(run, required=observed)
    ledgers = read_ledgers(run.ledger) if run.ledger.is_dir() else []
    watch = watch_of(_if_there(read_jsonl(run.visible, "visible")))
    timeline = list(_if_there(read_timeline(run.timeline)))
    if seen is None:
        latest_ns = _latest_ns(run, ledgers, timeline)
        seen = Observed(run_id=run.info.run_id, table="", problem="nobody has read it yet", read_mono_ns=latest_ns)
    return RunRecords(
        run=run,
        target=run.load_target(),
        ledgers=ledgers,
        history=fold(ledgers),
        observed=seen,
        files=_files(run, seen, watch),
        watch=watch,
        steps=steps_of(timeline),
        timeline=timeline,
        commits=[line for line in _if_there(read_jsonl(run.gateway_log, "gateway")) if _is_commit(line)],
    )


def _observed(run: RunDir, *, required: bool) -> Observed | None:
    try:
        return read_index(run.observed)
    except NothingObserved:
        if required:
            raise
        return None


def _latest_ns(run: RunDir, ledgers: Iterable[Ledger], timeline: Iterable[Mapping[str, Any]]) -> int:
    """How far the records of a run reach that goes on."""
    told = (int(entry.get("t_ns", 0)) for entry in timeline)
    asked = (
        int(ledger.records[name].max()) for ledger in ledgers for name in ("sent_ns", "done_ns") if len(ledger.records)
    )
    return max([run.info.started_mono_ns, *told, *asked])


def _if_there(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """An optional stream: a run without gateway, auditor or controller lacks its file."""
    try:
        yield from lines
    except MissingRecord:
        return


def _is_commit(line: dict[str, Any]) -> bool:
    whole = not line.get("begin") and not line.get("released")  # a zombie has a second line when it is let go
    return whole and line.get("object") == "commit" and line.get("verb") == "POST"


def _usable_sightings(observed: Observed, watch: Watch) -> dict[str, FirstSeen]:
    """Sightings by path, without those of files that may repeat what had been visible before.

    Once a file that the auditor saw has vanished (compaction and expiry remove files), nobody can say which events it had, so a
    file seen after it may hold events that were visible all the time.
    """
    present = {file.path for file in observed.files}
    vanished = [seen.seen_ns for path, seen in watch.files.items() if path not in present]
    return {p: s for p, s in watch.files.items() if not vanished or s.seen_ns <= min(vanished)}


def _files(run: RunDir, observed: Observed, watch: Watch) -> list[FileKeys]:
    files = []
    sightings = _usable_sightings(observed, watch)
    for number, file in enumerate(observed.files):
        if file.keys is None:
            continue
        keys = read_keys(run.observed / file.keys)
        stage = Stage[file.stage.upper()]
        files.append(
            FileKeys(
                number=number,
                stage=stage,
                references=file.references if stage == Stage.SCAN else 0,
                found=keys.found,
                altered=keys.altered if stage == Stage.SCAN else {},
                seen=sightings.get(file.path),
            )
        )
    return sorted(files, key=lambda f: (-f.stage, f.number))
