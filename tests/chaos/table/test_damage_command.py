"""Damage by hand: the original is kept before anything is changed, and put back when nothing else changed it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.cli import run_command
from chaos.commands.damage import _permitted
from chaos.commands.table_access import Access
from chaos.errors import NotAllowed
from chaos.table.errors import TableError
from chaos.table.mutate import Original
from chaos.table.originals import Originals
from tests.chaos.table.lake import NAME, Lake

ALL = [f"event-{number:06d}" for number in range(30)]


def table_of(lake: Lake, kept: Path) -> list[str]:
    pairs = [f"--catalog-property={key}={value}" for key, value in lake.properties.items()]
    return [*pairs, "--table", NAME, "--originals", str(kept)]


def test_a_drill_goes_from_damage_to_put_back(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes nothing happens; with it the table is broken; put-back makes it whole, twice as well as once."""
    options, kept = table_of(lake, tmp_path / "kept"), tmp_path / "kept"
    assert run_command(["damage", "manifest-list", "deleted", *options, "--seed", "3"]) == 0
    assert "would do deleted" in capsys.readouterr().out
    assert lake.ids() == ALL
    assert run_command(["damage", "manifest-list", "deleted", *options, "--seed", "3", "--yes"]) == 0
    with pytest.raises(FileNotFoundError):
        lake.ids()
    assert run_command(["put-back", *options]) == 0
    assert "bytes put back and read again" in capsys.readouterr().out
    assert lake.ids() == ALL
    assert run_command(["put-back", *options]) == 0
    assert "nothing to put back" in capsys.readouterr().out
    assert kept.stat().st_mode & 0o077 == 0


def test_a_lost_metadata_object_is_put_back_though_the_table_cannot_be_loaded(lake: Lake, tmp_path: Path) -> None:
    """The store is reached by the paths that were kept."""
    options = table_of(lake, tmp_path / "kept")
    assert run_command(["damage", "metadata", "zero-bytes", *options, "--yes"]) == 0
    assert run_command(["doctor", *options[:-2]]) == 1
    assert run_command(["put-back", *options]) == 0
    assert lake.ids() == ALL


def test_what_was_repaired_since_is_left_alone(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unless it is forced."""
    options = table_of(lake, tmp_path / "kept")
    assert run_command(["damage", "manifest", "header-only", *options, "--yes", "--seed", "1"]) == 0
    [path] = Originals(tmp_path / "kept").pending()
    lake.store.put(path, b"mended otherwise")
    assert run_command(["put-back", *options]) == 255
    assert "something else changed it" in capsys.readouterr().out
    assert run_command(["put-back", *options, "--force"]) == 0
    assert lake.ids() == ALL


def test_two_damages_of_one_object_are_undone_to_the_first_original(lake: Lake, tmp_path: Path) -> None:
    """Newest first."""
    options = table_of(lake, tmp_path / "kept")
    for mutation in ("cut-last-byte", "deleted"):
        assert run_command(["damage", "data-file", mutation, *options, "--yes", "--newest"]) == 0
    assert run_command(["put-back", *options]) == 0
    assert lake.ids() == ALL


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["damage", "manifest-list", "cut-at-block"], "fewer than two blocks"),
        (["put-back"], "keeps no originals"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    lake: Lake, tmp_path: Path, line: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 254, nothing kept, nothing changed."""
    more = ["--yes"] if line[0] == "damage" else []
    assert run_command([*line, *table_of(lake, tmp_path / "kept"), *more]) == 254
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "kept" / "originals.jsonl").exists()
    assert lake.ids() == ALL


def test_a_table_elsewhere_needs_its_name_once_more() -> None:
    """Loopback and local disks do not."""
    far = Access({"uri": "https://catalog.example", "s3.endpoint": "https://r2.example"}, "a.b")
    half = Access({"uri": "http://127.0.0.1:1"}, "a.b")
    near = Access({"uri": "http://127.0.0.1:1", "s3.endpoint": "http://127.0.0.1:2"}, "a.b")
    for about in (far, half):
        with pytest.raises(NotAllowed, match="--confirm"):
            _permitted(about, "s3://bucket/a/b", "other")
        _permitted(about, "s3://bucket/a/b", "a.b")
    _permitted(near, "s3://bucket/a/b", None)
    _permitted(Access({"uri": "sqlite:///x"}, "a.b"), "file:///x", None)


def test_the_original_is_on_disk_before_anything_changes(tmp_path: Path) -> None:
    """A torn last line is ignored; bytes that were tampered with are refused."""
    kept = Originals(tmp_path)
    kept.keep(Original("p", b"abc", "tag"), None)
    [line] = [json.loads(one) for one in (tmp_path / "originals.jsonl").read_text().split("\n") if one]
    assert (line["path"], line["etag"], line["size"], line["becomes"]) == ("p", "tag", 3, None)
    with (tmp_path / "originals.jsonl").open("ab") as journal:
        journal.write(b'{"path": "q", "fi')
    assert Originals(tmp_path).pending() == ["p"]
    kept.keep(Original("r", b"xyz", None), None)
    assert Originals(tmp_path).pending() == ["p", "r"]
    (tmp_path / "0000.bin").write_bytes(b"abd")

    class Nothing:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    with pytest.raises(TableError, match="not what was kept"):
        Originals(tmp_path)._one(Nothing(), line, force=True)  # type: ignore[arg-type]
