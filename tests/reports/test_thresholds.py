"""Thresholds of a scenario: held, missed, not measured, not understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.cli import run_command
from chaos.errors import BadScenario
from chaos.scenario import load_plan, threshold_override
from loadtests.records.histogram import HistogramWriter, new_histogram, record_ns
from reports.thresholds import figure_named, threshold_checks
from reports.verdict import Verdict
from tests.histories import A, HandMadeRun, mono_ns

SECTIONS = {
    "capacity": {"latency": {"corrected": {"p99_ms": 240.0}}, "max_fill": None},
    "flush": {"freshness_p99_s": 9, "caught_up_s": 4.5},
    "totals": {"late": 0, "unknown": 3},
}


def verdicts(tmp_path: Path, text: str) -> dict[str, Verdict]:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    return {check.id: check.verdict for check in threshold_checks(path, SECTIONS)}


@pytest.mark.parametrize(
    ("threshold", "verdict"),
    [
        ("latency_p99_ms: '<= 250'", Verdict.PASS),
        ("latency_p99_ms: '<= 240'", Verdict.PASS),
        ("latency_p99_ms: '< 240'", Verdict.FAIL),
        ("latency_p99_ms: '> 240.5'", Verdict.FAIL),
        ("flush.freshness_p99_s: '== 9'", Verdict.PASS),
        ("flush.caught_up_s: '<= 30'", Verdict.PASS),
        ("flush.caught_up_s: '< 4.5'", Verdict.FAIL),
        ("totals.late: '== 0'", Verdict.PASS),
        ("totals.unknown: '== 0'", Verdict.FAIL),
        ("totals.nonesuch: '== 0'", Verdict.INCONCLUSIVE),
        ("max_fill: '< 0.9'", Verdict.INCONCLUSIVE),
        ("no.such.figure: '< 0.9'", Verdict.INCONCLUSIVE),
        ("latency_p99_ms: fast", Verdict.INCONCLUSIVE),
    ],
)
def test_each_threshold_is_a_check_of_its_own(tmp_path: Path, threshold: str, verdict: Verdict) -> None:
    """One without data is never a pass."""
    assert list(verdicts(tmp_path, f"thresholds: {{{threshold}}}").values()) == [verdict]


def test_a_scenario_without_thresholds_has_no_such_check(tmp_path: Path) -> None:
    """Nor has one that cannot be read."""
    assert verdicts(tmp_path, "name: x") == {}
    assert verdicts(tmp_path, "[") == {}
    assert threshold_checks(tmp_path / "none.yaml", SECTIONS) == []


def test_a_truth_value_is_no_figure() -> None:
    """Nor is a table."""
    assert figure_named("a", {"a": True}) is None
    assert figure_named("a", {"a": {"b": 1}}) is None


def test_a_missed_threshold_fails_the_run(tmp_path: Path) -> None:
    """With every event in its place."""
    run = HandMadeRun(tmp_path)
    run.acked(A)
    run.table(A)
    hist = HistogramWriter(run.run.hist, "locust-0", "abcd1234")
    slow = new_histogram()
    record_ns(slow, 500_000_000)
    hist.write(mono_ns(20), "corrected", slow)
    hist.close()
    run.run.scenario.write_text("name: control\nthresholds: {latency_p99_ms: '<= 250'}\n")
    verdict = run.judge()
    assert verdict.verdict is Verdict.FAIL
    assert verdict.check("threshold.latency_p99_ms").claim == "latency_p99_ms is 500.223, and had to be <= 250"


def test_a_wrong_threshold_is_told_when_the_scenario_is_read(tmp_path: Path) -> None:
    """With file and what to write."""
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nquestion: Does it?\nthresholds: {latency_p99_ms: fast}\n")
    with pytest.raises(BadScenario, match="thresholds"):
        load_plan(path)
    path.write_text("name: mine\nquestion: Does it?\n")
    assert load_plan(path, ["thresholds.latency_p99_ms=<= 250"]).scenario.thresholds == {"latency_p99_ms": "<= 250"}


def test_thresholds_of_the_command_line_join_those_of_the_scenario(tmp_path: Path) -> None:
    """Dotted names and every operator; a later one of the same name holds."""
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nquestion: Does it?\nthresholds: {max_fill: '< 0.9', latency_p99_ms: '< 1'}\n")
    given = [
        "latency_p99_ms <= 250",
        "flush.caught_up_s<30.5",
        "totals.late == 0",
        "capacity.offered_events_per_s > 10",
    ]
    assert load_plan(path, [threshold_override(text) for text in given]).scenario.thresholds == {
        "max_fill": "< 0.9",
        "latency_p99_ms": "<= 250",
        "flush.caught_up_s": "< 30.5",
        "totals.late": "== 0",
        "capacity.offered_events_per_s": "> 10",
    }
    assert load_plan(path, ["thresholds.flush.caught_up_s=<= 30"]).scenario.thresholds["flush.caught_up_s"] == "<= 30"


@pytest.mark.parametrize("text", ["latency_p99_ms", "latency_p99_ms = 5", "<= 5", "a b < 5", "latency_p99_ms < fast"])
def test_a_wrong_threshold_of_the_command_line_gets_one_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started: exit 254."""
    assert run_command(["run", "control", "--threshold", text, "--runs", str(tmp_path / "runs")]) == 254
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--threshold {text!r}: write a figure, an operator and a number" in line
    assert not (tmp_path / "runs").exists()


def test_the_totals_of_a_run_can_be_bounded(tmp_path: Path) -> None:
    """By their names in the verdict."""
    run = HandMadeRun(tmp_path)
    run.acked(A)
    run.table(A)
    run.run.scenario.write_text("name: control\nthresholds: {totals.acked: '>= 1000000', totals.lost: '== 0'}\n")
    verdict = run.judge()
    assert verdict.check("threshold.totals.lost").verdict is Verdict.PASS
    assert verdict.check("threshold.totals.acked").verdict is Verdict.FAIL
    assert verdict.check("threshold.totals.acked").evidence == ["verdict.json: totals.acked"]
