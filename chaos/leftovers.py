"""Faults that a run left behind because machine and warden died with it: found in the journals, undone on request."""

from __future__ import annotations

from pathlib import Path

from chaos.errors import BadState
from chaos.journal import Healed, JournalError, JournalInUse
from chaos.journal import heal as heal_journal


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


def describe(one: Healed) -> str:
    """Say in one line what was undone, and how that is known."""
    entry = one.entry
    what = entry.get("url") or entry.get("pid") or entry.get("path") or entry.get("argv") or ""
    return f"{'healed' if one.ok else 'NOT healed'}: {entry.get('kind')} {what} ({one.detail})"
