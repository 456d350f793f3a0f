"""`icequake live`: a stack, a target and Locust's web UI with the icequake tab, for a person."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from pathlib import Path

import click
from rich.console import Console

from chaos.commands.run import show
from chaos.commands.session import invitation, new_seed, run_options, session, worker_options
from chaos.control import ControlServer
from chaos.display import Display
from chaos.generator import Workers
from chaos.live import LiveSession, LocustUi, Setting
from chaos.scenario import find_scenario, load_plan
from chaos.session_file import announced
from chaos.target import find_target
from loadtests.control_client import TOKEN_VARIABLE, URL_VARIABLE


@click.command()
@click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file.")
@click.option("--scenario", default="live", show_default=True, help="Its steps run after each Start; its traffic is replaced by the form's.")  # fmt: skip
@run_options
@worker_options
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="Port of the web UI (default: a free one).")
def live(
    target: str,
    scenario: str,
    stack: str,
    runs: Path,
    seed: int | None,
    overrides: tuple[str, ...],
    processes: int,
    join: int | None,
    port: int | None,
) -> None:
    """Start everything and print one URL: Locust's web UI, with load, faults and the state of the data on one tab.

    Each Start there is a run of its own: it has a run directory, and after Stop it is healed, settled, judged and reported
    like any other. Ctrl-C heals every fault and ends everything; a run it interrupts cannot PASS.
    """
    plan = load_plan(find_scenario(scenario), list(overrides))
    path, loaded = find_target(target)
    seed = new_seed() if seed is None else seed
    console = Console()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    display = Display(console)
    with (
        session(stack, runs=runs, seed=seed, display=display) as running,
        tempfile.TemporaryDirectory(prefix="icequake-live-", ignore_cleanup_errors=True) as scratch,
    ):
        workers = Workers(processes, join)
        ui = LocustUi(running.warden, Path(scratch) / "locust.log", port=port, workers=workers)
        live_session = LiveSession(
            Setting(plan, path, loaded, runs, tuple(sys.argv)),
            stack=running.stack,
            warden=running.warden,
            display=lambda: Display(console),
            ui=ui,
            finished=show,
        )
        with ControlServer(live_session) as control, announced(runs, control.url, control.token):
            arguments = ["--host", f"{running.stack.addresses.ingest_faulted}/", "--users", "20", "--spawn-rate", "20"]
            arguments += ["--rate-per-user", "1", "--batch", "20", "--mode", loaded.ingest.mode, "--seed", str(seed)]
            ui.start(arguments, {URL_VARIABLE: control.url, TOKEN_VARIABLE: control.token})
            if (how := invitation(workers, running.stack.addresses.ingest_faulted)) is not None:
                click.echo(how)
            click.echo(
                f"\n  {ui.url}\n\nPress Start there; faults are on the tab icequake, and `icequake drill NAME --live` in another "
                "terminal\ndoes a drill. Ctrl-C here ends everything."
            )
            try:
                live_session.serve(stop.is_set)
            finally:
                ui.stop()
