"""How far an event got on its way from the ledger to a scan of the table."""

from __future__ import annotations

import enum


class Stage(enum.IntEnum):
    """How far an event got; the names that reports use are in lower case."""

    ACKED = 0
    """Nowhere to be found but in the ledger."""
    OBJECT = 1
    """In a Parquet object that no manifest references."""
    MANIFEST = 2
    """In a data file that some manifest references, but the current snapshot does not reach."""
    SNAPSHOT = 3
    """In a data file of the current snapshot, but a delete file hides the row."""
    SCAN = 4
    """A scan of the current snapshot returns it."""
