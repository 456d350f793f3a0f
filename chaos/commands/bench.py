"""`icequake bench`: speed is measured here, and nowhere asserted."""

from __future__ import annotations

import subprocess
import sys

import click

BENCHES = {
    "verify": ("reports.bench_verify", "reconciliation: events/s per core for identity and content, beside DuckDB"),
    "load": (
        "loadtests.bench_load",
        "the load generator beside stock Locust (and wrk): events/s per core, ledger cost, rate held",
    ),
    "latency": ("loadtests.bench_latency", "what a 2 s stall looks like: the truth, ours, and stock Locust"),
    "collector": ("collector.bench", "the reference collector: acknowledged events/s, synced, on one core"),
    "commit": ("collector.bench_commit", "commit time at 1,000 snapshots against 10"),
    "doctor": ("chaos.table.bench", "the doctor: files/s and peak memory on a table of many data files"),
    "gateway": ("chaos.gateway.bench", "the gateway: added latency and requests/s on one core"),
}


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    epilog="".join(f"{name}: {about}.  " for name, (_, about) in BENCHES.items()),
)
@click.argument("what", type=click.Choice(list(BENCHES)))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(what: str, arguments: tuple[str, ...]) -> int:
    """Run a benchmark; further ARGUMENTS go to it (try `icequake bench verify --help`)."""
    return subprocess.run([sys.executable, "-m", BENCHES[what][0], *arguments], check=False).returncode
