"""Faults that a run left behind because machine and warden died with it: found in the journals, undone on request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from chaos.errors import BadState
from chaos.faults.object import put_back_originals
from chaos.journal import Healed, JournalError, JournalInUse, in_use
from chaos.journal import heal as heal_journal
from chaos.table.errors import TableError
from chaos.table.originals import Originals, PutBack


def heal_leftovers(runs: Path) -> list[Healed]:
    """Undo what ended runs below *runs* still have open; a run that goes on heals itself and is left alone.

    Raises:
        BadState: a journal cannot be read.
    """
    journals = [path for path in sorted(runs.glob("*/journal.jsonl")) if not path.parent.is_symlink()]
    return [one for journal in journals for one in _heal(journal)]


def _heal(journal: Path) -> list[Healed]:
    try:
        return heal_journal(journal)
    except JournalInUse:
        return []
    except JournalError as error:
        raise BadState(str(error)) from error


def put_back_leftovers(runs: Path, up: Mapping[str, str] | None) -> list[Healed]:
    """Put back objects that ended runs below *runs* damaged; a run that goes on does so itself.

    Args:
        up: pyiceberg properties of the stack that `icequake up` keeps running; None: there is none. A stack that a run had
            started itself ended with it, storage and all, so nothing is left to put back.
    """
    kept = [
        path.parent for path in sorted(runs.glob("*/originals/originals.jsonl")) if not path.parent.parent.is_symlink()
    ]
    return [
        one for originals in kept if not in_use(originals.parent / "journal.jsonl") for one in _put_back(originals, up)
    ]


def _put_back(originals: Path, up: Mapping[str, str] | None) -> list[Healed]:
    kept = Originals(originals)
    pending = kept.pending()
    if not pending:
        return []
    try:
        if up is None or up.get("uri") != _catalog_of(originals.parent):
            results = kept.give_up("its storage ended with the run")
        else:
            results = put_back_originals(originals, up)
    except TableError as error:
        results = [PutBack(path, False, f"{error} `icequake put-back` does it later") for path in pending]
    return [Healed("", {"kind": "object", "path": one.path}, one.done, one.detail) for one in results]


def _catalog_of(run: Path) -> str | None:
    """Return the URI of the catalog that a run used, as it wrote it down."""
    try:
        document = json.loads((run / "stack.json").read_bytes())
        return str(document["direct"]["catalog"]["uri"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def describe(one: Healed) -> str:
    """Say in one line what was undone, and how that is known."""
    entry = one.entry
    what = entry.get("url") or entry.get("pid") or entry.get("path") or entry.get("argv") or ""
    return f"{'healed' if one.ok else 'NOT healed'}: {entry.get('kind')} {what} ({one.detail})"
