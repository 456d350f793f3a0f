"""`icequake schema`: JSON Schemas of the documents that people and other programs write and read."""

from __future__ import annotations

import importlib
from typing import Any

import click
import msgspec

DOCUMENTS = {
    "scenario": "chaos.scenario:Scenario",
    "target": "loadtests.records.target:Target",
    "verdict": "reports.verdict:VerdictDoc",
    "run": "loadtests.records.rundir:RunInfo",
    "answer": "reports.experiment.answer_doc:AnswerDoc",
    "catalogue": "chaos.trials.matrix:Matrix",
}


@click.command()
@click.argument("document", type=click.Choice(list(DOCUMENTS)))
def schema(document: str) -> None:
    """Print the JSON Schema of DOCUMENT."""
    module, _, name = DOCUMENTS[document].partition(":")
    kind = getattr(importlib.import_module(module), name)
    click.echo(msgspec.json.format(msgspec.json.encode(schema_of(kind)), indent=2).decode())


def schema_of(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a document, with what its reader checks beyond types."""
    found: dict[str, Any] = msgspec.json.schema(kind)
    step = found.get("$defs", {}).get("StepSpec")
    if step is not None:
        step["oneOf"] = [{"required": ["fault"]}, {"required": ["drill"]}]
    return found
