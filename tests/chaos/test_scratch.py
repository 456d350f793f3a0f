"""A stack's data goes with the block, or with the next start when its process was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.scratch import OWNER, PREFIX, scratch, sweep


def test_the_directory_goes_with_the_block_even_when_it_fails(tmp_path: Path) -> None:
    """Nothing is left, and the error comes through."""
    with pytest.raises(RuntimeError), scratch(tmp_path) as directory:
        (directory / "volume.dat").write_bytes(b"x")
        raise RuntimeError

    assert list(tmp_path.iterdir()) == []


def test_the_path_is_absolute_wherever_runs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that get it work in directories of their own."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)

    with scratch(Path("runs")) as directory:
        assert directory.is_absolute()
        assert directory.parent == (tmp_path / "runs").resolve()


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    """A pid that came round again does not protect what an earlier process left."""
    with scratch(tmp_path) as mine:
        for name, owner in (("1", "another boot:1"), ("999999999", "boot:2"), ("no-pid", "x")):
            left = tmp_path / f"{PREFIX}{name}"
            left.mkdir()
            (left / OWNER).write_text(owner)
        (tmp_path / f"{PREFIX}7").mkdir()

        sweep(tmp_path)

        assert list(tmp_path.iterdir()) == [mine]
