"""Streams of JSON lines: a torn line hides no whole one, a reader may follow, a newer major is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.records.errors import CorruptRecord, MissingRecord, NewerVersion
from loadtests.records.jsonl import JsonlTail, JsonlWriter, read_jsonl

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(
    st.dictionaries(st.text(max_size=8).filter(lambda key: key != "schema"), VALUES, max_size=4), max_size=8
)


def write(path: Path, *records: dict[str, Any]) -> Path:
    with JsonlWriter(path, "timeline", "ab12cd34") as writer:
        for record in records:
            writer.append(record)
    return path


@settings(deadline=None)
@given(records=RECORDS)
def test_what_was_written_is_read(records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any JSON object comes back equal and in order, newlines inside strings included; a follower sees the same."""
    path = write(tmp_path_factory.mktemp("jsonl") / "a.jsonl", *records)
    assert list(read_jsonl(path, "timeline")) == records
    assert JsonlTail(path).read() == records


def test_the_header_names_format_run_and_both_clocks(tmp_path: Path) -> None:
    """A reader can turn monotonic times into wall times."""
    header = json.loads(write(tmp_path / "a.jsonl").read_bytes().partition(b"\n")[0])
    assert (header["schema"], header["run"]) == ("icequake.timeline/1.0", "ab12cd34")
    assert header["unix_ns"] > 0 < header["mono_ns"]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """Cut at every byte of the last record, the others are all there and nothing else is."""
    path = write(tmp_path / "a.jsonl", {"n": 1}, {"n": 2, "text": "é, \\ and \n"})
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for length in range(start, len(whole)):
        path.write_bytes(whole[:length])
        assert list(read_jsonl(path, "timeline")) == [{"n": 1}]
        assert JsonlTail(path).read() == [{"n": 1}]


def test_the_next_writer_ends_a_torn_line(tmp_path: Path) -> None:
    """What a killed writer left half-written neither hides nor joins the records that follow."""
    path = write(tmp_path / "a.jsonl", {"n": 1}, {"n": 2})
    os.truncate(path, path.stat().st_size - 3)
    write(path, {"n": 3})
    assert list(read_jsonl(path, "timeline")) == [{"n": 1}, {"n": 3}]


def test_a_follower_gets_each_record_once(tmp_path: Path) -> None:
    """Nothing before the file exists, then only what is new; an unfinished line waits for its end."""
    path = tmp_path / "a.jsonl"
    tail = JsonlTail(path)
    assert tail.read() == []
    with JsonlWriter(path, "timeline", "ab12cd34") as writer:
        assert tail.read() == []
        writer.append({"n": 1})
        assert tail.read() == [{"n": 1}]
        assert tail.read() == []
    with path.open("ab") as stream:
        stream.write(b'{"n":')
        stream.flush()
        assert tail.read() == []
        stream.write(b"2}\n")
        stream.flush()
        assert tail.read() == [{"n": 2}]


def test_a_newer_minor_is_read(tmp_path: Path) -> None:
    """Its header and records may say more."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"schema":"icequake.timeline/1.9","run":"r","more":1}\n{"n":1,"later":[]}\n')
    assert list(read_jsonl(path, "timeline")) == [{"n": 1, "later": []}]


def test_a_newer_major_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """The sentence says which icequake can read it."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"schema":"icequake.timeline/2.0"}\n{"n":1}\n')
    with pytest.raises(NewerVersion, match="Read it with the icequake that wrote it"):
        list(read_jsonl(path, "timeline"))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b'{"schema":"icequake.timeline/1.0"', b'{"schema":1}\n',
        b'{"schema":"icequake.hist/1.0"}\n', b"[" * 100_000 + b"\n", b"\x00" * 100 + b"\n",
    ],
)  # fmt: skip
def test_a_malformed_header_is_corrupt(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in a file of that name, the answer is a sentence that names the file."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(CorruptRecord, match=r"a\.jsonl does not start with .*\.$"):
        list(read_jsonl(path, "timeline"))


def test_a_broken_line_hides_nothing_behind_it(tmp_path: Path) -> None:
    """Garbage, a bad encoding, another type and a bottomless list are skipped."""
    path = write(tmp_path / "a.jsonl", {"n": 1})
    with path.open("ab") as stream:
        stream.write(b"garbage\n\xff\xfe\n[1]\n\n" + b"[" * 100_000 + b'\n{"n":2}\n')
    assert list(read_jsonl(path, "timeline")) == [{"n": 1}, {"n": 2}]
    assert JsonlTail(path).read() == [{"n": 1}, {"n": 2}]


def test_a_missing_stream_is_said_to_be_missing(tmp_path: Path) -> None:
    """Absent is not empty."""
    with pytest.raises(MissingRecord, match=r"none\.jsonl does not exist\."):
        list(read_jsonl(tmp_path / "none.jsonl", "timeline"))


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """A line that does not fit is not silently dropped."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    link = tmp_path / "a.jsonl"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        JsonlWriter(link, "timeline", "ab12cd34")
