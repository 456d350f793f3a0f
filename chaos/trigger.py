"""When a step begins, told by what the gateway sees: `2nd commit POST`, `1st data-file PUT`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chaos.gateway.objects import KINDS


@dataclass(frozen=True)
class Trigger:
    """The *nth* request of kind *object* with *verb* (None: any), counted from the end of the baseline."""

    nth: int
    object: str
    verb: str | None


_TRIGGER = re.compile(r"^(\d+)(?:st|nd|rd|th)\s+([a-z-]+)(?:\s+(GET|HEAD|PUT|POST|DELETE))?$")


def parse_trigger(text: str) -> Trigger:
    """Read a trigger such as `2nd commit POST` or `1st data-file PUT`. Raises ValueError with a sentence."""
    match = _TRIGGER.match(text.strip())
    if not match or int(match[1]) < 1:
        raise ValueError(f'after: {text!r} is not of the form "2nd commit POST".')
    if match[2] not in KINDS:
        raise ValueError(f"after: the gateway knows no object {match[2]!r}; it knows {', '.join(sorted(KINDS))}.")
    return Trigger(int(match[1]), match[2], match[3])
