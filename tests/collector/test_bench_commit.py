"""The commit bench prints what it measured, and maintenance keeps the table small while it runs."""

from __future__ import annotations

import pytest

from collector.bench_commit import main, run
from collector.config import MaintenanceConfig


def test_a_short_bench_measures_both_tables() -> None:
    """Times are positive and the older table has been kept small by expiry and merge."""
    result = run(flushes=30, rows=2, maintenance=MaintenanceConfig(8, 0, 8))
    assert result.early_ms > 0
    assert result.late_ms > 0
    assert result.snapshots <= 8
    assert result.manifests <= 9


def test_the_command_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m collector.bench_commit`` says both times and their ratio."""
    assert main(["--flushes", "2", "--rows", "1"]) == 0
    assert "ratio" in capsys.readouterr().out
