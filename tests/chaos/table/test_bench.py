"""The doctor's bench: it measures a real table, in a process of its own."""

from __future__ import annotations

import json

import pytest

from chaos.table.bench import main


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
