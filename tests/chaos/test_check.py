"""`icequake test`: what is checked, in which order, and that the first failure ends it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from chaos import cli
from chaos.commands import check


class Commands:
    """Programs that are only noted; *failing* ends with 3."""

    def __init__(self, failing: str = "nothing") -> None:
        self.failing, self.seen, self.environments = failing, list[str](), list[dict[str, str] | None]()

    def run(self, argv: list[str], **options: object) -> SimpleNamespace:
        assert argv[0] == sys.executable
        self.seen.append(" ".join(argv[1:]))
        self.environments.append(options["env"])  # type: ignore[arg-type]
        return SimpleNamespace(returncode=3 if self.failing in argv else 0)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    found = Commands()
    monkeypatch.setattr(check, "subprocess", SimpleNamespace(run=found.run))
    return found


def test_the_default_leaves_the_long_ones_out(commands: Commands) -> None:
    """Lint, format, types and the tests that are not slow."""
    assert cli.run_command(["test", "tests/x.py"]) == 0
    assert [seen.split()[1] for seen in commands.seen] == ["ruff", "ruff", "mypy", "pytest"]
    assert commands.seen[-1].endswith("-m not slow tests/x.py")


def test_all_of_it_ends_with_the_quick_tier_of_the_catalogue(commands: Commands) -> None:
    """With a report, where `make clean` finds it."""
    assert cli.run_command(["test", "--all"]) == 0
    assert "not slow" not in commands.seen[-2]
    assert commands.seen[-1].endswith("catalogue --tier quick --runs build/catalogue --report build/catalogue/report")
    assert all((environment or {}).get("HYPOTHESIS_PROFILE") == "random" for environment in commands.environments)


def test_somebody_who_names_tests_wants_those(commands: Commands) -> None:
    """Not the catalogue behind them."""
    cli.run_command(["test", "--all", "-k", "name"])
    assert "pytest" in commands.seen[-1]


def test_the_first_failure_ends_it(commands: Commands) -> None:
    """With its exit code."""
    commands.failing = "mypy"
    assert cli.run_command(["test"]) == 3
    assert "mypy" in commands.seen[-1]
