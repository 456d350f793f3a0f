"""Requests of one's own: to the catalog, to the object store, to the collector's door. They read, and write nothing."""

from __future__ import annotations

import threading
import time
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chaos.loopback import open_url

TIMES = 3
DEADLINE_S = 15.0


@dataclass(frozen=True)
class Probe:
    """What became of a few equal requests.

    Attributes:
        ms: How long each took that succeeded.
        error: Why one failed; None when none did.
    """

    what: str
    ms: tuple[float, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Probes:
    """One of each kind; None where the target file does not say where to ask."""

    catalog: Probe | None = None
    store: Probe | None = None
    door: Probe | None = None


def probed(what: str, request: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> Probe:
    """Make a request a few times; it returns within *deadline_s*, whatever the other side does."""
    took: list[float] = []
    failed: list[str] = []
    thread = threading.Thread(target=_ask, args=(request, took, failed), daemon=True)
    thread.start()
    thread.join(deadline_s)
    if thread.is_alive():
        return Probe(what, tuple(took), f"no answer within {deadline_s:g} s")
    return Probe(what, tuple(took), failed[0] if failed else None)


def _ask(request: Callable[[], object], took: list[float], failed: list[str]) -> None:
    for _ in range(TIMES):
        began = time.monotonic()
        try:
            request()
        except Exception as error:  # any library's, of any kind: it becomes a piece of evidence
            failed.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return
        took.append((time.monotonic() - began) * 1e3)


def ask_table(properties: Mapping[str, str], identifier: str) -> tuple[Probe, Probe | None]:
    """Load the table from its catalog, and read its metadata from the object store; None when the table could not be loaded."""
    found: list[Any] = []

    def load() -> None:
        from pyiceberg.catalog import load_catalog  # slow to import

        found.append(load_catalog("icequake", **dict(properties)).load_table(identifier))

    def read() -> None:
        with found[-1].io.new_input(found[-1].metadata_location).open() as stream:
            stream.read()

    catalog = probed(f"loading {identifier} from the catalog", load)
    return catalog, probed("reading the table's metadata from the object store", read) if found else None


def ask_door(url: str) -> Probe:
    """GET the URL that takes events: an error status is an answer too."""

    def get() -> None:
        try:
            open_url(url, timeout=DEADLINE_S).close()
        except urllib.error.HTTPError as answer:
            answer.close()

    return probed("a request to the collector's door", get)
