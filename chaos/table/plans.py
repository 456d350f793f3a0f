"""A repair as a plan: what would be done, from which evidence, and what is lost; and the backup of what it replaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.table.errors import ObjectMissing
from chaos.table.findings import Finding
from chaos.table.store import ObjectStore


@dataclass
class Plan:
    """One repair.

    Attributes:
        recipe: Which procedure.
        mends: The findings it is for.
        evidence: What it is derived from, in sentences.
        replaces: Objects whose bytes are replaced; they are backed up first.
        loss: What will be gone for good, in sentences; empty when nothing is.
        rows_lost: Rows among that.
        execute: Does it.
    """

    recipe: str
    mends: list[Finding]
    evidence: list[str]
    execute: Callable[[], None]
    replaces: list[str] = field(default_factory=list)
    loss: list[str] = field(default_factory=list)
    rows_lost: int = 0


@dataclass(frozen=True)
class Refusal:
    """A finding that cannot be mended from the evidence, and why."""

    finding: Finding
    why: str


Backup = Callable[[str, bytes], None]
"""Keeps an object's old bytes, by path."""


def backup_into(directory: Path) -> Backup:
    """Keep old bytes below a directory; what is there from an earlier try is never overwritten."""

    def keep(path: str, data: bytes) -> None:
        name = path.replace("://", "/").replace("/", "%2F")
        kept = directory / name
        directory.mkdir(parents=True, exist_ok=True)
        if not kept.exists():
            part = kept.with_name(kept.name + ".part")
            part.write_bytes(data)
            part.replace(kept)

    return keep


def carry_out(plan: Plan, store: ObjectStore, backup: Backup) -> None:
    """Back up what the plan replaces, then do it. Raises CatalogFailed, StoreFailed."""
    for path in plan.replaces:
        try:
            backup(path, store.get(path))
        except ObjectMissing:
            continue
    plan.execute()
