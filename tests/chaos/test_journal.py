import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.journal import Journal, JournalError, JournalInUse, heal, open_entries


def entry(path: Path) -> dict[str, str]:
    return {"kind": "file", "path": str(path)}


def written(path: Path, *steps: tuple[str, str]) -> Path:
    """Write a journal by hand: ("add", id) and ("done", id)."""
    journal = Journal(path, "run1")
    for step, name in steps:
        if step == "add":
            journal.add(name, entry(path.with_name(name)))
        else:
            journal.done(name)
    journal.close()
    return path


def parsed(line: bytes) -> dict[str, str] | None:
    try:
        record: dict[str, str] = json.loads(line)
    except ValueError:
        return None
    return record


def test_open_entries_are_those_not_done(tmp_path: Path) -> None:
    """What was done is not open, whatever came in between."""
    path = written(tmp_path / "j", ("add", "a"), ("add", "b"), ("done", "a"), ("add", "c"))
    assert list(open_entries(path)) == ["b", "c"]


def test_header_names_schema_and_run(tmp_path: Path) -> None:
    """The first line says what the file is and whose."""
    header = json.loads(written(tmp_path / "j").read_text().splitlines()[0])
    assert header["schema"] == "icequake.journal/1.0"
    assert header["run"] == "run1"
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0


@given(cut=st.integers(0, 400))
def test_a_torn_tail_costs_only_the_line_it_cut(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Cut anywhere, every whole line still counts, and what is appended afterwards too."""
    path = written(tmp_path_factory.mktemp("j") / "j", ("add", "a"), ("done", "a"), ("add", "b"), ("add", "c"))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - cut, whole.index(b"\n") + 1)])
    known = [record for record in map(parsed, path.read_bytes().split(b"\n")) if record and "id" in record]
    done = {record["id"] for record in known if "done" in record}
    expected = [record["id"] for record in known if "undo" in record and record["id"] not in done]
    assert list(open_entries(path)) == expected
    journal = Journal(path)
    journal.add("z", entry(path.with_name("z")))
    journal.close()
    assert list(open_entries(path)) == [*expected, "z"]


def test_heal_plays_newest_first_and_only_once(tmp_path: Path) -> None:
    """Healing undoes in reverse order; a second healing finds nothing."""
    path = written(tmp_path / "j", ("add", "a"), ("add", "b"))
    for name in "ab":
        (tmp_path / name).touch()
    assert [(each.id, each.ok) for each in heal(path)] == [("b", True), ("a", True)]
    assert not (tmp_path / "a").exists()
    assert heal(path) == []


def test_what_cannot_be_healed_stays_open(tmp_path: Path) -> None:
    """An entry that fails is reported and kept for the next time."""
    path = written(tmp_path / "j")
    journal = Journal(path)
    journal.add("stuck", {"kind": "command", "argv": ["false"]})
    journal.close()
    assert [each.ok for each in heal(path)] == [False]
    assert list(open_entries(path)) == ["stuck"]


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ('{"schema": "icequake.journal/2.0"}', "newer"),
        ('{"schema": "icequake.timeline/1.0"}', "not a journal"),
        ("[]", "line 1"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, header: str, word: str) -> None:
    """A newer version, another stream and no journal at all are told apart, in a sentence."""
    path = tmp_path / "j"
    path.write_text(header + "\n")
    with pytest.raises(JournalError, match=word):
        open_entries(path)


def test_a_full_disk_is_an_error_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When only a part of a line fits, the part is taken back, so that the next line is whole."""
    path = written(tmp_path / "j", ("add", "a"))
    journal = Journal(path)
    with monkeypatch.context() as patched:
        real = __import__("os").write
        patched.setattr("chaos.journal.os.write", lambda fd, data: real(fd, data[:10]))
        with pytest.raises(OSError, match="no room"):
            journal.add("b", entry(tmp_path))
    journal.add("c", entry(tmp_path))
    journal.close()
    assert list(open_entries(path)) == ["a", "c"]


def test_the_journal_of_a_living_run_is_left_alone(tmp_path: Path) -> None:
    """While its warden lives nobody else undoes what is in a journal, nor writes to it."""
    path = tmp_path / "j"
    journal = Journal(path)
    journal.add("a", entry(tmp_path / "fault"))
    (tmp_path / "fault").touch()
    assert heal(path) == []
    with pytest.raises(JournalInUse, match="still going on"):
        Journal(path)
    assert (tmp_path / "fault").exists()
    journal.close()
    assert [each.id for each in heal(path)] == ["a"]
