"""The target's configuration as it says itself that it is in force: `target-config.json`, secrets already redacted by the target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from loadtests.records.documents import read_document, write_document
from loadtests.records.errors import MissingRecord
from loadtests.records.schema import schema_name

KIND = "target-config"
NAME = "target-config.json"


class TargetConfig(Struct, frozen=True, kw_only=True):
    """Every variable in force, and the defaults of those that have one."""

    variables: dict[str, str]
    defaults: dict[str, str] = field(default_factory=dict)
    schema: str = schema_name(KIND)

    def changed(self) -> dict[str, str]:
        """Return the variables that are not at their default (or have none and are set)."""
        return {name: value for name, value in self.variables.items() if value and value != self.defaults.get(name)}


def write_target_config(run: Path, variables: Mapping[str, str], defaults: Mapping[str, str]) -> None:
    """Write the file of a run directory."""
    write_document(run / NAME, TargetConfig(variables=dict(variables), defaults=dict(defaults)))


def read_target_config(run: Path) -> TargetConfig | None:
    """Return what was written; None where the target was not asked. Raises CorruptRecord, NewerVersion."""
    try:
        return read_document(run / NAME, TargetConfig, schema=KIND)
    except MissingRecord:
        return None
