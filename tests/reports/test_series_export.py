"""Every series of a run as one table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from loadtests.records.ledger import Outcome
from loadtests.records.series import SeriesWriter
from reports.series_export import COLUMNS, main
from tests.histories import START_UNIX_NS, HandMadeRun, mono_ns


@pytest.fixture
def root(tmp_path: Path) -> Path:
    run = HandMadeRun(tmp_path, capacity_events=100)
    run.batch(0, 10, outcome=Outcome.ACKED, at=20)
    run.table(*range(10))
    writer = SeriesWriter(run.run.series, "target", "abcd1234")
    writer.add(mono_ns(5), "fill_ratio", 0.25)
    writer.add(mono_ns(5), "target_cpu_s", 1.5, {"pid": "7"})
    writer.close()
    return run.written()


@pytest.mark.parametrize(("suffix", "read"), [(".csv", pd.read_csv), (".parquet", pd.read_parquet)])
def test_the_table_has_what_was_recorded_drawn_and_true(root: Path, tmp_path: Path, suffix: str, read: object) -> None:
    """With time since the run began and wall time."""
    file = tmp_path / f"out{suffix}"
    done = CliRunner().invoke(main, [str(root), str(file)])
    assert done.exit_code == 0, done.output
    table = read(file)  # type: ignore[operator]
    assert list(table.columns) == COLUMNS
    fill = table[table["name"] == "fill_ratio"].iloc[0]
    assert (fill["at_s"], fill["value"]) == (5, 0.25)
    assert fill["unix_s"] == pytest.approx(START_UNIX_NS / 1e9 + 5)
    assert table[table["name"] == "target_cpu_s"].iloc[0]["labels"] == "pid=7"
    assert {"icequake:acked", "icequake_pending_events"} <= set(table["name"])
    assert table["at_s"].is_monotonic_increasing


def test_a_run_without_series_has_an_empty_table_or_what_can_be_derived(tmp_path: Path) -> None:
    """Not an error."""
    file = tmp_path / "out.csv"
    root = HandMadeRun(tmp_path).written()
    assert CliRunner().invoke(main, [str(root), str(file)]).exit_code == 0


def test_other_files_are_refused_with_a_sentence(root: Path, tmp_path: Path) -> None:
    """254."""
    done = CliRunner().invoke(main, [str(root), str(tmp_path / "out.xls")])
    assert done.exit_code == 254
    assert ".csv or .parquet" in done.output
