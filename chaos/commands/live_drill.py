"""`icequake drill NAME --live`: a drill in the live session that runs already, from another terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from chaos.display import wording
from chaos.drills import find_drill
from chaos.drills.by_hand import State, follow
from chaos.errors import BadInput, ChaosError
from chaos.session_file import find_session
from loadtests.control_client import ControlClient, ControlRefused

NOT_NOW = 409


def list_live(runs: Path) -> int:
    """Print the drills that the session can do, and why it cannot do the others."""
    client = find_session(runs)
    try:
        drills = json.loads(client.get("drills")[1])["drills"]
    except ControlRefused as refused:
        raise _translated(refused) from refused
    for one in drills:
        click.echo(f"{one['name']:<22} " + (f"not here: {one['problem']}" if one["problem"] else one["about"]))
    return 0


def drill_live(name: str, params: tuple[str, ...], runs: Path) -> int:
    """Begin the drill, print its steps as they come, and return its exit code. Raises ChaosError."""
    given = read_params(params)
    find_drill(name, given)
    client = find_session(runs)
    try:
        states = _states(client)  # first: what happens between the two is not missed
        next(states)
        begun = client.post("drill", {"drill": name, "with": given})
    except ControlRefused as refused:
        if refused.status != NOT_NOW:
            raise _translated(refused) from refused
        click.echo(f"icequake: the drill was not begun: {refused}", err=True)
        return 2
    except StopIteration:
        raise ChaosError("the live session ended before the drill was begun.") from None
    click.echo(
        f"drill {name} is step {begun['step']} of run {begun['run']}; it goes on in the session when this command is ended"
    )
    outcome = follow(states, begun["run"], begun["step"], _say)
    click.echo(f"{name}: {outcome.sentence}", err=outcome.exit_code == 255)
    return outcome.exit_code


def read_params(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read `--with` pairs, whose values are YAML. Raises BadInput."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadInput(f"--with {pair!r}: the value is not YAML.") from error
        if not key or not equals:
            raise BadInput(f"--with {pair!r}: write key=value, such as after=8000.")
    return found


def _say(entry: dict[str, Any]) -> None:
    text = wording(entry)
    if text:
        click.echo(text)


def _states(client: ControlClient) -> Iterator[State]:
    """Yield what the session shows, once a second, until it ends. Raises ControlRefused."""
    for event in client.events():
        yield json.loads(event.removeprefix(b"data: "))


def _translated(refused: ControlRefused) -> ChaosError:
    kind = BadInput if refused.status == 400 else ChaosError  # the request is wrong
    return kind(str(refused))
