"""`icequake test`: lint, types, the test suite and the fault catalogue of icequake itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click

from chaos.warden_client import PACKAGE_ROOT

ICEQUAKE = "from chaos.cli import main; main()"
TRIED = ("--tier", "quick", "--runs", "build/catalogue", "--report", "build/catalogue/report")
PACKAGES = ("collector", "loadtests", "chaos", "reports")


@click.command(name="test", context_settings={"ignore_unknown_options": True})
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Run the long tests and the quick tier of the catalogue too, and search property tests at random.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def check(everything: bool, arguments: tuple[str, ...]) -> int:
    """Check icequake itself: ruff, mypy --strict, pytest. Further ARGUMENTS go to pytest, and leave the catalogue out.

    Needs the test tools: `make test` installs them.
    """
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "random"} if everything else None
    for name, command in _checks(everything, arguments):
        started = time.monotonic()
        click.echo(f"== {name}", err=True)
        code = subprocess.run([sys.executable, *command], cwd=PACKAGE_ROOT, env=environment, check=False).returncode
        click.echo(f"== {name} took {time.monotonic() - started:.0f} s, status {code}", err=True)
        if code != 0:
            return code
    return 0


def _checks(everything: bool, arguments: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    mypy = ["-m", "mypy", "--strict", *(part for package in PACKAGES for part in ("-p", package))]
    chosen = [] if everything else ["-m", "not slow"]
    checks = [
        ("ruff check", ["-m", "ruff", "check", "-q"]),
        ("ruff format", ["-m", "ruff", "format", "--check", "-q"]),
        ("mypy --strict", mypy),
        # Most of the time is spent waiting for servers; a file stays in one process, so that servers are shared.
        ("pytest", ["-m", "pytest", "-q", "-n", "4", "--dist", "loadfile", *chosen, *arguments]),
    ]
    if everything and not arguments:
        checks.append(("catalogue, quick tier", ["-c", ICEQUAKE, "catalogue", *TRIED]))
    return checks
