"""Text from a target or a client as it may be shown: nothing in it can steer a terminal, or turn the direction of a line."""

from __future__ import annotations


def visible(text: str) -> str:
    """Return *text* with everything that is not printable (`str.isprintable`) written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
