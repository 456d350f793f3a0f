"""`icequake heal`: after a power cut or a killed warden, undo what the journals say is still injected."""

from __future__ import annotations

from pathlib import Path

import click

from chaos.commands.session import RUNS, all_leftovers
from chaos.leftovers import describe


@click.command()
@click.option("--runs", type=click.Path(path_type=Path), default=RUNS, show_default=True, help="Where run directories are kept.")  # fmt: skip
def heal(runs: Path) -> int:
    """Undo every fault that a run journaled and did not undo, and put back objects that it damaged on a stack that is up.

    Ends with 255 when something could not be undone.
    Runs that are going on are left alone: their warden heals them.
    """
    healed = all_leftovers(runs)
    for one in healed:
        click.echo(describe(one))
    if not healed:
        click.echo("nothing to heal: every journaled fault was undone.")
    return 0 if all(one.ok for one in healed) else 255
