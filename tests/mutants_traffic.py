"""Collectors for traffic that is not ordinary, each with one planted bug: `python tests/mutants_traffic.py NAME`.

All of them validate events, keep to limits, take gzip, and store each (source, id) once, as the naive collector does not; one
difference makes the mutant.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import sys
import threading
from datetime import datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

EVENT_BYTES, BODY_BYTES, BATCH_EVENTS = 65_536, 262_144, 60
NAIVE = Path(__file__).parent.parent / "chaos" / "targets" / "naive.py"
REQUIRED = ("specversion", "id", "source", "type")


def load_naive() -> Any:
    spec = importlib.util.spec_from_file_location("naive", NAIVE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Careful:
    """What the mutants share; the methods are the places where one of them errs."""

    def __init__(self, naive: Any) -> None:
        self.naive = naive
        self.seen: set[Any] = set()

    def key(self, event: dict[str, Any]) -> Any:
        """What makes two events the same."""
        return event["source"], event["id"]

    def too_large(self, size: int, most: int) -> bool:
        """Whether *size* is over a limit."""
        return size > most

    def on_invalid(self, events: list[Any]) -> int:
        """What is done with a request that has an invalid event: the status of the answer."""
        return 400

    def stored(self, data: str) -> str:
        """The text that is kept of an event's data."""
        return data

    def take(self, body: bytes, encoding: str | None) -> int:
        """Return the status of the answer to a request."""
        if self.too_large(len(body), BODY_BYTES):
            return 413
        texts = split(gzip.decompress(body) if encoding == "gzip" else body)
        if texts is None:
            return self.on_invalid([])
        if self.too_large(len(texts), BATCH_EVENTS) or any(self.too_large(len(t), EVENT_BYTES) for t in texts):
            return 413
        events = [json.loads(text) for text in texts]
        if not all(map(valid, events)):
            return self.on_invalid(events)
        self.keep(events)
        return 202

    def keep(self, events: list[dict[str, Any]]) -> None:
        """Buffer what is new."""
        with self.naive.lock:
            for event in events:
                if self.key(event) not in self.seen:
                    self.seen.add(self.key(event))
                    self.naive.buffer.append(self.row(event))

    def row(self, event: dict[str, Any]) -> dict[str, Any]:
        """The row of one event."""
        data = self.stored(json.dumps(event.get("data"), separators=(",", ":")))
        return {"id": event.get("id"), "source": event.get("source"), "type": event.get("type"), "data": data}


def split(body: bytes) -> list[bytes] | None:
    """The text of each event of a batch; None if it is not JSON."""
    decoder, text = json.JSONDecoder(), body.decode()
    texts, at = [], 1
    try:
        while text[at] != "]":
            _, end = decoder.raw_decode(text, at)
            texts.append(text[at:end].encode())
            at = end + 1 if text[end] == "," else end
    except (ValueError, IndexError):
        return None
    return texts


def valid(event: dict[str, Any]) -> bool:
    """Whether *event* is a CloudEvent."""
    try:
        datetime.fromisoformat(event.get("time", "2026-01-01T00:00:00Z"))
    except ValueError:
        return False
    named = all(isinstance(event.get(name), str) and event[name] for name in REQUIRED)
    names = all(name == "data_base64" or (name.isalnum() and name == name.lower()) for name in event)
    simple = all(not isinstance(value, dict) for name, value in event.items() if name != "data")
    return named and names and simple and not {"data", "data_base64"} <= event.keys()


class Forgets(Careful):
    """Store what comes twice twice."""

    def keep(self, events: list[dict[str, Any]]) -> None:
        self.seen.clear()
        super().keep(events)


class IdOnly(Careful):
    """Take two events with one id for one, whatever their source."""

    def key(self, event: dict[str, Any]) -> Any:
        return event["id"]


class OffByOne(Careful):
    """Refuse what is exactly at a limit."""

    def too_large(self, size: int, most: int) -> bool:
        return size >= most


class Cuts(Careful):
    """Cut long data off."""

    def row(self, event: dict[str, Any]) -> dict[str, Any]:
        row = super().row(event)
        if self.large:
            row["data"] = row["data"][:-1]
        return row

    def take(self, body: bytes, encoding: str | None) -> int:
        self.large = len(body) > EVENT_BYTES - 100
        return super().take(body, encoding)


class Swallows(Careful):
    """Acknowledge a request with an invalid event and keep the others."""

    def on_invalid(self, events: list[Any]) -> int:
        self.keep([event for event in events if valid(event)])
        return 202


class KeepsHalf(Careful):
    """Refuse a request with an invalid event, but keep what came before it."""

    def on_invalid(self, events: list[Any]) -> int:
        good = [valid(event) for event in events]
        self.keep(events[: good.index(False)] if good else [])
        return 400


class Breaks(Careful):
    """Answer an invalid event with 500."""

    def on_invalid(self, events: list[Any]) -> int:
        return 500


class TakesAll(Careful):
    """Know no limits."""

    def too_large(self, size: int, most: int) -> bool:
        return False


class Vague(Careful):
    """Refuse what is too large as if it were wrong."""

    def take(self, body: bytes, encoding: str | None) -> int:
        status = super().take(body, encoding)
        return 400 if status == 413 else status


class Skips(Careful):
    """Keep the valid events of a request, and say so: right under a contract that says `skip_event`."""

    def on_invalid(self, events: list[Any]) -> int:
        self.keep([event for event in events if valid(event)])
        return 202


class SkipsTooMuch(Careful):
    """Say that the valid events were kept, and drop all."""

    def on_invalid(self, events: list[Any]) -> int:
        return 202


MUTANTS: dict[str, type[Careful]] = {
    "careful": Careful,
    "forgets": Forgets,
    "id-only": IdOnly,
    "off-by-one": OffByOne,
    "cuts": Cuts,
    "swallows": Swallows,
    "keeps-half": KeepsHalf,
    "breaks": Breaks,
    "takes-all": TakesAll,
    "vague": Vague,
    "skips": Skips,
    "skips-too-much": SkipsTooMuch,
}


def handler(naive: Any, collector: Careful) -> Any:
    class Handler(naive.Handler):  # type: ignore[misc]
        def do_POST(self) -> None:  # noqa: N802  # http.server calls it
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(collector.take(body, self.headers.get("Content-Encoding")))

    return Handler


if __name__ == "__main__":
    naive = load_naive()
    chosen = handler(naive, MUTANTS[sys.argv[1]](naive))
    threading.Thread(target=naive.flush_forever, args=(naive.open_table(),), daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["LISTEN_PORT"])), chosen).serve_forever()
