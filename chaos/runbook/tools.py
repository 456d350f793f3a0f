"""Which programs and sub-commands there are: tools.yaml, icequake's own, and what every shell has."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from chaos.runbook.document import Stage
from loadtests.records.documents import load_yaml

TOOLS = Path(__file__).parent / "tools.yaml"

SHELL = frozenset(
    [
        "[",
        "awk",
        "base64",
        "basename",
        "bash",
        "break",
        "cat",
        "cd",
        "chmod",
        "cp",
        "cut",
        "date",
        "diff",
        "dirname",
        "do",
        "done",
        "echo",
        "elif",
        "else",
        "env",
        "exit",
        "export",
        "false",
        "fi",
        "for",
        "function",
        "grep",
        "head",
        "if",
        "jq",
        "kill",
        "less",
        "local",
        "ls",
        "mkdir",
        "mv",
        "printf",
        "pwd",
        "read",
        "readonly",
        "return",
        "rm",
        "sed",
        "set",
        "sh",
        "shasum",
        "sha256sum",
        "sleep",
        "sort",
        "source",
        ".",
        "tail",
        "tee",
        "test",
        "then",
        "time",
        "timeout",
        "touch",
        "tr",
        "trap",
        "true",
        "uniq",
        "unset",
        "until",
        "wait",
        "watch",
        "wc",
        "while",
        "xargs",
        ":",
    ]
)
"""Programs and words of the shell whose use says nothing about the pipeline."""


class Local(Struct, frozen=True, forbid_unknown_fields=True):
    """Commands that work on a simulator unless a flag says otherwise."""

    commands: list[str]
    unless: list[str]


class Stores(Struct, frozen=True, forbid_unknown_fields=True):
    """A command that leaves an object behind; `at` counts its plain arguments, or `flag` names it."""

    command: str
    removed_by: str
    at: int | None = None
    flag: str | None = None


class Tool(Struct, frozen=True, forbid_unknown_fields=True):
    """One program; see tools.yaml."""

    source: str
    commands: dict[str, Any] | None = None
    runners: list[str] = field(default_factory=list)
    local: Local | None = None
    sampled: list[str] = field(default_factory=list)
    stores: list[Stores] = field(default_factory=list)


@lru_cache(maxsize=1)
def tools() -> dict[str, Tool]:
    """Return what tools.yaml says. Raises InvalidDocument when it is wrong."""
    return load_yaml(TOOLS, dict[str, Tool])


def tool_of(stage: Stage) -> tuple[str, list[str]]:
    """Return a program's name and its plain arguments; `npx wrangler r2` and `wrangler r2` are the same."""
    words = stage.plain()
    runners = {runner for tool in tools().values() for runner in tool.runners}
    while len(words) > 1 and words[0].rpartition("/")[2] in ("sudo", *runners):
        words = words[1:]
    name = words[0].rpartition("/")[2].partition("@")[0] if words else ""
    return name, words[1:]


def unknown_command(stage: Stage) -> tuple[str, list[str]] | None:
    """Return the first sub-command that a program does not have, and those it has; None when nothing is wrong."""
    name, words = tool_of(stage)
    if name == "icequake":
        return _unknown_icequake(stage)
    known = tools()[name].commands if name in tools() else None
    so_far = name
    for word in words:
        if not isinstance(known, dict):
            return None
        if word not in known:
            return f"{so_far} {word}", sorted(known)
        known, so_far = known[word], f"{so_far} {word}"
    return None


def is_known(stage: Stage) -> bool:
    """Tell whether anything is known of a program."""
    name, _ = tool_of(stage)
    return name in tools() or name in SHELL or name in ("icequake", "python", "python3", "")


def _unknown_icequake(stage: Stage) -> tuple[str, list[str]] | None:
    import click

    from chaos.cli import icequake

    group: click.Command = icequake
    so_far = "icequake"
    words = list(stage.words[1:])
    while isinstance(group, click.Group):
        named = next((word for word in words if not word.startswith("-")), None)
        if named is None:
            return None
        context = click.Context(group)
        command = group.get_command(context, named)
        if command is None:
            return f"{so_far} {named}", sorted(group.list_commands(context))
        words = words[words.index(named) + 1 :]
        group, so_far = command, f"{so_far} {named}"
    if group.context_settings.get("ignore_unknown_options"):
        return None  # it hands them on
    known = {option for param in group.params for option in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}
    wrong = next((word for word in words if word.startswith("--") and word.partition("=")[0] not in known), None)
    return None if wrong is None else (f"{so_far} {wrong.partition('=')[0]}", sorted(o for o in known if o[0] == "-"))
