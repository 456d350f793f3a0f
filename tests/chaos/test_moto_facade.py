"""The parts of the facade that need no server."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.catalog.rest import CreateTableRequest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.exceptions import ValidationError as InvalidMetadata
from sqlalchemy.exc import IntegrityError, OperationalError

from chaos import cli
from chaos.commands.session import STATE
from chaos.stack import CAPABILITIES, STACKS, Ports, Stack
from chaos.stack.facade.catalog import Catalog
from chaos.stack.facade.config import Config
from chaos.stack.facade.endpoints import page
from chaos.stack.facade.errors import BadRequest, NoSuchTable, NotFound, translate
from chaos.stack.facade.names import from_path, original, segments, stored
from chaos.stack.facade.tokens import LIFETIME_S, Tokens
from chaos.stack.moto import Moto
from chaos.stack.plan import make_plan
from chaos.warden_client import Warden

TABLE = """{"name": "events", "location": null, "partition-spec": null, "write-order": null, "properties": {}, "stage-create": false,
 "schema": {"type": "struct", "fields": [{"id": 1, "name": "id", "type": "string", "required": true}]}}"""
LEVELS = st.lists(st.text(min_size=1), min_size=1).map(tuple)


@given(LEVELS)
def test_names_survive_sql_catalog(levels: tuple[str, ...]) -> None:
    """Every name comes back as it was, and nothing that is stored has a dot inside a level."""
    kept = stored(levels)
    assert original(kept) == levels
    assert not any("." in level for level in kept)


@given(LEVELS, LEVELS)
def test_different_names_stay_different(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Joined with dots, as SqlCatalog keeps them, no two names are the same."""
    assert (".".join(stored(one)) == ".".join(stored(other))) == (one == other)


def test_a_path_keeps_what_is_encoded_in_it() -> None:
    """An encoded slash or separator stays inside its part."""
    assert segments(b"/v1/namespaces/a%1Fb/tables/c%2Fd") == ["v1", "namespaces", "a\x1fb", "tables", "c/d"]
    assert from_path("a\x1fb") == ("a", "b")
    with pytest.raises(BadRequest, match="empty level"):
        from_path("a\x1f")


def test_a_token_ends() -> None:
    """It is valid for its lifetime, for whoever has the secret, and not when a character is changed."""
    now = [1000.0]
    tokens, other = Tokens("secret", lambda: now[0]), Tokens("other", lambda: now[0])
    token = tokens.issue()
    assert tokens.valid(token)
    assert Tokens("secret", lambda: now[0]).valid(token)
    assert not other.valid(token)
    assert not tokens.valid("9" + token)
    assert not any(tokens.valid(text) for text in ("", ".", "x.y", "ü.ü"))
    now[0] += LIFETIME_S
    assert not tokens.valid(token)


@given(st.lists(st.text(min_size=1, max_size=3), unique=True), st.integers(1, 5))
def test_pages_make_up_the_list(names: list[str], size: int) -> None:
    """Followed to the end, pages hold each name once, in order."""
    names.sort()
    found: list[str] = []
    token: str | None = ""
    while token is not None:
        given_, token = page(names, str, {"pageToken": token, "pageSize": str(size)})
        assert len(given_) <= size
        found += given_
    assert found == names
    assert page(names, str, {"pageSize": "1"}) == (names, None)


def busy(words: str) -> OperationalError:
    return OperationalError("UPDATE", {}, sqlite3.OperationalError(words))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoSuchTable("t"), 404),
        (CommitFailedException("Table has been updated by another process: a.b"), 409),
        (ValueError("Snapshot with id 1 already exists"), 409),
        (ValueError("Cannot add snapshot with sequence number 1 older than last sequence number 2"), 409),
        (ValueError("Partition spec with id 1 already exists: []"), 400),
        (ValueError("Failed to find spec with id 9"), 400),
        (busy("database is locked"), 503),
        (busy("disk I/O error"), 500),
        (IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE")), 409),
        (FileNotFoundError("metadata.json"), 500),
        (InvalidMetadata("not JSON"), 500),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 500),
        (ConnectionError("refused"), 503),
        (NotImplementedError(), 406),
        (KeyError("x"), 500),
    ],
)
def test_every_failure_has_its_status(error: Exception, status: int) -> None:
    """Conflicts 409, the caller's mistakes 400, what may pass 503, the rest 500; each with words."""
    answer = translate(error)
    assert answer.status == status
    assert str(answer)
    assert answer.type.endswith(("Exception", "Error"))


def test_a_lost_local_metadata_file_is_404_by_its_name_and_one_in_s3_is_500(tmp_path: Path) -> None:
    """Local files are for compatibility kits, which want Iceberg's own words; on S3 a client would take 404 for no table."""
    config = Config("127.0.0.1", 1, 2, "k", "s", "r", (), f"file:{tmp_path}/warehouse", str(tmp_path / "c.db"))
    catalog = Catalog(config)
    catalog.create_namespace(("ns",), {})
    made = catalog.create(("ns",), CreateTableRequest.model_validate_json(TABLE))
    Path(str(made.metadata_location).removeprefix("file:")).unlink()

    with pytest.raises(NotFound) as found:
        catalog.load(("ns",), "events")
    catalog.close()

    assert (found.value.status, found.value.type) == (404, "NotFoundException")
    assert str(found.value) == f"Failed to open input stream for file: {made.metadata_location}"
    assert translate(FileNotFoundError("s3://analytics/metadata.json")).status == 500


def test_a_missing_metadata_file_is_not_a_missing_table() -> None:
    """A client that is told 404 would make the table anew."""
    assert translate(FileNotFoundError("gone")).type == "ServiceFailureException"


def test_the_configuration_is_read_back(tmp_path: Path) -> None:
    """And its secret is in no repr."""
    config = Config("127.0.0.1", 1, 2, "key", "hidden", "r", ("a", "b"), "s3://a", "c.db")
    path = tmp_path / "facade.json"
    path.write_text(json.dumps(config.document()))
    assert Config.read(path) == config
    assert "hidden" not in repr(config)


def test_a_plan_says_what_the_stack_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    """Of each stack of ours, and of one elsewhere that it is not known; an unknown one is refused."""
    assert CAPABILITIES.keys() == STACKS.keys()
    for name, capabilities in CAPABILITIES.items():
        assert cli.run_command(["plan", "control", "--stack", name]) == 0
        said = capsys.readouterr().out.partition(f"Stack     {name}: ")[2]
        shows, _, lacks = said.removeprefix("shows ").partition("; lacks ")
        assert said.startswith("shows " if capabilities else "what it shows is not known before it is tried")
        assert all((name in shows) is able and (name in lacks) is not able for name, able in capabilities.items())
    assert cli.run_command(["plan", "control", "--stack", "moon"]) == 254
    assert "there is no stack 'moon'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "stack", "lacks"),
    [
        ("{fault: storage-killed, at_s: 1, for_s: 2}", "moto", "survives_kill"),
        ("{fault: storage-killed, at_s: 1, for_s: 2}", "seaweedfs", None),
        ("{fault: catalog-killed, at_s: 1, for_s: 2}", "moto", None),
        ("{fault: metadata-deleted, at_s: 1, for_s: 2}", "seaweedfs", "metadata_objects_matter"),
        ("{fault: metadata-deleted, at_s: 1, for_s: 2}", "moto", None),
        ("{fault: table-recreated, at_s: 1, for_s: 2}", "seaweedfs", "drop_keeps_files, register_table"),
        ("{fault: table-recreated, at_s: 1, for_s: 2}", "moto", None),
        ("{fault: table-recreated, at_s: 1, for_s: 2}", "remote", None),
    ],
)
def test_a_plan_says_which_step_the_stack_cannot_show(
    step: str, stack: str, lacks: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the capability that it lacks; the run will not PASS by leaving the step out."""
    assert cli.run_command(["plan", "control", "--stack", stack, "--set", f"steps=[{step}]"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Step 0"))
    skipped = f"(will be skipped: the stack lacks {lacks}; the run cannot PASS)"
    assert ("will be skipped" in line) is (lacks is not None)
    assert lacks is None or skipped in line


def test_a_plan_for_the_stack_that_is_up_repeats_what_was_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without starting or claiming anything; where none is up that is said."""
    nobody = ["plan", "control", "--stack", "up", "--runs", str(tmp_path)]
    assert cli.run_command(nobody) == 254
    assert "no stack is up" in capsys.readouterr().err
    warden = cast(Warden, SimpleNamespace())
    stack = Stack(make_plan(Moto, tmp_path / "stack", Ports(), seed=0), warden, tmp_path, owned=False)
    stack.save_state(tmp_path / STATE)
    assert cli.run_command(nobody) == 0
    assert "up, as tried when it was started: shows create_existing_fails" in capsys.readouterr().out


@pytest.mark.integration
def test_a_plan_tries_the_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --probe the stack is started, and what was tried is printed."""
    assert cli.run_command(["plan", "control", "--stack", "moto", "--probe", "--runs", str(tmp_path)]) == 0
    assert "moto, as tried: shows create_existing_fails, drop_keeps_files" in capsys.readouterr().out
