"""Many requests at once, few of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def bounded_map(pool: Executor, function: Callable[[A], B], items: Iterable[A], *, ahead: int) -> Iterator[B]:
    """Yield `function(item)` in the order of *items*, computed in *pool*, at most *ahead* of them not yet consumed."""
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
