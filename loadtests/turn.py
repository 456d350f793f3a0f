"""When the present turn of gevent's loop began: the instant at which everything that is handled in it was already there."""

from __future__ import annotations

import time
from typing import Any

import gevent


class LoopTurn:
    """Note the beginning of each turn of this thread's loop.

    When four hundred answers come at once, the last of them is looked at long after it came, and by then has waited for the
    generator and not for the target. All of them were there when the loop's turn began.
    """

    def __init__(self) -> None:
        loop = gevent.get_hub().loop
        # Check watchers run right after the loop has gathered what happened; at the highest priority, before its handling.
        self._watcher: Any = loop.check(ref=False, priority=loop.MAXPRI)
        self._watcher.start(self._note)
        self.began_ns = 0
        """Monotonic nanoseconds."""

    def _note(self) -> None:
        self.began_ns = time.monotonic_ns()

    def close(self) -> None:
        """Note nothing any more."""
        self._watcher.stop()
        self._watcher.close()
