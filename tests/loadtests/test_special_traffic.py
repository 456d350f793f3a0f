"""Traffic that is not ordinary, from the mix to the verdict: what is sent, what must be answered, and who is caught.

The generator's own sender talks to a collector in memory, writes a real ledger, and the judge reads it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import gevent
import numpy as np
import pyarrow as pa
import pytest

from loadtests.answers import Answer, RetryPolicy
from loadtests.events import EventFactory, Message
from loadtests.recorder import Recorder
from loadtests.records.content import Content
from loadtests.records.identity import Identity
from loadtests.records.target import Columns, RequestLimits
from loadtests.requests import Requests
from loadtests.sender import Limits, Sender
from loadtests.shapes import Shapes
from loadtests.traffic import Mix, traffic_named
from reports.fold import Subject, fold
from reports.verdict import Verdict, VerdictDoc
from tests.histories import HandMadeRun, mono_ns
from tests.mutants_traffic import BATCH_EVENTS, BODY_BYTES, EVENT_BYTES, MUTANTS, Careful

LIMITS = RequestLimits(body_bytes=BODY_BYTES, event_bytes=EVENT_BYTES, batch_events=BATCH_EVENTS)
BATCH = 6


class Wire:
    """A connection to a collector in memory."""

    def __init__(self, collector: Careful) -> None:
        self.collector = collector

    def exchange(self, message: Message) -> Answer:
        return Answer(self.collector.take(message.body, dict(message.headers).get("Content-Encoding")))

    def close(self) -> None:
        """There is nothing to close."""


def send(run: HandMadeRun, collector: Careful, mix: Mix, *, requests: int, compress: bool = False) -> None:
    """Send so many requests of *mix* one after another, and let the run keep what was answered."""
    info, contract = run.run.info, run.run.load_target().contract

    def factory(producer: int) -> EventFactory:
        return EventFactory(seed=info.seed, run_id=info.run_id, producer=producer, mix=mix, batch=BATCH)

    shapes = Shapes(mix, batch=BATCH, mode="batch", contract=contract, seed=info.seed, producer=0, compressed=compress)
    recorder = Recorder(run.run, process="locust-0", clock=lambda: mono_ns(20))
    sender = Sender(
        connect=lambda: Wire(collector),
        requests=Requests(factory, producer=0, shapes=shapes, limits=contract.limits, compress=compress),
        recorder=recorder,
        contract=contract,
        policy=RetryPolicy(attempts_max=2, base_s=0),
        limits=Limits(),
        random=Random(1),
        clock=lambda: mono_ns(20),
        unix_offset_ns=0,
        observe=lambda _: None,
        fail=lambda error: pytest.fail(str(error)),
    )
    for _ in range(requests):
        sender.submit(mono_ns(20))
    for _ in range(200):
        gevent.sleep(0.001)
        if not sender.busy:
            break
    sender.drain(5)
    recorder.close(now_ns=mono_ns(21))


def land(run: HandMadeRun, rows: list[dict[str, Any]]) -> None:
    """What the collector kept becomes a data file for each source."""
    info = run.run.info
    subject = Subject(info.run_id, Identity(info.seed, info.run_id), Content(info.seed), Columns(type="type"))
    seen = fold([pa.RecordBatch.from_pylist(rows)], subject) if rows else None
    for producer, counted in (seen.found if seen else {}).items():
        sequences = counted.keys.sequences()
        again = np.repeat(counted.again, counted.copies.astype(int))
        altered = seen.altered[producer].keys.sequences().tolist() if seen and producer in seen.altered else ()
        run.table(*sequences.tolist(), *again.tolist(), producer=producer, altered=altered)


def judged(tmp_path: Path, mutant: str, mix: Mix, *, requests: int = 120, **more: Any) -> VerdictDoc:
    compress = more.pop("compress", False)
    run = HandMadeRun(tmp_path, limits=LIMITS, capacity_events=2000, **more)
    collector = MUTANTS[mutant](SimpleNamespace(buffer=[], lock=threading.Lock()))
    send(run, collector, mix, requests=requests, compress=compress)
    land(run, collector.naive.buffer)
    return run.judge()


def failed(document: VerdictDoc) -> set[str]:
    return {check.id for check in document.checks if check.verdict is Verdict.FAIL}


def mix_of(name: str) -> Mix:
    return traffic_named(name).mix


@pytest.mark.parametrize("name", ["duplicates", "id-collision", "mixed-sizes", "poison", "over-limit"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_collector_that_does_what_the_contract_says_passes(tmp_path: Path, name: str, compress: bool):
    """Under every mix, compressed or not."""
    document = judged(tmp_path, "careful", mix_of(name), compress=compress)

    assert document.verdict is Verdict.PASS, document.first_screen


@pytest.mark.parametrize(
    ("name", "mutant", "check"),
    [
        ("duplicates", "forgets", "events.duplicated"),
        ("id-collision", "id-only", "events.lost"),
        ("mixed-sizes", "off-by-one", "events.answered"),
        ("mixed-sizes", "cuts", "events.altered"),
        ("mixed-sizes", "takes-all", "events.answered"),
        ("poison", "swallows", "events.answered"),
        ("poison", "keeps-half", "events.resurrected"),
        ("poison", "breaks", "events.answered"),
        ("over-limit", "takes-all", "events.answered"),
        ("over-limit", "vague", "events.answered"),
    ],
)
def test_a_planted_bug_is_found_by_the_mix_that_looks_for_it(tmp_path: Path, name: str, mutant: str, check: str):
    """And by the check that names it; the same collector passes ordinary traffic."""
    assert judged(tmp_path / "ordinary", mutant, Mix()).verdict is Verdict.PASS

    document = judged(tmp_path / "special", mutant, mix_of(name))

    assert check in failed(document), document.first_screen


def test_under_a_contract_that_skips_the_valid_events_of_a_poisoned_request_are_owed(tmp_path: Path):
    """Who skips the invalid one passes; who drops all of them, or refuses them all, does not."""
    mix = mix_of("poison")

    assert judged(tmp_path / "1", "skips", mix, invalid="skip_event").verdict is Verdict.PASS
    assert failed(judged(tmp_path / "2", "skips-too-much", mix, invalid="skip_event")) == {"events.lost"}
    assert failed(judged(tmp_path / "3", "careful", mix, invalid="skip_event")) == {"events.answered"}


def test_unwanted_events_count_nowhere_else(tmp_path: Path):
    """What was sent to be refused is neither refused nor missing."""
    totals = judged(tmp_path, "careful", mix_of("poison")).totals

    assert totals.unwanted > 0
    assert totals.unwanted % BATCH == 0
    assert (totals.refused, totals.unknown, totals.lost) == (0, 0, 0)
    assert totals.attempted == totals.acked == 120 * BATCH - totals.unwanted
