"""Bytes at a fixed rate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

PIECES_PER_S = 20
"""How finely a throttled body is cut: pieces of a twentieth of a second."""


class Pacer:
    """Cuts chunks into pieces and waits after each for as long as it takes at the given rate.

    Args:
        bytes_per_s: The rate.
        wait: Waits for seconds; returns False when pacing is over, and the rest goes at once.
    """

    def __init__(self, bytes_per_s: int, wait: Callable[[float], Awaitable[bool]]) -> None:
        self._rate = bytes_per_s
        self._wait = wait
        self._on = True

    async def pieces(self, chunk: bytes) -> AsyncIterator[bytes]:
        """Yield *chunk* piece by piece."""
        step = max(1, self._rate // PIECES_PER_S)
        start = 0
        while start < len(chunk):
            piece = chunk[start : start + step] if self._on else chunk[start:]
            start += len(piece)
            if self._on:
                self._on = await self._wait(len(piece) / self._rate)
            yield piece
