"""`icequake schema`: JSON Schemas of the documents that people and other programs write and read."""

from __future__ import annotations

import importlib

import click
import msgspec

DOCUMENTS = {
    "scenario": "chaos.scenario:Scenario",
    "target": "loadtests.records.target:Target",
    "verdict": "reports.verdict:VerdictDoc",
    "run": "loadtests.records.rundir:RunInfo",
    "catalogue": "chaos.trials.matrix:Matrix",
}


@click.command()
@click.argument("document", type=click.Choice(list(DOCUMENTS)))
def schema(document: str) -> None:
    """Print the JSON Schema of DOCUMENT."""
    module, _, name = DOCUMENTS[document].partition(":")
    kind = getattr(importlib.import_module(module), name)
    click.echo(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(kind)), indent=2).decode())
