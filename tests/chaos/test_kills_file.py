"""kills.yaml: what each fault kills, and what is said when a line is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.faults import catalogue
from chaos.faults.kills import KILLS, Kill, kills, read_kills
from loadtests.records.errors import InvalidDocument

PATH = Path("kills.yaml")


def complete(*changed: str) -> str:
    """A file with a line for every fault; *changed* lines come first and replace those of the same fault."""
    own = {line.partition(":")[0] for line in changed}
    return "\n".join(
        [*changed, *(f"{name}: {{mutant: meant, check: events.lost}}" for name in catalogue() if name not in own)]
    )


def test_every_fault_has_a_line() -> None:
    """And the file that ships can be read."""
    assert set(kills()) == set(catalogue())
    assert read_kills(KILLS.read_text(), KILLS) == kills()


def test_a_line_names_a_mutant_and_its_check() -> None:
    """Both of them."""
    read = read_kills(complete("slow-r2: {mutant: impatient, check: events.duplicated}"), PATH)

    assert read["slow-r2"] == Kill(mutant="impatient", check="events.duplicated")
    assert read["nothing"] == Kill(mutant="meant", check="events.lost")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("slow-r2: {mutant: impatient}", "kills.yaml:1: slow-r2: Object missing required field `check`"),
        ("slow-r2: {none: because}", "kills.yaml:1: slow-r2: Object contains unknown field `none`"),
        ("slow-r2: {}", "kills.yaml:1: slow-r2: Object missing required field `mutant`"),
        ("slow-r2: {mutants: a}", "kills.yaml:1: slow-r2: Object contains unknown field `mutants`"),
        ("no-such-fault: {mutant: a, check: b}", "kills.yaml:1: there is no fault 'no-such-fault' in catalogue.yaml"),
    ],
)
def test_a_wrong_line_is_named(line: str, sentence: str) -> None:
    """With file, line, fault and what to do."""
    with pytest.raises(InvalidDocument) as error:
        read_kills(complete(line), PATH)

    assert str(error.value).startswith(sentence)


def test_a_fault_without_a_line_is_named() -> None:
    """So that no new fault goes without the question what it kills."""
    with pytest.raises(InvalidDocument, match=r"kills\.yaml: nothing has no line; name the mutant that it kills"):
        read_kills("slow-r2: {mutant: a, check: b}", PATH)


def test_a_fault_with_two_lines_is_named() -> None:
    """YAML itself would take the last of them without a word."""
    with pytest.raises(InvalidDocument, match=r"kills\.yaml:2: slow-r2 has a line already \(line 1\)"):
        read_kills("slow-r2: {mutant: a, check: b}\n" + complete("slow-r2: {mutant: c, check: d}"), PATH)
