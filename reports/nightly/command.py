"""`icequake nightly`: a preset, then trends, an index page, a mail body, a webhook."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

import click
from rich.console import Console

from chaos.commands.session import RUNS, new_seed, session
from chaos.display import Display
from chaos.errors import BadInput
from loadtests.records.errors import RecordError
from reports.errors import ReportError
from reports.history.entry import read_history
from reports.history.page import Trend, trends_of, write_page
from reports.history.pins import pinned_nights, read_baselines
from reports.nightly.mail import body, payload
from reports.nightly.night import NightRun, do_night, exit_code
from reports.nightly.preset import PRESETS, Preset, read_presets

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
WEBHOOK_TIMEOUT_S = 20


@click.command(name="nightly")
@click.option("--preset", default="nightly", show_default=True, help="smoke: 5 min; nightly: 30 min; soak: an hour; or one of --presets.")  # fmt: skip
@click.option("--presets", "presets_file", type=click.Path(path_type=Path, dir_okay=False), default=PRESETS, help="Your own lists of runs, in the form of reports/nightly/presets.yaml.")  # fmt: skip
@click.option("--stack", default="seaweedfs", show_default=True, help="As for `icequake run`.")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where run directories are kept.")  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), default=None, help="Of the first run; the others count up (default: random)."
)
@click.option(
    "--mail", type=click.Path(path_type=Path, dir_okay=False), help="Where the mail body goes (default: RUNS/mail.txt)."
)
@click.option("--webhook", metavar="URL", help="POST the outcome as JSON; `text` is what chat services show.")
def nightly(
    preset: str, presets_file: Path, stack: str, runs: Path, seed: int | None, mail: Path | None, webhook: str | None
) -> int:
    """Run a preset on one warm stack; write RUNS/index.html (history, trends) and a mail body of at most fifteen lines.

    Exit codes: 0 all as expected and no figure regressed; 1 a FAIL, a naive target that passed, or a regression; 2 inconclusive; 254 bad
    arguments; 255 icequake itself failed. A webhook that cannot be reached is said on standard error, and changes no exit code.
    """
    if webhook is not None and not webhook.startswith(("http://", "https://")):
        raise BadInput(f"--webhook {webhook!r} is not an http or https URL.")
    chosen = _chosen(presets_file, preset)
    console = Console(stderr=True, highlight=False)
    chosen_seed = new_seed() if seed is None else seed

    def say(run: NightRun) -> None:
        console.print(run.line(), markup=False, soft_wrap=True)

    with session(stack, runs=runs, seed=chosen_seed, display=Display(console)) as running:
        night = do_night(chosen.runs, running, runs=runs, seed=chosen_seed, argv=("icequake", *sys.argv[1:]), say=say)
    trends = write_morning(night, preset, runs, mail or runs / "mail.txt")
    if webhook is not None:
        _post(webhook, json.dumps(payload(night, preset, trends)).encode())
    code = exit_code(night)
    return 1 if code == 0 and any(trend.drift.worse for trend in trends) else code


def _chosen(path: Path, name: str) -> Preset:
    try:
        known = read_presets(path)
    except RecordError as error:
        raise BadInput(str(error)) from error
    if name not in known:
        raise BadInput(f"{path.name} has no preset {name!r}; it has {', '.join(known)}.")
    return known[name]


def write_morning(night: list[NightRun], preset: str, runs: Path, mail: Path) -> list[Trend]:
    """Write the index page, the mail body, and (in GitHub Actions) the job summary; return the trends of this night's kinds."""
    history = read_history(runs)
    tonight = {run.root.name for run in night if run.root is not None}
    kinds = {entry.kind for entry in history if entry.root.name in tonight}
    try:
        every = trends_of(history, pinned_nights(read_baselines(runs)))
        write_page(runs / "index.html", history, every, f"icequake: {len(history)} runs")
        trends = [trend for trend in every if trend.kind in kinds]
        text = body(night, preset, trends)
        mail.write_text(text, encoding="utf-8")
        summary = os.environ.get(SUMMARY_VARIABLE)
        if summary:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(f"```\n{text}```\n")
    except (OSError, ReportError) as error:
        raise BadInput(f"the outcome of the night cannot be written: {error}") from error
    click.echo(text, nl=False)
    click.echo(f"index page {runs / 'index.html'}, mail body {mail}")
    return trends


def _post(url: str, data: bytes) -> None:
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"}, method="POST")  # noqa: S310  # checked
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_TIMEOUT_S):  # noqa: S310  # http and https only
            pass
    except (urllib.error.URLError, OSError, ValueError) as error:
        click.echo(f"nightly: the webhook was not told: {error}", err=True)
