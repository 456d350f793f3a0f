"""`icequake damage` and `icequake put-back`: break an object of a table by hand, for a drill, and undo it afterwards."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import click
from pyiceberg.io import load_file_io

from chaos.commands.session import new_seed
from chaos.commands.table_access import Access, access, table_options
from chaos.errors import BadInput, ChaosError, NotAllowed
from chaos.table.doctor import load
from chaos.table.errors import NoTable, NotApplicable, TableError
from chaos.table.mutate import MUTATIONS, ROLES, Role, choose, damage
from chaos.table.originals import Originals, PutBack
from chaos.table.store import FileIOStore

_KEPT = click.option("--originals", type=click.Path(path_type=Path, file_okay=False), default=Path("originals"), show_default=True, help="Where the original bytes are kept.")  # fmt: skip


@click.command(name="damage")
@click.argument("role", type=click.Choice(ROLES))
@click.argument("mutation", type=click.Choice(MUTATIONS))
@table_options
@_KEPT
@click.option("--seed", type=click.IntRange(0), default=None, help="Repeat a damage: which object, which bits (default: random).")  # fmt: skip
@click.option(
    "--newest", is_flag=True, help="The newest object of its role (default: an older one, if there are several)."
)
@click.option("--yes", is_flag=True, help="Do it; without this it is only said which object it would be.")
@click.option("--confirm", metavar="NS.NAME", default=None, help="The table's name once more, when it is not on this machine.")  # fmt: skip
def damage_command(
    *,
    role: Role,
    mutation: str,
    originals: Path,
    seed: int | None,
    newest: bool,
    yes: bool,
    confirm: str | None,
    **which: Any,
) -> int:
    """Damage one live object of a table, its original bytes kept first. `icequake put-back` undoes it.

    A drill: damage, `icequake doctor`, `icequake repair`. Never do this to a table that matters.
    """
    about = access(**which)
    seed = new_seed() if seed is None else seed
    try:
        table = load(about.properties, about.identifier)
        store = FileIOStore(table.io)
        victim = choose(table, store, role, random.Random(seed), newest=newest)
        if not yes:
            click.echo(f"would do {mutation} to {victim.path} (seed {seed}); --yes does it.")
            return 0
        _permitted(about, table.location(), confirm)
        damage(store, victim, mutation, seed, Originals(originals).keep)
    except (NotApplicable, NoTable) as error:
        raise BadInput(str(error)) from error
    except TableError as error:
        raise ChaosError(str(error)) from error
    click.echo(f"did {mutation} to {victim.path} (seed {seed}); its original is in {originals}.")
    return 0


@click.command(name="put-back")
@table_options
@_KEPT
@click.option("--force", is_flag=True, help="Also what something else has changed since, such as a repair.")
def put_back_command(*, originals: Path, force: bool, **which: Any) -> int:
    """Put back what `icequake damage` damaged. Ends with 255 when something could not be."""
    about = access(**which)
    if not (originals / "originals.jsonl").is_file():
        raise BadInput(f"{originals} keeps no originals; --originals says where they are.")
    try:
        # the table may be unloadable because of the damage, so the store is reached by the paths that were kept
        results = _put_back(Originals(originals), about, force=force)
    except TableError as error:
        raise ChaosError(str(error)) from error
    for one in results:
        click.echo(f"{'put back' if one.done else 'LEFT':<9} {one.path}: {one.detail}")
    if not results:
        click.echo("nothing to put back.")
    return 0 if all(one.done for one in results) else 255


def _put_back(kept: Originals, about: Access, *, force: bool) -> list[PutBack]:
    pending = kept.pending()
    if not pending:
        return []
    return kept.put_back(FileIOStore(load_file_io(dict(about.properties), pending[0])), force=force)


def _permitted(about: Access, location: str, confirm: str | None) -> None:
    """A table elsewhere is damaged only when its name was typed once more."""
    places = [about.properties.get("s3.endpoint"), about.properties.get("uri")]
    hosts = [urlparse(one).hostname for one in places if one and not one.startswith("sqlite:")]
    local = all(host in ("127.0.0.1", "::1", "localhost") for host in hosts)
    if urlparse(location).scheme in ("", "file") or (local and about.properties.get("s3.endpoint")):
        return
    if confirm != about.identifier:
        raise NotAllowed(
            f"{about.identifier} is not on this machine; --confirm {about.identifier} says that it may be damaged."
        )
