"""What the target's own log complains of: its errors, by the side of the pipeline that they name."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from loadtests.records.rundir import RunDir

BYTES_MAX = 20_000_000
"""The end of a log is read; what is before it is older news."""

_COMPLAINT = re.compile(r"error|fail|exception|refused|timed? ?out", re.IGNORECASE)
_SIDES = {
    "r2": re.compile(
        r"AWS Error|PutObject|GetObject|HeadObject|UploadPart|s3://|\bS3\b|\bR2\b|object store", re.IGNORECASE
    ),
    "catalog": re.compile(r"/v1/|catalog|load_table|cannot be loaded|oauth", re.IGNORECASE),
}
_DIGITS = re.compile(r"[0-9a-f]{8,}|\d+")


@dataclass(frozen=True)
class Complaints:
    """How many lines of the log complain of one side, and the most frequent one, its numbers replaced by `#`."""

    lines: int
    example: str


def complaints(run: RunDir) -> dict[str, Complaints]:
    """Return the complaints of `logs/target.log` by side (`r2`, `catalog`); empty without a log."""
    kinds: dict[str, Counter[str]] = {side: Counter() for side in _SIDES}
    for line in _lines(run.logs / "target.log"):
        if _COMPLAINT.search(line):
            said = _sentence(line)  # its other fields name every side: stages of the flush, the logger
            # A message about a commit may name the table's s3:// location: the catalog is asked first.
            side = next((side for side in ("catalog", "r2") if _SIDES[side].search(said)), None)
            if side is not None:
                kinds[side][_DIGITS.sub("#", said)[:200]] += 1
    return {side: Complaints(sum(found.values()), found.most_common(1)[0][0]) for side, found in kinds.items() if found}


def _sentence(line: str) -> str:
    """What a line of JSON says went wrong; any other line as it is."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    return str(said.get("error") or said.get("message") or line) if isinstance(said, dict) else line


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - BYTES_MAX))
            return file.read(BYTES_MAX).decode(errors="replace").splitlines()
    except OSError:
        return []
