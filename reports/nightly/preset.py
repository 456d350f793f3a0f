"""Presets: lists of runs by name, from `presets.yaml` or a user's own file of the same form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from loadtests.records.documents import load_yaml
from loadtests.records.schema import schema_name
from reports.verdict import Verdict

KIND = "presets"
PRESETS = Path(__file__).with_name("presets.yaml")


class PresetRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run: `set` changes values of the scenario as `icequake run --set` does; `expect` is the verdict it must have."""

    scenario: str
    target: str = "reference"
    expect: Verdict = Verdict.PASS
    set: list[str] = field(default_factory=list)


class Preset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Runs, one after the other on one stack."""

    about: str
    runs: Annotated[list[PresetRun], Meta(min_length=1)]


class Presets(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What there is, by name."""

    presets: dict[str, Preset]
    schema: str = schema_name(KIND)


def read_presets(path: Path = PRESETS) -> dict[str, Preset]:
    """Read presets. Raises MissingRecord or InvalidDocument (file, line, sentence)."""
    return load_yaml(path, Presets, schema=KIND).presets
