"""Many runs: listed, compared, and watched for drift; a loss is never averaged away."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from loadtests.records.rundir import NightPart, RunDir, RunInfo
from loadtests.records.target import Contract, Ingest, Target
from reports.errors import BadRequest
from reports.history.commands import compare_command, history, trend
from reports.history.compare import compare
from reports.history.entry import FIGURES, Entry, entry_of, read_history
from reports.history.expected import span_s
from reports.history.page import history_page, trends_of
from reports.history.trend import by_chance, drift_of, integrity
from reports.verdict import EXIT_CODES, Check, Totals, Verdict, VerdictDoc, write_verdict

CPU = FIGURES[0]
DAY_S = 86_400
HOSTILE = "</script><img src=x onerror=alert(1)>"


def written(
    runs: Path,
    number: int,
    *,
    cpu_us: float | None = 10.0,
    verdict: Verdict = Verdict.PASS,
    lost: int = 0,
    scenario: str = "nightly",
    began_s: float | None = None,
    cpus: int = 2,
    headline: str = "all there",
    expect: Verdict | None = None,
    night: NightPart | None = None,
) -> Path:
    """One finished run; nights are a day apart, the last one (100) today."""
    began = time.time() - (100 - number) * DAY_S if began_s is None else began_s
    info = RunInfo(
        run_id=f"run{number:05}",
        scenario=scenario,
        target="mine",
        seed=1,
        stack="seaweedfs",
        environment={"system": "Linux", "machine": "x86_64", "cpus": cpus, "memory_bytes": 2**33},
        started_unix_ns=int(began * 1e9),
        versions={"pyiceberg": "0.12.0"},
        expect=None if expect is None else expect.value,
        night=night,
    )
    target = Target(name="mine", ingest=Ingest(url="http://127.0.0.1:1/events"), contract=Contract())
    run = RunDir.create(runs, info, scenario_text="name: nightly\n", target=target)
    sections: dict[str, dict[str, Any]] = {"capacity": {"cost": {"calibrated_cpu_us_per_event": cpu_us}}}
    checks = [Check(id="events.lost", verdict=verdict, claim="c")]
    write_verdict(
        run.verdict,
        VerdictDoc(
            run_id=info.run_id, scenario=scenario, target="mine", seed=1, verdict=verdict, exit_code=EXIT_CODES[verdict],
            started_unix_ns=info.started_unix_ns, duration_s=60, first_screen=[f"{verdict}  x", headline], totals=Totals(lost=lost),
            sections=sections, checks=checks,
        ),
    )  # fmt: skip
    return run.root


def nights(count: int, noise: float, seed: int, slower_from: int | None = None) -> list[Entry]:
    chance = random.Random(seed)
    values = [
        10 * (1 + chance.gauss(0, noise)) * (1.1 if slower_from is not None and night >= slower_from else 1)
        for night in range(count)
    ]
    return [
        Entry(Path(), f"r{i}", "s", "t", "", 0, i, 1.0, Verdict.PASS, "", "f", figures={CPU.name: value})
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_a_planted_slowdown_of_a_tenth_is_found_within_two_nights(seed: int) -> None:
    """With two per cent of noise; the night it began is named."""
    drift = drift_of(CPU, nights(22, 0.015, seed, slower_from=20))
    assert (drift.worse, drift.since) == (True, "r20")


@pytest.mark.parametrize("seed", range(40))
def test_twenty_noisy_nights_stay_silent(seed: int) -> None:
    """Judged after every one of them."""
    history = nights(30, 0.015, seed)
    assert not any(drift_of(CPU, history[:night]).worse for night in range(10, 31))


def whole_nights(count: int, seed: int, slower_from: int | None = None) -> list[Entry]:
    """Thirteen scenarios a night, each with every figure; CPU has two per cent of noise, half of it the night's own."""
    chance, history = random.Random(seed), list[Entry]()
    for night in range(count):
        slower = 1.1 if slower_from is not None and night >= slower_from else 1.0
        of_night = 1 + chance.gauss(0, 0.014)
        for scenario in range(13):
            figures = {figure.name: 10 * (1 + chance.gauss(0, figure.floor / 4)) for figure in FIGURES}
            figures[CPU.name] = 10 * of_night * (1 + chance.gauss(0, 0.014)) * slower
            entry = Entry(
                Path(),
                f"r{night}-{scenario}",
                f"s{scenario}",
                "t",
                "",
                0,
                night,
                1.0,
                Verdict.PASS,
                "",
                "f",
                figures=figures,
            )
            history.append(entry)
    return history


@pytest.mark.parametrize("seed", range(6))
def test_twenty_whole_nights_stay_silent_and_a_tenth_is_found_within_two(seed: int) -> None:
    """Ninety-one figures a night are ninety-one chances to cry wolf; the slowdown is one of CPU, and nothing else is called."""
    history = whole_nights(30, seed)
    for night in range(10, 31):
        assert not any(one.drift.worse for one in trends_of(history[: night * 13]))
    called = [one.drift for one in trends_of(whole_nights(32, seed, slower_from=30)) if one.drift.worse]
    assert {drift.figure for drift in called} == {CPU}
    assert all(drift.since is not None and drift.since.startswith("r30-") for drift in called)


def test_what_is_due_to_chance_grows_with_the_figures_and_shrinks_with_the_nights() -> None:
    """By Student's quantiles: 3.174 for 19 degrees of freedom and one in 400, 4.317 for six."""
    assert by_chance(20, 1) == pytest.approx(3.174 * (1 / 2 + 1 / 20) ** 0.5, rel=0.01)
    assert by_chance(7, 1) == pytest.approx(4.317 * (1 / 2 + 1 / 7) ** 0.5, rel=0.01)
    assert by_chance(20, 91) > by_chance(20, 7) > by_chance(20, 1)


def test_one_bad_night_is_not_a_trend() -> None:
    """Two in a row are."""
    history = nights(20, 0.01, 1)
    bad = nights(1, 0, 1, slower_from=0)[0]
    worst = Entry(**{**bad.__dict__, "figures": {CPU.name: 15.0}})
    assert drift_of(CPU, [*history, worst]).worse is False
    assert drift_of(CPU, [*history, worst, worst]).worse is True


def test_getting_faster_is_not_a_regression() -> None:
    """For a figure of which more is worse."""
    history = nights(20, 0.01, 1)
    fast = Entry(**{**history[-1].__dict__, "figures": {CPU.name: 5.0}})
    assert drift_of(CPU, [*history, fast, fast]).worse is False


def test_too_few_nights_tell_nothing() -> None:
    """Neither worse nor as usual."""
    assert drift_of(CPU, nights(6, 0.01, 1)).worse is None


def test_runs_of_different_machines_are_not_of_one_kind(tmp_path: Path) -> None:
    """More processors: another fingerprint, no trend across."""
    for number in range(90, 94):
        written(tmp_path, number, cpus=2 if number % 2 else 64)
    assert len({entry.kind for entry in read_history(tmp_path)}) == 2


def test_a_half_written_run_is_listed_with_its_reason(tmp_path: Path) -> None:
    """It neither hides nor stops the others."""
    written(tmp_path, 99)
    (written(tmp_path, 100) / "verdict.json").unlink()
    broken = written(tmp_path, 98)
    (broken / "run.json").write_text("{")
    found = {entry.run_id: entry.problem for entry in read_history(tmp_path)}
    assert found["run00099"] is None
    assert "no verdict" in str(found["run00100"])
    assert any(problem and "run.json" in problem for problem in found.values())


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    """Files, links and other directories."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "x.txt").write_text("")
    assert read_history(tmp_path) == []
    assert entry_of(tmp_path / "notes") is None


def test_a_loss_is_never_averaged_away(tmp_path: Path) -> None:
    """Nineteen good nights and one with three lost events: the command exits 1 and names it."""
    for number in range(80, 100):
        written(tmp_path, number)
    written(tmp_path, 100, verdict=Verdict.FAIL, lost=3, headline="3 events are missing")
    assert [entry.run_id for entry in integrity(read_history(tmp_path))] == ["run00100"]
    done = CliRunner().invoke(trend, ["--runs", str(tmp_path)])
    assert done.exit_code == 1
    assert "3 events are missing" in done.output


def test_a_loss_is_not_hidden_by_runs_of_other_kinds(tmp_path: Path) -> None:
    """A night has many scenarios: the lost events of the first are said although thirteen others passed after it."""
    written(tmp_path, 80, verdict=Verdict.FAIL, lost=3, headline="3 events are missing", scenario="control")
    for number in range(81, 94):
        written(tmp_path, number, scenario=f"other-{number}")
    done = CliRunner().invoke(trend, ["--runs", str(tmp_path)])
    assert done.exit_code == 1
    assert "control on mine, failed: 3 events are missing" in done.output


def test_runs_that_prove_nothing_are_in_no_trend(tmp_path: Path) -> None:
    """Two inconclusive nights that were twice as slow are no regression; neither is a naive target that got slower."""
    for number in range(80, 99):
        written(tmp_path, number)
        written(tmp_path, number, scenario="naive", verdict=Verdict.FAIL, expect=Verdict.FAIL)
    for number in (99, 100):
        written(tmp_path, number, cpu_us=20.0, verdict=Verdict.INCONCLUSIVE)
        written(tmp_path, number, cpu_us=20.0, scenario="naive", verdict=Verdict.FAIL, expect=Verdict.FAIL)
    found = trends_of(read_history(tmp_path))
    assert [(one.kind[0], one.drift.worse, len(one.drift.values)) for one in found] == [("nightly", False, 19)]


def test_a_target_that_had_to_fail_is_no_failure_unless_it_passed(tmp_path: Path) -> None:
    """The naive target of every night neither stands among the failures nor fails the trend; one that passes does both."""
    for number in range(90, 100):
        written(tmp_path, number)
        written(tmp_path, number, verdict=Verdict.FAIL, lost=3, expect=Verdict.FAIL, scenario="naive")
    assert integrity(read_history(tmp_path)) == []
    assert CliRunner().invoke(trend, ["--runs", str(tmp_path)]).exit_code == 0
    shown = CliRunner().invoke(history, ["--runs", str(tmp_path)]).output
    assert "FAIL (expected)" in shown
    found = read_history(tmp_path)
    assert "Failures" not in history_page(found, trends_of(found), "all")

    written(tmp_path, 100, verdict=Verdict.PASS, expect=Verdict.FAIL, scenario="naive")
    done = CliRunner().invoke(trend, ["--runs", str(tmp_path)])
    assert done.exit_code == 1
    assert "passed, and had to fail" in done.output
    found = read_history(tmp_path)
    assert "Failures" in history_page(found, trends_of(found), "all")


@pytest.mark.parametrize(("cpu_us", "code"), [((10.0, 10.1), 0), ((11.5, 11.6), 1)])
def test_trend_exits_by_what_it_found(tmp_path: Path, cpu_us: Sequence[float], code: int) -> None:
    """0 as usual, 1 a regression."""
    for number in range(80, 99):
        written(tmp_path, number, cpu_us=10 + number % 3 * 0.05)
    for number, value in zip((99, 100), cpu_us, strict=True):
        written(tmp_path, number, cpu_us=value)
    done = CliRunner().invoke(trend, ["--runs", str(tmp_path)])
    assert done.exit_code == code, done.output
    assert ("REGRESSION" in done.output) is (code == 1)


def test_a_pinned_baseline_outlives_slow_drift(tmp_path: Path) -> None:
    """Half a per cent a night hides from the nights before it, not from the pinned ones."""
    for number in range(70, 80):
        written(tmp_path, number)
    pinned = CliRunner().invoke(trend, ["--runs", str(tmp_path), "--pin", "good"])
    assert pinned.exit_code == 0, pinned.output
    for number in range(80, 101):
        written(tmp_path, number, cpu_us=10 * 1.005 ** (number - 79))
    assert CliRunner().invoke(trend, ["--runs", str(tmp_path)]).exit_code == 1
    (tmp_path / "baselines.json").unlink()
    assert CliRunner().invoke(trend, ["--runs", str(tmp_path)]).exit_code == 0


def test_a_baseline_of_too_few_nights_is_refused(tmp_path: Path) -> None:
    """With a sentence."""
    written(tmp_path, 100)
    done = CliRunner().invoke(trend, ["--runs", str(tmp_path), "--pin", "good"])
    assert done.exit_code == 254
    assert "needs 7 passed runs" in done.output


def test_a_nightly_that_did_not_run_is_noticed(tmp_path: Path) -> None:
    """Not within 26 hours: exit 1; a run without a verdict does not count."""
    ask = ["--runs", str(tmp_path), "--expect-within", "26h"]
    assert CliRunner().invoke(history, ask).exit_code == 1
    written(tmp_path, 1, began_s=time.time() - 30 * 3600)
    (written(tmp_path, 2, began_s=time.time() - 3600) / "verdict.json").unlink()
    old = CliRunner().invoke(history, ask)
    assert old.exit_code == 1
    assert "the newest is" in old.output
    written(tmp_path, 3, began_s=time.time() - 3600)
    assert CliRunner().invoke(history, ask).exit_code == 0


def part(number: int, night: str = "n1") -> NightPart:
    return NightPart(preset="nightly", night=night, number=number, of=3)


def test_a_night_that_broke_off_is_noticed(tmp_path: Path) -> None:
    """Two of three runs, and runs that somebody made by hand, are no night; the third makes it one."""
    ask = ["--runs", str(tmp_path), "--preset", "nightly", "--expect-within", "26h"]
    written(tmp_path, 1, began_s=time.time() - 60)
    none = CliRunner().invoke(history, ask)
    assert (none.exit_code, "there is none" in none.output) == (1, True)
    for number in (1, 2):
        written(tmp_path, 10 + number, began_s=time.time() - 3600, night=part(number))
    broken_off = CliRunner().invoke(history, ask)
    assert broken_off.exit_code == 1
    assert "2 of 3 runs have a verdict" in broken_off.output
    for number in (1, 2, 3):
        written(tmp_path, 20 + number, began_s=time.time() - 30 * 3600, night=part(number, "n0"))
    assert CliRunner().invoke(history, ask).exit_code == 1
    (written(tmp_path, 13, began_s=time.time() - 3500, night=part(3)) / "verdict.json").rename(tmp_path / "kept")
    assert CliRunner().invoke(history, ask).exit_code == 1
    next(tmp_path.glob("*run00013")).joinpath("verdict.json").write_bytes((tmp_path / "kept").read_bytes())
    assert CliRunner().invoke(history, ask).exit_code == 0
    assert CliRunner().invoke(history, [*ask, "--scenario", "no-such"]).exit_code == 1


@pytest.mark.parametrize(("text", "seconds"), [("26h", 93_600), ("90m", 5_400), ("2d", 172_800)])
def test_spans_are_read(text: str, seconds: float) -> None:
    """Minutes, hours, days."""
    assert span_s(text) == seconds


def test_a_bad_span_gets_one_sentence() -> None:
    """What, and what to write instead."""
    with pytest.raises(BadRequest, match="26h, 90m or 2d"):
        span_s("soon")


def test_two_runs_are_compared(tmp_path: Path) -> None:
    """Figures with their change; newly failed checks decide the exit code; other machines are a caution."""
    a, b = written(tmp_path, 99), written(tmp_path, 100, cpu_us=12.0, verdict=Verdict.FAIL, cpus=8)
    done = CliRunner().invoke(compare_command, [str(a), str(b)])
    assert done.exit_code == 1
    assert "+20.0%" in done.output
    assert "B fails events.lost, which A passed" in done.output
    assert "different machines" in done.output
    first, second = entry_of(a), entry_of(b)
    assert first is not None
    assert second is not None
    assert compare(first, first).newly_failed == []


def test_the_page_shows_runs_and_trends_and_escapes_them(tmp_path: Path) -> None:
    """Hostile names stay text; a run that failed stands on top."""
    for number in range(90, 100):
        written(tmp_path, number)
    written(tmp_path, 100, verdict=Verdict.FAIL, lost=1, headline=HOSTILE, scenario="nightly")
    found = read_history(tmp_path)
    page = history_page(found, trends_of(found), "All of them")
    assert HOSTILE not in page
    assert page.index("Failures") < page.index("Trends")
    assert "run00095" in page
    assert len(page) < 2_000_000


def test_history_is_listed_in_lines_and_in_json(tmp_path: Path) -> None:
    """Newest last; filtered by scenario."""
    written(tmp_path, 99)
    written(tmp_path, 100, scenario="soak")
    shown = CliRunner().invoke(history, ["--runs", str(tmp_path), "--scenario", "soak"])
    assert shown.exit_code == 0
    assert "run00100" in shown.output
    assert "run00099" not in shown.output
    rows = msgspec.json.decode(CliRunner().invoke(history, ["--runs", str(tmp_path), "--json"]).output)
    assert [row["run_id"] for row in rows] == ["run00099", "run00100"]
