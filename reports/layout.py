"""The templates of the report, and what happens to every value on its way into one."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from reports.visible import visible


def environment() -> Environment:
    """Return an environment that escapes for HTML where the template's name says so, and shows control characters everywhere."""
    return Environment(
        loader=PackageLoader("reports", "."), autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined, finalize=_printable, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip


def _printable(value: object) -> object:
    """Show control characters and direction overrides of outside text as escapes; leave our own markup alone."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
