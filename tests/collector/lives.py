"""Lives of a collector, each in a process of its own that may be killed at any moment.

Run as a program it reads ``[root, first, faults, count]`` as JSON lines, forks one life for each and answers with
its exit code: a fork has everything imported, so a life costs milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from collector.buffer import Buffer
from collector.config import Limits, MaintenanceConfig
from collector.crashpoints import CrashPoints
from collector.lines import LineParser
from collector.vault import Vault
from tests.collector.keep_support import (
    DirectoryTable,
    ManualClock,
    events,
    flush_until_empty,
    make_buffer,
    make_flusher,
)

PER_BATCH = 5
CHUNK = 3


def _ack(root: Path, numbers: range) -> None:
    """Write down, as a client would, that a 2xx came back."""
    descriptor = os.open(root / "acked", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, "".join(f"{number}\n" for number in numbers).encode())
    os.close(descriptor)


def drill(root: Path, buffer: Buffer, clock: ManualClock, crash: CrashPoints) -> None:
    """What the runbook says: export to a backup, clear, replay; the backup goes when all of it was replayed."""
    vault = Vault(buffer, LineParser(Limits(), clock.time), clock=clock, crash=crash)
    lines = list(vault.export())
    receipt = json.loads(lines[-1])["receipt"]
    (root / "backup.tmp").write_bytes(b"".join(lines))
    os.replace(root / "backup.tmp", root / "backup")
    vault.reset(receipt=(receipt["events"], receipt["sha256"]))
    replay_backup(root, vault)


def replay_backup(root: Path, vault: Vault) -> None:
    """Replay the backup that this life, or the one before, was busy with; twice."""
    if not (root / "backup").exists():
        return
    lines = (root / "backup").read_bytes().splitlines()
    for _ in range(2):
        replay = vault.replay()
        for start in range(0, len(lines), CHUNK):
            replay.take(lines[start : start + CHUNK])
        assert replay.result.complete
    (root / "backup").unlink()


def live(root: Path, first: int, faults: str, count: int) -> None:
    """One life of a collector: store and flush, then drain; may die anywhere. One commit answer is lost."""
    down = faults == "down"
    crash = CrashPoints.parse("" if down else faults)
    clock = ManualClock(1_767_225_600.0 + first)
    buffer = make_buffer(root / "buffer", clock, crash)
    table = DirectoryTable(root / "table", crash, script=["ok", "ok", "applied"])
    keep_few = MaintenanceConfig(snapshots_max=2, snapshot_min_age_s=0)
    flusher = make_flusher(buffer, table, clock, crash, maintenance=keep_few)
    table.catalog_down = down
    replay_backup(root, Vault(buffer, LineParser(Limits(), clock.time), clock=clock, crash=crash))
    for number in range(first, first + count * PER_BATCH, PER_BATCH):
        batch = events(number, PER_BATCH, hour=0) + events(number + 10_000, PER_BATCH, hour=1)
        buffer.submit(batch).result(timeout=10)
        _ack(root, range(number, number + PER_BATCH))
        _ack(root, range(number + 10_000, number + 10_000 + PER_BATCH))
        crash("ingest.after_ack")
        if number == first:
            drill(root, buffer, clock, crash)
        flusher.request_flush()
        flusher.step()
        clock.advance(20)
        if down and number > first + PER_BATCH:
            table.catalog_down = False
    crash("shutdown.while_draining")
    flush_until_empty(buffer, flusher, clock)
    buffer.close()


def _fork(root: str, first: int, faults: str, count: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            live(Path(root), first, faults, count)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for line in sys.stdin:
        print(_fork(*json.loads(line)), flush=True)
