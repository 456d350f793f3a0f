"""What commands that run something share: a warden, a stack, and the options that choose them."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from chaos.display import Display
from chaos.errors import BadInput
from chaos.generator import Workers
from chaos.journal import Healed
from chaos.leftovers import describe, heal_leftovers, put_back_leftovers
from chaos.scratch import scratch
from chaos.stack import STACKS, Addresses, Stack, attach, start
from chaos.warden_client import Warden
from loadtests.records.structs import prepare

F = TypeVar("F", bound=Callable[..., Any])
RUNS = Path("runs")
STATE = ".stack.json"
"""Where `icequake up` leaves the addresses of its stack, below the runs directory."""


@dataclass(frozen=True)
class Session:
    """A warden and a stack that it (or `icequake up`) keeps running."""

    warden: Warden
    stack: Stack


@contextmanager
def session(stack: str, *, runs: Path, seed: int, display: Display) -> Iterator[Session]:
    """Start (or, for the name `up`, attach to) a stack; everything that was started ends with the block."""
    if stack != "up" and stack not in STACKS:
        raise BadInput(f"there is no stack {stack!r}; there are {', '.join(STACKS)}, and `up` for a running one.")
    runs.mkdir(parents=True, exist_ok=True)
    prepare()
    for one in all_leftovers(runs):
        display.say(f"left over from an earlier run: {describe(one)}")
    with scratch(runs) as directory, Warden() as warden:
        if stack == "up":
            running = attach(runs / STATE, warden)
        else:
            display.say(f"starting the {stack} stack: storage, catalog, gateway and Toxiproxy")
            running = start(STACKS[stack], warden, directory, seed=seed)
        with running:
            yield Session(warden, running)


def all_leftovers(runs: Path) -> list[Healed]:
    """Undo what ended runs left: injected faults, and damaged objects of a stack that is still up."""
    return heal_leftovers(runs) + put_back_leftovers(runs, _properties_of_up(runs / STATE))


def _properties_of_up(state: Path) -> dict[str, str] | None:
    """Properties of the stack that `icequake up` keeps running; None when there is none, or it has died."""
    try:
        at = Addresses(**json.loads(state.read_bytes())["addresses"])
        where = urlsplit(at.catalog_direct)
        socket.create_connection((where.hostname or "", where.port or 80), timeout=2).close()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return at.pyiceberg_properties(direct=True)


def worker_options(command: F) -> F:
    """Add `--processes` and `--join`."""
    for option in (
        click.option("--join", type=click.IntRange(1, 65535), default=None, metavar="PORT", help="Take workers of other machines too, at this loopback port (`icequake worker`)."),
        click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Generator processes on this machine."),
    ):  # fmt: skip
        command = option(command)
    return command


def invitation(workers: Workers, events_url: str) -> str | None:
    """Say how workers of other machines join; None when they cannot."""
    if workers.join is None:
        return None
    events = urlsplit(events_url).port
    return (
        "On each other machine, with the name of this one for HERE:\n"
        f"  ssh -N -L {workers.join}:127.0.0.1:{workers.join} -L {events}:127.0.0.1:{events} HERE &\n"
        f"  icequake worker 127.0.0.1:{workers.join}"
    )


def new_seed() -> int:
    """Return a seed that a person can retype."""
    return secrets.randbelow(1_000_000)


def run_options(command: F) -> F:
    """Add `--stack`, `--runs`, `--seed` and `--set`."""
    for option in (
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario, such as traffic.events_per_s=200."),
        click.option("--seed", type=click.IntRange(0), default=None, help="Repeat a run: ids, content, arrivals, jitter (default: random)."),
        click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where run directories are kept."),
        click.option("--stack", default="seaweedfs", show_default=True, help=f"{', '.join(STACKS)}, or `up` for the one that `icequake up` keeps running."),
    ):  # fmt: skip
        command = option(command)
    return command
