"""`icequake nightly`: a preset, then trends, an index page, a mail body, a webhook."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from chaos.commands.session import RUNS, new_seed, session
from chaos.display import Display
from chaos.errors import BadInput, ChaosError
from loadtests.records.errors import RecordError
from loadtests.records.redaction import HIDDEN
from reports.errors import ReportError
from reports.history.entry import read_history
from reports.history.page import Trend, trends_of, write_page
from reports.history.pins import pinned_nights, read_baselines
from reports.nightly.mail import WORDS, body, payload, unfinished, unfinished_payload
from reports.nightly.night import NightRun, do_night, exit_code
from reports.nightly.preset import PRESETS, Preset, read_presets
from reports.nightly.webhook import post

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


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
@click.option("--webhook", envvar="ICEQUAKE_WEBHOOK", show_envvar=True, metavar="URL", help="POST the outcome as JSON; `text` is what chat services show.")  # fmt: skip
def nightly(
    preset: str, presets_file: Path, stack: str, runs: Path, seed: int | None, mail: Path | None, webhook: str | None
) -> int:
    """Run a preset on one warm stack; write RUNS/index.html (history, trends) and a mail body of at most fifteen lines.

    The mail body says from the start that the night did not end, so that a night that was killed, or a stack that did not start,
    is never taken for the night before. Ctrl-C, SIGTERM and `icequake halt` end the night after the run they end.

    Exit codes: 0 all as expected and no figure regressed; 1 a FAIL, a naive target that passed, or a regression; 2 inconclusive, or
    ended early; 254 bad arguments; 255 icequake itself failed. A webhook that cannot be told is said on standard error, and changes no
    exit code.
    """
    if webhook and not webhook.startswith(("http://", "https://")):
        raise BadInput("--webhook is not an http or https URL.")
    chosen = _chosen(presets_file, preset)
    mail = mail or runs / "mail.txt"
    _begin(preset, mail)
    try:
        night = _night(chosen, preset, stack, runs, new_seed() if seed is None else seed, webhook)
    except ChaosError as error:
        _hand_out(unfinished(preset, str(error)), mail)
        _tell(webhook, unfinished_payload(preset, str(error)))
        raise
    trends = write_morning(night, preset, runs, mail)
    _tell(webhook, payload(night, preset, trends))
    code = exit_code(night)
    return 1 if code == 0 and any(trend.drift.worse for trend in trends) else code


def _night(chosen: Preset, preset: str, stack: str, runs: Path, seed: int, webhook: str | None) -> list[NightRun]:
    console = Console(stderr=True, highlight=False)
    argv = ["icequake", *sys.argv[1:]]
    if webhook:  # whoever knows it can write to it
        argv = [word.replace(webhook, HIDDEN) for word in argv]

    def say(run: NightRun) -> None:
        console.print(run.line(), markup=False, soft_wrap=True)

    with session(stack, runs=runs, seed=seed, display=Display(console)) as running:
        return do_night(chosen.runs, running, preset=preset, runs=runs, seed=seed, argv=tuple(argv), say=say)


def _begin(preset: str, mail: Path) -> None:
    """Replace the mail body of the night before."""
    try:
        mail.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{mail.parent} cannot be made: {error.strerror}.") from error
    _keep(mail, unfinished(preset, "it began and did not end"))


def _keep(mail: Path, text: str) -> None:
    try:
        mail.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"the mail body {mail} cannot be written: {error.strerror}.") from error


def _chosen(path: Path, name: str) -> Preset:
    try:
        known = read_presets(path)
    except RecordError as error:
        raise BadInput(str(error)) from error
    if name not in known:
        raise BadInput(f"{path.name} has no preset {name!r}; it has {', '.join(known)}.")
    return known[name]


def write_morning(night: list[NightRun], preset: str, runs: Path, mail: Path) -> list[Trend]:
    """Write the index page, the mail body, and (in GitHub Actions) the job summary; return the trends of this night's kinds.

    What the runs came to is in the mail also when page and trends cannot be made, which is a BadInput then.
    """
    try:
        trends = _write_page(night, runs)
    except (OSError, ReportError) as error:
        why = f"the index page and the trends cannot be made: {error}"
        _hand_out(f"{body(night, preset, [], room=1)}{WORDS[255]:<12} {why}\n", mail)
        raise BadInput(why) from error
    _hand_out(body(night, preset, trends), mail)
    click.echo(f"index page {runs / 'index.html'}, mail body {mail}")
    return trends


def _write_page(night: list[NightRun], runs: Path) -> list[Trend]:
    history = read_history(runs)
    tonight = {run.root.name for run in night if run.root is not None}
    kinds = {entry.kind for entry in history if entry.root.name in tonight}
    trends = trends_of(history, pinned_nights(read_baselines(runs)))
    write_page(runs / "index.html", history, trends, f"icequake: {len(history)} runs")
    return [trend for trend in trends if trend.kind in kinds]


def _hand_out(text: str, mail: Path) -> None:
    """Keep the mail body, print it, and append it to the job summary in GitHub Actions."""
    _keep(mail, text)
    click.echo(text, nl=False)
    path = os.environ.get(SUMMARY_VARIABLE)
    if path:
        try:
            with Path(path).open("a", encoding="utf-8") as file:  # a headline may hold a fence of three
                file.write(f"`````text\n{text}`````\n")
        except OSError as error:
            raise BadInput(f"the job summary {path} cannot be written: {error.strerror}.") from error


def _tell(webhook: str | None, outcome: dict[str, Any]) -> None:
    why = post(webhook, json.dumps(outcome).encode()) if webhook else None
    if why is not None:
        click.echo(f"nightly: the webhook was not told: {why}.", err=True)
