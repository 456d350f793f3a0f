"""The documentation names everything there is and nothing that is not.

The tables of docs/reference.md are made from the code: `python -m tests.test_docs` rewrites them.
"""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml

from chaos.cli import COMMANDS
from chaos.commands.schema import DOCUMENTS
from chaos.condition import READINGS
from chaos.faults import MECHANISMS, catalogue
from chaos.scenario import find_scenario, load_plan, scenario_names
from chaos.target import find_target, target_names
from loadtests.records.rundir import RunDir, RunInfo

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

Rows = Iterator[tuple[str, ...]]


def command(name: str) -> click.Command:
    module, _, attribute = COMMANDS[name][0].partition(":")
    found: click.Command = getattr(importlib.import_module(module), attribute)
    return found


def profiles() -> dict[str, dict[str, Any]]:
    text = (ROOT / "loadtests" / "profiles.yaml").read_text(encoding="utf-8")
    traffic: dict[str, dict[str, Any]] = yaml.safe_load(text)["traffic"]
    return traffic


def flow(value: Any) -> str:
    """A value as one line of YAML, as a scenario would have it."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("...\n").strip()


def command_rows() -> Rows:
    yield "command", "does", "arguments and options"
    for name, (_, about) in COMMANDS.items():
        found = command(name)
        if isinstance(found, click.Group):
            for inner, sub in found.commands.items():
                yield f"`icequake {name} {inner}`", sub.get_short_help_str(120), " ".join(parameter_words(sub))
        else:
            yield f"`icequake {name}`", about, " ".join(parameter_words(found))


def parameter_words(of: click.Command) -> Iterator[str]:
    for parameter in of.params:
        word = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.make_metavar(click.Context(of))
        yield f"`{word}`"


def scenario_rows() -> Rows:
    yield "scenario", "asks", "steps"
    for name in scenario_names():
        plan = load_plan(find_scenario(name))
        steps = {step.index: f"`{step.spec.name}`" for step in plan.steps}
        steps |= {one.index: f"drill `{one.drill.name}`" for one in plan.drills}
        yield f"`{name}`", plan.scenario.question, ", ".join(words for _, words in sorted(steps.items()))


def fault_rows() -> Rows:
    yield "fault", "breaks", "mechanism", "bites at", "tier", "parameters"
    for name, spec in catalogue().items():
        stages = ", ".join(spec.stages)
        yield (
            f"`{name}`",
            spec.about,
            spec.mechanism,
            stages,
            spec.micro.tier,
            f"`{flow(spec.params)}`" if spec.params else "",
        )


def mechanism_rows() -> Rows:
    yield "mechanism", "parameter", "default"
    for name, kind in MECHANISMS.items():
        fields = msgspec.structs.fields(kind)  # type: ignore[arg-type]
        if not fields:
            yield name, "none", ""
        for field in fields:
            yield name, f"`{field.encode_name}`", "required" if field.required else f"`{flow(field.default)}`"


def target_rows() -> Rows:
    yield "target", "promises", "a 2xx means", "capacity of a buffer", "visible within"
    for name in target_names():
        contract = find_target(name)[1].contract
        yield (
            f"`{name}`",
            contract.delivery,
            contract.durability,
            f"{contract.capacity_events} events",
            f"{contract.freshness_s:g} s",
        )


def traffic_rows() -> Rows:
    yield "profile", "offers"
    for name, profile in profiles().items():
        yield f"`{name}`", str(profile["about"])


def reading_rows() -> Rows:
    yield "reading", "is"
    for name, about in READINGS.items():
        yield f"`{name}`", about


TABLES: dict[str, Callable[[], Rows]] = {
    "readings": reading_rows,
    "commands": command_rows,
    "scenarios": scenario_rows,
    "faults": fault_rows,
    "mechanisms": mechanism_rows,
    "targets": target_rows,
    "traffic": traffic_rows,
}


def table(name: str) -> str:
    """The Markdown of a table."""
    head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in TABLES[name]()]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_reference_are_true(name: str) -> None:
    """What there is stands there as it is, and nothing else does. `python -m tests.test_docs` rewrites the tables."""
    found = place(name).search(REFERENCE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0].strip().splitlines() == table(name).splitlines()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("command", [f"icequake {name}" for name in COMMANDS]),
        ("scenario", scenario_names()),
        ("fault", list(catalogue())),
        ("target", target_names()),
        ("traffic", list(profiles())),
        ("schema", [f"icequake schema {name}" for name in DOCUMENTS]),
    ],
)
def test_everything_is_named_somewhere(kind: str, names: list[str]) -> None:
    """Every command, scenario, fault, target, profile and schema stands in README.md or docs/."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)] == []


def test_every_file_of_a_run_directory_is_named() -> None:
    """By the reference, as it is called on disk."""
    run = RunDir(Path("run"), RunInfo(run_id="ab12cd34", scenario="s", target="t", seed=1))
    names = {path.name for path in vars(run).values() if isinstance(path, Path) and path != run.root}
    text = REFERENCE.read_text(encoding="utf-8")
    assert len(names) > 15
    assert [name for name in sorted(names | {"run.json"}) if f"`{name}" not in text] == []


def test_exit_codes_are_told() -> None:
    """Each with its meaning, in README.md and in the reference."""
    for page in (ROOT / "README.md", REFERENCE):
        text = page.read_text(encoding="utf-8")
        assert [code for code in (0, 1, 2, 254, 255) if f"| {code} |" not in text] == []


def example_commands() -> Iterator[tuple[str, list[str]]]:
    """Every `icequake ...` line of a console block, with where it stands."""
    for page in PAGES:
        for block in re.findall(r"```(?:console|sh|bash|shell)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words and words[0].rpartition("/")[2] == "icequake":
                    yield f"{page.name}: {line.strip()}", words[1:]


@pytest.mark.parametrize(("where", "words"), list(example_commands()))
def test_example_commands_are_commands(where: str, words: list[str]) -> None:
    """Whatever a reader copies is understood: the command, its options, and the kind of their values."""
    assert words, where
    assert words[0] in COMMANDS, where
    with command(words[0]).make_context(words[0], list(words[1:])):
        pass


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file or a directory of the repository."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    broken = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_no_machine(page: Path) -> None:
    """No path of the machine they were written on."""
    assert not re.search(r"(?<![\w.])/(work|root|tmp|home)/", page.read_text(encoding="utf-8"))


def rewrite() -> None:
    """Make the tables of the reference again."""
    text = REFERENCE.read_text(encoding="utf-8")
    for name in TABLES:
        text = place(name).sub(lambda _, name=name: f"\n{table(name)}\n", text)  # type: ignore[misc]
    REFERENCE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    rewrite()
