"""`icequake doctor`: which table is meant, what is printed, and how it ends."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from chaos.cli import run_command
from chaos.commands.doctor import progress_of
from chaos.commands.table_access import access
from chaos.errors import BadInput, BadState
from chaos.table.clinic import Visit, note_permissions, note_uploads, visit
from chaos.table.doctor import Report
from chaos.table.findings import Findings
from chaos.table.mutate import choose, damage
from chaos.table.preflight import Permission, Upload
from tests.chaos.table.lake import NAME, Lake


def arguments(lake: Lake) -> list[str]:
    pairs = [f"--catalog-property={key}={value}" for key, value in lake.properties.items()]
    return ["doctor", *pairs, "--table", NAME]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_healthy_table_is_one_line_and_exit_0(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but "healthy" and the figures."""
    assert run_command(arguments(lake)) == 0
    [line] = said(capsys).splitlines()
    assert line.startswith("healthy   lake.events: 3 snapshots, 3 manifests, 6 data files, 30 rows read")


def test_damage_is_named_with_what_mends_it_and_exit_1(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, object, what was seen, what it breaks, how to mend it, and the next command."""
    table = lake.load()
    victim = choose(table, lake.store, "manifest", random.Random(1))
    damage(lake.store, victim, "header-only", seed=1)
    assert run_command(arguments(lake)) == 1
    shown = said(capsys)
    assert f"critical  manifest-incomplete  {victim.path}" in shown
    for word in (
        "seen    it holds 0 added entries",
        "breaks  Rows are silently missing",
        "mend    Rebuild the manifest",
        "icequake repair",
    ):
        assert word in shown


def test_json_has_every_field(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """For programs: findings, figures, and what cannot be seen."""
    lake.store.delete(choose(lake.load(), lake.store, "data-file", random.Random(1)).path)
    assert run_command([*arguments(lake), "--json", "--quick"]) == 1
    document = json.loads(said(capsys))
    assert document["schema"] == "icequake.doctor/1.0"
    assert document["exit_code"] == 1
    assert {one["name"] for one in document["findings"]} == {"data-file-missing"}
    assert set(document["findings"][0]) == {
        "name",
        "severity",
        "object",
        "detail",
        "breaks",
        "procedure",
        "repair",
        "live",
    }
    assert document["not_visible"]


def test_a_table_that_cannot_be_loaded_is_looked_for_in_its_directory(lake: Lake) -> None:
    """The newest metadata.json is named as broken, and the one before it as what could be registered."""
    table = lake.load()
    lake.store.put(table.metadata_location, b"{")
    about = Visit(properties=lake.properties, identifier=NAME, now_s=0.0, token="t")
    [finding] = visit(about).findings.kept
    assert finding.name == "table-unloadable"
    assert f"{table.metadata_location} is undecodable" in finding.detail
    assert table.metadata.metadata_log[-1].metadata_file in finding.detail
    nowhere = Visit(properties=lake.properties, identifier=NAME, now_s=0.0, token="t", location="file:///nowhere")
    assert "--location" in visit(nowhere).findings.kept[0].detail


def test_no_table_and_no_catalog_are_told_apart(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing table is wrong (1); a catalog that does not answer is not known to be (2)."""
    assert run_command([*arguments(lake)[:-1], "lake.nothing"]) == 1
    assert "table-missing" in said(capsys)
    dead = ["doctor", "--catalog-property=type=rest", "--catalog-property=uri=http://127.0.0.1:9", "--table=a.b"]
    assert run_command(dead) == 2
    assert "catalog-unreachable" in said(capsys)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--table", "a.b"], "which catalog"),
        (["--catalog-property", "type=sql"], "which table"),
        (["--catalog-property", "type"], "KEY=VALUE"),
        (["--catalog-property", "a=b", "--table", "nodot"], "namespace.table"),
        (["--catalog-property", "a=env:SURELY_NOT_SET", "--table", "a.b"], "SURELY_NOT_SET"),
        (["--stack", "up", "--table", "a.b"], "icequake up"),
        (["--run", "nosuchrun"], "nosuchrun"),
        (["--target", "nosuchtarget"], "nosuchtarget"),
    ],
)
def test_bad_arguments_are_one_sentence_and_254(
    tmp_path: Path, line: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong, and what to do."""
    assert run_command(["doctor", "--runs", str(tmp_path), *line]) == 254
    shown = capsys.readouterr().err
    assert sentence in shown
    assert len(shown.splitlines()) == 1


def access_to(tmp_path: Path, **given: object) -> tuple[dict[str, str], str]:
    rest: dict[str, object] = {
        "target": None,
        "pairs": (),
        "table": None,
        "run_name": None,
        "stack": None,
        "runs": tmp_path,
    }
    found = access(**(rest | given))  # type: ignore[arg-type]
    return found.properties, found.identifier


def test_a_target_file_names_catalog_and_table(tmp_path: Path) -> None:
    """`env:` values are filled in, hidden secrets come from the harness's variables or are left out."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ningest: {url: 'http://127.0.0.1:1/e'}\n"
        "table: {identifier: a.b, catalog: {uri: 'env:U', credential: '***', s3.region: x, s3.secret-access-key: '***'}}\n"
    )
    environ = {"U": "http://127.0.0.1:2", "ICEQUAKE_CATALOG_CREDENTIAL": "k:s"}
    properties, identifier = access_to(tmp_path, target=str(path), environ=environ)
    assert identifier == "a.b"
    assert properties == {"uri": "http://127.0.0.1:2", "credential": "k:s", "s3.region": "x"}
    properties, identifier = access_to(tmp_path, target=str(path), table="c.d", pairs=("uri=http://x",), environ={})
    assert (properties["uri"], identifier) == ("http://x", "c.d")


def test_a_broken_stack_file_is_a_sentence(tmp_path: Path) -> None:
    """Not a traceback."""
    (tmp_path / ".stack.json").write_text("{}")
    with pytest.raises(BadState, match="does not describe a stack"):
        access_to(tmp_path, stack="up", table="a.b")
    with pytest.raises(BadInput):
        access_to(tmp_path)


def test_refused_operations_become_findings() -> None:
    """Refused is missing permission; unanswered is not known."""
    findings = Findings()
    tried = [Permission("PUT", True), Permission("DELETE", False, "AccessDenied"), Permission("GET", None, "timeout")]
    note_permissions(iter(tried), "s3://b/t", findings)
    assert [(one.name, one.object) for one in findings.kept] == [
        ("permission-missing", "DELETE"),
        ("unanswered", "s3://b/t"),
    ]


def test_unfinished_uploads_count_when_they_are_old() -> None:
    """Younger ones may be a flush in flight."""
    about = Visit(properties={}, identifier="a.b", now_s=200_000.0, token="t")
    report = Report("a.b")
    note_uploads([Upload("young", 199_000.0)], about, "s3://b/t", report)
    assert (report.figures["unfinished_uploads"], report.findings.kept) == (1, [])
    note_uploads([Upload("young", 199_000.0), Upload("old", 0.0)], about, "s3://b/t", report)
    assert report.findings.kept[0].detail == "1; the oldest is 55.6 hours old: old"


def test_progress_is_shown_on_a_terminal_only() -> None:
    """A pipe gets no escape codes."""
    for terminal in (True, False):
        sink = io.StringIO()
        with progress_of(Console(file=sink, force_terminal=terminal)) as told:
            told("reading data files", 1, 2)
        assert bool(sink.getvalue()) == terminal
