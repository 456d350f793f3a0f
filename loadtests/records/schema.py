"""Names and versions of the formats of a run, and the rule for reading other versions.

A format is named `icequake.<kind>/<major>.<minor>`. A minor version only adds, so any minor of a known major is read; a
newer major is refused with a sentence.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from loadtests.records.errors import CorruptRecord, NewerVersion

MAJOR = 1
MINOR = 0

_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")


def schema_name(kind: str) -> str:
    """Return the full name of the format *kind* as this version writes it, such as `icequake.ledger/1.0`."""
    return f"icequake.{kind}/{MAJOR}.{MINOR}"


def stream_header(kind: str, run_id: str, **more: Any) -> dict[str, Any]:
    """Return the first record of a stream: its format, its run, and one instant on both clocks.

    The pair (`unix_ns`, `mono_ns`) lets a reader turn monotonic times into wall times.
    """
    return {
        "schema": schema_name(kind),
        "run": run_id,
        "unix_ns": time.time_ns(),
        "mono_ns": time.monotonic_ns(),
        **more,
    }


def check_schema(schema: object, kind: str, path: Path) -> None:
    """Accept any minor of our major of *kind*.

    Raises:
        NewerVersion: the major is newer than this code.
        CorruptRecord: it is not a version of *kind* that was ever written.
    """
    known = schema_name(kind)
    prefix = f"icequake.{kind}/"
    if not isinstance(schema, str) or not schema.startswith(prefix):
        raise CorruptRecord(f"{path} does not start with format {known} (found {schema!r}).")
    version = _VERSION.fullmatch(schema.removeprefix(prefix))
    if version is None or int(version[1]) < MAJOR:
        raise CorruptRecord(f"{path} has the malformed format name {schema!r}; expected {known}.")
    if int(version[1]) > MAJOR:
        raise NewerVersion(path, schema, known=known)
