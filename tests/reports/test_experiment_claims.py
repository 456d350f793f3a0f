"""A claimed capacity is held to account; trials are as long as a slow fault needs; an experiment that is ended keeps what it has."""

from __future__ import annotations

import json
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from chaos.cli import run_command
from chaos.errors import BadInput, ChaosError
from chaos.scenario import load_plan
from loadtests.records.schema import stream_header
from reports.experiment import ask as asking
from reports.experiment.ab import MATTERS, alternate, false_alarm
from reports.experiment.answers import ab_answer, capacity_answer, unfinished_answer
from reports.experiment.ask import Options, fault_of
from reports.experiment.capacity import LONGEST_TRIAL_S, Capacity, Trial, find_capacity
from reports.experiment.claim import find_and_verify, verify
from reports.experiment.lab import Lab, Outcome, Point, mean_file_bytes
from reports.experiment.stop import Stopped, stoppable
from reports.experiment.survival import Buffer, measure_survival
from reports.experiment.write import write_answer
from reports.verdict import Verdict
from tests.histories import HandMadeRun

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "answer.json"
SIZE = 800
SHARE = 1 / 3
SLOW = Trial(10, SIZE, SHARE)


def outcome(point: Point, **more: object) -> Outcome:
    """A clean run."""
    plain = Outcome(
        point=point, run_id=f"r{point.events_per_s:g}", verdict=Verdict.PASS, offered_events_per_s=point.events_per_s, seconds=10,
        acked=1000, wrong=0, unknown=0, refused_requests=0, late=0, behind=False,
    )  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


class Leaky:
    """A buffer that drains at a rate, and refuses when the excess has filled it; a rare pause takes some of the room after a while."""

    def __init__(
        self, capacity: float, *, pause_at_s: float = 1e9, paused_share: float = 1.0, loses: bool = False
    ) -> None:
        self.capacity, self.pause_at_s, self.paused_share, self.loses = capacity, pause_at_s, paused_share, loses
        self.made: list[Point] = []

    def run(self, point: Point) -> Outcome:
        self.made.append(point)
        full_s = self._full_after(point.events_per_s)
        if full_s >= point.for_s:
            return outcome(point)
        lost = {"wrong": 3, "verdict": Verdict.FAIL} if self.loses else {}
        return outcome(point, refused_requests=7, refused_after_s=full_s, **lost)

    def _full_after(self, rate: float) -> float:
        excess = (rate - self.capacity) * SHARE
        full_s = SIZE / excess if excess > 0 else 1e9
        return min(full_s, self.pause_at_s if rate > self.capacity * self.paused_share else 1e9)


def searched(target: Leaky, trial: Trial = SLOW, precision: float = 0.05) -> Capacity:
    return find_capacity(target.run, trial, start=100, precision=precision, repeats=2)


# --- how long a trial lasts


def test_a_buffer_that_fills_slowly_is_not_taken_for_one_that_holds() -> None:
    """The excess of the last step of bisection has the time to fill it; ten seconds would find twice the capacity and more."""
    found = searched(Leaky(300))
    assert found.events_per_s is not None
    assert 300 / 1.06 <= found.events_per_s <= 300 * 1.06
    short = searched(Leaky(300), replace(SLOW, capacity_events=None))
    assert short.events_per_s is not None
    assert short.events_per_s > 500


def test_a_trial_lasts_until_the_excess_has_filled_an_empty_buffer() -> None:
    """Size over what the fullest buffer gains too much; never shorter than asked for, never longer than ten minutes."""
    assert SLOW.seconds(400, 0.05) == 120
    assert SLOW.seconds(100_000, 0.05) == 10
    assert SLOW.seconds(1, 0.05) == LONGEST_TRIAL_S
    assert replace(SLOW, least_s=900).seconds(1, 0.05) == 900
    assert replace(SLOW, capacity_events=None).seconds(1, 0.05) == 10


def test_a_ramp_that_was_too_quick_is_tried_again_at_length() -> None:
    """Its last clean rate is no answer before it was clean for as long as a trial lasts."""

    def run(point: Point) -> Outcome:
        return outcome(point, refused_requests=int(point.events_per_s > 90 and point.for_s > 20))

    found = find_capacity(run, Trial(10, 1000, 1.0), start=50, highest=400, precision=0.05, repeats=1)
    assert found.events_per_s is not None
    assert found.events_per_s <= 90


def test_a_run_that_tells_nothing_is_made_again() -> None:
    """A generator that was behind once does not lower the answer."""

    class Busy(Leaky):
        def run(self, point: Point) -> Outcome:
            done = super().run(point)
            again = sum(1 for made in self.made if made == point) > 1
            hiccup = len(self.made) % 3 == 0 and not again and not done.refused_requests
            return replace(done, behind=True, verdict=Verdict.INCONCLUSIVE) if hiccup and point.repeat else done

    found = searched(Busy(300))
    assert found.events_per_s is not None
    assert found.events_per_s == pytest.approx(300, rel=0.07)


def test_a_search_that_ends_at_its_highest_rate_says_so() -> None:
    """Not that it found a limit."""
    found = find_capacity(Leaky(1e6).run, SLOW, start=100, highest=400)
    assert (found.events_per_s, found.highest_events_per_s) == (400, 400)
    assert found.sentence() == "At least 400 events/s: nothing above 400 was to be tried (--highest)."


def test_the_interval_holds_the_capacity_and_no_two_searches_try_the_same_rates() -> None:
    """A target without noise too: it reaches from what was clean to what was not."""
    target = Leaky(300)
    found = find_capacity(target.run, SLOW, start=100, precision=0.1, repeats=3)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 300 < found.high
    rates = [point.events_per_s for point in target.made if point.repeat]
    assert len(set(rates)) == len(rates)


# --- the claim


def test_a_right_claim_holds() -> None:
    """95 % of it for ten minutes is clean, 110 % is refused."""
    done = verify(Leaky(300).run, SLOW, 300)
    assert done.holds
    assert [round(o.point.events_per_s) for o in done.outcomes] == [285, 330]
    assert [o.point.for_s for o in done.outcomes] == [600, 146]
    assert "95% of it (285 events/s) for 10 minutes was clean; 110% (330 events/s) for 2.4 minutes" in done.sentence()
    assert capacity_answer(None, SLOW, done).exit_code == 0


@pytest.mark.parametrize(
    ("claim", "said"), [(330, "was not: 7 requests refused"), (250, "never refused: the capacity is higher")]
)
def test_a_wrong_claim_does_not(claim: float, said: str) -> None:
    """Too high, too low."""
    done = verify(Leaky(300).run, SLOW, claim)
    assert not done.holds
    answer = capacity_answer(None, SLOW, done)
    assert answer.exit_code == 1
    assert "does not hold" in answer.sentence
    assert said in answer.sentence


def test_a_claim_above_which_events_are_lost_does_not_hold() -> None:
    """To refuse is right, to lose never."""
    done = verify(Leaky(300, loses=True).run, SLOW, 300)
    assert not done.above_refuses
    assert capacity_answer(None, SLOW, done).exit_code == 1


def test_a_claim_that_was_not_really_tried_is_not_answered() -> None:
    """The generator was behind: exit 2, neither held nor refuted."""
    done = verify(lambda p: outcome(p, behind=True, verdict=Verdict.INCONCLUSIVE), SLOW, 300)
    assert "could not be verified" in done.sentence()
    assert capacity_answer(None, SLOW, done).exit_code == 2


def test_work_that_comes_round_seldom_lowers_the_claim_to_what_holds() -> None:
    """Ten minutes refute what two found; the search is made again with trials that see it, and its answer holds."""
    target = Leaky(300, pause_at_s=250, paused_share=0.7)
    made = find_and_verify(
        target.run, SLOW, lambda how, first: find_capacity(target.run, how, start=first or 100, precision=0.05, repeats=2), for_s=600
    )  # fmt: skip
    assert made.refuted is not None
    assert made.found.events_per_s == pytest.approx(210, rel=0.06)
    assert made.verified is not None
    assert made.verified.holds
    answer = capacity_answer(made.found, SLOW, made.verified, made.refuted)
    assert answer.exit_code == 0
    assert any("So the search was made again." in note for note in answer.notes)


# --- survival: when it has drained


class Backoff:
    """A buffer that drains at 5,000 events/s, from an attempt some time after the heal."""

    buffer = Buffer(2000, 0.5, 1.0, SHARE)

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s

    def run(self, point: Point) -> Outcome:
        outage_s, survives_s = float(point.steps[0]["for_s"]), self.buffer.survives_s(point.events_per_s)
        backlog = point.events_per_s * min(outage_s, survives_s)
        return outcome(
            point, first_refusal_s=survives_s if outage_s > survives_s else None, resumed_s=self.wait_s,
            drained_s=self.wait_s + backlog / (5000 - point.events_per_s),
        )  # fmt: skip


@pytest.mark.parametrize(("wait_s", "in_time"), [(0.0, True), (9.9, True), (14.0, False)])
def test_draining_begins_within_the_retry_cap(wait_s: float, in_time: bool) -> None:
    """And the bandwidth is that of the draining, whatever was waited before."""
    found = measure_survival(Backoff(wait_s).run, Backoff.buffer, [200, 600])
    assert found.bandwidth_events_per_s == pytest.approx(5000, rel=0.05)
    assert [m.drained_in_time for m in found.measured] == [None, in_time, in_time, in_time]
    assert found.proven


# --- ab: a difference that matters


def test_a_difference_that_is_too_small_to_matter_is_none() -> None:
    """However steady it is."""
    chance = random.Random(1)

    def run(point: Point) -> Outcome:
        return outcome(point, latency_p99_ms=(103 if point.env else 100) * (1 + chance.gauss(0, 0.001)))

    found = alternate(run, Point(1), Point(1, env={"X": "1"}), 6)
    assert found.differences[0].low is not None
    assert 0 < found.differences[0].low < MATTERS
    assert not found.differences[0].real


def test_the_noise_of_an_answer_is_told() -> None:
    """Six pairs: one in 32."""
    assert false_alarm(5) is None
    assert false_alarm(6) == 1 / 32
    same = Point(1, env={"X": "1"})
    answer = ab_answer(alternate(lambda p: outcome(p, latency_p99_ms=5.0), same, same, 6), same.env, same.env)
    assert answer.sentence == "No difference that 6 pairs can show."
    assert any("3% of all comparisons" in note for note in answer.notes)


# --- what is kept


def test_answer_json_is_as_its_schema_says(tmp_path: Path) -> None:
    """With the figures of every run."""
    done = verify(Leaky(300).run, SLOW, 300)
    answer = replace(capacity_answer(None, SLOW, done), outcomes=done.outcomes)
    document = json.loads(write_answer(answer, tmp_path, ("icequake",))[0].read_text())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert document["schema"] == "icequake.answer/1.0"
    assert document["data"]["claim_holds"] is True
    assert [run["point"]["events_per_s"] for run in document["outcomes"]] == [285, 330]


def test_the_size_of_a_file_is_that_of_its_parts(tmp_path: Path) -> None:
    """As the gateway saw them stored; what was refused is no file."""
    run = HandMadeRun(tmp_path).run
    assert mean_file_bytes(run) is None
    put = {"verb": "PUT", "object": "data-file", "status": 200}
    lines = [
        stream_header("gateway", "abcd1234"),
        {**put, "path": "/b/one.parquet?partNumber=1", "request_bytes": 5000},
        {**put, "path": "/b/one.parquet?partNumber=2", "request_bytes": 1000},
        {**put, "path": "/b/two.parquet", "request_bytes": 2000},
        {**put, "path": "/b/three.parquet", "request_bytes": 9000, "status": 503},
        {**put, "path": "/b/m0.avro", "object": "manifest", "request_bytes": 9000},
    ]
    run.gateway_log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert mean_file_bytes(run) == 4000


def test_an_unfinished_answer_concludes_nothing() -> None:
    """But shows what was measured."""
    answer = unfinished_answer("capacity", "stopped (SIGINT was received)", [outcome(Point(200))])
    assert answer.exit_code == 2
    assert answer.sentence == "Not answered: stopped (SIGINT was received), after 1 run."
    assert "clean so far: up to 200 events/s" in answer.notes
    assert "r200" in answer.text()
    assert unfinished_answer("ab", "stopped", []).grids == []


class _NoStack:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [(Stopped("`icequake halt` asked for it"), 2, "stopped (`icequake halt` asked for it), after 1 run"),
     (ChaosError("the catalog died."), 255, "icequake failed: the catalog died, after 1 run")],
)  # fmt: skip
def test_an_experiment_that_is_ended_keeps_what_it_measured(
    ends: Exception,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped: exit 2; when icequake failed: 255, its sentence too."""
    monkeypatch.setattr(asking, "session", lambda *_, **__: _NoStack())

    def measure(lab: Lab) -> None:
        lab.outcomes.append(outcome(Point(200)))
        raise ends

    with pytest.raises(SystemExit) as left:
        asking.ask("capacity", "?", Options("reference", {}, "seaweedfs", tmp_path, 1), measure)  # type: ignore[arg-type]
    assert left.value.code == code
    (kept,) = (tmp_path / "experiments").iterdir()
    document = json.loads((kept / "answer.json").read_text())
    assert said in document["sentence"]
    assert len(document["outcomes"]) == 1
    assert (str(ends) in capsys.readouterr().err) is (code == 255)


def test_a_signal_between_runs_stops_an_experiment() -> None:
    """As one in a run does, and the handlers are put back."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM was received"), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) is before


# --- the command line


def test_a_fault_with_its_parameters_is_a_step_for_the_whole_run(tmp_path: Path) -> None:
    """That a scenario can hold."""
    fault = fault_of("slow-r2", ("latency_ms=100", "jitter_ms=0"))
    point = replace(SLOW, fault=fault).point(300, for_s=40)
    path = tmp_path / "capacity.yaml"
    path.write_text(point.scenario("capacity", "?", {}))
    (step,) = load_plan(path).steps
    assert (step.spec.name, step.for_s, step.spec.params["latency_ms"]) == ("slow-r2", 40, 100)
    assert fault_of(None, ()) is None
    with pytest.raises(BadInput, match="there is none"):
        fault_of(None, ("latency_ms=1",))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("capacity", "--fault", "nonesuch"), "there is no fault 'nonesuch'"),
        (("capacity", "--start", "5", "--highest", "4"), "--start 5 is above --highest 4"),
        (("capacity", "--env", "ICEBERG_BUFFER_SIZE=x"), "ICEBERG_BUFFER_SIZE=x is not a number of events"),
        (("capacity", "--traffic", "nonesuch"), "nonesuch"),
        (("survival", "--rates", "0"), "must be above 0"),
        (("survival", "--fault", "nonesuch"), "there is no fault 'nonesuch'"),
        (("sweep", "--sizes", "0,5"), "must be above 0"),
        (("ab",), "A and B are the same"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started."""
    assert run_command(["experiment", *arguments, "--runs", str(tmp_path)]) == 254
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert list(tmp_path.iterdir()) == []
