"""The runbook's root-cause page, answered from the records of a run, also while it goes on.

Seven questions, each with its evidence, in the order of suspicion: was there a spike, does one event type surge, is the buffer too
small for its flushes, is the object store slow or failing, is the catalog, is the network in front of the target, and does the
target itself stand still. What is usual is the baseline phase of the run; symptoms only, never what icequake knows of the faults it
injected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from loadtests.records.jsonl import read_jsonl
from loadtests.records.ledger import RECORD, Outcome, Record
from reports.diagnosis.answer import (
    CATALOG,
    NETWORK,
    R2,
    SCORE_FULL,
    SLOWER,
    SPIKE,
    STILL,
    TYPES,
    Answer,
    Said,
    buffer_answer,
    ordered,
    slowness,
    weighed,
)
from reports.inflow import busiest_inflow, config_of, offered_rate
from reports.runrecords import RunRecords
from reports.sections.effects import Requests, gateway_requests
from reports.sections.errors_logged import complaints
from reports.sections.stages import Spent, restarts, stages_between
from reports.sections.volume import volume_section
from reports.wording import elapsed, number

HEAVY_MS, HEAVY_SHARE = 1000.0, 0.6
"""Where the baseline saw no flush: a stage is suspected that takes a second a flush, and most of it."""
FAILING = 0.05
"""...or when this share of its requests fails and less than a third of it did before."""


def diagnose(records: RunRecords) -> list[Answer]:
    """Return every answer, the most suspicious first, then what is as usual, then what cannot be told."""
    return ordered(question(records) for question in QUESTIONS)


def _spike(records: RunRecords) -> Answer:
    if records.window.inject_start_ns is None:
        return Answer(SPIKE, None, "no baseline was recorded")
    spike = volume_section(records)["spike"]
    if spike is None:
        return Answer(SPIKE, False, f"no: {number(offered_rate(records) or 0.0)} events/s, as in the baseline")
    factor = spike["peak_events_per_s"] / max(spike["usual_events_per_s"], 1.0)
    return Answer(
        SPIKE, True,
        f"yes: {number(spike['peak_events_per_s'])} events/s instead of {number(spike['usual_events_per_s'])}, "
        f"from {elapsed(spike['start_at_s'])} to {elapsed(spike['end_at_s'])}",
        score=factor, evidence=["ledgers: events by the second in which they were due"],
    )  # fmt: skip


def _types(records: RunRecords) -> Answer:
    if records.window.inject_start_ns is None:
        return Answer(TYPES, None, "no baseline was recorded")
    found = volume_section(records)
    rows = [
        f"{row['what']}: {number(row['usual_events_per_s'])} -> {number(row['peak_events_per_s'])} events/s, {row['share']:.0%} of the growth"
        for row in found["surges"]
    ]
    if found["surging_type"] is None:
        return Answer(TYPES, False, "no single type" if rows else "no type is", evidence=rows)
    first = found["surges"][0]
    return Answer(
        TYPES,
        True,
        f"yes: {first['what']} ({first['share']:.0%} of the growth)",
        first["peak_events_per_s"] / max(first["usual_events_per_s"], 1.0),
        rows,
    )


def _buffer(records: RunRecords) -> Answer:
    spent = stages_between(records, records.window.baseline_start_ns, records.window.inject_start_ns)
    return buffer_answer(
        stated=records.target.contract.capacity_events,
        config=config_of(records),
        inflow=busiest_inflow(records),
        flush_s=spent.seconds_per_flush if spent is not None else None,
    )


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
        return weighed(question, said, unknown="the run recorded neither requests nor stages of flushes")

    return ask


def _requests_of(records: RunRecords) -> Mapping[str, Requests]:
    lines = read_jsonl(records.run.gateway_log, "gateway") if records.run.gateway_log.is_file() else iter(())
    return {"ingest": _unanswered(records), **gateway_requests(lines)}


def _unanswered(records: RunRecords) -> Requests:
    """Requests of clients; failed are those that got no answer, or one that the target cannot have given."""
    rows = [ledger.records[ledger.records["record"] == Record.DONE] for ledger in records.ledgers]
    done = np.concatenate(rows) if rows else np.empty(0, dtype=RECORD)
    done = done[done["sent_ns"] > 0]
    sent, ended = done["sent_ns"].astype(np.int64), done["done_ns"].astype(np.int64)
    answering = ~_within(_silences(records), sent, ended)  # who is down is not reached over any network
    failed = (done["outcome"] == Outcome.UNKNOWN) | (done["status"] < 0)  # below zero: no answer of anybody's
    return Requests(sent[answering], ended[answering], failed[answering])


def _silences(records: RunRecords) -> list[tuple[int, int]]:
    """Return the spans in which the target was down: from the last scrape that it answered to the next, which found it begun anew."""
    return _unanswered_scrapes(records) + restarts(records)


def _unanswered_scrapes(records: RunRecords) -> list[tuple[int, int]]:
    times, up = records.sample("target_up")
    order = np.argsort(times, kind="stable")
    times, good = times[order], np.flatnonzero(up[order] > 0)
    spans = [(int(times[a]), int(times[b])) for a, b in pairwise(good) if b > a + 1]
    if len(good) and good[-1] < len(times) - 1:
        spans.append((int(times[good[-1]]), records.end_ns))
    return spans


def _within(
    spans: list[tuple[int, int]], begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Tell which of the spans from *begin* to *end* touch one of *spans*."""
    touched = np.zeros(len(begin), dtype=bool)
    for first, last in spans:
        touched |= (begin <= last) & (end >= first)
    return touched


def _requests_changed(requests: Requests, begin: int, end: int) -> tuple[float, str] | None:
    """Compare requests that began before *begin* with those from then on; the score is zero when nothing is unusual."""
    before, during = requests.begun_ns < begin, (requests.begun_ns >= begin) & (requests.begun_ns <= end)
    if not before.any() or not during.any():
        return None
    took_ms = (requests.ended_ns - requests.begun_ns) / 1e6
    usual_ms, now_ms = float(np.percentile(took_ms[before], 90)), float(np.percentile(took_ms[during], 90))
    failed_before, failed = float(requests.disturbed[before].mean()), float(requests.disturbed[during].mean())
    text = f"p90 {number(usual_ms)} -> {number(now_ms)} ms, failed {failed_before:.0%} -> {failed:.0%} of {int(during.sum()):,} requests"
    slow = slowness(usual_ms, now_ms)
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
    return slowness(usual_ms, now_ms), text


def _complained(records: RunRecords, side: str) -> tuple[float, str] | None:
    found = complaints(records.run).get(side)
    if found is None:
        return None
    return 10.0 * min(found.lines, 10), f"{found.lines:,} lines of its log complain of it, such as: {found.example}"


def _ms_a_flush(spent: Spent, stages: tuple[str, ...]) -> float:
    return sum(spent.seconds.get(stage, 0.0) for stage in stages) / spent.flushes * 1e3


def _standing_still(records: RunRecords) -> Answer:
    up = records.sample("target_up")[1]
    up = up[: int(np.flatnonzero(up)[-1]) + 1] if up.any() else up  # it is stopped before the last scrape
    said: list[Said | None] = []
    if len(up):
        silent = int((up == 0).sum())
        said.append((100.0 * silent / len(up), f"it answered {len(up) - silent} of {len(up)} scrapes"))
    began = _begun_anew(records)
    if began:
        said.append((20.0 * began, f"it began anew {'once' if began == 1 else f'{began} times'} while traffic flowed"))
    pause = _longest_pause(records)
    if pause is not None:
        usual_s, longest_s, when_ns = pause
        score = longest_s / max(usual_s, 1.0) if longest_s > max(SLOWER * usual_s, 5.0) else 0.0
        score = min(score, SCORE_FULL / 2)  # a symptom: whoever fails altogether comes first
        at = elapsed(max(when_ns - records.info.started_mono_ns, 0) / 1e9)
        said.append(
            (
                score,
                f"the longest pause between commits was {number(longest_s)} s, from {at} (usual: {number(usual_s)} s)",
            )
        )
    return weighed(
        STILL, said, unknown="the target has no metrics endpoint, and no commit was seen", bad="no", good="yes"
    )


def _begun_anew(records: RunRecords) -> int:
    end = records.window.traffic_end_ns or records.end_ns
    return len({first for first, _ in restarts(records) if first < end})


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
    _path("r2", R2, ("put", "manifests")),
    _path("catalog", CATALOG, ("commit", "load_table")),
    _path("ingest", NETWORK, ()),
    _standing_still,
)
