"""R2's own rules that no local S3 server has: one write per second to a key, and equal parts in multipart uploads."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from chaos.gateway.messages import Request, find
from chaos.gateway.rulebook import ActiveRule
from chaos.gateway.rules import R2Limits, Status

REMEMBERED = 10_000
"""Keys and uploads remembered by each rule; the oldest go first."""


class R2State:
    """What one `r2-limits` rule knows of the writes that it has seen.

    Args:
        limits: The rule's action.
        clock: Monotonic seconds.
    """

    def __init__(self, limits: R2Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._written_s: OrderedDict[str, float] = OrderedDict()
        self._parts: OrderedDict[tuple[str, str], dict[int, int]] = OrderedDict()

    def check(self, request: Request) -> Status | None:
        """Return what R2 answers instead of carrying the request out, or None when it has nothing against it.

        A write is a whole object put, or an upload completed; uploading a part is none.
        """
        query = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
        upload = query.get("uploadId")
        if request.verb == "PUT" and upload is not None and "partNumber" in query:
            self._note_part(request, upload, query["partNumber"])
            return None
        if request.verb == "PUT" and upload is None:
            return self._too_soon(request.path)
        if request.verb == "POST" and upload is not None:
            return self._unequal(request.path, upload) or self._too_soon(request.path)
        return None

    def _note_part(self, request: Request, upload: str, number: str) -> None:
        told = find(request.headers, b"x-amz-decoded-content-length") or find(request.headers, b"content-length")
        if told is not None and told.isdigit() and number.isdigit():
            self._parts.setdefault((request.path, upload), {})[int(number)] = int(told)
            _forget(self._parts)

    def _too_soon(self, path: str) -> Status | None:
        now_s = self._clock()
        last_s = self._written_s.get(path)
        if last_s is not None and now_s - last_s < self._limits.write_interval_s:
            return Status(
                status=429, code="TooManyRequests", message="Reduce your rate of simultaneous writes to this key."
            )
        self._written_s[path] = now_s
        self._written_s.move_to_end(path)
        _forget(self._written_s)
        return None

    def _unequal(self, path: str, upload: str) -> Status | None:
        parts = self._parts.get((path, upload), {})
        sizes = {size for number, size in parts.items() if number != max(parts)}
        if self._limits.equal_parts and len(sizes) > 1:
            return Status(status=400, code="InvalidPart", message="All non-trailing parts must have the same length.")
        return None


class R2States:
    """The state of each `r2-limits` rule; it goes with the rule."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: WeakKeyDictionary[ActiveRule, R2State] = WeakKeyDictionary()

    def check(self, rule: ActiveRule, limits: R2Limits, request: Request) -> Status | None:
        """Return what R2 answers under *rule*, or None; see `R2State.check`."""
        state = self._states.get(rule)
        if state is None:
            state = self._states[rule] = R2State(limits, self._clock)
        return state.check(request)


def _forget(remembered: OrderedDict[Any, Any]) -> None:
    while len(remembered) > REMEMBERED:
        remembered.popitem(last=False)
