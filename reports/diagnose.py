"""`icequake diagnose RUN`: the runbook's root-cause page, answered from the records of a run, also while it goes on.

Seven questions, each with its evidence, in the order of suspicion: was there a spike, does one event type surge, is the buffer too
small for its flushes, is the object store slow or failing, is the catalog, is the network in front of the target, and does the
target itself stand still. What is usual is the baseline phase of the run; symptoms only, never what icequake knows of the faults it
injected.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

import click
import msgspec
import numpy as np
from rich.console import Console

from loadtests.records.errors import RecordError
from loadtests.records.jsonl import read_jsonl
from loadtests.records.ledger import RECORD, Outcome, Record
from loadtests.records.rundir import RunDir
from reports.errors import ReportError
from reports.inflow import busiest_inflow, offered_rate
from reports.run_argument import find_run, run_argument
from reports.runrecords import RunRecords, read_run
from reports.sections.effects import Requests, gateway_requests
from reports.sections.errors_logged import complaints
from reports.sections.stages import Spent, stages_between
from reports.sections.volume import volume_section
from reports.wording import elapsed, number

SLOWER = 3.0
"""A path or stage is suspected when it takes at least this many times what is usual..."""
SLOWER_BY_MS = 100.0
"""...and at least so much more."""
HEAVY_MS, HEAVY_SHARE = 1000.0, 0.6
"""Where the baseline saw no flush: a stage is suspected that takes a second a flush, and most of it."""
FAILING = 0.05
"""...or when this share of its requests fails and less than a third of it did before."""


@dataclass(frozen=True)
class Answer:
    """One question of the root-cause page.

    Attributes:
        suspect: True: look here; False: as usual; None: the run does not say.
        score: How strongly; answers are ordered by it.
    """

    question: str
    suspect: bool | None
    answer: str
    score: float = 0.0
    evidence: list[str] = field(default_factory=list)


def diagnose(records: RunRecords) -> list[Answer]:
    """Return every answer, the most suspicious first, then what is as usual, then what cannot be told."""
    answers = [question(records) for question in QUESTIONS]
    return sorted(answers, key=lambda a: (a.suspect is not True, a.suspect is None, -a.score))


def _spike(records: RunRecords) -> Answer:
    question = "Is there an unusual spike in events?"
    if records.window.inject_start_ns is None:
        return Answer(question, None, "no baseline was recorded")
    spike = volume_section(records)["spike"]
    if spike is None:
        return Answer(question, False, f"no: {number(offered_rate(records) or 0.0)} events/s, as in the baseline")
    factor = spike["peak_events_per_s"] / max(spike["usual_events_per_s"], 1.0)
    return Answer(
        question, True,
        f"yes: {number(spike['peak_events_per_s'])} events/s instead of {number(spike['usual_events_per_s'])}, "
        f"from {elapsed(spike['start_at_s'])} to {elapsed(spike['end_at_s'])}",
        score=factor, evidence=["ledgers: events by the second in which they were due"],
    )  # fmt: skip


def _types(records: RunRecords) -> Answer:
    question = "Are specific event types surging?"
    if records.window.inject_start_ns is None:
        return Answer(question, None, "no baseline was recorded")
    found = volume_section(records)
    rows = [
        f"{row['what']}: {number(row['usual_events_per_s'])} -> {number(row['peak_events_per_s'])} events/s, {row['share']:.0%} of the growth"
        for row in found["surges"]
    ]
    if found["surging_type"] is None:
        return Answer(question, False, "no single type" if rows else "no type is", evidence=rows)
    first = found["surges"][0]
    return Answer(
        question,
        True,
        f"yes: {first['what']} ({first['share']:.0%} of the growth)",
        first["peak_events_per_s"] / max(first["usual_events_per_s"], 1.0),
        rows,
    )


def _buffer(records: RunRecords) -> Answer:
    question = "Is the buffer too small for this load?"
    capacity, hottest = records.target.contract.capacity_events, busiest_inflow(records)
    if capacity is None or not hottest:
        return Answer(question, None, "the target file states no contract.capacity_events, or nothing was offered")
    full_s = capacity / hottest
    spent = stages_between(records, records.window.baseline_start_ns, records.window.inject_start_ns)
    flush_s = spent.seconds_per_flush if spent is not None else None
    evidence = [
        f"{capacity:,} events a buffer, {number(hottest)} events/s into the busiest: full after {number(full_s)} s without a flush"
    ]
    if flush_s is not None:
        evidence.append(f"a flush took {number(flush_s)} s in the baseline")
    if flush_s is not None and flush_s > full_s / 2:
        return Answer(question, True, "yes: it fills while a flush is under way", flush_s / full_s * SLOWER, evidence)
    return Answer(question, False, f"not by itself: it holds {number(full_s)} s without a flush", evidence=evidence)


def _path(upstream: str, question: str, stages: tuple[str, ...]) -> Callable[[RunRecords], Answer]:
    def ask(records: RunRecords) -> Answer:
        begin, end = records.window.inject_start_ns, records.window.traffic_end_ns or records.end_ns
        if begin is None:
            return Answer(question, None, "no baseline was recorded")
        said = [
            _requests_changed(_requests_of(records)[upstream], begin, end),
            _stages_changed(records, stages, begin, end),
            _complained(records, upstream),
        ]
        known = [one for one in said if one is not None]
        if not known:
            return Answer(question, None, "the run recorded neither requests nor stages of flushes")
        worst = max(known, key=lambda one: one[0])
        evidence = [text for _, text in known]
        return (
            Answer(question, True, f"yes: {worst[1]}", worst[0], evidence)
            if worst[0] > 0
            else Answer(question, False, "as usual", 0.0, evidence)
        )

    return ask


def _requests_of(records: RunRecords) -> Mapping[str, Requests]:
    lines = read_jsonl(records.run.gateway_log, "gateway") if records.run.gateway_log.is_file() else iter(())
    return {"ingest": _unanswered(records), **gateway_requests(lines)}


def _unanswered(records: RunRecords) -> Requests:
    """Requests of clients; failed are those that got no answer, or one that the target cannot have given."""
    rows = [ledger.records[ledger.records["record"] == Record.DONE] for ledger in records.ledgers]
    done = np.concatenate(rows) if rows else np.empty(0, dtype=RECORD)
    done = done[done["sent_ns"] > 0]
    return Requests(
        done["sent_ns"].astype(np.int64), done["done_ns"].astype(np.int64), done["outcome"] == Outcome.UNKNOWN
    )


def _requests_changed(requests: Requests, begin: int, end: int) -> tuple[float, str] | None:
    """Compare requests that began before *begin* with those from then on; the score is zero when nothing is unusual."""
    before, during = requests.begun_ns < begin, (requests.begun_ns >= begin) & (requests.begun_ns <= end)
    if not before.any() or not during.any():
        return None
    took_ms = (requests.ended_ns - requests.begun_ns) / 1e6
    usual_ms, now_ms = float(np.percentile(took_ms[before], 90)), float(np.percentile(took_ms[during], 90))
    failed_before, failed = float(requests.disturbed[before].mean()), float(requests.disturbed[during].mean())
    text = f"p90 {number(usual_ms)} -> {number(now_ms)} ms, failed {failed_before:.0%} -> {failed:.0%} of {int(during.sum()):,} requests"
    slow = now_ms / max(usual_ms, 1.0) if now_ms >= SLOWER * usual_ms and now_ms - usual_ms >= SLOWER_BY_MS else 0.0
    broken = 100 * failed if failed >= FAILING and failed > 3 * failed_before else 0.0
    return max(slow, broken), text


def _stages_changed(records: RunRecords, stages: tuple[str, ...], begin: int, end: int) -> tuple[float, str] | None:
    """Compare what the target says its flushes spent in *stages*, a flush."""
    usual = stages_between(records, records.window.baseline_start_ns, begin)
    now = stages_between(records, begin, end)
    if now is None or not stages:
        return None
    now_ms, whole_ms = _ms_a_flush(now, stages), now.seconds_per_flush * 1e3
    what = f"stages {' + '.join(stages)}"
    if usual is None:
        heavy = now_ms >= HEAVY_MS and now_ms >= HEAVY_SHARE * whole_ms
        return (
            now_ms / HEAVY_MS if heavy else 0.0,
            f"{what}: {number(now_ms)} of a flush's {number(whole_ms)} ms, by the target's own metrics",
        )
    usual_ms = _ms_a_flush(usual, stages)
    text = f"{what}: {number(usual_ms)} -> {number(now_ms)} ms a flush, by the target's own metrics"
    slow = now_ms / max(usual_ms, 1.0) if now_ms >= SLOWER * usual_ms and now_ms - usual_ms >= SLOWER_BY_MS else 0.0
    return slow, text


def _complained(records: RunRecords, side: str) -> tuple[float, str] | None:
    found = complaints(records.run).get(side)
    if found is None:
        return None
    return 10.0 * min(found.lines, 10), f"{found.lines:,} lines of its log complain of it, such as: {found.example}"


def _ms_a_flush(spent: Spent, stages: tuple[str, ...]) -> float:
    return sum(spent.seconds.get(stage, 0.0) for stage in stages) / spent.flushes * 1e3


def _standing_still(records: RunRecords) -> Answer:
    question = "Does the target answer, and do its flushes end?"
    up = records.sample("target_up")[1]
    up = up[: int(np.flatnonzero(up)[-1]) + 1] if up.any() else up  # it is stopped before the last scrape
    said = []
    if len(up):
        silent = int((up == 0).sum())
        said.append((100.0 * silent / len(up), f"it answered {len(up) - silent} of {len(up)} scrapes"))
    pause = _longest_pause(records)
    if pause is not None:
        usual_s, longest_s, when_ns = pause
        score = longest_s / max(usual_s, 1.0) if longest_s > max(SLOWER * usual_s, 5.0) else 0.0
        at = elapsed(max(when_ns - records.info.started_mono_ns, 0) / 1e9)
        said.append(
            (
                score,
                f"the longest pause between commits was {number(longest_s)} s, from {at} (usual: {number(usual_s)} s)",
            )
        )
    if not said:
        return Answer(question, None, "the target has no metrics endpoint, and no commit was seen")
    worst = max(said, key=lambda one: one[0])
    evidence = [text for _, text in said]
    return Answer(question, worst[0] > 0, f"no: {worst[1]}" if worst[0] > 0 else "yes", worst[0], evidence)


def _longest_pause(records: RunRecords) -> tuple[float, float, int] | None:
    """Return the usual and the longest time between two commits that were confirmed while traffic flowed, and when that began."""
    end = records.window.traffic_end_ns or records.end_ns
    good = [
        line["t_ns"]
        for line in records.commits
        if 200 <= (line.get("status") or 0) < 300 and line.get("outcome") == "passed"
    ]
    instants = np.array([t for t in sorted(good) if t <= end] + [end], dtype=np.int64)
    if len(instants) < 3:
        return None
    gaps = np.diff(instants) / 1e9
    return float(np.median(gaps)), float(gaps.max()), int(instants[int(gaps.argmax())])


QUESTIONS: tuple[Callable[[RunRecords], Answer], ...] = (
    _spike,
    _types,
    _buffer,
    _path("r2", "Is R2 slow or failing?", ("put", "manifests")),
    _path("catalog", "Is the Iceberg catalog slow or failing?", ("commit", "load_table")),
    _path("ingest", "Is the network in front of the collector slow or failing?", ()),
    _standing_still,
)


@click.command(name="diagnose")
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(run: str, runs: Path, as_json: bool) -> None:
    """Answer the runbook's root-cause page for RUN (also one that goes on), the most suspicious cause first.

    Exit codes: 0 nothing is unusual; 1 something is; 254 not a run.
    """
    try:
        root = find_run(runs, run)
        answers = diagnose(read_run(root, observed=False))
        title = RunDir.open(root).info
    except ReportError as error:
        _fail(error, error.exit_code)
    except RecordError as error:
        _fail(error, 254)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([asdict(answer) for answer in answers]), indent=2))
    else:
        show(answers, Console(highlight=False), f"{title.scenario} on {title.target}, run {title.run_id}")
    sys.exit(1 if any(answer.suspect for answer in answers) else 0)


def show(answers: list[Answer], console: Console, title: str) -> None:
    """Print the answers: suspects with their evidence, the rest in a line each."""
    console.print(f"Root causes of {title}, most suspicious first")
    for answer in answers:
        mark = {True: "SUSPECT", False: "as usual", None: "unknown"}[answer.suspect]
        console.print(f"{mark:<9} {answer.question} {answer.answer}", markup=False, soft_wrap=True)
        for line in answer.evidence if answer.suspect else ():
            console.print(f"          {line}", markup=False, soft_wrap=True)


def _fail(error: Exception, exit_code: int) -> NoReturn:
    click.echo(f"diagnose: {error}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
