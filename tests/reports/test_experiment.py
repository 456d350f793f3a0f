"""Experiments over a pipeline whose truth is known: the search finds it, the prediction holds, and a loss is never a success."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli import run_command
from chaos.errors import BadInput
from reports.experiment.ab import alternate
from reports.experiment.answers import ab_answer, capacity_answer, survival_answer, sweep_answer
from reports.experiment.ask import numbers_of, pairs_of
from reports.experiment.capacity import Trial, find_capacity, interval
from reports.experiment.commands import experiment
from reports.experiment.lab import Outcome, Point
from reports.experiment.progress import begin_line, end_line
from reports.experiment.survival import Buffer, Measured, Survival, measure_survival
from reports.experiment.sweep import Cell, Goals, Recommendation, Setting, pareto, recommend, sweep
from reports.experiment.write import write_answer
from reports.verdict import Verdict

TRIAL = Trial()
HOSTILE = "</script><img src=x onerror=alert(1)>"


def outcome(point: Point, **more: object) -> Outcome:
    """A clean run."""
    plain = Outcome(
        point=point, run_id="r1", verdict=Verdict.PASS, offered_events_per_s=point.events_per_s, seconds=10, acked=1000, wrong=0,
        unknown=0, refused_requests=0, late=0, behind=False,
    )  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


class Pipeline:
    """A target that refuses above a rate, with noise, and a generator that gives up above another."""

    def __init__(self, capacity: float, *, noise: float = 0.0, generator: float = 1e9, loses: bool = False) -> None:
        self.capacity, self.generator, self.loses = capacity, generator, loses
        self.noise, self.chance = noise, random.Random(1)
        self.made: list[Point] = []

    def run(self, point: Point) -> Outcome:
        self.made.append(point)
        if point.events_per_s > self.generator:
            return outcome(point, behind=True, verdict=Verdict.INCONCLUSIVE)
        if point.events_per_s <= self.capacity * (1 + self.chance.gauss(0, self.noise)):
            return outcome(point)
        lost = {"wrong": 5, "verdict": Verdict.FAIL} if self.loses else {}
        return outcome(point, refused_requests=10, **lost)


def test_capacity_is_found_within_its_precision() -> None:
    """By doubling, then bisection; the answer is a rate that was clean."""
    found = find_capacity(Pipeline(7_300).run, TRIAL, precision=0.05)
    assert found.events_per_s is not None
    assert 7_300 / 1.06 <= found.events_per_s <= 7_300
    assert len(found.found) == 3


def test_a_noisy_capacity_has_an_interval_around_it() -> None:
    """Three searches."""
    found = find_capacity(Pipeline(7_300, noise=0.05).run, TRIAL, precision=0.05)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 7_300 <= found.high * 1.1
    assert "95 % interval" in found.sentence()


def test_the_generators_limit_is_not_the_targets() -> None:
    """The search ends, and says so."""
    found = find_capacity(Pipeline(1e9, generator=5_000).run, TRIAL)
    assert (found.events_per_s, found.generator_limit_events_per_s) == (4_000, 8_000)
    assert "the generator could not offer 8,000" in found.sentence()


def test_a_target_that_is_never_clean_has_no_capacity() -> None:
    """Exit 2: not answered."""
    found = find_capacity(Pipeline(10).run, TRIAL)
    assert found.events_per_s is None
    assert capacity_answer(found, TRIAL).exit_code == 2


def test_overload_that_loses_is_wrong_whatever_the_rate() -> None:
    """Exit 1, and the runs are named."""
    answer = capacity_answer(find_capacity(Pipeline(7_300, loses=True).run, TRIAL), TRIAL)
    assert answer.exit_code == 1
    assert any("overload must refuse, not lose" in note for note in answer.notes)


def test_an_empty_run_is_not_clean() -> None:
    """Nothing acknowledged proves nothing; neither do unanswered, late or refused events."""
    point = Point(100)
    assert outcome(point).clean
    for more in (
        {"acked": 0},
        {"unknown": 1},
        {"late": 1},
        {"refused_requests": 1},
        {"wrong": 1},
        {"verdict": Verdict.INCONCLUSIVE},
    ):
        assert not outcome(point, **more).clean


def test_one_search_has_no_interval() -> None:
    """Nor is one invented."""
    assert interval([5.0]) == (None, None)


# --- survival

BUFFER = Buffer(2000, 0.5, 1.0, 1 / 3)


class Outage:
    """A buffer whose first refusal comes when it should, times *late*."""

    def __init__(self, late: float = 1.0, wrong: int = 0) -> None:
        self.late, self.wrong = late, wrong

    def run(self, point: Point) -> Outcome:
        outage_s = float(point.steps[0]["for_s"])
        at_s = BUFFER.survives_s(point.events_per_s) * self.late
        refused = outage_s > at_s
        return outcome(point, first_refusal_s=at_s if refused else None, drained_s=4.0, wrong=self.wrong)


def test_survival_is_predicted_and_proven() -> None:
    """One outage that is too long and one that is not, at each rate."""
    found = measure_survival(Outage(1.1).run, BUFFER, [200, 600])
    assert len(found.measured) == 4
    assert (found.proven, found.lossless) == (True, True)
    assert survival_answer(found, 420, 600).exit_code == 0


def test_a_wrong_prediction_is_said_to_be() -> None:
    """The buffer held half as long."""
    found = measure_survival(Outage(0.5).run, BUFFER, [200])
    assert not found.proven
    answer = survival_answer(found, 200, 600)
    assert answer.exit_code == 1
    assert "differ" in answer.sentence


def test_a_refusal_that_was_not_predicted_is_no_agreement() -> None:
    """The short outage was to be held."""
    assert not Measured(outcome(Point(200), first_refusal_s=3.0, refused_requests=1), 5.0, None, None).agrees
    assert not Measured(outcome(Point(200), refused_requests=1), 5.0, None, None).agrees
    assert Measured(outcome(Point(200)), 5.0, None, None).agrees
    assert not Survival(BUFFER, []).proven


def test_an_outage_that_loses_is_wrong() -> None:
    """However well it was predicted."""
    assert survival_answer(measure_survival(Outage(wrong=3).run, BUFFER, [200]), 200, 600).exit_code == 1


def test_the_sentence_gives_the_capacity_for_ten_minutes() -> None:
    """Rate times share times length, and the half flush before it."""
    sentence = measure_survival(Outage().run, BUFFER, [420]).sentence(420)
    assert "ICEBERG_BUFFER_SIZE=84100" in sentence
    assert "10 minutes" in sentence


# --- sweep


def cell(size: int, timeout_ms: int, freshness_s: float, files: int, rss: float = 1e8, **more: object) -> Cell:
    done = outcome(Point(100), freshness_p99_s=freshness_s, files=files, seconds=60, rss_max_bytes=rss, **more)
    return Cell(Setting(size, timeout_ms), 0, done)


def test_every_combination_is_run() -> None:
    """A latency of zero is no fault."""
    points: list[Point] = []

    def run(point: Point) -> Outcome:
        points.append(point)
        return outcome(point)

    assert len(sweep(run, [500, 2000], [500], [0, 300], events_per_s=100)) == 4
    assert [len(point.steps) for point in points] == [0, 1, 0, 1]


def test_the_front_has_what_nothing_beats() -> None:
    """Fresher with more files, staler with fewer; not what is both staler and has more, nor what failed."""
    fresh, lazy, silly = cell(500, 500, 1, 60), cell(2000, 8000, 9, 6), cell(500, 8000, 10, 70)
    broken = cell(9, 9, 0.1, 1, verdict=Verdict.FAIL, wrong=1)
    full = cell(9, 9, 0.1, 1, refused_requests=1)
    assert pareto([fresh, lazy, silly, broken, full]) == [fresh, lazy]


def test_noise_puts_nothing_on_the_front() -> None:
    """A little less memory is none; and a setting is only compared at one R2 latency, which nobody can choose."""
    fresh, same_but_stale = cell(500, 500, 1, 60, rss=1.02e8), cell(500, 8000, 9, 60, rss=1e8)
    slow = replace(same_but_stale, r2_latency_ms=300)
    assert pareto([fresh, same_but_stale, slow]) == [fresh, slow]


def test_the_recommendation_meets_the_goals_with_the_fewest_files() -> None:
    """And is larger than any that was measured where the outage demands it."""
    cells = [cell(500, 500, 1, 60), cell(2000, 2000, 3, 20), cell(2000, 8000, 9, 6)]
    advice = recommend(cells, Goals(freshness_s=5), events_per_s=300, hottest_share=1 / 3)
    assert advice is not None
    assert advice.setting == Setting(2000, 2000)
    long = recommend(cells, Goals(freshness_s=5, outage_s=600), events_per_s=300, hottest_share=1 / 3)
    assert long is not None
    assert long.setting == Setting(60_200, 2000)
    assert "60,200 events of 64 KiB are 11,288 MiB: more than the 128 MiB of a Worker isolate" in long.warnings[0]
    assert json.loads(long.setting.wrangler())["vars"]["ICEBERG_BUFFER_SIZE"] == "60200"


def test_goals_that_nothing_meets_are_not_answered() -> None:
    """Exit 2; a recommendation that does not hold when it is run is exit 1."""
    cells = [cell(500, 500, 1, 60)]
    assert recommend(cells, Goals(freshness_s=0.5), events_per_s=1, hottest_share=1) is None
    assert sweep_answer(cells, Goals(freshness_s=0.5), None, None).exit_code == 2
    advice = Recommendation(Setting(500, 500), "it is the only one")
    failed, held = cell(500, 500, 1, 60, verdict=Verdict.FAIL), cell(500, 500, 1, 60)
    assert sweep_answer(cells, Goals(), advice, failed).exit_code == 1
    assert sweep_answer(cells, Goals(), advice, held).exit_code == 0
    assert sweep_answer(cells, Goals(files_per_minute=59), advice, held).exit_code == 1


# --- ab


class Two:
    """B is *factor* times slower than A, with noise and drift."""

    def __init__(self, factor: float) -> None:
        self.factor, self.chance, self.made = factor, random.Random(3), 0

    def run(self, point: Point) -> Outcome:
        self.made += 1
        latency = 10 * (1 + 0.02 * self.made) * (1 + self.chance.gauss(0, 0.03)) * (self.factor if point.env else 1)
        return outcome(point, latency_p99_ms=latency)


@pytest.mark.parametrize(("factor", "real"), [(1.0, False), (1.5, True)])
def test_a_difference_is_told_from_noise_and_drift(factor: float, real: bool) -> None:
    """The machine gets slower all the time; pairs alternate."""
    found = alternate(Two(factor).run, Point(100), Point(100, env={"X": "1"}), 8)
    latency = next(d for d in found.differences if d.figure == "latency_p99_ms")
    assert latency.real is real
    assert latency.change == pytest.approx(factor - 1, abs=0.06)


def test_too_few_pairs_have_no_interval() -> None:
    """Five."""
    found = alternate(Two(3.0).run, Point(100), Point(100, env={"X": "1"}), 5)
    assert not any(d.real for d in found.differences)


def test_no_speed_makes_up_for_a_failed_run() -> None:
    """Exit 1, and the run is named."""

    def run(point: Point) -> Outcome:
        return outcome(point, verdict=Verdict.FAIL if point.env else Verdict.PASS)

    answer = ab_answer(alternate(run, Point(1), Point(1, env={"X": "1"}), 1), {}, {"X": "1"})
    assert answer.exit_code == 1
    assert "B: run r1 is FAIL" in answer.notes


# --- what is kept, and the command line


def test_an_answer_is_kept_as_json_markdown_and_a_page_that_escapes(tmp_path: Path) -> None:
    """With its further files."""
    cells = [cell(500, 500, 1, 60)]
    answer = sweep_answer(cells, Goals(), Recommendation(Setting(500, 500), HOSTILE), None)
    paths = {path.name: path for path in write_answer(answer, tmp_path, ("icequake", "experiment", HOSTILE))}
    assert set(paths) == {"answer.json", "answer.md", "answer.html", "wrangler.jsonc", "buffer.env"}
    assert HOSTILE not in paths["answer.html"].read_text()
    assert "\nICEBERG_BUFFER_SIZE=500\nICEBERG_BUFFER_TIMEOUT_MS=500\n</pre>" in paths["answer.html"].read_text()
    assert json.loads(paths["answer.json"].read_text())["exit_code"] == 0
    assert paths["buffer.env"].read_text() == "ICEBERG_BUFFER_SIZE=500\nICEBERG_BUFFER_TIMEOUT_MS=500\n"


def test_every_question_has_a_text_and_a_page(tmp_path: Path) -> None:
    """Tables line up, charts are drawn."""
    answers = [
        capacity_answer(find_capacity(Pipeline(7_300).run, TRIAL), TRIAL),
        survival_answer(measure_survival(Outage().run, BUFFER, [200]), 200, 600),
        ab_answer(alternate(Two(2.0).run, Point(1), Point(1, env={"X": "1"}), 6), {}, {"X": "1"}),
    ]
    for answer in answers:
        assert answer.sentence in answer.text()
        assert len(write_answer(answer, tmp_path, ("icequake",))[-1].read_text()) < 2_000_000


@pytest.mark.parametrize("text", ["x", "1,x", "-1", ""])
def test_bad_numbers_get_one_sentence(text: str) -> None:
    """What was given."""
    with pytest.raises(BadInput):
        numbers_of(text)


def test_bad_pairs_get_one_sentence() -> None:
    """NAME=VALUE."""
    assert pairs_of(("A=1", "B=x=y")) == {"A": "1", "B": "x=y"}
    with pytest.raises(BadInput, match="NAME=VALUE"):
        pairs_of(("A",))


@pytest.mark.parametrize(
    "arguments", [("ab",), ("survival", "--rates", "x"), ("capacity", "--env", "x"), ("sweep", "--sizes", "a")]
)
def test_bad_arguments_are_refused_before_anything_is_started(arguments: Sequence[str], tmp_path: Path) -> None:
    """Exit 254."""
    assert run_command(["experiment", *arguments, "--runs", str(tmp_path)]) == 254
    assert list(tmp_path.iterdir()) == []


def test_the_group_lists_its_questions() -> None:
    """Four."""
    shown = CliRunner().invoke(experiment, ["--help"]).output
    assert all(name in shown for name in ("capacity", "survival", "sweep", "ab"))


def test_progress_says_what_begins_and_what_was_not_clean() -> None:
    """One line each."""
    point = Point(400, for_s=80, env={"A": "1"}, steps=({"fault": "slow-r2", "for_s": 80, "with": {"latency_ms": 9}},))
    assert begin_line(point, 2, 9) == "run 2 of 9: 400 events/s for 80 s  A=1 [slow-r2 latency_ms=9 for 80 s]"
    assert begin_line(Point(400), 2, None) == "run 2: 400 events/s for 10 s"
    line = end_line(outcome(point, behind=True, wrong=2, refused_requests=3, late=4, unknown=5, max_fill=0.5))
    said = ("400 events/s", "generator behind", "2 wrong", "3 requests refused", "4 late", "5 unanswered", "50%")
    assert all(word in line for word in said)
    assert "clean" in end_line(outcome(point))
