"""When a step begins, told by a measurement: `fill > 0.9`, `buffered >= 1000`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

READINGS = {
    "fill": "share of the fullest buffer, 0 to 1, as the target says",
    "buffered": "events that the target says it holds",
    "acked": "events acknowledged since the run began",
    "refused": "events refused since the run began",
    "unknown": "events without an answer since the run began",
    "pending": "acknowledged events that are not visible in the table",
    "unseen_s": "age in seconds of the oldest acknowledged event that is not visible",
    "duplicated": "rows of the table that are there more than once",
}
"""What a condition, and a scenario's `stop`, can be about."""

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"^([a-z_]+)\s*(>=|<=|>|<)\s*(\d+(?:\.\d+)?)$")

Read = Callable[[str], float | None]


@dataclass(frozen=True)
class Condition:
    """*reading* compared with *value*; a reading that nobody takes never fulfils it."""

    reading: str
    operator: str
    value: float

    def __str__(self) -> str:
        return f"{self.reading} {self.operator} {self.value:g}"

    def holds(self, read: Read) -> bool:
        """Ask for the reading and compare."""
        now = read(self.reading)
        return now is not None and OPERATORS[self.operator](now, self.value)


def parse_condition(text: str) -> Condition:
    """Read a condition such as `fill > 0.9`. Raises ValueError with a sentence."""
    match = _CONDITION.match(text.strip())
    if not match:
        raise ValueError(f'{text!r} is not of the form "fill > 0.9".')
    if match[1] not in READINGS:
        raise ValueError(f"there is no reading {match[1]!r}; there are {', '.join(READINGS)}.")
    return Condition(match[1], match[2], float(match[3]))
