"""`icequake up`: the same stack that runs use, for a person; it ends with Ctrl-C."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path

import click
from rich.console import Console

from chaos.commands.plan import able
from chaos.commands.session import RUNS, STATE, new_seed, session
from chaos.display import Display
from chaos.errors import ChaosError
from chaos.stack import STACKS, Stack


@click.command()
@click.option("--stack", type=click.Choice(list(STACKS)), default="seaweedfs", show_default=True, help="Which stack.")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where run directories are kept.")  # fmt: skip
@click.option(
    "--env",
    "as_env",
    is_flag=True,
    help="Print the addresses as shell exports, also for pyiceberg's own commands (catalog `icequake`).",
)
def up(stack: str, runs: Path, as_env: bool) -> None:
    """Start a stack and keep it until Ctrl-C; `icequake run --stack up` uses it meanwhile."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    state = runs / STATE
    with session(stack, runs=runs, seed=new_seed(), display=Display(Console(stderr=True))) as running:
        running.stack.measure()
        running.stack.save_state(state)
        try:
            _print(running.stack, as_env=as_env)
            while not stop.wait(1.0):
                dead = running.stack.dead()
                if dead:
                    raise ChaosError(f"{', '.join(dead)} ended by itself; the stack is taken down.")
        finally:
            state.unlink(missing_ok=True)


def _print(stack: Stack, *, as_env: bool) -> None:
    at = stack.addresses
    values = {
        "S3_ENDPOINT": at.s3_faulted,
        "S3_REGION": at.region,
        "AWS_ACCESS_KEY_ID": at.access_key,
        "AWS_SECRET_ACCESS_KEY": at.secret_key,
        "CATALOG_URI": at.catalog_faulted,
        "CATALOG_WAREHOUSE": at.warehouse,
        "CATALOG_CREDENTIAL": f"{at.access_key}:{at.secret_key}",
        "CATALOG_OAUTH2_URI": f"{at.catalog_faulted}/v1/oauth/tokens",
        "S3_ENDPOINT_DIRECT": at.s3_direct,
        "CATALOG_URI_DIRECT": at.catalog_direct,
        "TOXIPROXY_API": at.toxiproxy_api,
        "INGEST_URL": at.ingest_faulted,
    }
    if not as_env:
        click.echo(f"{stack.name}, as tried: {able(stack.capabilities())}\n")
    else:
        values |= _for_pyiceberg(stack)
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}" if as_env else f"{name:<22} {value}")
    click.echo("# Ctrl-C ends it" if as_env else "\nCtrl-C ends it. In another terminal: icequake run quick --stack up")


def _for_pyiceberg(stack: Stack) -> dict[str, str]:
    """Name the catalog `icequake` for pyiceberg, which reads `__` as a dot and `_` as a hyphen."""
    properties = stack.pyiceberg_properties(direct=True)
    names = {key: key.upper().replace(".", "__").replace("-", "_") for key in properties}
    return {f"PYICEBERG_CATALOG__ICEQUAKE__{names[key]}": value for key, value in properties.items()}
