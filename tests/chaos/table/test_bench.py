"""The doctor's bench: it measures a real table, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.cli import run_command
from chaos.table.bench import main, make_table


def test_the_bench_measures_a_healthy_table(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for every row read, one for footers only, each with time and memory."""
    assert main(["--files", "3", "--workers", "2", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["quick"] for one in lines] == [False, True]
    assert all(one["files"] == 3 and one["healthy"] and one["peak_mb"] > 0 for one in lines)


def test_nonsense_is_refused() -> None:
    """A table without files is not measured."""
    with pytest.raises(SystemExit):
        main(["--files", "0"])


@pytest.mark.parametrize("files", [20, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_doctor_says_nothing_about_a_healthy_table_but_that(
    files: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line: healthy, and its figures."""
    pairs = [f"--catalog-property={key}={value}" for key, value in make_table(tmp_path, files).items()]
    assert run_command(["doctor", *pairs, "--table", "bench.events"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    [line] = said.out.splitlines()
    manifests = "1 manifest" if files <= 1000 else f"{-(-files // 1000)} manifests"
    assert line.startswith(f"healthy   bench.events: 1 snapshot, {manifests}, {files:,} data files")
    assert f"{files * 10:,} rows read" in line
