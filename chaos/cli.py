"""The `icequake` command. Each sub-command is a "module:function" string, imported only when it is used."""

from __future__ import annotations

import importlib
import re
import sys

import click

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("chaos.commands.run:run", "Run a scenario against a target and judge it."),
    "live": ("chaos.commands.live:live", "Load and break it by hand, in Locust's own web UI."),
    "worker": ("chaos.commands.worker:worker", "Send a share of the traffic of a run on another machine."),
    "gameday": (
        "chaos.commands.gameday:gameday",
        "One scenario, two targets: the reference passes, the naive one fails.",
    ),
    "catalogue": ("chaos.commands.catalogue:catalogue_command", "Try every named fault, one short run each."),
    "plan": ("chaos.commands.plan:plan", "Say what a run would touch, before it does."),
    "list": ("chaos.commands.listing:listing", "List scenarios, faults, targets, traffic or runs."),
    "up": ("chaos.commands.up:up", "Start the stack for a person, and print its addresses."),
    "halt": ("chaos.commands.halt:halt", "Heal everything a run has injected, from another terminal."),
    "heal": ("chaos.commands.heal:heal", "Remove every fault that an interrupted run left behind."),
    "baseline": ("chaos.commands.baseline:baseline", "Turn a real log of CloudEvents into traffic that replays it."),
    "doctor": ("chaos.commands.doctor:doctor", "Check an Iceberg table: everything that can be seen from outside."),
    "repair": ("chaos.commands.repair:repair", "Mend what the doctor found: a plan first, then --yes."),
    "damage": ("chaos.commands.damage:damage_command", "Break an object of a table by hand, its original kept."),
    "put-back": ("chaos.commands.damage:put_back_command", "Undo what `icequake damage` did."),
    "drill": ("chaos.commands.drill:drill", "Do a recovery procedure under traffic, and check what it promises."),
    "runbook": ("chaos.commands.runbook:runbook", "Check a runbook's commands, or print a corrected one."),
    "judge": ("reports.judge:main", "Judge a recorded run again."),
    "explain": ("reports.explain:main", "Print the anomalies of a run one by one."),
    "alerts": (
        "reports.alerts.__main__:main",
        "Say when each alert of a run fired, and write the rules for Prometheus.",
    ),
    "diagnose": (
        "reports.diagnosis.command:main",
        "Answer the runbook's root-cause page for a run or a live target.",
    ),
    "observe": ("reports.observe:main", "Read the table of a run again."),
    "report": ("reports.render:main", "Write report.html, report.md and junit.xml of a run."),
    "experiment": (
        "reports.experiment.commands:experiment",
        "Capacity, survival, sweep, ab: questions that take several runs.",
    ),
    "nightly": ("reports.nightly.command:nightly", "A preset of runs for a scheduler; trends, index page, mail body."),
    "history": ("reports.history.commands:history", "List many runs; an index page; did the nightly run?"),
    "compare": ("reports.history.commands:compare_command", "Compare two runs."),
    "trend": ("reports.history.commands:trend", "Say which figures drift from night to night."),
    "series": ("reports.series_export:main", "Write every series of a run as CSV or Parquet."),
    "bench": ("chaos.commands.bench:bench", "Measure icequake and its collector on this machine."),
    "schema": ("chaos.commands.schema:schema", "Print the JSON Schema of a document."),
    "test": ("chaos.commands.check:check", "Check icequake itself: lint, types, tests."),
    "setup": ("chaos.commands.setup:setup", "Prepare this machine: virtual environment and tools."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that `icequake --help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """In the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        prepare_structs()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List them without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


def prepare_structs() -> None:
    """Make the struct types of what was imported ready for threads."""
    from loadtests.records.structs import prepare  # a command needs it, `icequake --help` does not

    prepare()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="icequake", prog_name="icequake")
def icequake() -> None:
    """Load an event pipeline, break it, and prove what landed.

    Exit codes: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 254 bad arguments or files, 255 icequake itself failed.
    """


def main() -> None:
    """Run the command line; wrong arguments exit 254, a failure of the harness 255, each with one sentence."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        result = icequake.main(arguments, prog_name="icequake", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 254
    except click.ClickException as error:
        click.echo(f"icequake: {_sentence(error)}", err=True)
        return 254
    except click.Abort:
        click.echo("icequake: interrupted.", err=True)
        return 2
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 255
    except Exception as error:
        return _failed(error)


def _sentence(error: click.ClickException) -> str:
    what = " ".join(error.format_message().split()).rstrip(".")
    what = re.sub(r"\. Did you mean (.+)\?$", r" (did you mean \1?)", what)
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else "icequake"
    return f"{what}; `{command} --help` shows how it is used."


def _failed(error: Exception) -> int:
    from chaos.errors import ChaosError  # only a failing command pays for it
    from loadtests.records.errors import RecordError

    if isinstance(error, ChaosError):
        click.echo(f"icequake: {error}", err=True)
        return error.exit_code
    if isinstance(error, RecordError):
        click.echo(f"icequake: {error}", err=True)
        return 254
    if isinstance(error, OSError) and error.strerror is not None:  # a full disk, a directory that is not ours
        click.echo(f"icequake: {error.filename or 'the operating system'}: {error.strerror}.", err=True)
        return 255
    click.echo(f"icequake: this is a fault of icequake itself: {error!r}; the traceback follows.", err=True)
    sys.excepthook(type(error), error, error.__traceback__)
    return 255
