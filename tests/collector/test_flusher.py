"""The flusher: when it flushes, how it fails, what it reports."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.buffer import Buffer
from collector.cloudevents import Event
from collector.config import FlushPolicy
from collector.errors import BufferUnavailable, CollectorError
from collector.flusher import Flusher, FlushResult
from tests.collector.keep_support import (
    DirectoryTable,
    ManualClock,
    event,
    events,
    flush_until_empty,
    make_buffer,
    make_flusher,
)


class Bench:
    """A buffer, a table, a flusher, and what it reported."""

    def __init__(self, root: Path) -> None:
        self.clock = ManualClock()
        self.root = root
        self.table = DirectoryTable(root / "table")
        self.results: list[FlushResult] = []
        self.buffer: Buffer = make_buffer(root / "buffer", self.clock)
        self.flusher: Flusher = make_flusher(
            self.buffer, self.table, self.clock, on_result=self.results.append, rng=random.Random(1)
        )

    def post(self, batch: list[Event]) -> None:
        self.buffer.submit(batch).result(timeout=10)

    def restart(self) -> None:
        self.buffer.close()
        self.buffer = make_buffer(self.root / "buffer", self.clock)
        self.table = DirectoryTable(self.root / "table")
        self.flusher = make_flusher(self.buffer, self.table, self.clock, on_result=self.results.append)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.buffer.close()


def test_nothing_is_flushed_before_it_is_due(bench: Bench) -> None:
    """Below the threshold and younger than the timeout, events wait; then only due partitions go."""
    bench.post(events(0, 499))
    bench.post([event(10_000, hour=1)])
    assert bench.flusher.step() == []
    bench.post(events(499, 1))
    (result,) = bench.flusher.step()
    assert (result.outcome, result.events, len(result.files)) == ("committed", 500, 1)
    assert bench.buffer.snapshot().events == 1
    bench.clock.advance(30)
    assert [r.events for r in bench.flusher.step()] == [1]


def test_due_partitions_share_one_snapshot(bench: Bench) -> None:
    """One flush covers every due partition, with one file each."""
    bench.post(events(0, 500) + events(500, 600, hour=1))
    (result,) = bench.flusher.step()
    assert (result.events, len(result.files)) == (1100, 2)


def test_a_lost_answer_is_settled_by_looking(bench: Bench) -> None:
    """An applied commit without an answer is found on the next step; the request is not sent again."""
    bench.table.script = ["applied"]
    bench.post(events(0, 5))
    bench.flusher.request_flush()
    assert [r.outcome for r in bench.flusher.step()] == ["undecided"]
    bench.clock.advance(20)
    (settled,) = bench.flusher.step()
    assert (settled.outcome, settled.events, bench.table.posts) == ("committed", 5, 1)


def test_events_stay_until_what_refers_to_them_is_seen_to_be_stored(bench: Bench) -> None:
    """A landed flush whose files are gone, and a store that does not answer: undecided, then stored again, and only then cleared."""
    bench.table.script = ["applied"]
    bench.post(events(0, 5))
    bench.flusher.request_flush()
    bench.flusher.step()
    for path in (bench.root / "table" / "objects").iterdir():
        path.unlink()
    bench.table.store_down = True
    bench.clock.advance(20)
    assert [r.outcome for r in bench.flusher.step()] == ["undecided"]
    assert bench.buffer.outstanding is not None
    assert bench.buffer.outstanding.progress.state == "committed"
    bench.restart()
    flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert len(bench.table.rows()) == 5


def test_a_zombie_that_lands_late_is_not_doubled(bench: Bench) -> None:
    """A request that is applied after its answer was given up lands once, whatever was sent in between."""
    bench.table.script = ["held", "ok"]
    bench.post(events(0, 5))
    flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert set(bench.table.rows().values()) == {1}


def test_an_undecided_flush_holds_back_later_ones_but_not_ingest(bench: Bench) -> None:
    """While a commit is unknown, events are accepted and nothing else is sealed."""
    bench.table.script = ["lost"] * 5
    bench.post(events(0, 5))
    bench.flusher.request_flush()
    bench.flusher.step()
    bench.table.catalog_down = True
    bench.post(events(5, 600))
    bench.clock.advance(60)
    (result,) = bench.flusher.step()
    assert result.flush_id.endswith("/1")
    bench.table.catalog_down = False
    bench.table.script = []
    flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert len(bench.table.rows()) == 605


def test_attempts_are_bounded_in_rate_and_never_end(bench: Bench) -> None:
    """Through a long outage attempts go on, at most a few at first and about one in five seconds later."""
    bench.table.catalog_down = True
    bench.post(events(0, 600))
    attempts = 0
    for _ in range(36_000):
        bench.clock.advance(0.1)
        attempts += len(bench.flusher.step())
    assert 3600 / 10 <= attempts <= 3600 / 2
    bench.table.catalog_down = False
    flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert len(bench.table.rows()) == 600


def test_an_object_store_outage_is_a_failure_and_then_over(bench: Bench) -> None:
    """When files cannot be stored nothing is sent, and the same flush lands later."""
    bench.table.store_down = True
    bench.post(events(0, 5))
    future = bench.flusher.request_flush()
    (failed,) = bench.flusher.step()
    assert future.result(timeout=0) == [failed]
    assert (failed.outcome, bench.table.posts) == ("failed", 0)
    bench.table.store_down = False
    bench.clock.advance(20)
    (landed,) = bench.flusher.step()
    assert (landed.outcome, landed.flush_id) == ("committed", failed.flush_id)


def test_a_requested_flush_waits_for_an_undecided_one(bench: Bench) -> None:
    """The answer to an operator comes when everything is decided, the older flush first; nothing spins."""
    bench.table.script = ["applied"]
    bench.post(events(0, 5))
    first = bench.flusher.request_flush()
    bench.flusher.step()
    assert not first.done()
    assert bench.flusher.step() == []  # the backoff holds although a request waits
    bench.post(events(5, 5))
    second = bench.flusher.request_flush()
    bench.flusher.step()
    assert [r.events for r in first.result(timeout=0)] == [5, 5]
    assert first.result(timeout=0) == second.result(timeout=0)


def test_an_empty_buffer_answers_at_once(bench: Bench) -> None:
    """A flush with nothing to flush is an empty list."""
    future = bench.flusher.request_flush()
    bench.flusher.step()
    assert future.result(timeout=0) == []


def test_poison_is_quarantined_and_the_rest_lands(bench: Bench) -> None:
    """One event that cannot become a row is kept aside, reported, and stops nothing; also alone in its flush."""
    bench.post([event(1), event(2, data=b'"\xff"'), event(3)])
    flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert len(bench.table.rows()) == 2
    bench.post([event(4, data=b'"\xff"')])
    flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert bench.buffer.snapshot().quarantined == 2
    assert bench.results[-1].outcome == "committed"
    assert bench.results[-1].snapshot_id is None
    assert bench.table.posts == 1


def test_a_flush_of_duplicates_only_makes_no_snapshot(bench: Bench) -> None:
    """Repeats of what has landed are dropped without a commit."""
    for _ in range(2):
        bench.post(events(0, 5))
        flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert (bench.table.posts, bench.results[-1].deduplicated) == (1, 5)


def test_an_old_copy_of_the_directory_takes_a_new_identity(bench: Bench) -> None:
    """A directory restored from before its flushes landed must not reuse their numbers: its events would be skipped."""
    bench.post(events(0, 5))
    collector = bench.buffer.collector_id
    state = bench.table._load()
    state["watermarks"][collector] = 7
    bench.table._save(state)
    bench.restart()
    flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert bench.buffer.collector_id != collector
    assert len(bench.table.rows()) == 5


def test_foreign_commits_between_attempts_lead_to_a_new_request(bench: Bench) -> None:
    """When main has moved on without the flush, it is built again on the new head."""
    bench.table.script = ["lost"]
    bench.post(events(0, 5))
    bench.flusher.request_flush()
    bench.flusher.step()
    bench.table.foreign_commit("other")
    flush_until_empty(bench.buffer, bench.flusher, bench.clock)
    assert set(bench.table.rows().values()) == {1}
    assert len(bench.table.rows()) == 5


class _RealTime(ManualClock):
    def __init__(self) -> None:
        super().__init__()
        self._steps = threading.Lock()

    def monotonic(self) -> float:
        with self._steps:
            self.now += 0.001
            return self.now


class _PassingTime(ManualClock):
    def monotonic(self) -> float:
        return time.monotonic()


def test_the_thread_flushes_drains_and_stops(tmp_path: Path) -> None:
    """Started, it flushes what reaches the threshold; drain empties the buffer; stop ends the thread."""
    clock = _RealTime()
    buffer = make_buffer(tmp_path / "buffer", clock)
    table = DirectoryTable(tmp_path / "table")
    landed = threading.Event()
    flusher = Flusher(
        buffer,
        table,
        policy=FlushPolicy(size_events=1000, flush_at=0.5, timeout_ms=10_000_000),
        clock=clock,
        on_result=lambda _result: landed.set(),
    )
    flusher.start()
    buffer.submit(events(0, 500)).result()
    assert landed.wait(10)
    buffer.submit(events(500, 5)).result()
    assert flusher.drain(10.0)
    flusher.stop()
    with pytest.raises(CollectorError):
        future = flusher.request_flush()
        flusher.stop()
        future.result(timeout=1)
    buffer.close()
    assert len(table.rows()) == 505


def test_a_drain_that_cannot_finish_leaves_the_rest_on_disk(tmp_path: Path) -> None:
    """When the deadline passes the events are still in the buffer, for the next start."""
    clock = _RealTime()
    buffer = make_buffer(tmp_path / "buffer", clock)
    table = DirectoryTable(tmp_path / "table")
    table.catalog_down = True
    flusher = make_flusher(buffer, table, clock)
    flusher.start()
    buffer.submit(events(0, 5)).result()
    assert not flusher.drain(0.05)
    flusher.stop()
    assert buffer.snapshot().events == 5
    buffer.close()


def test_a_drain_tries_no_faster_while_the_buffer_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk makes each attempt fail at once; that must not become a busy loop until the deadline."""
    clock = _PassingTime()
    buffer = make_buffer(tmp_path / "buffer", clock)
    attempts = []

    def full(keys: object) -> None:
        attempts.append(keys)
        raise BufferUnavailable("the disk is full")

    monkeypatch.setattr(buffer, "seal", full)
    flusher = make_flusher(buffer, DirectoryTable(tmp_path / "table"), clock)
    flusher.start()
    buffer.submit(events(0, 5)).result()
    assert not flusher.drain(0.05)
    flusher.stop()
    buffer.close()
    assert 1 <= len(attempts) <= 3


def test_a_flush_says_what_made_it_due_and_where_its_time_went(bench: Bench) -> None:
    """Size, age, request, retry; every stage that was passed is timed, and nothing else."""
    bench.post(events(0, 500))
    assert [r.trigger for r in bench.flusher.step()] == ["size"]
    bench.post(events(500, 1))
    bench.clock.advance(30)
    (aged,) = bench.flusher.step()
    assert aged.trigger == "age"
    assert set(aged.stages_s) == {"encode", "put", "manifests", "commit", "verify", "checkpoint"}
    bench.table.script = ["applied"]
    bench.post(events(600, 5))
    bench.flusher.request_flush()
    assert [r.trigger for r in bench.flusher.step()] == ["request"]
    bench.clock.advance(20)
    (settled,) = bench.flusher.step()
    assert (settled.trigger, settled.outcome) == ("retry", "committed")
    assert set(settled.stages_s) == {"load_table", "verify", "checkpoint"}
