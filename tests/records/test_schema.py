"""Which versions of a format are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.records.errors import CorruptRecord, NewerVersion
from loadtests.records.schema import check_schema, schema_name, stream_header

PATH = Path("some/ledger")


def test_the_version_that_is_written_is_read() -> None:
    """What this version names itself, it accepts."""
    check_schema(schema_name("ledger"), "ledger", PATH)
    assert stream_header("ledger", "ab12cd34", process="p")["schema"] == "icequake.ledger/1.0"


@pytest.mark.parametrize("minor", ["1", "7", "123"])
def test_a_newer_minor_is_read(minor: str) -> None:
    """A minor version only adds, so any of them is accepted."""
    check_schema(f"icequake.ledger/1.{minor}", "ledger", PATH)


@pytest.mark.parametrize("version", ["2.0", "2.1", "10.0"])
def test_a_newer_major_is_refused_with_a_sentence(version: str) -> None:
    """The sentence names the file, its version, what can be read, and what to do."""
    with pytest.raises(NewerVersion) as caught:
        check_schema(f"icequake.ledger/{version}", "ledger", PATH)
    assert str(caught.value) == (
        f"some/ledger has format icequake.ledger/{version}; this icequake reads up to icequake.ledger/1.0. "
        "Read it with the icequake that wrote it."
    )


@pytest.mark.parametrize(
    "schema",
    [
        None, 1, [], "", "ledger", "icequake.series/1.0", "icequake.ledgers/1.0", "icequake.ledger/", "icequake.ledger/1",
        "icequake.ledger/1.", "icequake.ledger/x.0", "icequake.ledger/1.0 ", "icequake.ledger/1.0.0", "icequake.ledger/-1.0",
        "icequake.ledger/².0", "icequake.ledger/٢.0", "icequake.ledger/0.9", "icequake.ledger/1.0\n",
        "icequake.ledger/" + "9" * 5000 + ".0",
    ],
)  # fmt: skip
def test_anything_else_is_corrupt(schema: object) -> None:
    """Another kind, a missing or a malformed version: never a traceback, never a guess."""
    with pytest.raises(CorruptRecord, match=r"^some/ledger "):
        check_schema(schema, "ledger", PATH)
