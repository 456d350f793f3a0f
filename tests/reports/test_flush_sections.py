"""The flush section: orphans explained by the attempt that left them, files and snapshots a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.records.jsonl import JsonlWriter
from loadtests.records.ledger import Outcome
from reports.sections import orphans
from tests.histories import HandMadeRun, mono_ns


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    made = HandMadeRun(tmp_path)
    made.answered(*range(10), outcome=Outcome.ACKED, status=202)
    return made


def wrote(run: HandMadeRun, path: str, at: float, *, kind: str = "data-file", **more: Any) -> None:
    """The gateway saw an upload."""
    line = {"t_ns": mono_ns(at), "verb": "PUT", "object": kind, "path": f"/{path.partition('://')[2]}?partNumber=1"}
    with JsonlWriter(run.run.gateway_log, "gateway", "abcd1234") as log:
        log.append(line | {"status": 200, "outcome": "passed", "ms": 10} | more)


def explained(run: HandMadeRun) -> dict[str, Any]:
    (row,) = run.judge().sections["flush"]["orphans"]
    assert isinstance(row, dict)
    return row


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        ("passed", 409, "the next commit was refused"),
        ("answer-dropped", 200, "the next commit got no clear answer, and did not land"),
        ("passed", 200, "the next commit was answered 200, and the table does not reference it"),
    ],
)
def test_an_orphan_is_explained_by_the_commit_that_followed_it(
    run: HandMadeRun, outcome: str, status: int, words: str
) -> None:
    """Which flush, which object, when it was uploaded, what its commit came to, and whether the flush landed otherwise."""
    wrote(run, run.table(*range(10), stage="object", flush="c1/7/1"), 30)
    wrote(run, "s3://bucket/metadata/c1-7-1-m0.avro", 30.2, kind="manifest")
    run.commit(at=30.4, outcome=outcome, status=status)
    run.table(*range(10), flush="c1/7/1", at=33)

    assert explained(run) == {
        "flush": "c1/7/1",
        "object": "bucket/data/1.parquet",
        "events": 10,
        "put_at_s": 30.01,
        "left_because": words,
        "flush_became": "landed in another file",
        "fault": None,
    }


def test_an_orphan_of_a_target_that_went_down_had_no_commit(run: HandMadeRun) -> None:
    """The commit after the restart is another flush's."""
    wrote(run, run.table(*range(10), stage="object", flush="c1/7/1"), 30)
    run.fault("kill-collector", 29.5, 32)
    run.said(31)
    run.commit(at=33)

    row = explained(run)

    assert row["left_because"] == orphans.WENT_DOWN
    assert row["flush_became"] == "did not land under this id"
    assert row["fault"] == "during kill-collector"


def test_an_orphan_whose_target_began_another_flush_had_no_commit(run: HandMadeRun) -> None:
    """Data after manifests is a new flush; data before them is another partition of the same one."""
    left = run.table(*range(5), stage="object", flush="c1/7/1")
    wrote(run, left, 30)
    wrote(run, "s3://bucket/metadata/m0.avro", 30.2, kind="manifest")
    wrote(run, run.table(*range(5, 10), at=33), 32)
    run.commit(at=33)

    assert explained(run)["left_because"] == orphans.BEGAN_ANEW


def test_an_orphan_that_no_log_knows_says_so(run: HandMadeRun) -> None:
    """Without a gateway, or written past it."""
    run.table(*range(10), stage="object")

    row = explained(run)

    assert (row["flush"], row["put_at_s"], row["left_because"]) == (None, None, orphans.NOT_SEEN)


def test_files_and_snapshots_are_counted_by_the_minute(run: HandMadeRun) -> None:
    """Over the 59 s of traffic, and in the busiest sixty seconds."""
    for at in (20, 21, 22):
        run.table(*range(10), at=at, snapshot=int(at))
    flush = run.judge().sections["flush"]

    assert flush["data_files_per_minute"] == flush["snapshots_per_minute"] == 3.05
    assert flush["busiest_minute_files"] == 3
    assert flush["events_per_file"] == 10


def test_a_run_without_files_has_no_rates_to_show(tmp_path: Path) -> None:
    """None, not zero bytes."""
    flush = HandMadeRun(tmp_path).judge().sections["flush"]

    assert (flush["file_p50_bytes"], flush["events_per_file"], flush["busiest_minute_files"]) == (None, None, None)
    assert flush["orphans"] == []
