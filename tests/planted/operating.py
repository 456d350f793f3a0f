"""Planted bugs in what operators ask for; each is the reference collector with one difference (see `tests.planted.reference`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec.structs import replace

from tests.planted.reference import Patch, module


def flush_lies() -> list[Patch]:
    """Answer a flush with 200 and a landed flush, and do nothing."""
    admin = module("admin")

    async def said(self: Any) -> Any:
        events = self._service.buffer.snapshot().events
        flush = {
            "flush_id": "c/1/1",
            "snapshot_id": 1,
            "files": [],
            "events": events,
            "outcome": "committed",
            "error": None,
        }
        return admin.json_response(200, {"flushes": [flush], "buffered_events": 0})

    return [(admin.AdminApp, "_flush", said)]


def exports_too_little() -> list[Patch]:
    """Leave the newest request out of an export, and let its receipt cover it all the same."""
    store = module("store").Store
    every_body = store.every_body

    def most(self: Any) -> Any:
        return iter(list(every_body(self))[:-1])

    return [(store, "every_body", most)]


def replays_again() -> list[Patch]:
    """Store whatever a replay holds, also what is in the table."""
    dedupe = module("dedupe").Window
    return [(dedupe, "duplicates", lambda _self, hashes, _oldest_waiting: np.zeros(len(hashes), dtype=np.bool_))]


def reset_lies() -> list[Patch]:
    """Say of half of what a reset discards that it was discarded."""
    vault = module("vault").Vault
    reset = vault.reset

    def half(self: Any, **how: Any) -> Any:
        done = reset(self, **how)
        return replace(done, discarded=replace(done.discarded, events=done.discarded.events // 2))

    return [(vault, "reset", half)]
