"""Words for hand-made runs: what was sent and answered, what the table holds, how the run ended.

    run = HandMadeRun(tmp_path)
    run.acked(A, B)
    run.table(A)
    assert run.judge().check("events.lost").verdict == "FAIL"

Events are sequence numbers of producer 0 unless said otherwise; times are seconds since the run started.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.records.jsonl import JsonlWriter
from loadtests.records.ledger import Kind, LedgerWriter, Outcome
from loadtests.records.rundir import RoundTrip, RunDir, RunInfo, RunWindow, SettleEnd
from loadtests.records.series import SeriesWriter
from loadtests.records.target import Contract, Ingest, Metrics, Target
from reports.judge import judge
from reports.keyset import count
from reports.observed import (
    Keys,
    Observed,
    ObservedFile,
    ObservedSnapshot,
    SecondEngine,
    Unreadable,
    write_index,
    write_keys,
)
from reports.verdict import Verdict, VerdictDoc

A, B, C, D = 0, 1, 2, 3

START_UNIX_NS = 1_763_984_000_000_000_000
START_MONO_NS = 1_000_000_000_000


def mono_ns(at_s: float) -> int:
    """Turn seconds since the start of the run into monotonic nanoseconds."""
    return START_MONO_NS + round(at_s * 1e9)


class HandMadeRun:
    """A run directory made of words. It went well until a word says otherwise."""

    def __init__(self, tmp_path: Path, *, metrics: Metrics | None = None, **contract: Any) -> None:
        ingest = Ingest(url="http://127.0.0.1:1/events")
        target = Target(name="hand-made", ingest=ingest, metrics=metrics, contract=Contract(**contract))
        info = RunInfo(
            run_id="abcd1234",
            scenario="control",
            target="hand-made",
            seed=7,
            started_unix_ns=START_UNIX_NS,
            started_mono_ns=START_MONO_NS,
            window=RunWindow(
                baseline_start_ns=mono_ns(1),
                inject_start_ns=mono_ns(10),
                traffic_end_ns=mono_ns(60),
                healed_ns=mono_ns(60),
                settle_end_ns=mono_ns(70),
                settle="empty",
                buffered_at_end=0,
                refusing_probe=SettleEnd(attempted=100, refused=0),
                roundtrip=RoundTrip(ok=True, producer=9, first=0),
            ),
        )
        self.run = RunDir.create(tmp_path / "runs", info, scenario_text="name: control\n", target=target)
        self._ledger = LedgerWriter(self.run.ledger / "hand.ledger", run_id=info.run_id, process="hand")
        self._timeline = JsonlWriter(self.run.timeline, "timeline", info.run_id)
        self._visible = JsonlWriter(self.run.visible, "visible", info.run_id)
        self._series = SeriesWriter(self.run.series, "target", info.run_id, part_rows=1)
        self._files: list[ObservedFile] = []
        self._snapshots: list[ObservedSnapshot] = []
        self._unreadable: list[Unreadable] = []
        self._about_table: dict[str, Any] = {}
        self._looked_s = 1.0

    # --- what was sent and answered

    def attempted(
        self, *events: int, producer: int = 0, at: float = 20, attempt: int = 1, kind: Kind = Kind.NORMAL
    ) -> None:
        """The events left, one request each, and no answer was recorded."""
        for event in events:
            self._send(event, 1, producer, at, attempt, kind)

    def answered(
        self,
        *events: int,
        outcome: Outcome,
        status: int,
        producer: int = 0,
        at: float = 20,
        attempt: int = 1,
        kind: Kind = Kind.NORMAL,
    ) -> None:
        """The events left, one request each, and each got this answer."""
        for event in events:
            self.batch(event, 1, outcome=outcome, status=status, producer=producer, at=at, attempt=attempt, kind=kind)

    def batch(
        self,
        first: int,
        size: int,
        *,
        outcome: Outcome,
        status: int = 202,
        producer: int = 0,
        at: float = 20,
        attempt: int = 1,
        kind: Kind = Kind.NORMAL,
    ) -> None:
        """One request with *size* events from *first* on."""
        request = self._send(first, size, producer, at, attempt, kind)
        self._ledger.done(
            request,
            producer=producer,
            first=first,
            count=size,
            intended_ns=mono_ns(at),
            sent_ns=mono_ns(at),
            done_ns=mono_ns(at),
            status=status,
            outcome=outcome,
            attempt=attempt,
            kind=kind,
        )

    def _send(self, first: int, size: int, producer: int, at: float, attempt: int, kind: Kind) -> int:
        return self._ledger.attempt(
            producer=producer,
            first=first,
            count=size,
            intended_ns=mono_ns(at),
            sent_ns=mono_ns(at),
            attempt=attempt,
            kind=kind,
        )

    def acked(self, *events: int, **more: Any) -> None:
        """The events were answered 202."""
        self.answered(*events, outcome=Outcome.ACKED, status=202, **more)

    def refused(self, *events: int, **more: Any) -> None:
        """The events were answered 503, by the target itself."""
        self.answered(*events, outcome=Outcome.REFUSED, status=503, **more)

    def unknown(self, *events: int, **more: Any) -> None:
        """No answer came in time."""
        self.answered(*events, outcome=Outcome.UNKNOWN, status=-3, **more)

    def not_sent(self, *events: int, at: float = 20) -> None:
        """The generator gave these arrivals up."""
        for event in events:
            self._ledger.not_sent(producer=0, first=event, count=1, intended_ns=mono_ns(at), now_ns=mono_ns(at + 5))

    # --- what the table holds

    def table(
        self,
        *rows: int,
        producer: int = 0,
        stage: str = "scan",
        references: int = 1,
        flush: str | None = None,
        snapshot: int | None = None,
        at: float = 21,
        altered: Iterable[int] = (),
        seen: bool = True,
        stray: int = 0,
        foreign: int = 0,
    ) -> str:
        """One data file with these rows (repeat an event for a copy); return its path."""
        number = len(self._files) + 1
        path = f"s3://bucket/data/{number}.parquet"
        found = {producer: count(np.array(rows, dtype=np.uint64))} if rows else {}
        wrong = np.array(list(altered), dtype=np.uint64)
        name = f"keys-{number:05}.npz"
        write_keys(self.run.observed / name, Keys(found, {producer: count(wrong)} if len(wrong) else {}))
        snapshot_id = snapshot if snapshot is not None else number
        unix_ms = (START_UNIX_NS + round(at * 1e9)) // 1_000_000
        if stage != "object" and all(s.id != snapshot_id for s in self._snapshots):
            self._snapshots.append(
                ObservedSnapshot(
                    id=snapshot_id, parent=None, unix_ms=unix_ms, operation="append", current=stage == "scan"
                )
            )
        self._files.append(
            ObservedFile(
                path=path,
                stage=stage,
                references=references if stage == "scan" else 0,
                keys=name,
                rows=len(rows) + stray + foreign,
                ours=len(rows) + stray,
                foreign=foreign,
                stray=stray,
                snapshot_ids=[] if stage == "object" else [snapshot_id],
                flush_ids=[flush] if flush else [],
                unix_ms=None if stage == "object" else unix_ms,
                stray_examples=[{"source": "urn:icequake:abcd1234:0", "id": "</script>"}] * min(stray, 5),
            )
        )
        if seen and stage != "object":
            self.looked(at, path)
        return path

    def looked(self, at: float, *paths: str) -> None:
        """The auditor looked, and saw these files for the first time."""
        files = [{"path": path, "after_ns": mono_ns(self._looked_s)} for path in paths]
        self._visible.append({"t_ns": mono_ns(at), "snapshots": len(self._snapshots), "files": files})
        self._looked_s = max(self._looked_s, at)

    def no_table(self) -> None:
        """The catalog knows no such table."""
        self._about_table["exists"] = False

    def unreadable_table(self, problem: str = "the catalog did not answer") -> None:
        """The table could not be read at all."""
        self._about_table["problem"] = problem

    def unreadable(self, path: str = "s3://bucket/data/x.parquet", *, live: bool = True, definite: bool = True) -> None:
        """One object could not be read."""
        self._unreadable.append(Unreadable(path=path, kind="data-file", problem="gone", live=live, definite=definite))

    def second_engine(self, *, rows: int, distinct: int) -> None:
        """Another engine counted this."""
        self._about_table["second"] = SecondEngine(engine="other", how="scan", rows=rows, distinct=distinct)

    # --- how the run went

    def step(self, state: str, *, at: float, fault: str = "slow-r2", step: int = 0, **fields: Any) -> None:
        """A step of the scenario changed its state."""
        self._timeline.append(
            {"t_ns": mono_ns(at), "event": "step", "step": step, "fault": fault, "state": state, **fields}
        )

    def fault(self, name: str, begin: float, end: float, *, affected: int = 5, step: int = 0) -> None:
        """A fault was injected and healed."""
        self.step("injected", at=begin, fault=name, step=step)
        self.step("healed", at=end, fault=name, step=step, requests_affected=affected)

    def probe(self, name: str, *, ok: bool, at: float) -> None:
        """A measurement that decides something."""
        self._timeline.append({"t_ns": mono_ns(at), "event": "probe", "name": name, "ok": ok})

    def timeline(self, event: str, *, at: float = 20.0, **fields: Any) -> None:
        """Any other line of the timeline."""
        self._timeline.append({"t_ns": mono_ns(at), "event": event, **fields})

    def ended(self, **window: Any) -> None:
        """Change how the run ended: fields of RunWindow."""
        for name, value in window.items():
            setattr(self.run.info.window, name, value)
        self.run.save()

    def stopped(self, sentence: str) -> None:
        """The run was stopped early."""
        self.run.info.stopped = sentence
        self.run.save()

    def commit(self, *, at: float, outcome: str = "passed", status: int = 200, ms: float = 10) -> None:
        """The gateway saw a commit request."""
        with JsonlWriter(self.run.gateway_log, "gateway", self.run.info.run_id) as log:
            log.append(
                {
                    "t_ns": mono_ns(at),
                    "verb": "POST",
                    "object": "commit",
                    "status": status,
                    "ms": ms,
                    "outcome": outcome,
                }
            )

    def said(self, at: float, **metrics: float) -> None:
        """The target's metrics were read, and said this; with none, it did not answer."""
        self._series.add(mono_ns(at), "target_up", 1.0 if metrics else 0.0)
        for name, value in metrics.items():
            self._series.add(mono_ns(at), f"target:{name}", value)

    def sampled(self, at: float, series: str, value: float) -> None:
        """One value of a series of the run, such as `fill_ratio`."""
        self._series.add(mono_ns(at), series, value)

    # --- the verdict

    def written(self) -> Path:
        """Write what was said of the table, and return the run directory."""
        observed = Observed(
            run_id=self.run.info.run_id,
            table="run_abcd1234.events",
            snapshots=self._snapshots,
            files=self._files,
            unreadable=self._unreadable,
            read_mono_ns=mono_ns(71),
            **self._about_table,
        )
        write_index(self.run.observed, observed)
        return self.run.root

    def judge(self) -> VerdictDoc:
        """Return the verdict on everything said so far."""
        return judge(self.written())


def failed(verdict: VerdictDoc) -> set[str]:
    """The checks that failed."""
    return {check.id for check in verdict.checks if check.verdict is Verdict.FAIL}


def doubtful(verdict: VerdictDoc) -> set[str]:
    """The checks that could not tell."""
    return {check.id for check in verdict.checks if check.verdict is Verdict.INCONCLUSIVE}
