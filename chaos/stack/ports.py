"""Free loopback ports that stay ours from choosing them until a server of ours has bound them.

A port cannot be handed over bound, so three things make a collision unlikely: ports are chosen outside the range the
kernel gives to outgoing connections, a lock file per port keeps other stacks of this user away for as long as this
process lives, and a port counts as free only when it can be bound without ``SO_REUSEADDR``. Whoever starts a server
still has to check that it got its port.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chaos.errors import PortTaken

FIRST, LAST = 20000, 31999  # below 32768, where Linux begins to hand out local ports


class Ports:
    """Hands out free ports, and holds their locks until :meth:`close` or the end of this process."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or Path(tempfile.gettempdir()) / f"icequake-ports-{os.getuid()}"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._held: dict[int, int] = {}
        self._sweep()

    def take(self) -> int:
        """Choose one more port; raises :class:`~chaos.errors.PortTaken` when none is left."""
        return self.take_apart(0)

    def take_apart(self, distance: int) -> int:
        """Choose a port ``p`` so that ``p + distance`` is free and ours too."""
        for port in _candidates(LAST - distance):
            if self._claim(port):
                if distance == 0 or self._claim(port + distance):
                    return port
                self._release(port)
        raise PortTaken(f"no loopback port between {FIRST} and {LAST} is free: stop a stack that is no longer needed")

    def close(self) -> None:
        """Let others choose these ports."""
        for port in list(self._held):
            self._release(port)

    def _sweep(self) -> None:
        """Remove the lock files of holders that were killed."""
        for path in self._directory.iterdir():
            if path.name.isdigit() and (lock := self._lock(int(path.name))) is not None:
                path.unlink(missing_ok=True)
                os.close(lock)

    def _claim(self, port: int) -> bool:
        if port in self._held or (lock := self._lock(port)) is None:
            return False
        self._held[port] = lock
        if not is_free(port):
            self._release(port)
            return False
        return True

    def _lock(self, port: int) -> int | None:
        lock = os.open(self._directory / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if os.fstat(lock).st_nlink == 0:  # its last holder removed it between open and lock
            os.close(lock)
            return None
        return lock

    def _release(self, port: int) -> None:
        (self._directory / str(port)).unlink(missing_ok=True)
        os.close(self._held.pop(port))


def is_free(port: int) -> bool:
    """Tell whether nothing is bound to this loopback port, nor lingers there."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _candidates(last: int) -> Iterator[int]:
    size = last - FIRST + 1
    start = secrets.randbelow(size)
    return (FIRST + (start + step) % size for step in range(size))
