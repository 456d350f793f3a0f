"""The measures of the probe that say the same of every stack there is, shown a storage that does not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyiceberg.exceptions import CommitFailedException, NoSuchViewError, RESTError

from chaos.stack import Ports, Stack
from chaos.stack import probe as module
from chaos.stack.moto import Moto
from chaos.stack.plan import make_plan
from chaos.stack.probe import MEANINGS
from chaos.table.preflight import Permission
from chaos.warden_client import Warden


class Table:
    """A table whose commits on a stale parent end as told."""

    def __init__(self, stale: Exception | None, config: dict[str, str]) -> None:
        self.stale, self.config = stale, config
        self.appends = 0

    def name(self) -> tuple[str, ...]:
        return ("ns", "events")

    def location(self) -> str:
        return "s3://bucket/ns/events"

    def append(self, _: object) -> None:
        self.appends += 1
        if self.appends == 2 and self.stale is not None:
            raise self.stale


class Catalog:
    def __init__(self, table: Table, view: Exception | None) -> None:
        self.table, self.view = table, view

    def load_table(self, _: object) -> Table:
        return self.table

    def load_view(self, _: object) -> object:
        if self.view is not None:
            raise self.view
        return object()


def place(
    stale: Exception | None = None,
    config: dict[str, str] | None = None,
    view: Exception | None = None,
    files: Path = Path(),
) -> Any:
    table = Table(stale, config or {})
    return SimpleNamespace(properties={}, catalog=Catalog(table, view), namespace="ns", table=table, files=files)


def test_a_catalog_that_takes_a_stale_commit_is_found_out() -> None:
    """Only a refusal counts."""
    assert module._stale_commit_fails(place(stale=CommitFailedException("conflict")))
    assert not module._stale_commit_fails(place())


@pytest.mark.parametrize(
    ("answer", "able"), [(NoSuchViewError("none"), True), (NotImplementedError(), False), (RESTError("500"), False)]
)
def test_views_are_there_when_the_catalog_knows_that_one_is_not(answer: Exception, able: bool) -> None:
    """An endpoint that is not advertised, or fails, is none."""
    assert module._views(place(view=answer)) is able


def test_keys_in_a_loaded_table_are_vended() -> None:
    """Its secret must be among them."""
    assert module._vends_credentials(place(config={"s3.secret-access-key": "s"}))
    assert not module._vends_credentials(place(config={"s3.region": "r"}))


@pytest.mark.parametrize("allowed", [True, False, None])
def test_a_conditional_put_counts_when_it_was_seen(allowed: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that ignores the condition, or does not answer, does not have it."""

    class Tried:
        def __init__(self, *_: object) -> None: ...

        def permissions(self) -> list[Permission]:
            return [Permission("PUT", True), Permission("conditional PUT", allowed)]

    monkeypatch.setattr(module, "Preflight", Tried)
    assert module._conditional_put(place()) is (allowed is True)


def test_bytes_are_found_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object's bytes that lie across two blocks are seen, and others are not."""
    monkeypatch.setattr(module, "_BLOCK", 16)
    file = tmp_path / "volume"
    for before in range(40):
        file.write_bytes(b"." * before + b"marker" + b"." * 20)
        assert module._holds(file, b"marker")
    file.write_bytes(b"." * 50 + b"marke")
    assert not module._holds(file, b"marker")
    assert not module._holds(tmp_path / "gone", b"marker")


def test_every_capability_is_measured() -> None:
    """The names with a meaning are those with a measure."""
    assert module._MEASURES.keys() == MEANINGS.keys()


def test_a_stack_that_is_not_as_it_was_known_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured counts, and the difference is told; a stack that is as known is not spoken of."""
    notes: list[str] = []
    stack = Stack(make_plan(Moto, tmp_path, Ports(), seed=0), cast(Warden, None), tmp_path, owned=False)
    stack.note = notes.append
    monkeypatch.setattr(module, "probe", lambda *_: {"survives_kill": False, "views": False})
    assert stack.measure()["views"] is False
    assert notes == []
    monkeypatch.setattr(module, "probe", lambda *_: {"survives_kill": False, "views": True})
    assert stack.measure()["views"] is True
    assert notes == ["the moto stack is not as it was known: see views in the report"]
