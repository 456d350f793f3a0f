"""The file of collectors with a planted bug, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.errors import BadInput
from chaos.faults.kills import kills
from chaos.target import find_target
from chaos.trials.mutants import FILE, Mutants


def test_the_checkout_has_every_mutant_that_a_fault_must_kill(tmp_path: Path) -> None:
    """Each as a target that can be started."""
    mutants = Mutants(FILE, tmp_path)

    for name in {kill.mutant for kill in kills().values()} - {None}:
        path, target = find_target(str(mutants.target(str(name))))
        assert (path.parent, target.name) == (tmp_path, name)
        assert target.process is not None


def test_an_unknown_mutant_is_named(tmp_path: Path) -> None:
    """With those there are."""
    with pytest.raises(BadInput, match=r"there is no mutant 'nobody' in .*mutants\.py; there are correct, "):
        Mutants(FILE, tmp_path).target("nobody")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("print('hello')", "is not a file of mutants: `--targets` printed no JSON"),
        ("print('[]')", "is not a file of mutants: `--targets` printed no JSON object"),
        ("print('{}'); raise SystemExit(1)", "is not a file of mutants: `--targets` printed no JSON object"),
    ],
)
def test_another_program_is_no_file_of_mutants(tmp_path: Path, text: str, says: str) -> None:
    """It is asked for its targets, and says something else."""
    path = tmp_path / "other.py"
    path.write_text(text)

    with pytest.raises(BadInput, match=says):
        Mutants(path, tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(BadInput, match=r"no file of mutants .*none\.py; name one with --mutants, or leave them out"):
        Mutants(tmp_path / "none.py", tmp_path)
