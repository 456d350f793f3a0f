"""
What can go wrong while a run is observed and judged, and what a caller may conclude.

ReportError
  TableUnreadable      the table could not be read now; says nothing about its content
  NothingObserved      the run directory has no `observed/`; run `python -m reports.observe RUN` first
  BadRequest           an argument is wrong; exit 254
  UnusableRecords      a record of the run says something impossible; exit 254
"""

from __future__ import annotations


class ReportError(Exception):
    """Base of everything this package raises. `str()` is one sentence for a person; `exit_code` ends a command."""

    exit_code = 255


class TableUnreadable(ReportError):
    """Catalog or storage did not answer, or answered with an error: the content of the table is unknown."""


class NothingObserved(ReportError):
    """A run was to be judged whose table nobody has read yet."""

    exit_code = 254


class BadRequest(ReportError):
    """A command was called with arguments that make no sense."""

    exit_code = 254


class UnusableRecords(ReportError):
    """A record of a run is well-formed and says something impossible; see `reports.unusable`."""

    exit_code = 254
