"""`icequake setup`: the same set-up that `make` runs before anything else."""

from __future__ import annotations

import click

from chaos import setup as machine


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def setup(arguments: tuple[str, ...]) -> int:
    """Prepare the virtual environment and the Toxiproxy server (`icequake setup --help`)."""
    return machine.main(list(arguments))
