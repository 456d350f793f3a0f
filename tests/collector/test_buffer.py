"""The durable buffer: all or nothing, bounded, readable after a crash, honest about a failing disk."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.buffer import Buffer
from collector.crashpoints import CrashPoints
from collector.errors import BufferFull, BufferUnavailable, BufferUncertain, ConfigError
from collector.store import FileRef, Intent, Poison
from tests.collector.keep_support import ManualClock, event, events, keys, make_buffer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def buffer(tmp_path: Path, clock: ManualClock) -> Iterator[Buffer]:
    made = make_buffer(tmp_path / "b", clock, capacity_events=20, max_partitions=3)
    yield made
    made.close()


def contents(buffer: Buffer) -> list[str]:
    flush = buffer.outstanding or buffer.seal(buffer.waiting())
    return [e.id for part in flush.parts for e in buffer.read(part)[0]]


def test_events_survive_the_process_in_order(tmp_path: Path, clock: ManualClock) -> None:
    """What was acknowledged is there after a restart, byte for byte and in order."""
    first = make_buffer(tmp_path / "b", clock)
    sent = events(0, 7) + events(7, 3, hour=1)
    first.submit(sent).result()
    first.close()
    again = make_buffer(tmp_path / "b", clock)
    flush = again.seal(again.waiting())
    read = [e for part in flush.parts for e in again.read(part)[0]]
    assert read == sent
    assert again.epoch == first.epoch + 1
    again.close()


def test_a_full_partition_refuses_the_whole_batch_and_others_go_on(buffer: Buffer) -> None:
    """A batch that touches a full partition is refused whole, also its events of other partitions."""
    buffer.submit(events(0, 20)).result()
    with pytest.raises(BufferFull) as refused:
        buffer.submit([event(30, hour=1), event(31)])
    assert refused.value.partition == ("t", 490_896)
    buffer.submit(events(40, 5, hour=1)).result()
    assert buffer.snapshot().events == 25
    assert buffer.snapshot().fill_ratio == 1.0


def test_sealed_events_count_until_they_are_cleared(buffer: Buffer) -> None:
    """A flush on its way still fills its partition; clearing it makes room."""
    buffer.submit(events(0, 20)).result()
    flush = buffer.seal(buffer.waiting())
    with pytest.raises(BufferFull):
        buffer.submit(events(20, 1))
    buffer.clear(buffer.record_committed(flush, 1))
    buffer.submit(events(20, 20)).result()
    assert buffer.snapshot().events == 20


def test_the_number_of_partitions_is_bounded(buffer: Buffer) -> None:
    """A client cannot open more partitions than configured."""
    for hour in range(3):
        buffer.submit([event(hour, hour=hour)]).result()
    with pytest.raises(BufferFull, match="partitions"):
        buffer.submit([event(9, hour=9)])
    buffer.submit([event(10, hour=2)]).result()


def test_requests_that_arrive_during_a_sync_share_the_next(tmp_path: Path, clock: ManualClock) -> None:
    """Group commit: many waiting requests cost one sync, and each resolves after it."""
    gate, entered = threading.Event(), threading.Event()
    crash = CrashPoints.parse("ingest.before_append=kill@1")

    def hold(_point: str) -> None:
        entered.set()
        gate.wait(10)

    crash.kill = hold
    buffer = make_buffer(tmp_path / "b", clock, crash)
    first = buffer.submit([event(0)])
    entered.wait(10)
    rest = [buffer.submit([event(n)]) for n in range(1, 50)]
    assert not first.done()
    gate.set()
    for future in [first, *rest]:
        future.result(timeout=10)
    assert buffer.snapshot().syncs == 2
    buffer.close()


def test_a_full_disk_refuses_and_recovers(buffer: Buffer) -> None:
    """Without room nothing is kept and nothing acknowledged; with room again it goes on."""
    conn = buffer._conn
    pages = conn.execute("PRAGMA page_count").fetchone()[0]
    buffer._writer.do(lambda store: store.conn.execute(f"PRAGMA max_page_count={pages + 1}"))
    big = event(1, data=b'"' + b"x" * 200_000 + b'"')
    with pytest.raises(BufferUnavailable, match="full"):
        buffer.submit([big]).result()
    assert buffer.snapshot().events == 0
    buffer._writer.do(lambda store: store.conn.execute("PRAGMA max_page_count=1000000"))
    buffer.submit([big]).result()
    assert contents(buffer) == ["id-1"]


@pytest.mark.parametrize("point", ["ingest.before_append", "ingest.after_append_before_sync"])
def test_an_injected_full_disk_leaves_nothing_behind(tmp_path: Path, clock: ManualClock, point: str) -> None:
    """A refused request is not in the buffer, before the sync or in it."""
    buffer = make_buffer(tmp_path / "b", clock, CrashPoints.parse(f"{point}=raise:ENOSPC@1"))
    with pytest.raises(BufferUnavailable):
        buffer.submit([event(1)]).result()
    buffer.submit([event(2)]).result()
    assert contents(buffer) == ["id-2"]
    buffer.close()


def test_after_an_io_error_nothing_is_acknowledged_until_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    """A failed sync is final for the process: later requests are refused, and a restart reads the disk."""
    buffer = make_buffer(tmp_path / "b", clock, CrashPoints.parse("ingest.after_append_before_sync=raise:EIO@2"))
    buffer.submit([event(1)]).result()
    with pytest.raises(BufferUncertain, match="not known"):  # its rows may be on disk: no refusal
        buffer.submit([event(2)]).result()
    with pytest.raises(BufferUnavailable, match="restart"):
        buffer.submit([event(3)]).result()
    assert "I/O error" in (buffer.snapshot().failure or "")
    with pytest.raises(BufferUnavailable):
        buffer.seal(buffer.waiting())
    buffer.close()
    again = make_buffer(tmp_path / "b", clock)
    assert contents(again) == ["id-1"]
    again.close()


def test_an_sqlite_io_error_is_final_too(buffer: Buffer) -> None:
    """The error code SQLite gives for a failed fsync stops the buffer."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    def fail(_store: object) -> None:
        raise error

    with pytest.raises(BufferUnavailable):
        buffer._writer.do(fail)
    with pytest.raises(BufferUnavailable, match="I/O error"):
        buffer.submit([event(1)])


def test_only_one_process_may_use_a_directory(buffer: Buffer, tmp_path: Path, clock: ManualClock) -> None:
    """A second collector on the same directory is refused with a sentence."""
    with pytest.raises(BufferUnavailable, match="in use"):
        make_buffer(tmp_path / "b", clock)


def test_directory_and_file_are_private(buffer: Buffer, tmp_path: Path) -> None:
    """Mode 0700 for the directory, 0600 for the file."""
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "b" / "buffer.sqlite3").stat().st_mode) == 0o600


def test_foreign_and_newer_files_are_refused(tmp_path: Path, clock: ManualClock) -> None:
    """A file of another program or of a newer version is left alone."""
    for name, statement in {"foreign": "CREATE TABLE x (y)", "newer": "PRAGMA user_version=99"}.items():
        (tmp_path / name).mkdir()
        if name == "newer":
            make_buffer(tmp_path / name, clock).close()
        conn = sqlite3.connect(tmp_path / name / "buffer.sqlite3")
        conn.execute(statement)
        conn.commit()
        conn.close()
        with pytest.raises(ConfigError):
            make_buffer(tmp_path / name, clock)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    """Garbage in place of the buffer is named, not overwritten."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "buffer.sqlite3").write_bytes(b"garbage" * 1000)
    with pytest.raises(BufferUnavailable, match="cannot be opened"):
        make_buffer(tmp_path / "b", clock)


def test_a_damaged_request_becomes_poison_and_blocks_nothing(tmp_path: Path, clock: ManualClock) -> None:
    """A flipped byte in a stored request is found by its CRC; the other requests are read."""
    buffer = make_buffer(tmp_path / "b", clock)
    buffer.submit([event(1)]).result()
    buffer.submit([event(2)]).result()
    buffer._writer.do(lambda store: store.conn.execute("UPDATE requests SET body=zeroblob(length(body)) WHERE id=1"))
    flush = buffer.seal(buffer.waiting())
    read, poison = buffer.read(flush.parts[0])
    assert [e.id for e in read] == ["id-2"]
    assert len(poison) == 1
    buffer.close()


def test_duplicates_are_dropped_once_at_the_seal(tmp_path: Path, clock: ManualClock) -> None:
    """A repeat is dropped; a crash between seal and commit does not drop the first one too."""
    buffer = make_buffer(tmp_path / "b", clock)
    buffer.submit([event(1), event(2), event(1, data=b"2")]).result()
    buffer.submit([event(2, hour=1), event(3)]).result()
    flush = buffer.seal(buffer.waiting())
    assert (flush.events, flush.progress.deduplicated) == (3, 2)
    buffer.close()
    again = make_buffer(tmp_path / "b", clock)
    assert again.outstanding == flush
    assert sorted(contents(again)) == ["id-1", "id-2", "id-3"]
    again.clear(again.record_committed(flush, 1))
    again.submit([event(1)]).result()
    assert again.seal(again.waiting()).events == 0
    again.close()


def test_the_window_ends(tmp_path: Path, clock: ManualClock) -> None:
    """After the declared window the same id is a new event."""
    buffer = make_buffer(tmp_path / "b", clock, dedupe_window_s=100)
    for pause, kept in ((0, 1), (99, 0), (102, 1)):
        clock.advance(pause)
        buffer.submit([event(1)]).result()
        flush = buffer.seal(buffer.waiting())
        assert flush.events == kept
        buffer.clear(buffer.record_committed(flush, None))
    buffer.close()


def test_dedupe_can_be_turned_off(tmp_path: Path, clock: ManualClock) -> None:
    """A window of 0 keeps every event."""
    buffer = make_buffer(tmp_path / "b", clock, dedupe_window_s=0)
    buffer.submit([event(1), event(1)]).result()
    assert buffer.seal(buffer.waiting()).events == 2
    buffer.close()


def test_progress_survives_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    """Files, quarantine and the exact commit request are there after a restart; the quarantine is written once."""
    buffer = make_buffer(tmp_path / "b", clock)
    buffer.submit([event(1)]).result()
    flush = buffer.seal(buffer.waiting())
    poison = [Poison("t", 1, "reason", b"event")]
    flush = buffer.record_files(flush, [FileRef("p", 1, 1)], poison)
    flush = buffer.record_intent(flush, Intent(b"\x00body", 7, "u", 0))
    assert buffer.snapshot().undecided == (flush.id,)
    buffer.close()
    again = make_buffer(tmp_path / "b", clock)
    assert again.outstanding == flush
    assert again.snapshot().undecided == (flush.id,)
    again.record_files(flush, [FileRef("p", 1, 1)], poison)
    with again.view() as store:
        assert list(store.poison()) == poison
    assert again.snapshot().quarantined == 1
    again.close()


def test_a_new_directory_never_takes_an_old_identity(tmp_path: Path, clock: ManualClock) -> None:
    """Flush ids of two directories differ even when both are given the same name."""
    ids = set()
    for name in ("x", "y"):
        buffer = make_buffer(tmp_path / name, clock, collector_id="edge")
        ids.add(buffer.collector_id)
        buffer.close()
    assert len(ids) == 2
    assert all(id_.startswith("edge-") for id_ in ids)


def test_due_by_size_and_by_age(buffer: Buffer, clock: ManualClock) -> None:
    """A partition is due at the threshold or when its oldest event is old enough; others are not taken along."""
    reached: list[int] = []
    buffer.watch(10, lambda: reached.append(1))
    buffer.submit(events(0, 9)).result()
    assert buffer.due(10, 30.0) == ([], 30.0)
    buffer.submit(events(9, 1)).result()
    assert reached == [1]
    buffer.submit([event(1, hour=1)]).result()
    assert buffer.due(10, 30.0) == ([("t", 490_896)], 30.0)
    clock.advance(31)
    assert len(buffer.due(10, 30.0)[0]) == 2
    assert buffer.snapshot().oldest_age_s == 31


def test_age_survives_a_restart_and_a_clock_that_jumps_back(tmp_path: Path, clock: ManualClock) -> None:
    """Events keep their age over a restart; a wall clock that stepped back makes none of them negative."""
    buffer = make_buffer(tmp_path / "b", clock)
    buffer.submit([event(1)]).result()
    buffer.close()
    clock.advance(50)
    buffer = make_buffer(tmp_path / "b", clock)
    assert buffer.snapshot().oldest_age_s == 50
    buffer.close()
    clock.advance(-500)
    buffer = make_buffer(tmp_path / "b", clock)
    assert buffer.snapshot().oldest_age_s == 0
    buffer.close()


def test_a_closed_buffer_refuses(tmp_path: Path, clock: ManualClock) -> None:
    """What was submitted before is stored; after it, nothing is accepted."""
    buffer = make_buffer(tmp_path / "b", clock)
    futures = [buffer.submit([event(n)]) for n in range(20)]
    buffer.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(BufferUnavailable, match="closed"):
        buffer.submit([event(99)])
    buffer.close()


def test_crash_points_that_fail_a_checkpoint_keep_the_flush(tmp_path: Path, clock: ManualClock) -> None:
    """A disk that is full while the landing is recorded leaves the flush as it was; later it is recorded."""
    buffer = make_buffer(tmp_path / "b", clock, CrashPoints.parse("checkpoint.before_sync=raise:ENOSPC@1"))
    buffer.submit([event(1)]).result()
    flush = buffer.seal(buffer.waiting())
    with pytest.raises(BufferUnavailable):
        buffer.record_committed(flush, 1)
    assert buffer.outstanding == flush
    buffer.clear(buffer.record_committed(flush, 1))
    assert buffer.snapshot().events == 0
    buffer.close()


def test_everything_is_read_back_whatever_the_mix(tmp_path: Path, clock: ManualClock) -> None:
    """Many partitions and requests of several sizes come back exactly."""
    buffer = make_buffer(tmp_path / "b", clock)
    sent = [event(n, type_=f"t{n % 5}", hour=n % 3) for n in range(500)]
    for at in range(0, 500, 7):
        buffer.submit(sent[at : at + 7]).result()
    flush = buffer.seal(buffer.waiting())
    read = [e for part in flush.parts for e in buffer.read(part)[0]]
    assert keys(read) == keys(sent)
    assert len(read) == 500
    buffer.close()
