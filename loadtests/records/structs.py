"""Struct types are made ready before threads use them.

msgspec learns what a type's fields are when it first decodes or converts to it, and keeps that with the type before it is complete,
so that types may contain each other. A second thread that meets it half known reads a null pointer, and the process is gone
(msgspec 0.22; tests/records/test_structs.py notices when this is no longer so).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

_ready: set[type] = set()


def prepare() -> int:
    """Make every struct type that is imported ready for use by any thread; return how many there are.

    Call it before threads begin, and again after importing more modules.
    """
    for kind in _below(msgspec.Struct):
        if kind not in _ready:
            try:
                msgspec.json.Decoder(kind)
            except (TypeError, NameError):
                continue  # it can be encoded only, so no thread learns what it is
            _ready.add(kind)
    return len(_ready)


def _below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
