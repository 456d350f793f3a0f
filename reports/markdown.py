"""The report as Markdown that fits a comment on a pull request: what is wrong on top, everything else folded."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reports.layout import environment
from reports.page import Page
from reports.verdict import Check, Verdict
from reports.visible import visible

MOST_CHARACTERS = 65_536
"""GitHub refuses a comment that is longer."""

_MOST_ROWS = (1_000, 40, 12, 4)
"""How long a table or list may be; the first length with which the whole fits is taken."""

_LONGEST_TEXT = 600
"""One value, such as an id somebody made a megabyte long, may not push everything else out."""

_CUT = "\n\nCut to fit a comment; report.html has everything.\n"


def markdown_of(page: Page) -> str:
    """Lay out the page as Markdown of at most `MOST_CHARACTERS`; what is left out is said to be."""
    made = environment()
    made.filters["md"] = markdown_text
    made.filters["code"] = markdown_code
    template = made.get_template("report.md.j2")
    text = ""
    for most in _MOST_ROWS:
        text = template.render(page=page, most=most, objections=list(_objections(page)))
        if len(text) <= MOST_CHARACTERS:
            return text
    return text[: MOST_CHARACTERS - len(_CUT)].rpartition("\n")[0] + _CUT


def _objections(page: Page) -> Iterator[Check]:
    """Yield what did not pass, the worst first."""
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        yield from (check for section in page.questions for check in section.checks if check.verdict is verdict)


_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def markdown_text(text: object) -> str:
    """Escape *text* for Markdown, so that it is one line of plain text wherever it stands, tables included."""
    return _MARKDOWN.sub(r"\\\1", _short(" ".join(visible(str(text)).split())))


def markdown_code(text: object) -> str:
    """Write *text* as a code span that also survives in a table cell."""
    line = _short(visible(str(text))).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}" if line.strip() else ""


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}... ({len(line):,} characters)"
