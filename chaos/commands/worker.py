"""`icequake worker`: send a share of another machine's traffic."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from chaos.commands.session import RUNS
from chaos.errors import BadInput
from chaos.warden_client import PACKAGE_ROOT


@click.command()
@click.argument("master", metavar="HOST:PORT")
@click.option(
    "--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Generator processes here."
)
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where a copy of the records is kept.")  # fmt: skip
def worker(master: str, processes: int, runs: Path) -> None:
    """Join the test whose master listens at HOST:PORT (`--join` of run and live), until it ends.

    Both its port and the port that events go to must be reachable under 127.0.0.1, as through an SSH tunnel. Records are sent to
    the master as they grow; a copy stays below --runs. Ends with 0, or with Locust's status.
    """
    host, _, port = master.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(f"{master!r} is not of the form 127.0.0.1:5557.")
    argv = [
        sys.executable, "-m", "locust", "-f", str(PACKAGE_ROOT / "loadtests" / "locustfile.py"), "--worker",
        "--master-host", host, "--master-port", port, "--runs", str(runs.resolve()), "--apart", "--loglevel", "WARNING",
    ]  # fmt: skip
    argv += ["--processes", str(processes)] if processes > 1 else []
    os.execve(sys.executable, argv, {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)})  # noqa: S606  # signals go to Locust itself
