"""`icequake heal`: after a power cut or a killed warden, undo what the journals say is still injected."""

from __future__ import annotations

from pathlib import Path

import click

from chaos.commands.session import RUNS
from chaos.errors import BadState
from chaos.journal import Healed, JournalError
from chaos.journal import heal as heal_journal


@click.command()
@click.option("--runs", type=click.Path(path_type=Path), default=RUNS, show_default=True, help="Where run directories are kept.")  # fmt: skip
def heal(runs: Path) -> int:
    """Undo every fault that a run journaled and did not undo. Ends with 255 when one could not be undone."""
    healed = heal_runs(runs)
    for one in healed:
        click.echo(f"{'healed' if one.ok else 'NOT healed'}  {_what(one)}  {one.detail}")
    if not healed:
        click.echo("nothing to heal: every journaled fault was undone.")
    return 0 if all(one.ok for one in healed) else 255


def heal_runs(runs: Path) -> list[Healed]:
    """Play what the journals below *runs* still have open. Raises BadState for a journal that cannot be read."""
    try:
        return [one for journal in sorted(runs.glob("*/journal.jsonl")) for one in heal_journal(journal)]
    except JournalError as error:
        raise BadState(str(error)) from error


def _what(one: Healed) -> str:
    entry = one.entry
    return f"{entry.get('kind')} {entry.get('method', '')} {entry.get('url') or entry.get('pid') or entry.get('path') or ''}"
