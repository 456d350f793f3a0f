"""A whole visit to the doctor: catalog, permissions, then the table; it always ends with a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pyiceberg.io import load_file_io
from pyiceberg.table import Table

from chaos.table.doctor import Doctor, Options, Progress, Report, check_commit, connect, load, rescue, silent
from chaos.table.errors import CatalogFailed, NoTable, StoreFailed, sentence
from chaos.table.findings import Findings, Severity
from chaos.table.preflight import Permission, Preflight, Upload, is_s3
from chaos.table.store import FileIOStore


@dataclass(frozen=True)
class Visit:
    """What a visit is about.

    Attributes:
        properties: pyiceberg catalog properties.
        location: Where the table is, for a catalog that cannot say so; by default below the warehouse.
        writes: May try permissions with a scratch object, and a commit that must be refused.
        token: Makes the scratch object's name unique.
    """

    properties: Mapping[str, str]
    identifier: str
    now_s: float
    token: str
    options: Options = field(default_factory=Options)
    location: str | None = None
    writes: bool = True


def visit(about: Visit, progress: Progress = silent) -> Report:
    """Check everything; nothing is raised for what is broken, nor for what does not answer."""
    progress("asking the catalog", 0, None)
    try:
        table = load(dict(about.properties), about.identifier)
    except NoTable as error:
        return _only(about, "table-missing", str(error))
    except CatalogFailed as error:
        return _not_loaded(about, str(error))
    try:
        store = FileIOStore(table.io)
    except StoreFailed as error:
        return _only(about, "not-listed", str(error))
    doctor = Doctor(table, store, now_s=about.now_s, options=about.options, progress=progress)
    if about.writes:
        progress("trying permissions", 0, None)
        _commit(table, doctor.report.findings)
        if is_s3(table.location()):
            _storage(about, table, doctor.report)
    return doctor.examine()


def _only(about: Visit, name: str, detail: str) -> Report:
    report = Report(about.identifier)
    report.findings.add(name, about.identifier, detail)
    return report


def _not_loaded(about: Visit, why: str) -> Report:
    """A catalog that answers other questions has lost the table; one that does not is down, or out of reach."""
    try:
        connect(dict(about.properties)).list_namespaces()
    except Exception as error:  # any catalog client, any transport
        return _only(
            about, "catalog-unreachable", sentence(error) if not isinstance(error, CatalogFailed) else str(error)
        )
    return _only(about, "table-unloadable", "; ".join([why, *_rescued(about)]))


def _rescued(about: Visit) -> Iterator[str]:
    for location in guesses(about.properties, about.identifier, about.location):
        try:
            yield rescue(location, FileIOStore(load_file_io(dict(about.properties), location)))
            return
        except (StoreFailed, ValueError):
            continue
    yield "its metadata directory was not found; --location says where it is"


def guesses(properties: Mapping[str, str], identifier: str, location: str | None = None) -> list[str]:
    """Return where a table may be whose catalog cannot say so: where it is said to be, else below the warehouse."""
    if location is not None:
        return [location]
    warehouse = properties.get("warehouse", "").rstrip("/")
    *namespace, name = identifier.split(".")
    return [f"{warehouse}/{'.'.join(namespace)}{suffix}/{name}" for suffix in ("", ".db")]


def _commit(table: Table, findings: Findings) -> None:
    refused = check_commit(table)
    if refused is not None:
        name = "commit-refused" if refused[0] is Severity.CRITICAL else "unanswered"
        findings.add(name, ".".join(table.name()), refused[1])


def _storage(about: Visit, table: Table, report: Report) -> None:
    preflight = Preflight(table.io.properties, table.location(), about.token)
    note_permissions(preflight.permissions(), table.location(), report.findings)
    try:
        note_uploads(preflight.uploads(), about, table.location(), report)
    except StoreFailed as error:
        report.findings.add("unanswered", table.location(), str(error))


def note_permissions(tried: Iterator[Permission], location: str, findings: Findings) -> None:
    """Turn what was refused into findings."""
    for one in tried:
        if one.allowed is None:
            findings.add("unanswered", location, f"{one.operation}: {one.detail}")
        elif not one.allowed:
            findings.add("permission-missing", one.operation, f"below {location}: {one.detail}")


def note_uploads(uploads: list[Upload], about: Visit, location: str, report: Report) -> None:
    """Count unfinished uploads; old ones are a finding."""
    report.figures["unfinished_uploads"] = len(uploads)
    old = [one for one in uploads if about.now_s - one.started_s >= about.options.orphan_age_s]
    if old:
        oldest = min(old, key=lambda one: one.started_s)
        age = (about.now_s - oldest.started_s) / 3600
        report.findings.add(
            "unfinished-uploads", location, f"{len(old)}; the oldest is {age:.1f} hours old: {oldest.key}"
        )
