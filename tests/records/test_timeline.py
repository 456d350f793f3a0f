"""The timeline keeps what happened, in order, from any thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from loadtests.records.errors import MissingRecord
from loadtests.records.timeline import Timeline, read_timeline


def test_entries_come_back_in_order_with_both_clocks(tmp_path: Path) -> None:
    """`t_ns` never runs backwards; what was written is what was returned."""
    timeline = Timeline(tmp_path / "timeline.jsonl", "ab12cd34")
    written = [
        timeline.write("phase", phase="baseline"),
        timeline.write("step", step=0, fault="nothing", state="armed"),
    ]
    timeline.close()
    assert list(read_timeline(tmp_path / "timeline.jsonl")) == written
    assert written[0]["t_ns"] <= written[1]["t_ns"]
    assert {"unix_ns", "event", "phase"} <= written[0].keys()


def test_the_listener_hears_each_entry_after_it_was_written(tmp_path: Path) -> None:
    """A display can never show what the record does not hold."""
    path = tmp_path / "timeline.jsonl"
    heard: list[tuple[Any, bool]] = []
    timeline = Timeline(path, "r", listener=lambda entry: heard.append((entry["text"], entry in read_timeline(path))))
    timeline.write("note", text="one")
    timeline.write("note", text="two")
    timeline.close()
    assert heard == [("one", True), ("two", True)]


def test_threads_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    """Steps write from threads of their own; every entry is whole and the clock is in order."""
    timeline = Timeline(tmp_path / "timeline.jsonl", "r")
    writers = [
        threading.Thread(target=lambda n=n: [timeline.write("note", text="x" * n, n=n) for _ in range(50)])
        for n in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    timeline.close()
    entries = list(read_timeline(tmp_path / "timeline.jsonl"))
    assert sorted(entry["n"] for entry in entries) == sorted(list(range(8)) * 50)
    assert all(len(entry["text"]) == entry["n"] for entry in entries)
    assert [entry["t_ns"] for entry in entries] == sorted(entry["t_ns"] for entry in entries)


def test_a_torn_tail_is_tolerated(tmp_path: Path) -> None:
    """A controller that was killed in mid-write leaves a timeline that can be judged."""
    path = tmp_path / "timeline.jsonl"
    timeline = Timeline(path, "r")
    timeline.write("note", text="kept")
    timeline.write("note", text="torn")
    timeline.close()
    path.write_bytes(path.read_bytes()[:-2])
    assert [entry["text"] for entry in read_timeline(path)] == ["kept"]


def test_a_missing_timeline_is_said_to_be_missing(tmp_path: Path) -> None:
    """Reading starts with a sentence, not with an empty history."""
    with pytest.raises(MissingRecord):
        next(read_timeline(tmp_path / "timeline.jsonl"))
