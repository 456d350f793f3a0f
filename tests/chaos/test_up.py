"""`icequake up` from a person's side: what it prints is enough to use the stack, and it leaves nothing when it ends."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pyiceberg.catalog import load_catalog

from chaos import cli
from chaos.commands.session import STATE
from chaos.commands.up import _print
from chaos.stack import CAPABILITIES, Ports, Stack
from chaos.stack.moto import Moto
from chaos.stack.plan import make_plan
from chaos.stack.probe import MEANINGS
from chaos.warden_client import PACKAGE_ROOT, Warden

pytestmark = pytest.mark.integration
PATIENCE_S = 60


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def up(runs: Path, *options: str) -> subprocess.Popen[str]:
    code = "import sys; from chaos.cli import main; main()"
    command = [sys.executable, "-c", code, "up", "--stack", "moto", "--runs", str(runs), *options]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, cwd=PACKAGE_ROOT, stdin=null, stdout=pipe, stderr=null, text=True)


def printed(process: subprocess.Popen[str]) -> Iterator[str]:
    """What it prints until it waits for Ctrl-C."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if "Ctrl-C" in line:
            return


def exports(lines: Iterator[str]) -> dict[str, str]:
    """What a shell would have in its environment after reading them."""
    words = [shlex.split(line, comments=True) for line in lines]
    return dict(word[1].split("=", 1) for word in words if word[:1] == ["export"])


def as_pyiceberg_reads(environment: dict[str, str]) -> dict[str, str]:
    """Properties of the catalog `icequake`: `__` is a dot, `_` a hyphen."""
    prefix = "PYICEBERG_CATALOG__ICEQUAKE__"
    names = {name: name.removeprefix(prefix).lower() for name in environment if name.startswith(prefix)}
    return {key.replace("__", ".").replace("_", "-"): environment[name] for name, key in names.items()}


def test_a_stack_is_kept_for_a_person(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pyiceberg knows it by name, `icequake plan` repeats what was tried, a signal ends it, and its secrets go with it."""
    with up(runs, "--env") as process:
        try:
            environment = exports(printed(process))
            state = runs / STATE
            assert json.loads(state.read_text())["capabilities"] == CAPABILITIES["moto"]
            assert state.stat().st_mode & 0o077 == 0
            assert cli.run_command(["plan", "control", "--stack", "up", "--runs", str(runs)]) == 0
            assert "Stack     up, as tried when it was started: shows create_existing_fails" in capsys.readouterr().out
            catalog = load_catalog("icequake", **as_pyiceberg_reads(environment))
            catalog.create_namespace("mine")
            assert catalog.list_namespaces() == [("mine",)]
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
    assert not state.exists()


def test_what_it_shows_is_printed_for_a_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every capability by name, whether the stack shows or lacks it, and the addresses without `export`."""
    warden = cast(Warden, SimpleNamespace())
    _print(Stack(make_plan(Moto, tmp_path, Ports(), seed=0), warden, tmp_path, owned=False), as_env=False)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("moto, as tried: shows ")
    shows, lacks = first.split("; lacks ")
    for name in MEANINGS:
        assert (name in shows, name in lacks) == (CAPABILITIES["moto"][name], not CAPABILITIES["moto"][name])
    assert not any(line.startswith("export") for line in rest)
