"""What the target keeps aside because it cannot become a row: `quarantine.jsonl`, as its admin listener lists it.

A line an event: {"source", "id", "reason"}; `source` and `id` are null where the target does not know them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loadtests.records.jsonl import JsonlWriter, read_jsonl

KIND = "quarantine"
NAME = "quarantine.jsonl"


def write_quarantine(run: Path, run_id: str, events: Iterable[Mapping[str, Any]]) -> None:
    """Write the file of a run directory, a line for each event as it comes."""
    with JsonlWriter(run / NAME, KIND, run_id) as writer:
        for event in events:
            writer.append({name: event.get(name) for name in ("source", "id", "reason")})


def read_quarantine(run: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run directory; none where the target was not asked. See `read_jsonl` for errors."""
    if (run / NAME).is_file():
        yield from read_jsonl(run / NAME, KIND)
