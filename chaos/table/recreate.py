"""A table that is dropped, and created again under its name: another table, with another uuid and none of the rows."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import TableAlreadyExistsError
from pyiceberg.table import Table

from chaos.table.committer import Committer
from chaos.table.errors import CatalogFailed, StoreFailed, sentence
from chaos.table.foreign import current_parts, now_ms
from chaos.table.store import ObjectStore

ATTEMPTS = 10


@dataclass(frozen=True)
class Dropped:
    """A table that was dropped with its files kept, and the location of its last metadata.json."""

    identifier: str
    metadata_location: str


def recreate(table: Table) -> Dropped:
    """Drop the table, keep its files, and create an empty one of the same schema under its name.

    Raises:
        CatalogFailed: the catalog refused; when the table was dropped already, the message says so.
    """
    identifier = ".".join(table.name())
    dropped = Dropped(identifier, table.metadata_location)
    try:
        table.catalog.drop_table(identifier)
    except Exception as error:  # the catalog client raises whatever its transport and parsers do
        raise CatalogFailed(f"{identifier} was not dropped: {sentence(error)}") from error
    try:
        table.catalog.create_table(
            identifier,
            table.schema(),
            location=f"{table.location()}-again",
            partition_spec=table.spec(),
            properties=table.properties,
        )
    except Exception as error:
        raise CatalogFailed(f"{identifier} was dropped, but not created again: {sentence(error)}") from error
    return dropped


def restore(catalog: Catalog, dropped: Dropped, store: ObjectStore, token: str) -> int:
    """Register the dropped table under its name again, with the files that were written to its successor added to it.

    The successor is renamed first, so that no commit reaches it any more; properties that it gained (a writer's watermark) come
    along, and all of it is there before the name is taken again. A writer that creates a missing table may take the name first;
    then its new table is moved aside and added in the same way. Returns how many files were added.

    Raises CatalogFailed; then the tables are where the message says.
    """
    aside, back = f"{dropped.identifier}_interim_{token}", f"{dropped.identifier}_back_{token}"
    try:
        catalog.rename_table(dropped.identifier, aside)
        table = catalog.register_table(back, dropped.metadata_location)
        files = _moved(table, catalog.load_table(aside), store)
        taken = _swapped(catalog, back, dropped.identifier, aside)
        return files + sum(_added(catalog, dropped.identifier, one, store) for one in taken)
    except (CatalogFailed, StoreFailed):
        raise
    except Exception as error:  # the catalog client raises whatever its transport and parsers do
        raise CatalogFailed(f"{dropped.metadata_location} was not restored (see {aside}): {sentence(error)}") from error


def _swapped(catalog: Catalog, back: str, identifier: str, aside: str) -> list[str]:
    """Give the table its name; return the tables that had to be moved aside for it."""
    taken: list[str] = []
    while True:
        try:
            catalog.rename_table(back, identifier)
            return taken
        except TableAlreadyExistsError:
            if len(taken) == ATTEMPTS:
                raise
            catalog.rename_table(identifier, f"{aside}_{len(taken)}")
            taken.append(f"{aside}_{len(taken)}")


def _added(catalog: Catalog, identifier: str, aside: str, store: ObjectStore) -> int:
    """Add the files of a table that was moved aside to the one that has its name, although a writer commits to it."""
    for attempt in range(ATTEMPTS):
        try:
            return _moved(catalog.load_table(identifier), catalog.load_table(aside), store)
        except CatalogFailed:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _moved(table: Table, interim: Table, store: ObjectStore) -> int:
    changed = {key: value for key, value in interim.properties.items() if table.properties.get(key) != value}
    if interim.current_snapshot() is None:
        return 0
    theirs = [part for part in current_parts(interim, store) if part.entries]
    mine = current_parts(table, store) if table.current_snapshot() is not None else []
    committer = Committer(table, now_ms=now_ms())
    added = [
        committer.added([one.data_file for one in part.entries], part.manifest.partition_spec_id) for part in theirs
    ]
    live = [one.data_file for part in [*mine, *theirs] for one in part.entries]
    manifests = [*(part.manifest for part in mine), *added]
    committer.commit(manifests, table.current_snapshot(), live, {}, properties=changed)
    return sum(len(part.entries) for part in theirs)
