"""The runbook's root-cause page: each planted cause is the first suspect, and a quiet run has none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from loadtests.records.jsonl import JsonlWriter
from loadtests.records.ledger import Outcome
from loadtests.records.recorded import content_of
from loadtests.records.series import SeriesWriter
from loadtests.records.target_config import write_target_config
from reports.diagnosis.answer import Answer
from reports.diagnosis.command import main
from reports.diagnosis.recorded import diagnose
from reports.runrecords import read_run
from reports.sections.stages import stages_section
from tests.histories import HandMadeRun, mono_ns

R2, CATALOG, NETWORK = "Is R2", "Is the Iceberg catalog", "Is the network"
SPIKE, TYPES, BUFFER, STILL = "Is there", "Are specific", "Is the buffer", "Does the target"


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path, capacity_events=100_000)


def asked(run: HandMadeRun, upstream: str, ms: float, *, status: int = 200, begin: int = 1, end: int = 60) -> None:
    """A request a second to one side, as the gateway logs it."""
    log = JsonlWriter(run.run.gateway_log, "gateway", "abcd1234")
    for second in range(begin, end):
        line = {"n": second, "upstream": upstream, "verb": "PUT", "path": "/x", "object": "data", "outcome": "passed"}
        log.append({"t_ns": mono_ns(second), **line, "status": status, "ms": ms})
    log.close()


def sent(
    run: HandMadeRun, rate: int, *, begin: int = 1, end: int = 60, first: int = 0, outcome: Outcome = Outcome.ACKED
) -> None:
    """A request a second with *rate* events."""
    for second in range(begin, end):
        run.batch(first + (second - begin) * rate, rate, outcome=outcome, at=second)


def flushed(run: HandMadeRun, slow_stage: str, before_s: float, after_s: float) -> None:
    """A flush a second by the target's own counters; one stage is slower from second 10 on."""
    writer = SeriesWriter(run.run.series, "target", "abcd1234")
    total = 0.0
    for second in range(60):
        total += before_s if second <= 10 else after_s
        writer.add(mono_ns(second), "target_up", 1.0)
        writer.add(mono_ns(second), "target:collector_flush_duration_seconds_count", second)
        writer.add(mono_ns(second), f"target:collector_flush_stage_seconds_total{{stage={slow_stage}}}", total)
    writer.close()


def answers(run: HandMadeRun) -> list[Answer]:
    return diagnose(read_run(run.written(), observed=False))


def suspects(run: HandMadeRun) -> list[str]:
    return [answer.question for answer in answers(run) if answer.suspect]


def test_a_quiet_run_has_no_suspect(run: HandMadeRun) -> None:
    """Every question is answered, none by yes."""
    for upstream in ("r2", "catalog"):
        asked(run, upstream, 5)
    sent(run, 10)
    flushed(run, "put", 0.05, 0.05)
    found = answers(run)
    assert len(found) == 7
    assert [answer.question for answer in found if answer.suspect] == []


def test_slow_answers_of_r2_are_found(run: HandMadeRun) -> None:
    """From five to seven hundred milliseconds."""
    sent(run, 10)
    asked(run, "r2", 5, end=10)
    asked(run, "r2", 700, begin=10)
    assert suspects(run)[0].startswith(R2)


@pytest.mark.parametrize("slow_stage", ["put", None])
def test_slow_answers_of_r2_are_found_while_the_run_goes_on(run: HandMadeRun, slow_stage: str | None) -> None:
    """Its end is not recorded, and nobody has read its table: it reaches as far as its records do."""
    sent(run, 10)
    asked(run, "r2", 5, end=10)
    asked(run, "r2", 5 if slow_stage else 700, begin=10)
    flushed(run, "put", 0.05, 2.0 if slow_stage else 0.05)
    run.ended(traffic_end_ns=None, healed_ns=None, settle_end_ns=None, settle=None)
    root = run.written()
    shutil.rmtree(root / "observed")

    found = diagnose(read_run(root, observed=False))

    assert found[0].suspect
    assert found[0].question.startswith(R2)
    assert next(answer for answer in found if answer.question.startswith(NETWORK)).suspect is False


def test_r2_that_only_the_target_sees_to_be_slow_is_found_by_its_stages(run: HandMadeRun) -> None:
    """The way to the gateway is slow, the gateway is not."""
    sent(run, 10)
    asked(run, "r2", 5)
    flushed(run, "put", 0.05, 2.0)
    first = answers(run)[0]
    assert first.question.startswith(R2)
    assert "by the target's own metrics" in first.answer


def test_a_failing_catalog_is_found(run: HandMadeRun) -> None:
    """It answers 503."""
    sent(run, 10)
    asked(run, "catalog", 5, end=10)
    asked(run, "catalog", 5, begin=10, status=503)
    assert suspects(run)[0].startswith(CATALOG)


def test_a_catalog_that_is_never_reached_is_found_in_the_log(run: HandMadeRun) -> None:
    """No request arrives; the target complains."""
    sent(run, 10)
    asked(run, "catalog", 5, end=10)
    line = '{"level": "error", "error": "the table cannot be loaded: connection refused"}\n'
    (run.run.logs / "target.log").write_text(line * 20)
    first = answers(run)[0]
    assert first.question.startswith(CATALOG)
    assert "cannot be loaded" in first.answer


def test_unanswered_clients_point_at_the_network(run: HandMadeRun) -> None:
    """Refusals do not."""
    sent(run, 10, end=10)
    sent(run, 10, begin=10, first=1000, outcome=Outcome.UNKNOWN)
    assert suspects(run)[0].startswith(NETWORK)


def test_a_door_that_nobody_reaches_points_at_the_network(run: HandMadeRun) -> None:
    """No connection: the request surely was not kept, which is no answer of the target's."""
    sent(run, 10, end=10)
    for second in range(10, 60):
        run.answered(1000 + second, outcome=Outcome.REFUSED, status=-1, at=second)
    assert suspects(run)[0].startswith(NETWORK)


def test_refused_clients_do_not(run: HandMadeRun) -> None:
    """A 503 of the target's own came over a network that works."""
    sent(run, 10, end=10)
    sent(run, 10, begin=10, first=1000, outcome=Outcome.REFUSED)
    assert not any(question.startswith(NETWORK) for question in suspects(run))


def test_a_spike_is_found(run: HandMadeRun) -> None:
    """Fifteen times the rate."""
    sent(run, 10, end=20)
    sent(run, 150, begin=20, end=40, first=10_000)
    sent(run, 10, begin=40, first=100_000)
    assert suspects(run)[0].startswith(SPIKE)


def test_a_buffer_that_fills_while_a_flush_goes_on_is_too_small(tmp_path: Path) -> None:
    """A flush takes a second and a half, the busiest buffer is full after one and a half."""
    run = HandMadeRun(tmp_path, capacity_events=50)
    sent(run, 100)
    flushed(run, "put", 1.5, 1.5)
    assert suspects(run)[0].startswith(BUFFER)


def test_a_silent_target_is_found(run: HandMadeRun) -> None:
    """Thirty scrapes without an answer, then it is back."""
    sent(run, 10)
    writer = SeriesWriter(run.run.series, "target", "abcd1234")
    for second in range(60):
        writer.add(mono_ns(second), "target_up", float(not 20 <= second < 50))
    writer.close()
    assert suspects(run)[0].startswith(STILL)


def test_clients_without_an_answer_point_at_a_target_that_is_down(run: HandMadeRun) -> None:
    """Not at the network: nobody is reached who does not answer his scrapes either."""
    sent(run, 10, end=20)
    sent(run, 10, begin=20, end=30, first=1000, outcome=Outcome.UNKNOWN)
    sent(run, 10, begin=31, first=2000)
    writer = SeriesWriter(run.run.series, "target", "abcd1234")
    for second in range(60):
        writer.add(mono_ns(second + 0.5), "target_up", float(not 20 <= second < 30))
    writer.close()
    assert [question.partition(" answer")[0] for question in suspects(run)] == [STILL]


def test_a_restart_between_two_scrapes_is_no_network_trouble(run: HandMadeRun) -> None:
    """Every scrape was answered; that the target began anew shows in a counter that fell."""
    sent(run, 10, end=20)
    run.unknown(*range(5000, 5010), at=20.5)
    sent(run, 10, begin=21, first=1000)
    writer = SeriesWriter(run.run.series, "target", "abcd1234")
    for second in range(60):
        writer.add(mono_ns(second), "target_up", 1.0)
        writer.add(mono_ns(second), "target:accepted_total", float(second if second <= 20 else second - 20))
    writer.close()
    (found,) = [answer for answer in answers(run) if answer.suspect]
    assert found.question.startswith(STILL)
    assert "began anew once" in found.answer


def test_an_outage_of_the_catalog_comes_before_the_commits_that_are_missing_for_it(run: HandMadeRun) -> None:
    """However long the pause was: the cause before its symptom. What fails at the object store is not said of the catalog."""
    sent(run, 10)
    log = JsonlWriter(run.run.gateway_log, "gateway", "abcd1234")
    for second in (2, 3, 4, 5, 59.9):
        line = {"n": 1, "upstream": "catalog", "verb": "POST", "path": "/x", "object": "commit", "outcome": "passed"}
        log.append({"t_ns": mono_ns(second), **line, "status": 200, "ms": 5.0})
    log.close()
    refused = {"level": "error", "error": "the table cannot be loaded: connection refused", "stages_s": {"put": 1}}
    denied = {
        "level": "error",
        "error": "the manifests cannot be stored: AWS Error ACCESS_DENIED",
        "stages_s": {"load_table": 1},
    }
    (run.run.logs / "target.log").write_text((json.dumps(refused) + "\n") * 20 + json.dumps(denied) + "\n")
    found = [answer for answer in answers(run) if answer.suspect]
    assert found[0].question.startswith(CATALOG)
    assert [answer.question for answer in found if answer.question.startswith(STILL)]
    assert "20 lines" in found[0].answer


def test_a_buffer_that_is_configured_smaller_than_stated_is_found(tmp_path: Path) -> None:
    """It holds the load, but not what the target file promises; what was changed is the evidence."""
    run = HandMadeRun(tmp_path, capacity_events=2000)
    sent(run, 10)
    flushed(run, "put", 0.05, 0.05)
    in_force = {"ICEBERG_BUFFER_SIZE": "200", "ICEBERG_BUFFER_TIMEOUT_MS": "30000"}
    write_target_config(run.run.root, in_force, {**in_force, "ICEBERG_BUFFER_SIZE": "2000"})
    first = answers(run)[0]
    assert first.question.startswith(BUFFER)
    assert "ICEBERG_BUFFER_SIZE is 200, and the target file states 2,000" in first.answer
    assert "not at its default: ICEBERG_BUFFER_SIZE=200 (default 2000)" in first.evidence
    assert not any("TIMEOUT" in text for text in first.evidence)


def test_a_surging_type_is_found_by_name(run: HandMadeRun) -> None:
    """One type sends as much again as all did; the other two as before."""
    info = run.run.info
    content = content_of(info, [])
    kinds = content.types(0, np.arange(200_000, dtype=np.uint64))
    hot = np.flatnonzero(kinds == 1)
    sent(run, 60)
    for second in range(20, 50):
        run.acked(*(int(event) + 0 for event in hot[10_000 + second * 60 : 10_000 + second * 60 + 60]), at=second)
    first = answers(run)[0]
    assert first.question.startswith(TYPES), first
    assert content.names[1] in first.answer


def test_what_the_run_does_not_say_is_unknown(run: HandMadeRun) -> None:
    """Neither suspect nor as usual."""
    assert all(answer.suspect is None for answer in answers(run) if answer.question.startswith((R2, CATALOG, STILL)))


def test_stages_are_told_before_and_with_faults(run: HandMadeRun) -> None:
    """Per flush, in the order of a flush."""
    flushed(run, "put", 0.05, 2.0)
    (row,) = stages_section(read_run(run.written()))["stages"]
    assert row == {
        "stage": "put",
        "baseline_ms": pytest.approx(50, abs=1),
        "with_faults_ms": pytest.approx(2000, abs=50),
    }


def test_the_command_answers_in_lines_and_by_its_exit_code(run: HandMadeRun, tmp_path: Path) -> None:
    """Also for a run whose table nobody has read; 254 for what is no run."""
    sent(run, 10)
    asked(run, "r2", 5, end=10)
    asked(run, "r2", 700, begin=10)
    run.ended()
    done = CliRunner().invoke(main, [str(run.run.root)])
    assert done.exit_code == 1, done.output
    assert done.output.splitlines()[1].startswith("SUSPECT   Is R2 slow or failing?")
    assert CliRunner().invoke(main, [str(tmp_path / "none")]).exit_code == 254
