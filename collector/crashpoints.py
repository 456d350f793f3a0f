"""Named points at which a test can kill, fail or delay the collector.

Each durable step has a point before and after it. A point does nothing unless it was armed with
``--allow-faults`` and a specification such as::

    commit.after_response=kill@3;put.before=raise:ENOSPC;intent.after_record=sleep:200

An action is ``kill`` (SIGKILL to this process: no handler, no ``finally``), ``raise:ERRNO`` (an ``OSError``
with that errno) or ``sleep:MILLISECONDS``. ``@N`` limits it to the N-th hit; without it every hit acts.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from collector.errors import ConfigError

POINTS: Mapping[str, str] = {
    "ingest.before_append": "a request is parsed, nothing is stored",
    "ingest.after_append_before_sync": "rows are inserted, the transaction is not committed",
    "ingest.after_sync_before_ack": "rows are synced, the 202 has not left",
    "ingest.after_ack": "the 202 has left",
    "flush.before_seal": "a flush is due, nothing about it is stored",
    "flush.after_seal": "the flush and its events are frozen on disk",
    "put.before": "before a data file is uploaded",
    "put.after": "a data file is stored, the buffer does not know it",
    "data.after_record": "the buffer knows every data file of the flush",
    "manifest.after_write": "the manifest is stored, the manifest list is not",
    "manifest_list.after_write": "manifest and list are stored, the intent is not recorded",
    "intent.after_record": "the exact commit request is on disk, not sent",
    "commit.before_send": "right before the commit request",
    "commit.after_send": "the catalog has answered, the answer is not read",
    "commit.after_response": "the commit is known to have landed, the buffer does not know it",
    "checkpoint.before_sync": "the landing is written, not synced",
    "checkpoint.after_sync": "the landing is on disk, the events are not cleared",
    "clear.mid": "some of the flush's rows are deleted, the transaction is open",
    "clear.after": "the flush is gone from the buffer",
    "settle.after_load": "a fresh table state was read to settle an undecided flush",
    "recovery.before_replay": "the buffer is open, nothing was read back",
    "recovery.mid_replay": "the buffer is half read back",
    "expire.before_send": "before old snapshots are expired",
    "admin.export.mid": "some of the buffer is exported, its receipt is not stored",
    "admin.replay.mid": "a chunk of a replay is synced, the next one is not",
    "admin.reset.after_truncate_before_checkpoint": "discarded rows are deleted, the transaction is open",
    "shutdown.while_draining": "SIGTERM was received, events are left",
}
"""Every point and the durable state at that moment."""


@dataclass(frozen=True, slots=True)
class _Action:
    kind: str
    argument: int
    nth: int | None


@dataclass
class CrashPoints:
    """Armed actions and the number of times each point was passed.

    ``kill`` is an argument so that a test in the same process can raise instead of dying.
    """

    actions: Mapping[str, _Action] = field(default_factory=dict)
    kill: Callable[[str], None] = lambda _point: os.kill(os.getpid(), signal.SIGKILL)
    hits: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def parse(cls, specification: str) -> CrashPoints:
        """Read a specification; raises ``ConfigError`` with one sentence for anything it does not know."""
        parts = [part.strip() for part in specification.split(";") if part.strip()]
        return cls(actions=dict(_parse_one(part) for part in parts))

    def __call__(self, point: str) -> None:
        """Pass ``point``: count it and do what it is armed with."""
        if point not in POINTS:
            raise KeyError(point)
        with self._lock:
            self.hits[point] += 1
            hit = self.hits[point]
        action = self.actions.get(point)
        if action is None or action.nth not in (None, hit):
            return
        if action.kind == "kill":
            self.kill(point)
        elif action.kind == "raise":
            raise OSError(action.argument, f"{os.strerror(action.argument)} (injected at {point})")
        else:
            time.sleep(action.argument / 1000)


def _parse_one(text: str) -> tuple[str, _Action]:
    point, equals, rest = text.partition("=")
    if not equals or point not in POINTS:
        raise ConfigError(f"COLLECTOR_FAULTS: {point!r} is not a crash point; known points: {', '.join(POINTS)}.")
    what, at, count = rest.partition("@")
    if at and not (count.isdigit() and int(count) >= 1):
        raise ConfigError(f"COLLECTOR_FAULTS: {text!r} needs a hit number of 1 or more after '@'.")
    kind, _, argument = what.partition(":")
    nth = int(count) if at else None
    if kind == "kill" and not argument:
        return point, _Action("kill", 0, nth)
    if kind == "raise" and isinstance(getattr(errno, argument, None), int):
        return point, _Action("raise", getattr(errno, argument), nth)
    if kind == "sleep" and argument.isdigit():
        return point, _Action("sleep", int(argument), nth)
    raise ConfigError(f"COLLECTOR_FAULTS: {text!r} needs kill, raise:ERRNO (for example ENOSPC) or sleep:MILLISECONDS.")


NONE = CrashPoints()
"""No point is armed. Its counters are shared by everything that was given none."""
