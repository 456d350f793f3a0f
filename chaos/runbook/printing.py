"""The corrected runbook of a target, as Markdown, with what its runs measured filled in."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from chaos.runbook.figures import Figures, Measured
from loadtests.records.target import Target

NOT_MEASURED = "not measured yet"


def print_runbook(target: Target, argument: str, figures: Figures) -> str:
    """Return the runbook.

    Args:
        argument: How the target is named on a command line: its name, or its file.
    """
    environment = Environment(
        loader=PackageLoader("chaos.runbook", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # Markdown, of names that the target's schema restricts
    )
    admin = target.admin
    placed = admin is not None and "{" not in admin.url
    return environment.get_template("runbook.md.j2").render(
        target=target.name,
        target_argument=argument,
        table_arguments=f"--target {argument}" if target.table.catalog else "--stack up --run last",
        admin=admin is not None,
        admin_url=admin.url.rstrip("/") if admin is not None and placed else "http://127.0.0.1:8788/admin",
        token_env=admin.token_env if admin is not None else "ADMIN_TOKEN",
        capacity=target.contract.capacity_events,
        figures=figures,
        figure=_figure,
        run=_run,
    )


def _figure(measured: Measured | None, form: str) -> str:
    return form % measured.value if measured is not None else NOT_MEASURED


def _run(measured: Measured | None) -> str:
    return measured.run_id if measured is not None else "-"
