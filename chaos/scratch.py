"""Where a stack keeps its data while it is up: removed at the end, or by the next start when the end never came."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.undo import process_identity

PREFIX = ".scratch-"
OWNER = "owner"
"""Names the process a scratch directory belongs to, so that a later process with the same pid is not taken for it."""


@contextmanager
def scratch(runs: Path) -> Iterator[Path]:
    """Make an empty directory below *runs* for this block; sweep those whose process is gone first.

    Its path is absolute: servers that use it have working directories of their own.
    """
    sweep(runs)
    directory = runs.resolve() / f"{PREFIX}{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    # Under a name that nobody sweeps until its owner stands in it.
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=runs))
    (draft / OWNER).write_text(process_identity(os.getpid()) or "", encoding="utf-8")
    draft.replace(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep(runs: Path) -> None:
    """Remove scratch directories whose process is gone."""
    for directory in runs.glob(f"{PREFIX}*"):
        if not _owned(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _owned(directory: Path) -> bool:
    pid = directory.name.removeprefix(PREFIX)
    try:
        owner = (directory / OWNER).read_text(encoding="utf-8")
    except OSError:
        return False
    return pid.isdigit() and bool(owner) and process_identity(int(pid)) == owner
