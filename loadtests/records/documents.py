"""Read YAML written by people into typed objects, with errors that name file and line; replace JSON documents atomically."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from loadtests.records.errors import CorruptRecord, InvalidDocument, MissingRecord
from loadtests.records.schema import check_schema, schema_name

T = TypeVar("T")

_PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def load_yaml(path: Path, kind: type[T], *, schema: str | None = None) -> T:
    """Read the YAML file at *path* as a *kind* (a msgspec Struct, usually).

    Args:
        schema: The format's name; a document that declares a `schema` must declare a version of it that can be read.

    Raises:
        MissingRecord: no such file.
        NewerVersion: it declares a newer major version.
        InvalidDocument: not YAML, or not a *kind*; with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingRecord(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDocument(path, None, f"cannot be read ({error}).") from error
    return parse_yaml(text, kind, path=path, schema=schema)


def parse_yaml(text: str, kind: type[T], *, path: Path | str = "<string>", schema: str | None = None) -> T:
    """Read YAML *text* as a *kind*; *path* is only named in errors. Raises InvalidDocument and NewerVersion."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        plain = yaml.safe_load(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InvalidDocument(path, line, f"character U+{error.character:04X} is not allowed in YAML.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidDocument(path, mark.line + 1 if mark else None, f"{error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-13-01
        raise InvalidDocument(path, None, f"not valid YAML ({error}).") from error
    if schema is not None and isinstance(plain, dict) and "schema" in plain:
        _check_declared(plain["schema"], schema, path, line_of(node, " - at `$.schema`"))
    try:
        return msgspec.convert(plain if plain is not None else {}, kind)
    except msgspec.ValidationError as error:
        raise InvalidDocument(path, line_of(node, str(error)), validation_sentence(str(error))) from error


def _check_declared(declared: object, schema: str, path: Path | str, line: int | None) -> None:
    try:
        check_schema(declared, schema, Path(path))
    except CorruptRecord as error:
        raise InvalidDocument(path, line, f"schema: {declared!r} is not a version of {schema_name(schema)}.") from error


def validation_sentence(message: str) -> str:
    """Return a msgspec message as one sentence that begins with the place: `steps[1].at_s: Expected ...`."""
    what, where = _split(message)
    what = what.rstrip(".")
    return f"{where}: {what}." if where else f"{what}."


def _split(message: str) -> tuple[str, str]:
    """Return what a msgspec message says and the path it says it of (`steps[1].fault`, "" for the whole)."""
    what, _, place = message.partition(" - at `")
    key_of, _, path = place.partition("` in `")
    if path:  # the fault is in a key of a mapping, not in a value
        return f"{what} as {key_of}", path.rstrip("`").removeprefix("$").lstrip(".")
    return what, place.rstrip("`").removeprefix("$").lstrip(".")


def line_of(node: yaml.Node | None, message: str) -> int | None:
    """Return the one-based line that a msgspec message (`... - at \\`$.steps[1].fault\\``) speaks of.

    For an unknown field the line of that field; for a missing one the line of the object that lacks it.
    """
    if node is None:
        return None
    steps = [name or int(index) for name, index in _PATH_STEP.findall("." + _split(message)[1]) if index != "..."]
    for step in steps:
        child = _child(node, step)
        if child is None:
            break
        node = child
    unknown = re.search(r"unknown field `([^`]+)`", message)
    if unknown:
        key = _key(node, unknown[1])
        node = key if key is not None else node
    return int(node.start_mark.line) + 1


def _child(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step] if step < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(step)), None)
    return None


def _key(node: yaml.Node, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((key for key, _ in node.value if key.value == name), None)


def write_document(path: Path, document: Any, *, mode: int = 0o644) -> None:
    """Replace the JSON document at *path* atomically: a reader sees the old one or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    text = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def known_fields(plain: Any, kind: Any) -> Any:
    """Return *plain* without what the Struct *kind* has no field for, at every depth.

    What a person writes is refused when it has unknown fields; what a later minor version recorded is not.
    """
    return _known(plain, msgspec.inspect.type_info(kind))


def _known(plain: Any, info: msgspec.inspect.Type) -> Any:
    inspect = msgspec.inspect
    if isinstance(info, inspect.UnionType):
        info = next((one for one in info.types if isinstance(one, inspect.StructType)), info)
    if isinstance(info, inspect.StructType) and isinstance(plain, dict):
        types = {field.encode_name: field.type for field in info.fields}
        return {name: _known(value, types[name]) for name, value in plain.items() if name in types}
    if isinstance(info, inspect.DictType) and isinstance(plain, dict):
        return {name: _known(value, info.value_type) for name, value in plain.items()}
    return plain


def read_document(path: Path, kind: type[T], *, schema: str) -> T:
    """Read the JSON document at *path* as a *kind* after checking that it is a version of *schema*.

    Raises:
        MissingRecord, CorruptRecord, NewerVersion: see `loadtests.records.errors`.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingRecord(f"{path} does not exist.") from None
    except OSError as error:
        raise CorruptRecord(f"{path} cannot be read: {error.strerror}.") from error
    try:
        plain = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"{path} is not JSON ({error}).") from error
    check_schema(plain.get("schema") if isinstance(plain, dict) else None, schema, path)
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise CorruptRecord(f"{path} is not a {schema} document: {error}.") from error
