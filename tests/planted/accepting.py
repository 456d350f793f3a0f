"""Planted bugs in what is taken for an event; the first is the naive collector with one difference, the others the reference."""

from __future__ import annotations

import json
from typing import Any

from tests.planted.naive import append, cleared, flushes_by, refreshed, waiting
from tests.planted.reference import Patch, module


def blocks_on_poison(naive: Any) -> None:
    """Acknowledge whatever is JSON, and try for ever to flush what cannot become a row."""

    def do_post(self: Any) -> None:
        try:
            events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        except ValueError:
            self.answer(400)
            return
        rows = [
            {name: e.get(name) for name in ("id", "source", "type")} | {"data": _text(e.get("data"))} for e in events
        ]
        with naive.lock:
            naive.buffer.extend(rows)
        self.answer(202)

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        try:
            append(naive, table, rows)
        except Exception as error:
            print(f"flush failed, trying again: {error!r}", flush=True)
            refreshed(table)
        else:
            cleared(naive, rows)
        return True

    naive.Handler.do_POST = do_post
    flushes_by(naive, attempt, take=waiting)


def _text(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


def dedupes_by_id() -> list[Patch]:
    """Take events of different sources for one when their ids are the same."""
    buffer = module("buffer")
    hash_events = buffer.hash_events

    def by_id(events: Any, key: bytes) -> Any:
        return hash_events([_Anonymous(event.id) for event in events], key)

    return [(buffer, "hash_events", by_id)]


class _Anonymous:
    """An event from nowhere."""

    source = ""

    def __init__(self, id_: str) -> None:
        self.id = id_
