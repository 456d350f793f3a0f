"""The auditor's last line and the verdict are made by different readers at different times; they must say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.records.jsonl import JsonlWriter, read_jsonl
from reports.auditor import auditor_of
from reports.judge import judge
from reports.observe import observe
from tests.reports.tables import RUN_ID, LocalTable, events

SENT = 120


@pytest.mark.parametrize(
    "appends",
    [
        [range(120)],
        [range(60), range(60, 120)],
        [range(100)],
        [],
        [range(120), range(30, 50)],
        [range(50), range(40, 90), range(45, 48)],
    ],
    ids=["one file", "two files", "twenty lost", "all lost", "twenty twice", "some lost, some twice, some thrice"],
)
def test_the_last_line_is_what_the_judge_finds(tmp_path: Path, appends: list[range]) -> None:
    """Acked, visible, pending (then: lost) and duplicated, however the events came into the table."""
    lake = LocalTable(tmp_path)
    run = lake.run(sent=SENT)
    auditor = auditor_of(run)
    with JsonlWriter(run.visible, "visible", RUN_ID) as writer:
        writer.append(auditor.look())
        for sequences in appends:
            lake.load().append(events(sequences))
            writer.append(auditor.look())
    observe(run)

    *_, last = read_jsonl(run.visible, "visible")
    totals = judge(run.root).totals

    assert (last["acked"], last["pending"], last["duplicated"], last["rows"]) == (
        totals.acked, totals.lost, totals.duplicated, totals.rows_read,
    )  # fmt: skip
    assert last["visible"] == totals.acked - totals.lost == totals.distinct
