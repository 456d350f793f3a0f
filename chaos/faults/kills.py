"""What each named fault must kill (kills.yaml): a collector with one planted bug, and the check that finds it.

A fault under which every broken collector passes tells nothing; so each has a mutant that fails under it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from chaos.faults import catalogue
from loadtests.records.documents import parse_yaml, validation_sentence
from loadtests.records.errors import InvalidDocument

KILLS = Path(__file__).parent / "kills.yaml"


class Kill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a fault kills.

    Attributes:
        mutant: Name of a collector with one planted bug.
        check: The check of the verdict that must FAIL, such as `events.lost`.
    """

    mutant: str
    check: str


@lru_cache(maxsize=1)
def kills() -> dict[str, Kill]:
    """Return what each fault of the catalogue kills. Raises InvalidDocument with file and line."""
    return read_kills(KILLS.read_text(encoding="utf-8"), KILLS)


def read_kills(text: str, path: Path) -> dict[str, Kill]:
    """Read *text* as kills.yaml; *path* is only named in errors. Raises InvalidDocument.

    It must have a line for every fault of the catalogue, and for no other.
    """
    plain = parse_yaml(text, dict[str, Any], path=path)
    known, lines = catalogue(), _lines(text, path)
    for name, line in lines.items():
        if name not in known:
            raise InvalidDocument(path, line, f"there is no fault {name!r} in catalogue.yaml; remove the line.")
    missing = [name for name in known if name not in plain]
    if missing:
        raise InvalidDocument(path, None, f"{missing[0]} has no line; name the mutant that it kills, and the check.")
    return {name: _kill(name, entry, path, lines[name]) for name, entry in plain.items()}


def _kill(name: str, entry: Any, path: Path, line: int) -> Kill:
    try:
        return msgspec.convert(entry, Kill)
    except msgspec.ValidationError as error:
        raise InvalidDocument(path, line, f"{name}: {validation_sentence(str(error))}") from error


def _lines(text: str, path: Path) -> dict[str, int]:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    lines: dict[str, int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
        line = int(key.start_mark.line) + 1
        if key.value in lines:
            raise InvalidDocument(path, line, f"{key.value} has a line already (line {lines[key.value]}); keep one.")
        lines[key.value] = line
    return lines
