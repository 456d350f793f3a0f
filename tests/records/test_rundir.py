"""A run directory is made whole, found by path, name or id, and read by any later minor version."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
import yaml

from loadtests.records.errors import CorruptRecord, MissingRecord, NewerVersion, RecordError
from loadtests.records.rundir import RunDir, RunInfo, RunWindow, SettleEnd, new_run_id
from loadtests.records.target import Ingest, Target

TARGET = Target(name="mine", ingest=Ingest(url="http://127.0.0.1:1/events", headers={"X-Key": "secret"}))


def create(runs: Path, run_id: str = "ab12cd34", scenario: str = "slow-r2") -> RunDir:
    info = RunInfo(run_id=run_id, scenario=scenario, target="mine", seed=7, started_unix_ns=1_763_984_000_000_000_000)
    return RunDir.create(runs, info, scenario_text="name: slow-r2\n", target=TARGET)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_new_run_is_whole(tmp_path: Path) -> None:
    """Named by time, scenario, target and id; scenario as given, target redacted, places for every stream."""
    run = create(tmp_path / "runs")
    assert run.root.name == "20251124T113320Z-slow-r2-mine-ab12cd34"
    assert run.scenario.read_text() == "name: slow-r2\n"
    assert yaml.safe_load(run.target.read_text())["ingest"]["headers"] == {"X-Key": "***"}
    for directory in (run.ledger, run.hist, run.status, run.series, run.observed, run.logs):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_what_was_saved_is_opened(tmp_path: Path) -> None:
    """Every field, the window included."""
    run = create(tmp_path)
    run.info.window = RunWindow(baseline_start_ns=1, settle="empty", refusing_probe=SettleEnd(attempted=9, refused=1))
    run.info.stopped = "SIGINT was received"
    run.save()
    assert RunDir.open(run.root).info == run.info
    assert RunDir.open(run.root).load_target().name == "mine"


def test_a_name_with_anything_in_it_stays_one_directory(tmp_path: Path) -> None:
    """A scenario's name cannot lead out of the runs directory."""
    run = create(tmp_path / "runs", scenario="../../Über Fälle")
    assert run.root.parent == tmp_path / "runs"
    assert re.fullmatch(r"[0-9TZ]+-ber-f-lle-mine-ab12cd34", run.root.name)


def test_a_run_is_found_by_path_last_name_and_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a person has at hand; `last` is the one created last."""
    runs = tmp_path / "runs"
    first, second = create(runs, "aaaaaaaa"), create(runs, "bbbbbbbb")
    for name in (str(first.root), first.root.name, "aaaaaaaa"):
        assert RunDir.find(runs, name).root == first.root
    assert RunDir.find(runs, "last").root == second.root
    monkeypatch.chdir(first.root)
    assert RunDir.find(runs, ".").root == first.root


@pytest.mark.parametrize("name", ["", "none", "last", "../..", "*", "[a", "a\x00b", "x" * 5000, "/"])
def test_a_run_that_is_not_there_is_one_sentence(tmp_path: Path, name: str) -> None:
    """Globs, empty and impossible names are no runs; the sentence says where runs are listed."""
    with pytest.raises(MissingRecord, match="`icequake list runs` shows what there is"):
        RunDir.find(tmp_path / "runs", name)


def test_last_survives_neither_its_run_nor_a_move(tmp_path: Path) -> None:
    """`last` is relative, so a moved runs directory keeps it; when its run is deleted it leads nowhere, with a sentence."""
    run = create(tmp_path / "runs")
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert RunDir.find(tmp_path / "moved", "last").info == run.info
    (tmp_path / "moved" / run.root.name).rename(tmp_path / "gone")
    with pytest.raises(MissingRecord):
        RunDir.find(tmp_path / "moved", "last")


def test_two_runs_of_one_id_suffix_are_not_guessed_between(tmp_path: Path) -> None:
    """An id that fits two directories is no answer."""
    run = create(tmp_path)
    run.root.rename(tmp_path / "other-ab12cd34")
    create(tmp_path)
    with pytest.raises(MissingRecord):
        RunDir.find(tmp_path, "ab12cd34")


def test_a_newer_minor_is_read(tmp_path: Path) -> None:
    """Fields that this version does not know are left out, in run.json and target.yaml, at every depth."""
    run = create(tmp_path)
    edit(run.root / "run.json", schema="icequake.run/1.7", later={"x": 1}, window={"settle": "empty", "later_ns": 5})
    target = yaml.safe_load(run.target.read_text())
    target.update(schema="icequake.target/1.7", later=[1])
    target["ingest"]["compression"] = "zstd"
    target["contract"]["refusals"]["later"] = True
    target["process"] = {"command": ["x"], "ready": "http://a", "later": 1}
    run.target.write_text(yaml.safe_dump(target))
    opened = RunDir.open(run.root)
    assert opened.info.window == RunWindow(settle="empty")
    loaded = opened.load_target()
    assert (loaded.ingest.url, loaded.process is not None) == (TARGET.ingest.url, True)


def test_a_newer_major_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """For the run and for its target."""
    run = create(tmp_path)
    run.target.write_text(run.target.read_text().replace("target/1.0", "target/2.0"))
    with pytest.raises(NewerVersion, match=r"target\.yaml has format icequake\.target/2\.0"):
        run.load_target()
    edit(run.root / "run.json", schema="icequake.run/2.0")
    with pytest.raises(NewerVersion, match=r"run\.json has format icequake\.run/2\.0; .* wrote it\."):
        RunDir.open(run.root)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": "icequake.run/1.0"}', '{"schema": "icequake.verdict/1.0"}']
)
def test_a_broken_run_json_is_corrupt(tmp_path: Path, text: str) -> None:
    """A run directory whose head is damaged is refused by name."""
    run = create(tmp_path)
    (run.root / "run.json").write_text(text)
    with pytest.raises(CorruptRecord, match=r"run\.json "):
        RunDir.open(run.root)


@pytest.mark.parametrize(
    "text", ["", "name: [x", "[]", "schema: icequake.target/1.0\n", "schema: 1\n", "name: 2024-13-01\n"]
)
def test_a_broken_target_yaml_is_corrupt(tmp_path: Path, text: str) -> None:
    """A damaged copy of the target is refused by name."""
    run = create(tmp_path)
    run.target.write_text(text)
    with pytest.raises(CorruptRecord, match=r"target\.yaml "):
        run.load_target()


def test_a_directory_without_run_json_is_no_run(tmp_path: Path) -> None:
    """The sentence says what is missing."""
    with pytest.raises(MissingRecord, match=r"is not a run directory \(it has no run\.json\)\."):
        RunDir.open(tmp_path)


def test_runs_cannot_be_kept_in_a_file(tmp_path: Path) -> None:
    """A runs directory that cannot be one is a sentence with the reason."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(RecordError, match=r"cannot be created: (Not a directory|File exists)\."):
        create(tmp_path / "runs")


def test_run_ids_are_fit_for_a_namespace() -> None:
    """A letter and seven letters or digits, and not twice the same."""
    ids = {new_run_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(re.fullmatch(r"[a-z][a-z0-9]{7}", one) for one in ids)


def test_paths_hold_in_every_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a run work in directories of their own; where runs are may have been said from here."""
    monkeypatch.chdir(tmp_path)
    made = create(Path("runs"))
    opened = RunDir.open(Path("runs") / made.root.name)

    assert made.journal == opened.journal == tmp_path / "runs" / made.root.name / "journal.jsonl"
