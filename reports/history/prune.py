"""Make room: old passed runs keep what history needs, and lose the rest."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from reports.history.entry import Entry
from reports.verdict import Verdict

KEPT = frozenset({"run.json", "target.yaml", "scenario.yaml", "verdict.json", "summary.txt", "report.html"})


def prune(history: Sequence[Entry], keep: int) -> tuple[int, int]:
    """Strip passed runs but the newest *keep* of all; return how many were stripped and the bytes that were freed.

    Runs that failed, were inconclusive, or have no verdict keep everything: they are evidence. Raises OSError.
    """
    stripped = freed = 0
    for entry in history[: max(len(history) - keep, 0)]:
        rest = [path for path in entry.root.iterdir() if path.name not in KEPT] if entry.verdict is Verdict.PASS else []
        freed += sum(_size(path) for path in rest)
        for path in rest:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        stripped += bool(rest)
    return stripped, freed


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_file() and not one.is_symlink())
