"""Numbers on a command line."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from chaos.commands.numbers import FiniteRange


@click.command()
@click.option("--rate", type=FiniteRange(1))
def command(rate: float) -> None:
    click.echo(f"{rate:g}")


@pytest.mark.parametrize("text", ["nan", "-nan", "inf", "1e400", "-inf"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """A search that began at nan would never end."""
    result = CliRunner().invoke(command, ["--rate", text])

    assert result.exit_code == 2
    assert text in result.output or "range" in result.output


def test_a_number_within_the_bounds_is_taken() -> None:
    """As click does."""
    assert CliRunner().invoke(command, ["--rate", "2.5"]).output == "2.5\n"
    assert CliRunner().invoke(command, ["--rate", "0.5"]).exit_code == 2
