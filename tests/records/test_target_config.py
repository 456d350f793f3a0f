"""The configuration in force, and what of it is not default."""

from __future__ import annotations

from pathlib import Path

from loadtests.records.target_config import read_target_config, write_target_config


def test_what_is_not_default_is_told(tmp_path: Path) -> None:
    """A value without a default counts when it is set; an empty one does not."""
    write_target_config(
        tmp_path,
        {"SIZE": "5000", "AGE": "30", "TOKEN": "***", "OPTION": ""},
        {"SIZE": "2000", "AGE": "30", "OPTION": ""},
    )
    found = read_target_config(tmp_path)
    assert found is not None
    assert found.changed() == {"SIZE": "5000", "TOKEN": "***"}


def test_a_target_that_was_not_asked_has_none(tmp_path: Path) -> None:
    """Not an error."""
    assert read_target_config(tmp_path) is None
