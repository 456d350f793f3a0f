"""The next thing to be done about what the doctor found, for a table that can be loaded and for one that cannot."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.io import load_file_io

from chaos.table.clinic import guesses
from chaos.table.doctor import Report, connect, load
from chaos.table.errors import CannotRepair, ObjectMissing, StoreFailed
from chaos.table.findings import Finding
from chaos.table.plans import Plan, Refusal, backup_into, carry_out
from chaos.table.registering import Registrar
from chaos.table.repair import Repairer
from chaos.table.store import FileIOStore, ObjectStore

REGISTER = "register-from-log"


@dataclass(frozen=True)
class Case:
    """A table that is to be mended.

    Attributes:
        properties: pyiceberg catalog properties.
        location: Where it is, for a catalog that cannot say so; by default below the warehouse.
        export: A collector's export, from which rows of lost files are taken again.
    """

    properties: Mapping[str, str]
    identifier: str
    location: str | None = None
    export: Path | None = None


@dataclass(frozen=True)
class Next:
    """What is to be done next, None when nothing is or can be; and what cannot be mended."""

    plan: Plan | None
    refused: list[Refusal]
    store: ObjectStore | None = None

    def carry_out(self, backup: Path) -> None:
        """Do it, with a backup of what is replaced. Raises TableError."""
        assert self.plan is not None
        assert self.store is not None
        carry_out(self.plan, self.store, backup_into(backup))


def next_step(case: Case, report: Report, *, now_ms: int) -> Next:
    """Plan it; nothing is changed. Raises CatalogFailed, NoTable, StoreFailed."""
    unknown = [one for one in report.findings.kept if one.kind.recipe == REGISTER]
    if unknown:
        return _registration(case, unknown[0], now_ms)
    if report.snapshot_id is None:
        return Next(None, [])
    table = load(dict(case.properties), case.identifier)
    store = FileIOStore(table.io)
    plan, refused = Repairer(table, store, now_ms=now_ms, export=case.export).next(report)
    return Next(plan, refused, store)


def _registration(case: Case, finding: Finding, now_ms: int) -> Next:
    catalog = connect(dict(case.properties))
    why = "its metadata directory was not found; --location says where it is."
    for location in guesses(case.properties, case.identifier, case.location):
        try:
            store = FileIOStore(load_file_io(dict(case.properties), location))
            registrar = Registrar(catalog, case.identifier, store, location, now_ms=now_ms, token=secrets.token_hex(4))
            return Next(registrar.plan(finding), [], store)
        except (CannotRepair, ObjectMissing, StoreFailed, ValueError) as error:
            if isinstance(error, CannotRepair) and not str(error).startswith("there is no metadata.json"):
                why = str(error)
    return Next(None, [Refusal(finding, why)])
