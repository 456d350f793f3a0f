"""docs/doctor.md says of every finding what the code says. `python -m tests.chaos.table.test_doctor_page` rewrites it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.table.findings import INVISIBLE, KINDS
from chaos.table.mutate import MUTATIONS, ROLES
from chaos.table.visibility import VISIBLE, Visibility

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"


def findings() -> str:
    rows = [("finding", "severity", "breaks", "mend it", "repair"), ("---",) * 5]
    for name, kind in KINDS.items():
        rows.append(
            (f"`{name}`", str(kind.severity), kind.breaks, kind.procedure, f"`{kind.recipe}`" if kind.recipe else "")
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def invisible() -> str:
    return "".join(f"* {one}\n" for one in INVISIBLE)


def visibility() -> str:
    rows = [("mutation", *ROLES), ("---",) * (len(ROLES) + 1)]
    for mutation in MUTATIONS:
        rows.append((f"`{mutation}`", *(_cell(VISIBLE[role, mutation]) for role in ROLES)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(one: Visibility) -> str:
    said = ", ".join(f"`{name}`" for name in one.findings)
    return "; ".join(part for part in (said, one.reason) if part)


PARTS = {"findings": findings, "invisible": invisible, "visibility": visibility}


def place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", PARTS)
def test_the_page_is_true(name: str) -> None:
    """Each finding with what it breaks and what mends it; each thing that cannot be seen."""
    found = place(name).search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == PARTS[name]()


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for part, make in PARTS.items():
        text = place(part).sub(lambda _, make=make: make(), text, count=1)  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8")
