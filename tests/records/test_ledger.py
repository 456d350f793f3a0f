"""What was sent and answered survives the death of its writer, to the byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.records.errors import CorruptRecord, LedgerWriteError, MissingRecord, NewerVersion
from loadtests.records.ledger import RECORD, Kind, LedgerWriter, Outcome, Record, Status, read_ledger, read_ledgers

U16, U32, U64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
TIMES = st.integers(0, 2**63 - 1)
ATTEMPTS = st.fixed_dictionaries(
    {
        "producer": U16, "first": U64, "count": U32, "intended_ns": TIMES, "sent_ns": TIMES, "attempt": U16,
        "kind": st.sampled_from(Kind), "body_bytes": U32,
    }
)  # fmt: skip
OUTCOMES = st.fixed_dictionaries(
    {
        "done_ns": TIMES,
        "status": st.one_of(st.integers(100, 599), st.sampled_from(Status)),
        "outcome": st.sampled_from(Outcome),
    }
)


def write_some(path: Path, attempts: int = 3) -> Path:
    writer = LedgerWriter(path, run_id="ab12cd34", process="test")
    for number in range(attempts):
        span: dict[str, Any] = {"producer": 1, "first": number * 10, "count": 10, "intended_ns": 5, "sent_ns": 6}
        request = writer.attempt(**span)
        writer.done(request, **span, done_ns=7, status=202, outcome=Outcome.ACKED)
    writer.close()
    return path


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    line, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps(change(json.loads(line))).encode() + b"\n" + body)


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(ATTEMPTS, st.none() | OUTCOMES), max_size=20))
def test_what_was_written_is_read(
    pairs: list[tuple[dict[str, Any], dict[str, Any] | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every field of every attempt and outcome comes back, in order, at the limits of its type."""
    path = tmp_path_factory.mktemp("ledger") / "a.ledger"
    writer = LedgerWriter(path, run_id="ab12cd34", process="test")
    wanted: list[dict[str, Any]] = []
    for attempt, outcome in pairs:
        request = writer.attempt(**attempt)
        wanted.append(
            {**attempt, "record": Record.ATTEMPT, "request": request, "status": 0, "outcome": 0, "done_ns": 0}
        )
        if outcome is not None:
            same = {key: value for key, value in attempt.items() if key != "body_bytes"}
            writer.done(request, **same, **outcome)
            wanted.append({**same, **outcome, "record": Record.DONE, "request": request, "body_bytes": 0})
    writer.close()
    ledger = read_ledger(path)
    assert ledger.torn_bytes == 0
    assert (ledger.header["run"], ledger.header["process"]) == ("ab12cd34", "test")
    assert [{key: int(row[key]) for key in want} for row, want in zip(ledger.records, wanted, strict=True)] == wanted


def test_an_arrival_that_was_given_up_is_not_an_attempt(tmp_path: Path) -> None:
    """NOT_SENT is one record of its own, without a sending time."""
    writer = LedgerWriter(tmp_path / "a.ledger", run_id="ab12cd34", process="test")
    writer.not_sent(producer=2, first=40, count=20, intended_ns=5, now_ns=9)
    writer.close()
    (row,) = read_ledger(tmp_path / "a.ledger").records
    fields = {name: int(row[name]) for name in ("record", "kind", "first", "count", "sent_ns", "done_ns", "outcome")}
    assert fields == {
        "record": Record.DONE, "kind": Kind.NOT_SENT, "first": 40, "count": 20, "sent_ns": 0, "done_ns": 9,
        "outcome": Outcome.NONE,
    }  # fmt: skip


def test_a_ledger_can_be_read_while_it_grows(tmp_path: Path) -> None:
    """A record has reached the kernel when the method returns: no close, no flush."""
    writer = LedgerWriter(tmp_path / "a.ledger", run_id="ab12cd34", process="test")
    writer.attempt(producer=1, first=0, count=1, intended_ns=0, sent_ns=0)
    assert len(read_ledger(tmp_path / "a.ledger").records) == 1
    writer.close()


def test_a_torn_record_hides_no_other(tmp_path: Path) -> None:
    """Cut anywhere in the last record, a ledger still gives all whole ones and says how much was torn."""
    whole = write_some(tmp_path / "a.ledger").read_bytes()
    cut = tmp_path / "cut.ledger"
    for torn in range(RECORD.itemsize):
        cut.write_bytes(whole[: len(whole) - RECORD.itemsize + torn])
        ledger = read_ledger(cut)
        assert (len(ledger.records), ledger.torn_bytes) == (5, torn)
        assert ledger.records["first"].tolist() == [0, 0, 10, 10, 20]


def test_a_header_that_was_never_whole_means_nothing_was_sent(tmp_path: Path) -> None:
    """The header is written before any attempt, so such a file holds nothing and hides no other ledger."""
    header = write_some(tmp_path / "b.ledger").read_bytes().partition(b"\n")[0]
    for length in range(len(header) + 1):
        (tmp_path / "a.ledger").write_bytes(header[:length])
        assert [ledger.path.name for ledger in read_ledgers(tmp_path)] == ["b.ledger"]


def test_ledgers_are_read_by_name(tmp_path: Path) -> None:
    """Several generators, one order; other files are none of ours."""
    for name in ("b.ledger", "a.ledger"):
        write_some(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert [ledger.path.name for ledger in read_ledgers(tmp_path)] == ["a.ledger", "b.ledger"]


def test_records_start_at_a_multiple_of_their_size(tmp_path: Path) -> None:
    """numpy.memmap with an offset, or any other reader of fixed records, can open the file."""
    data = write_some(tmp_path / "a.ledger").read_bytes()
    assert (data.index(b"\n") + 1) % RECORD.itemsize == 0
    assert len(data) % RECORD.itemsize == 0


def test_a_newer_minor_with_further_fields_is_read(tmp_path: Path) -> None:
    """The header describes the record, so a longer one is read field by field."""
    path = write_some(tmp_path / "a.ledger")
    header_line, _, body = path.read_bytes().partition(b"\n")
    records = np.frombuffer(body, dtype=RECORD)
    header = json.loads(header_line)
    layout = [(name, form) for name, form in header["record"]]
    longer = np.zeros(len(records), dtype=[*layout, ("later", "<u8")])
    for name, _ in layout:
        longer[name] = records[name]
    header.update(schema="icequake.ledger/1.1", record=[*header["record"], ["later", "<u8"]], note="new")
    path.write_bytes(json.dumps(header).encode() + b"\n" + longer.tobytes() + b"torn")
    ledger = read_ledger(path)
    assert ledger.records["first"].tolist() == [0, 0, 10, 10, 20, 20]
    assert ledger.torn_bytes == 4


def test_a_newer_major_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """It would be misread; the sentence says which icequake can."""
    path = write_some(tmp_path / "a.ledger")
    rewrite_header(path, lambda header: {**header, "schema": "icequake.ledger/2.0"})
    with pytest.raises(NewerVersion, match=r"a\.ledger has format icequake\.ledger/2\.0; this icequake reads up to"):
        read_ledger(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: [],
        lambda h: {**h, "schema": None},
        lambda h: {**h, "schema": "icequake.timeline/1.0"},
        lambda h: {key: value for key, value in h.items() if key != "record"},
        lambda h: {**h, "record": None},
        lambda h: {**h, "record": 5},
        lambda h: {**h, "record": []},
        lambda h: {**h, "record": [["first"]]},
        lambda h: {**h, "record": [["first", "no such type"]]},
        lambda h: {**h, "record": h["record"] + h["record"]},
        lambda h: {**h, "record": [*h["record"], ["evil", "O"]]},
        lambda h: {**h, "record": [field for field in h["record"] if field[0] != "outcome"]},
        lambda h: {**h, "record": [[name, "<f4" if name == "count" else form] for name, form in h["record"]]},
    ],
)
def test_a_malformed_header_is_corrupt(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A header that does not describe records of ours is refused with a sentence that names the file."""
    path = write_some(tmp_path / "a.ledger")
    rewrite_header(path, change)
    with pytest.raises(CorruptRecord, match=r"a\.ledger .*\.$"):
        read_ledger(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"\xff\xfe\n", b"no newline", b"[" * 100_000, b"x" * 70_000])
def test_a_file_that_is_no_ledger_is_corrupt(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in a file of that name, the answer is a sentence."""
    path = tmp_path / "a.ledger"
    path.write_bytes(content)
    with pytest.raises(CorruptRecord, match=r"does not start with a ledger header\."):
        read_ledger(path)


def test_a_missing_ledger_is_said_to_be_missing(tmp_path: Path) -> None:
    """Absent is not empty."""
    with pytest.raises(MissingRecord, match=r"none\.ledger does not exist\."):
        read_ledger(tmp_path / "none.ledger")


def test_a_ledger_is_never_overwritten(tmp_path: Path) -> None:
    """Two processes of one name would mix their records; the second is told."""
    path = write_some(tmp_path / "a.ledger")
    before = path.read_bytes()
    with pytest.raises(LedgerWriteError, match=r"cannot be created: File exists\."):
        LedgerWriter(path, run_id="ab12cd34", process="test")
    assert path.read_bytes() == before


WRITE_UNTIL_FULL = """
import resource, signal, sys
from pathlib import Path
from loadtests.records.errors import LedgerWriteError
from loadtests.records.ledger import LedgerWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = LedgerWriter(Path(sys.argv[1]), run_id="ab12cd34", process="test")
header = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (header + int(sys.argv[2]), resource.RLIM_INFINITY))
span = dict(producer=1, first=0, count=1, intended_ns=0, sent_ns=0)
written = 0
try:
    while written < 100:
        writer.attempt(**span)
        written += 1
except LedgerWriteError as error:
    print(written, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    writer.attempt(**span)
except LedgerWriteError as error:
    print("still refused")
"""


@pytest.mark.parametrize(("room", "whole", "why"), [(128, 2, "cannot be written"), (150, 2, "took 22 of 64 bytes")])
def test_a_full_disk_stops_the_ledger_for_good(tmp_path: Path, room: int, whole: int, why: str) -> None:
    """The attempt that did not fit raises, so it is not sent; later ones too, though room came back: behind a torn
    record they would be read at the wrong offset. What was whole stays readable."""
    path = tmp_path / "a.ledger"
    done = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_FULL, str(path), str(room)], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{whole} the ledger ")
    assert why in first
    assert second == "still refused"
    assert (len(read_ledger(path).records), read_ledger(path).torn_bytes) == (whole, room - 64 * whole)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_device_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC becomes a sentence with the path and the reason."""
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, mode=0: opened("/dev/full", os.O_WRONLY))
    with pytest.raises(LedgerWriteError, match=r"a\.ledger cannot be written: No space left on device\."):
        LedgerWriter(tmp_path / "a.ledger", run_id="ab12cd34", process="test")


def test_a_turn_is_no_attempt(tmp_path: Path):
    """It says from which event on the types follow which phase, and carries no events."""
    writer = LedgerWriter(tmp_path / "x.ledger", run_id="abcd1234", process="locust-0")
    writer.turn(producer=3, first=500, phase=2, now_ns=9)
    writer.close()

    (record,) = read_ledger(tmp_path / "x.ledger").records
    assert (record["record"], record["producer"], record["first"], record["status"], record["count"]) == (
        Record.TURN, 3, 500, 2, 0,
    )  # fmt: skip
