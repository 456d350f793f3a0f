"""The boundary between the records of a run, which anything may have written to, and a command that has to end in a sentence."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reports.errors import UnusableRecords

SHAPE = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What code that trusts a record's shape raises where the record has another one."""


@contextmanager
def usable(run: str) -> Iterator[None]:
    """Turn what a damaged record of *run* made the code in the block stumble over into one sentence.

    Readers refuse whole files that are not what they claim to be, and leave broken lines out; this is for the rest: lines that are
    well-formed, and say something impossible. The first error is kept as the cause.

    Raises:
        UnusableRecords: instead of any error that an impossible value leads to.
    """
    try:
        yield
    except SHAPE as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        met = f"{Path(frame.filename).stem}.{frame.name}"
        what = f"{type(error).__name__} in {met}: {str(error)[:200]}"
        raise UnusableRecords(
            f"the run {run} has a record that says something impossible ({what}); "
            "some file of it was damaged or changed, or this icequake has a fault."
        ) from error
