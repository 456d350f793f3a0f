"""Doctor and repair on real object stores and real REST catalogs: one that keeps its own metadata, one that reads it back."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from chaos.cli import run_command
from chaos.errors import ToolMissing
from chaos.setup import SetupError
from chaos.stack import STACKS, Stack, start
from chaos.table.mutate import choose, damage, put_back
from chaos.table.preflight import Preflight
from chaos.table.store import FileIOStore
from chaos.warden_client import Warden
from tests.chaos.table.lake import SCHEMA, SPEC, rows

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["seaweedfs", pytest.param("moto", marks=pytest.mark.slow)])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    with Warden(lease_s=60, log=home / "warden.log") as warden:
        try:
            running = start(STACKS[request.param], warden, home / "stack")
        except (SetupError, ToolMissing) as error:
            pytest.skip(str(error))
        with running:
            yield running


@pytest.fixture
def table(stack: Stack) -> Table:
    catalog = load_catalog("test", **stack.pyiceberg_properties(direct=True))
    namespace = f"run_{uuid.uuid4().hex[:8]}"
    catalog.create_namespace(namespace)
    made = catalog.create_table(f"{namespace}.events", SCHEMA, partition_spec=SPEC)
    for index in range(3):
        made.append(rows(index * 10, 10, hour=index))
    return made


def doctored(
    stack: Stack, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, object]]:
    stack.save_state(tmp_path / ".stack.json")
    code = run_command(
        ["doctor", "--runs", str(tmp_path), "--stack", "up", "--table", ".".join(table.name()), "--json"]
    )
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, document


def test_a_healthy_table_is_healthy_and_left_as_it_was(
    stack: Stack, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Permissions are tried, nothing is left behind, no snapshot is added."""
    store = FileIOStore(table.io)
    before = sorted(stat.path for stat in store.list(table.location()))
    code, report = doctored(stack, table, tmp_path, capsys)
    assert (code, report["findings"]) == (0, [])
    assert sorted(stat.path for stat in store.list(table.location())) == before
    assert table.refresh().metadata.current_snapshot_id == report["snapshot_id"]


@pytest.mark.parametrize(
    ("role", "mutation", "name"),
    [
        ("manifest-list", "header-only", "manifest-list-incomplete"),
        ("manifest", "replaced-by-sibling", "manifest-foreign"),
        ("data-file", "deleted", "data-file-missing"),
    ],
)
def test_damage_in_the_store_is_named(
    stack: Stack,
    table: Table,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    role: object,
    mutation: str,
    name: str,
) -> None:
    """And the table is healthy again once the bytes are back."""
    store = FileIOStore(table.io)
    before = damage(store, choose(table, store, role, random.Random(3)), mutation, seed=3)  # type: ignore[arg-type]
    assert before.etag
    code, report = doctored(stack, table, tmp_path, capsys)
    assert code == 1
    assert name in {one["name"] for one in report["findings"]}  # type: ignore[attr-defined]
    put_back(store, before)
    assert doctored(stack, table, tmp_path, capsys)[0] == 0


@pytest.mark.parametrize(
    ("hurt", "recipe", "rows_left"),
    [
        ([("manifest-list", "deleted")], "rebuild-manifest-list", 30),
        ([("manifest", "header-only")], "rebuild-manifest", 30),
        ([("manifest", "deleted"), ("manifest-list", "zero-bytes")], "roll-back-and-re-add", 30),
        ([("data-file", "cut-half")], "remove-file", 27),
    ],
)
def test_damage_in_the_store_is_mended(
    stack: Stack,
    table: Table,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    hurt: list[tuple[str, str]],
    recipe: str,
    rows_left: int,
) -> None:
    """In place or by a commit that this catalog accepts; nothing critical is left and a writer can go on."""
    store = FileIOStore(table.io)
    for role, mutation in hurt:
        damage(store, choose(table, store, role, random.Random(3), newest=True), mutation, seed=3)  # type: ignore[arg-type]
    stack.save_state(tmp_path / ".stack.json")
    options = ["--runs", str(tmp_path), "--stack", "up", "--table", ".".join(table.name())]
    run_command(["repair", *options, "--yes", "--accept-loss", "--backup", str(tmp_path / "backup")])
    shown = capsys.readouterr().out
    assert f"done      {recipe}" in shown
    assert "1 step done, 0 critical findings left" in shown
    after = table.refresh()
    assert len(after.scan().to_arrow()) == rows_left
    after.append(rows(30, 10, hour=3))
    assert len(table.refresh().scan().to_arrow()) == rows_left + 10


@pytest.mark.parametrize("mutation", ["deleted", "cut-half"])
def test_metadata_is_written_again_or_registered_again(
    stack: Stack, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str], mutation: str
) -> None:
    """By what the catalog needs: its own copy is put where the object was, or the table is registered from what is left."""
    store, head = FileIOStore(table.io), table.refresh().metadata.current_snapshot_id
    damage(store, choose(table, store, "metadata", random.Random(3)), mutation, seed=3)
    matters = stack.capabilities()["metadata_objects_matter"]
    code, report = doctored(stack, table, tmp_path, capsys)
    word = {"deleted": "missing", "cut-half": "undecodable"}[mutation]
    names = {one["name"] for one in report["findings"]}  # type: ignore[attr-defined]
    assert (code, names) == (1, {"table-unloadable" if matters else f"metadata-{word}"})
    options = ["--runs", str(tmp_path), "--stack", "up", "--table", ".".join(table.name())]
    assert run_command(["repair", *options, "--yes", "--backup", str(tmp_path / "backup")]) == 0
    shown = capsys.readouterr().out
    assert f"done      {'register-from-log' if matters else 'rewrite-metadata'}" in shown
    after = load_catalog("test", **stack.pyiceberg_properties(direct=True)).load_table(table.name())
    assert (after.metadata.current_snapshot_id, len(after.scan().to_arrow())) == (head, 30)
    after.append(rows(30, 10, hour=3))


def test_a_dropped_table_comes_back_where_its_files_are_kept(
    stack: Stack, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere there is nothing to register, and that is said."""
    load_catalog("test", **stack.pyiceberg_properties(direct=True)).drop_table(table.name())
    stack.save_state(tmp_path / ".stack.json")
    options = ["--runs", str(tmp_path), "--stack", "up", "--table", ".".join(table.name())]
    code = run_command(["repair", *options, "--yes", "--backup", str(tmp_path / "backup")])
    shown = capsys.readouterr().out
    if stack.capabilities()["drop_keeps_files"]:
        assert (code, "done      register-from-log" in shown) == (0, True)
        assert len(table.refresh().scan().to_arrow()) == 30
    else:
        assert (code, "cannot" in shown) == (1, True)


def test_what_may_not_be_done_is_named(stack: Stack, table: Table) -> None:
    """With a key the store does not know every operation is refused; moto checks no signature."""
    wrong = {**table.io.properties, "s3.secret-access-key": "wrong"}
    allowed = {one.allowed for one in Preflight(wrong, table.location(), "t").permissions()}
    assert allowed == ({True} if stack.name == "moto" else {False})
    dead = {**table.io.properties, "s3.endpoint": "http://127.0.0.1:9"}
    assert {one.allowed for one in Preflight(dead, table.location(), "t").permissions()} == {None}


REMOVED: dict[str, tuple[dict[str, object], set[str]]] = {
    "PUT": ({"verb": "PUT", "nth": 1}, {"PUT"}),
    "every write": ({"verb": ["PUT", "POST"]}, {"PUT", "multipart upload", "conditional PUT"}),
    "HEAD": ({"verb": "HEAD"}, {"HEAD"}),
    "GET": ({"verb": "GET", "object": "data-file"}, {"GET"}),
    "LIST": ({"verb": "GET", "path": "list-type=2"}, {"LIST"}),
    "multipart upload": ({"verb": "POST", "path": "uploads"}, {"multipart upload"}),
    "conditional PUT": ({"verb": "PUT", "nth": 3}, {"conditional PUT"}),
    "DELETE": ({"verb": "DELETE"}, {"DELETE"}),
}
"""What a policy does not allow -> which requests of the preflight are refused, and what the doctor must name. Of its PUTs the second
is a part of the multipart upload."""


@pytest.mark.parametrize("removed", REMOVED)
def test_each_permission_that_is_taken_away_is_named_and_no_other(stack: Stack, table: Table, removed: str) -> None:
    """By the collector's own way, on a real store that does all the rest; with the permission back nothing is named."""
    match, named = REMOVED[removed]
    asked = {**stack.pyiceberg_properties(direct=False), "s3.endpoint": stack.addresses.s3_faulted}
    answer = {"answer": "status", "status": 403, "code": "AccessDenied"}
    rule = {"match": {"upstream": "r2", **match}, "action": {"do": "refuse", "answer": answer}}
    stack.gateway.put_rule("permission", rule)
    try:
        tried = list(Preflight(asked, table.location(), "t").permissions())
    finally:
        stack.gateway.delete_rule("permission")

    missing = {one.operation: one.detail for one in tried if one.allowed is False}
    assert missing.keys() == named, tried
    assert all(detail.startswith(("AccessDenied", "403")) for detail in missing.values()), missing
    assert {one.allowed for one in Preflight(asked, table.location(), "t").permissions()} == {True}


def test_an_unfinished_upload_is_seen(stack: Stack, table: Table) -> None:
    """Listings do not show its parts; the doctor does."""
    at = stack.addresses
    s3 = boto3.client("s3", endpoint_url=at.s3_direct, region_name=at.region, aws_access_key_id=at.access_key, aws_secret_access_key=at.secret_key)  # fmt: skip
    key = table.location().partition("//")[2].partition("/")[2] + "/data/unfinished.parquet"
    upload = s3.create_multipart_upload(Bucket=at.bucket, Key=key)["UploadId"]
    assert [one.key for one in Preflight(table.io.properties, table.location(), "t").uploads()] == [key]
    s3.abort_multipart_upload(Bucket=at.bucket, Key=key, UploadId=upload)
