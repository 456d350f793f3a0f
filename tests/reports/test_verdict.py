"""The verdict document: its arithmetic, its round trip and its schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from loadtests.records.errors import NewerVersion
from reports.verdict import EXIT_CODES, Verdict, in_a_sentence, read_verdict, worst, write_verdict
from tests.histories import A, B, HandMadeRun

P, I, F = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL  # noqa: E741


@pytest.mark.parametrize(("verdicts", "result"), [([], I), ([P], P), ([P, I], I), ([I, F, P], F), ([P, P], P)])
def test_the_worst_verdict_wins_and_none_is_no_pass(verdicts: list[Verdict], result: Verdict) -> None:
    """FAIL over INCONCLUSIVE over PASS; without any check, INCONCLUSIVE."""
    assert worst(verdicts) is result


def test_exit_codes_are_fixed() -> None:
    """0 PASS, 1 FAIL, 2 INCONCLUSIVE."""
    assert EXIT_CODES == {P: 0, F: 1, I: 2}


def test_a_verdict_fits_its_schema_and_survives_its_file(tmp_path: Path) -> None:
    """What is written is valid by the exported JSON Schema and is read back equal."""
    run = HandMadeRun(tmp_path)
    run.acked(A, B)
    run.table(A)
    verdict = run.judge()
    path = tmp_path / "verdict.json"
    write_verdict(path, verdict)

    schema = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "verdict.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(path.read_bytes()), schema)
    assert msgspec.to_builtins(read_verdict(path)) == msgspec.to_builtins(verdict)


def test_a_verdict_of_a_newer_major_is_refused(tmp_path: Path) -> None:
    """With a sentence that says which icequake to use."""
    path = tmp_path / "verdict.json"
    path.write_text('{"schema": "icequake.verdict/2.0"}')

    with pytest.raises(NewerVersion, match="Read it with the icequake that wrote it"):
        read_verdict(path)


def test_a_sentence_says_what_became_of_the_events_or_why_that_is_no_pass(tmp_path: Path) -> None:
    """A night's mail and the history have one line a run: that all is there explains no INCONCLUSIVE."""
    good, lost, doubtful = (HandMadeRun(tmp_path / name) for name in ("good", "lost", "doubtful"))
    for run in (good, lost, doubtful):
        run.acked(A, B)
    good.table(A, B)
    lost.table(A)
    doubtful.table(A, B)
    doubtful.fault("slow-r2", 20, 30, affected=0)

    assert in_a_sentence(good.judge()).startswith("all 2 acknowledged events are in the table")
    assert in_a_sentence(lost.judge()).startswith("1 of 2 acknowledged events are missing")
    assert in_a_sentence(doubtful.judge()).startswith("run.faults_effective: step 0 (slow-r2) met no request")
