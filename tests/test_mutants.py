"""Mutants: what is planted where, and that each stands on something that is still there."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import Any

import pytest

from chaos.faults.kills import kills
from tests.chaos.test_kills_without_faults import BY_DRILL, BY_TRAFFIC
from tests.mutants import HERE, MUTANTS, NAIVE, REFERENCE
from tests.planted.naive import load_naive

WITHOUT_A_FAULT = {
    "correct": "it has no bug while nothing breaks; faults kill it",
    "sound": "the reference collector itself: what is not planted cannot be found",
    "twice": "wrong without any fault (tests/chaos/test_runs.py)",
    "always-503": "refusing is allowed, so it proves nothing (tests/chaos/test_runs.py)",
    "stuck": "wrong without any fault (tests/chaos/test_runs.py)",
    "stays-down": "killed by any kill (tests/chaos/test_disk_faults.py)",
    "ends-at-a-tear": "killed by buffer-torn (tests/chaos/test_disk_faults.py), which has another line in kills.yaml",
    **dict.fromkeys((name for name, _ in BY_TRAFFIC.values()), "killed by unusual traffic"),
    **dict.fromkeys((name for _, name, _ in BY_DRILL), "killed by a drill"),
}
"""Mutants that need no line in kills.yaml."""


@pytest.mark.parametrize("name", REFERENCE)
def test_a_bug_of_the_reference_replaces_what_is_there(name: str) -> None:
    """A mutant whose names are gone from the collector would be no mutant at all."""
    for owner, attribute, planted in REFERENCE[name]():
        assert getattr(owner, attribute) is not planted


@pytest.mark.parametrize("name", REFERENCE)
def test_a_bug_of_the_reference_takes_what_it_is_given(name: str) -> None:
    """One that does not fails at its own call, and would be found whatever it was planted for."""
    for owner, attribute, planted in REFERENCE[name]():
        original = getattr(owner, attribute)
        if inspect.isfunction(original) and inspect.isfunction(planted):
            given = inspect.signature(original).parameters.values()
            positional = [one.name for one in given if one.kind is not one.KEYWORD_ONLY and one.default is one.empty]
            named = [one.name for one in given if one.kind is one.KEYWORD_ONLY and one.default is one.empty]
            inspect.signature(planted).bind(*positional, **dict.fromkeys(named))
            assert _passed(planted) in (None, _passed(original)), (name, attribute)


def _passed(function: Any) -> list[str] | None:
    """The names of what a method is given, but for itself and what it leaves alone; None when it takes anything."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters):
        return None
    return [one.name.removeprefix("_") for one in parameters][1:]


@pytest.mark.parametrize("name", NAIVE)
def test_a_bug_of_the_naive_collector_can_be_planted(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """And says in a sentence what it is."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    NAIVE[name](load_naive())

    assert MUTANTS[name].__doc__


def test_every_mutant_is_killed_by_a_named_fault() -> None:
    """Or is known to be wrong, or right, without one."""
    killed = {kill.mutant for kill in kills().values()} - {None}

    assert killed <= set(MUTANTS)
    assert set(MUTANTS) - killed <= set(WITHOUT_A_FAULT)


def test_targets_are_printed_as_documents() -> None:
    """For `icequake catalogue`, which starts mutants and never imports them."""
    printed = subprocess.run(
        [sys.executable, str(HERE), "--targets"], capture_output=True, text=True, check=True, timeout=60
    )

    targets = json.loads(printed.stdout)
    assert set(targets) == set(MUTANTS)
    assert targets["sound"]["process"]["command"][-1] == "sound"
    assert targets["sound"]["process"]["crash_points"]["env"] == "COLLECTOR_FAULTS"
