"""The bench of the verifier finds what it planted, or says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from reports import bench_verify
from reports.bench_verify import PLANTED, main, make, parse_events, second_opinion, verify
from reports.errors import BadRequest


def test_a_made_table_has_the_planted_anomalies_and_no_others(tmp_path: Path) -> None:
    """By identity all but the altered ones, by content all of them; DuckDB counts the same."""
    make(tmp_path, 160_000)

    identity, _ = verify(tmp_path, content=False)
    content, _ = verify(tmp_path, content=True)

    assert {name: identity.sets[name].events for name in PLANTED} == PLANTED | {"altered": 0}
    assert {name: found.events for name, found in content.sets.items() if found.events} == PLANTED
    assert (identity.rows_ours, identity.distinct) == second_opinion(tmp_path)[:2]
    assert identity.unaccounted == 0


@pytest.mark.integration
def test_the_command_prints_both_rates_beside_duckdb(tmp_path: Path) -> None:
    """And leaves nothing behind."""
    result = CliRunner().invoke(main, ["--events", "160k", "--directory", str(tmp_path)])

    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()[1:4]] == ["identity", "content", "duckdb"]
    assert not list(tmp_path.iterdir())


def test_a_table_with_other_anomalies_than_planted_stops_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No speed is printed for a verifier that misses something."""
    monkeypatch.setattr(bench_verify, "_in_child", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(bench_verify, "make", lambda directory, events: make(directory, events + 1600))
    monkeypatch.setattr(bench_verify, "PLANTED", PLANTED | {"altered": 21})
    monkeypatch.setattr(
        bench_verify, "_verified", lambda directory, content: ({"sets": {}, "rows": 0, "distinct": 0}, 1, 1)
    )

    result = CliRunner().invoke(main, ["--events", "160k", "--directory", str(tmp_path)])

    assert result.exit_code == 255
    assert "planted" in result.output


@pytest.mark.parametrize("text", ["10", "m", "1k", "-5m", "ten"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    """One sentence, with an example."""
    with pytest.raises(BadRequest, match="such as 10m"):
        parse_events(text)
