"""YAML errors name file and line; JSON documents are replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, field

from loadtests.records.documents import load_yaml, parse_yaml, read_document, write_document
from loadtests.records.errors import CorruptRecord, InvalidDocument, MissingRecord, NewerVersion, RecordError


class Leaf(Struct, forbid_unknown_fields=True):
    """A part of a document."""

    name: str
    weight: float = 1.0
    labels: dict[str, str] = field(default_factory=dict)


class Tree(Struct, forbid_unknown_fields=True):
    """A document."""

    title: str
    leaves: list[Leaf] = field(default_factory=list)
    best: Leaf | None = None
    schema: str = "icequake.tree/1.0"


def test_a_document_becomes_a_typed_object(tmp_path: Path) -> None:
    """Integers serve as floats, absent fields have their defaults."""
    path = tmp_path / "tree.yaml"
    path.write_text("title: Birch\nleaves:\n  - {name: a, weight: 2}\n", encoding="utf-8")
    assert load_yaml(path, Tree) == Tree("Birch", [Leaf("a", 2.0)])


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("title: x\nlaeves: []\n", 2, "Object contains unknown field `laeves`."),
        ("title: x\nleaves:\n  - name: a\n    wieght: 2\n", 4, "leaves[0]: Object contains unknown field `wieght`."),
        ("title: x\nleaves:\n  - {name: a}\n  - name: b\n    weight: heavy\n", 5, "leaves[1].weight: Expected `float`, got `str`."),
        ("title: x\nleaves:\n  - {name: a}\n  - weight: 2\n", 4, "leaves[1]: Object missing required field `name`."),
        ("\n# nothing\nleaves: []\n", 3, "Object missing required field `title`."),
        ("title: x\nleaves: {name: a}\n", 2, "leaves: Expected `array`, got `object`."),
        ("title: x\nbest:\n  name: a\n  labels:\n    a: b\n    c: 1\n", 5, "best.labels[...]: Expected `str`, got `int`."),
        ("title: x\nbest:\n  name: a\n  labels:\n    1: b\n", 5, "best.labels: Expected `str`, got `int` as key."),
        ("title: [x\nleaves: []\n", 2, "expected ',' or ']', but got ':'."),
        ("title: x\n\tleaves: []\n", 2, "found character '\\t' that cannot start any token."),
        ("title: x\nbest: *nobody\n", 2, "found undefined alias 'nobody'."),
        ("title: x\n---\ntitle: y\n", 2, "but found another document."),
        ("title: x\nbest: !!python/object:os.system {}\n", 2,
         "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object:os.system'."),
        ("title: x\nbest: a\x07b\n", 2, "character U+0007 is not allowed in YAML."),
        ("title: x\n? [a]\n: b\n", 2, "found unhashable key."),
        ("- title\n", 1, "Expected `object`, got `array`."),
        ("", None, "Object missing required field `title`."),
        ("title: 2024-13-01\n", None, "not valid YAML (month must be in 1..12)."),
    ],
)  # fmt: skip
def test_an_error_names_file_line_and_what_is_wrong(tmp_path: Path, text: str, line: int | None, sentence: str) -> None:
    """One line for a person, whatever is wrong: a typing error, a wrong type deep in a list, broken YAML."""
    path = tmp_path / "tree.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidDocument) as caught:
        load_yaml(path, Tree)
    assert (caught.value.line, caught.value.sentence) == (line, sentence)
    assert str(caught.value) == (f"{path}:{line}: {sentence}" if line else f"{path}: {sentence}")


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("{}[]:,-&*!|>'\"\n \ttiles#%@`?1.", max_size=40))
def test_no_text_gives_anything_but_a_document_or_a_sentence(text: str) -> None:
    """Whatever a person saves, there is no traceback."""
    try:
        parse_yaml(text, Tree)
    except InvalidDocument as error:
        assert error.sentence.endswith((".", ")."))


def test_bottomless_nesting_is_a_sentence() -> None:
    """Ten thousand brackets are not a document."""
    with pytest.raises(InvalidDocument, match="not valid YAML"):
        parse_yaml("title: " + "[" * 10_000, Tree)


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """Missing, a directory, and not UTF-8 are three sentences."""
    with pytest.raises(MissingRecord, match=r"none\.yaml does not exist\."):
        load_yaml(tmp_path / "none.yaml", Tree)
    with pytest.raises(InvalidDocument, match="cannot be read"):
        load_yaml(tmp_path, Tree)
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9\n")
    with pytest.raises(InvalidDocument, match="cannot be read"):
        load_yaml(tmp_path / "latin.yaml", Tree)


def test_a_declared_version_is_checked(tmp_path: Path) -> None:
    """A newer minor is read, a newer major refused, nonsense named with its line."""
    assert parse_yaml("title: x\nschema: icequake.tree/1.3\n", Tree, schema="tree").title == "x"
    with pytest.raises(NewerVersion, match=r"tree\.yaml has format icequake\.tree/2\.0"):
        parse_yaml("title: x\nschema: icequake.tree/2.0\nnew: 1\n", Tree, schema="tree", path="tree.yaml")
    with pytest.raises(InvalidDocument, match=r"^tree\.yaml:2: schema: 1 is not a version of icequake\.tree/1\.0\.$"):
        parse_yaml("title: x\nschema: 1\n", Tree, schema="tree", path="tree.yaml")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """A document survives the round trip, as text that a person can read and diff."""
    tree = Tree("Birch", [Leaf("a")])
    write_document(tmp_path / "tree.json", tree)
    assert read_document(tmp_path / "tree.json", Tree, schema="tree") == tree
    assert (tmp_path / "tree.json").read_text().startswith('{\n  "title": "Birch",\n')


def test_a_document_that_cannot_be_encoded_leaves_the_old_one(tmp_path: Path) -> None:
    """Nothing is truncated, no draft stays behind."""
    path = tmp_path / "tree.json"
    write_document(path, Tree("old"))
    with pytest.raises(TypeError):
        write_document(path, {"title": object()})
    assert read_document(path, Tree, schema="tree").title == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["tree.json"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A full disk shows at the sync at the latest: the old document is whole and no draft stays behind."""
    path = tmp_path / "tree.json"
    write_document(path, Tree("old"))

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left"):
        write_document(path, Tree("new"))
    assert read_document(path, Tree, schema="tree").title == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["tree.json"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (None, MissingRecord),
        (b"", CorruptRecord),
        (b"{", CorruptRecord),
        (b"\xff", CorruptRecord),
        (b"[]", CorruptRecord),
        (b"[" * 100_000, CorruptRecord),
        (b'{"title":"x"}', CorruptRecord),
        (b'{"title":"x","schema":"icequake.run/1.0"}', CorruptRecord),
        (b'{"title":1,"schema":"icequake.tree/1.0"}', CorruptRecord),
        (b'{"schema":"icequake.tree/2.0"}', NewerVersion),
    ],
)
def test_a_wrong_document_is_a_sentence(tmp_path: Path, content: bytes | None, kind: type[RecordError]) -> None:
    """Missing, broken, foreign or newer: each its own error, each naming the file."""
    path = tmp_path / "tree.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind, match=r"tree\.json "):
        read_document(path, Tree, schema="tree")
