"""Names of namespaces and tables: as a path carries them, as SqlCatalog keeps them, as a message shows them."""

from __future__ import annotations

from urllib.parse import unquote

from chaos.stack.facade.errors import BadRequest

SEPARATOR = "\x1f"
"""Between the levels of a namespace in a path or a query (the specification's default)."""

Levels = tuple[str, ...]


def from_path(text: str) -> Levels:
    """Split a namespace that is decoded from a path or a query; raises BadRequest for an empty level."""
    return checked(tuple(text.split(SEPARATOR)))


def checked(levels: Levels) -> Levels:
    """Return a namespace that can exist; raises BadRequest."""
    if not levels or not all(levels):
        raise BadRequest(f"Invalid namespace: {shown(levels)!r} has an empty level")
    return levels


def segments(raw_path: bytes) -> list[str]:
    """Split a request target's path, then decode each part: an encoded slash stays inside its part."""
    return [unquote(part) for part in raw_path.decode("latin-1").strip("/").split("/")]


def stored(levels: Levels) -> Levels:
    """Return the levels as SqlCatalog can keep them: it joins levels with a dot, so a dot inside one is escaped."""
    return tuple(level.replace("%", "%25").replace(".", "%2E") for level in levels)


def original(levels: Levels) -> Levels:
    """Undo :func:`stored`."""
    return tuple(level.replace("%2E", ".").replace("%25", "%") for level in levels)


def shown(levels: Levels) -> str:
    """Return a name for a message."""
    return ".".join(levels)
