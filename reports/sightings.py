"""When the auditor first saw each data file, read from visible.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FirstSeen:
    """The table was looked at at `after_ns` without the file, and next at `seen_ns` with it."""

    after_ns: int
    seen_ns: int


@dataclass
class Watch:
    """What the auditor saw while traffic ran.

    Attributes:
        files: First sighting of each data file, by path.
        looks: How often the table was read without error.
        errors: How often it could not be.
        last_ns: The last look.
        snapshots: The highest number of snapshots seen to have been committed.
        shrank: Some look saw fewer events than one before it: the table was set back, damaged or replaced.
    """

    files: dict[str, FirstSeen] = field(default_factory=dict)
    looks: int = 0
    errors: int = 0
    last_ns: int | None = None
    snapshots: int = 0
    shrank: bool = False


def watch_of(visible: Iterable[Mapping[str, Any]]) -> Watch:
    """Fold the lines of visible.jsonl."""
    watch, most = Watch(), 0
    for line in visible:
        if line.get("error"):
            watch.errors += 1
            continue
        watch.looks += 1
        watch.last_ns = line["t_ns"]
        watch.snapshots = max(watch.snapshots, int(line.get("snapshots_seen", line.get("snapshots", 0)) or 0))
        now = int(line.get("visible", most) or 0)
        watch.shrank, most = watch.shrank or now < most, max(most, now)
        for entry in line.get("files", ()):
            watch.files.setdefault(entry["path"], FirstSeen(entry["after_ns"], line["t_ns"]))
    return watch
