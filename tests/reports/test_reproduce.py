"""The printed command repeats the run: the command line reads it back as what was asked for, with the seed that was drawn."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest

from chaos.cli import icequake
from loadtests.records.rundir import NightPart, RunInfo
from reports.reproduce import reproduce_line
from tests.reports.drawn_runs import info

NIGHT = NightPart(preset="nightly", night="n", number=2, of=3, set=["settle_s=9"])
NOT_REPEATED = ("seed", "runs", "as_json", "only_print", "stack", "target")


def read(line: str | list[str]) -> tuple[str, dict[str, Any]]:
    """Parse a command line as `icequake` does, and do nothing."""
    words = (shlex.split(line) if isinstance(line, str) else line)[1:]
    command = icequake.get_command(click.Context(icequake), words[0])
    assert command is not None, words
    return words[0], command.make_context(words[0], words[1:]).params


@pytest.mark.parametrize(
    "argv",
    [
        ["icequake", "run", "quick"],
        ["/x/bin/icequake", "run", "quick", "--target", "my file.yaml", "--json", "--runs", "a b"],
        [
            "icequake",
            "run",
            "--seed=7",
            "--set",
            "traffic.events_per_s=200",
            "quick",
            "--set=steps.0.with.latency_ms=9",
        ],
        ["icequake", "run", "my scenario.yaml", "--processes", "3", "--stack=moto", "--target=naive"],
        ["icequake", "drill", "restore-permissions", "--with", "operation=GET", "--seed", "3"],
        ["icequake", "drill", "--with=after=8000", "scale-buffer", "--with", "prove=false", "--set", "settle_s=9"],
        ["icequake", "live", "--scenario", "quick", "--port", "8089", "--set", "env.X='a b'"],
        ["icequake", "catalogue", "slow-r2", "--target", "mine.yaml"],
    ],
)
def test_the_line_read_back_is_what_was_asked_for(argv: list[str]) -> None:
    """Every parameter of drills and scenarios, whatever the order and the form it was given in."""
    name, asked = read(argv)
    again_name, again = read(reproduce_line(info(argv=argv, seed=99, stack="moto", target="mine")))

    assert again_name == name
    assert {key: value for key, value in again.items() if key not in NOT_REPEATED} == {
        key: value for key, value in asked.items() if key not in NOT_REPEATED
    }
    assert (again["seed"], again["stack"]) == (99, "moto")
    given = any(word.startswith("--target") for word in argv)
    assert again["target"] == (asked["target"] if given else "mine")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"argv": ["/x/icequake", "drill", "d", "--with", "a=1", "--runs", "r"], "scenario": "drill-d"}, "drill d --with a=1 --seed 7 --target my-collector"),
        ({"argv": ["icequake", "gameday"]}, "run quick --seed 7 --target my-collector"),
        ({"argv": ["icequake", "gameday", "--set", "settle_s=9", "--set=a=b c"]}, "run quick --set settle_s=9 --set 'a=b c' --seed 7 --target my-collector"),
        ({"argv": ["icequake", "nightly"], "night": NIGHT}, "run quick --set settle_s=9 --seed 7 --target my-collector"),
        ({"argv": []}, "run quick --seed 7 --target my-collector"),
        ({"argv": [], "scenario": "drill-flush-and-verify"}, "drill flush-and-verify --seed 7 --target my-collector"),
        ({"argv": ["icequake", "experiment", "capacity", "--target", "t.yaml"], "scenario": "capacity"}, "run scenario.yaml --seed 7 --target t.yaml"),
        ({"argv": ["icequake", "catalogue", "slow-r2"], "scenario": "try-slow-r2", "target": "forgets"}, "catalogue slow-r2 --seed 7"),
        ({"argv": ["icequake", "run", "quick", "--stack", "up"], "stack": "moto"}, "run quick --seed 7 --target my-collector --stack moto"),
    ],
)  # fmt: skip
def test_a_run_of_a_larger_command_is_repeated_alone(changes: dict[str, Any], line: str) -> None:
    """With its own scenario file where no other has it; the stack is the one that it ran on."""
    assert reproduce_line(info(**changes)) == f"icequake {line}"
    read(f"icequake {line}")


def test_every_command_that_is_repeated_as_it_was_has_the_options_that_are_added() -> None:
    """A command that lost --seed, --target or --stack would be printed wrong."""
    run_info: RunInfo = info(stack="moto")
    for command in ("run", "drill", "live", "catalogue"):
        found = icequake.get_command(click.Context(icequake), command)
        assert found is not None
        assert {"seed", "target", "stack"} <= {one.name for one in found.params}, command
    assert reproduce_line(run_info).endswith("--stack moto")
