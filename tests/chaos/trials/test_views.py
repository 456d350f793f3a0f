"""The matrix as people see it."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from chaos.faults import catalogue
from chaos.trials.files import markdown, page, write_report
from chaos.trials.marks import WIDTH
from chaos.trials.matrix import Matrix, make_matrix
from chaos.trials.outcome import Outcome, Word
from chaos.trials.terminal import KEYS, show
from tests.chaos.trials.outcomes import KILLS, outcome

OUTCOMES = [
    outcome("slow-r2", "reference", Word.PASSED),
    outcome("slow-r2", "impatient", Word.KILLED),
    outcome("catalog-500", "reference", Word.PASSED),
    outcome("catalog-500", "gives-up", Word.SURVIVED),
    outcome("r2-down", "reference", Word.VOID),
]


def whole(*outcomes: Outcome) -> Matrix:
    """Every fault there is."""
    return make_matrix(list(catalogue().values()), KILLS, outcomes)


def printed(matrix: Matrix, width: int = WIDTH) -> list[str]:
    stream = io.StringIO()
    show(matrix, Console(file=stream, width=width))
    return stream.getvalue().splitlines()


def line_of(lines: list[str], fault: str) -> str:
    return next(line for line in lines if line.split()[:1] == [fault])


def test_every_fault_fits_a_hundred_columns() -> None:
    """With its whole name, whatever came of it."""
    words = [Word.PASSED, Word.FAILED, Word.BROKEN, Word.UNDECIDED]
    tried = [outcome(name, "reference", words[n % len(words)]) for n, name in enumerate(catalogue())]
    wrong = [outcome(name, kill.mutant, Word.WRONG_CHECK) for name, kill in KILLS.items() if kill.mutant is not None]

    lines = printed(whole(*tried, *wrong))

    assert all(len(line) <= WIDTH for line in lines)
    assert not any("…" in line for line in lines)
    assert all(line_of(lines, name) for name in catalogue())


def test_a_terminal_shows_stages_words_and_when() -> None:
    """What was killed, what was only tried, and what was not."""
    lines = printed(whole(*OUTCOMES))

    assert line_of(lines, "slow-r2").split()[1:] == ["●", "●", "PASS", "killed", "01-01"]
    assert line_of(lines, "catalog-500").split()[1:] == ["○", "PASS", "survived", "01-01"]
    assert line_of(lines, "r2-down").split()[1:] == ["-", "-", "void", "-", "01-01"]
    assert line_of(lines, "catalog-503").split()[1:] == ["-", "-", "-", "-"]
    assert line_of(lines, "nothing").split()[1:] == ["-", "-"]


def test_a_terminal_shows_what_was_killed() -> None:
    """A letter a pair that was tried, a dot a pair that should be."""
    lines = printed(whole(*OUTCOMES))
    kill_matrix = lines[next(n for n, line in enumerate(lines) if line.startswith("Planted bugs")) :]

    assert line_of(kill_matrix, "slow-r2").split() == ["slow-r2", "K"]
    assert line_of(kill_matrix, "catalog-500").split() == ["catalog-500", "S"]
    assert line_of(kill_matrix, "catalog-503").split() == ["catalog-503", "·"]
    assert line_of(kill_matrix, "nothing").split() == ["nothing", "·"]


def test_what_was_tried_before_a_change_is_said_to_be_left_out() -> None:
    """In a sentence under the tables."""
    lines = printed(whole(outcome("slow-r2", "reference", Word.PASSED, definition="of before")))

    assert lines[-1] == "1 outcomes of faults that have changed since are left out."


def test_markdown_is_tables() -> None:
    """Every line of a table has as many cells as its head."""
    text = markdown(whole(*OUTCOMES))

    for table in (block for block in text.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") - line.count("\\|") for line in table.splitlines()}) == 1
    assert "| `slow-r2` |" in text
    assert "| impatient: killed |" in text


class Tables(HTMLParser):
    """Counts the tables of a page and collects its text; fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables = 0
        self.sources: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tables += tag == "table"
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_the_page_is_whole_and_loads_nothing() -> None:
    """Three tables, every fault, no outside resource, no script."""
    parser = Tables()
    parser.feed(page(whole(*OUTCOMES)))

    assert parser.open == []
    assert parser.tables == 3
    assert parser.sources == []
    assert "script" not in page(whole())
    assert set(catalogue()) <= set(parser.words)


def test_a_report_is_three_files(tmp_path: Path) -> None:
    """JSON, Markdown and HTML of the same matrix."""
    paths = write_report(whole(*OUTCOMES), tmp_path / "new" / "directory")

    assert [path.name for path in paths] == ["catalogue.json", "catalogue.md", "catalogue.html"]
    rows = {row["fault"]: row for row in json.loads(paths[0].read_text())["rows"]}
    assert rows["slow-r2"]["kills"] == {"impatient": "killed"}
    assert rows["slow-r2"]["stages"]["data"] == "killed"
    assert rows["slow-r2"]["stages"]["host"] == "not applicable"


def test_more_mutants_than_columns_are_several_tables() -> None:
    """Each pair is in one of them, whatever the width."""
    many = [outcome("slow-r2", f"bug-{number:02}", Word.KILLED) for number in range(len(KEYS) + 3)]

    for width in (70, WIDTH, 300):
        lines = printed(whole(*many), width)
        assert sum(line.split().count("K") for line in lines if line.startswith("slow-r2 ")) == len(many)
        assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_another_width_is_no_error(width: int) -> None:
    """A narrow terminal cuts, a wide one does not stretch."""
    assert all(len(line) <= width for line in printed(whole(*OUTCOMES), width))
