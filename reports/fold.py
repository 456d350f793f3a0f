"""One streaming fold over a data file: which events of the run are in it, how often, and whether their content is right.

Rows of other sources are counted and otherwise ignored. Ids are inverted to sequence numbers and content is recomputed, so
nothing here needs the ledger, and a file is read once, in batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loadtests.records.content import Content
from loadtests.records.identity import Identity, parse_source
from loadtests.records.target import Columns
from reports.keyset import Counted, count, merge

U64 = npt.NDArray[np.uint64]
Spots = npt.NDArray[np.intp]
_Scalar = TypeVar("_Scalar", bound=np.generic)

SEQUENCE_LIMIT = 1 << 40
"""No producer mints so many events; an id that inverts to more was never minted by this run."""

EXAMPLES = 5
_ID_BYTES = 16
_BATCH_ROWS = 1 << 17
_PENDING_ROWS = 1 << 22
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Subject:
    """Whose events are looked for, and in which columns.

    Attributes:
        content: Recomputes `data`; None leaves content unchecked.
    """

    run_id: str
    identity: Identity
    content: Content | None
    columns: Columns


@dataclass
class Sighting:
    """What one data file holds.

    Attributes:
        rows: All rows; `ours` of them have a source of this run, `foreign` have not.
        found: Distinct sequences and further copies, by producer.
        altered: Sequences whose content is not what was sent, by producer.
        stray: Rows of our sources whose id this run cannot have minted, with up to `EXAMPLES` of them.
        altered_examples: Up to `EXAMPLES` rows with what stands there and what was sent.
    """

    rows: int = 0
    ours: int = 0
    foreign: int = 0
    found: dict[int, Counted] = field(default_factory=dict)
    altered: dict[int, Counted] = field(default_factory=dict)
    stray: int = 0
    stray_examples: list[dict[str, Any]] = field(default_factory=list)
    altered_examples: list[dict[str, Any]] = field(default_factory=list)


class MissingColumn(Exception):
    """The file or table lacks a column that the target file names."""


def read_parquet(stream: Any, subject: Subject) -> Sighting:
    """Fold the Parquet file behind *stream* (seekable).

    Raises:
        MissingColumn: a column the target file names is not there.
        pyarrow.ArrowException, OSError: not a readable Parquet file.
    """
    columns = wanted(subject)
    parquet = pq.ParquetFile(
        stream, read_dictionary=[c for c in columns if c in _dictionaries(subject)], pre_buffer=True
    )
    missing = [c for c in columns if c not in parquet.schema_arrow.names]
    if missing:
        raise MissingColumn(f"column {missing[0]!r} is not among {', '.join(parquet.schema_arrow.names)}")
    return fold(parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False), subject)


def metadata_of(stream: Any) -> dict[str, str]:
    """Return the key-value metadata of a Parquet file, text only."""
    pairs = pq.read_metadata(stream).metadata or {}
    return {
        k.decode(errors="replace"): v.decode(errors="replace") for k, v in pairs.items() if not k.startswith(b"ARROW:")
    }


def wanted(subject: Subject) -> list[str]:
    """Return the columns that the fold reads."""
    columns = subject.columns
    if subject.content is None:
        return [columns.id, columns.source]
    return [columns.id, columns.source, columns.data, *([columns.type] if columns.type else [])]


def _dictionaries(subject: Subject) -> set[str]:
    return {subject.columns.source} | ({subject.columns.type} if subject.columns.type else set())


def fold(batches: Iterable[pa.RecordBatch], subject: Subject) -> Sighting:
    """Fold record batches that have the columns of `wanted`."""
    folder = _Folder(subject)
    for batch in batches:
        folder.add(batch)
    return folder.finish()


class _Tally:
    """Sequences of one producer, counted whenever enough of them are waiting."""

    def __init__(self) -> None:
        self._waiting: list[U64] = []
        self._rows = 0
        self._parts: list[Counted] = []

    def add(self, sequences: U64) -> None:
        self._waiting.append(sequences)
        self._rows += len(sequences)
        if self._rows >= _PENDING_ROWS:
            self._count()

    def _count(self) -> None:
        if self._rows:
            self._parts.append(count(np.concatenate(self._waiting)))
            self._waiting, self._rows = [], 0

    def finish(self) -> Counted:
        self._count()
        return merge(self._parts)


class _Folder:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._seen = Sighting()
        self._found: dict[int, _Tally] = {}
        self._altered: dict[int, _Tally] = {}

    def finish(self) -> Sighting:
        self._seen.found = {producer: tally.finish() for producer, tally in sorted(self._found.items())}
        self._seen.altered = {producer: tally.finish() for producer, tally in sorted(self._altered.items())}
        return self._seen

    def add(self, batch: pa.RecordBatch) -> None:
        sources = _dictionary(batch[self._subject.columns.source])
        rows = _Rows(batch, self._subject)
        self._seen.rows += batch.num_rows
        for code, chosen in _groups(sources, batch.num_rows):
            source = None if code is None else sources.dictionary[code].as_py()
            parsed = parse_source(_text(source)) if source is not None else None
            if parsed is None or parsed[0] != self._subject.run_id:
                self._seen.foreign += len(chosen)
            else:
                self._add_rows(rows, chosen, parsed[1], _text(source))

    def _add_rows(self, rows: _Rows, chosen: Spots, producer: int, source: str) -> None:
        self._seen.ours += len(chosen)
        whole, words = rows.words(chosen)
        if len(whole) < len(chosen):
            self._stray(rows, np.setdiff1d(chosen, whole), source)
        sequences = self._subject.identity.invert(producer, words)
        minted = sequences < SEQUENCE_LIMIT
        if not minted.all():
            self._stray(rows, whole[~minted], source)
            whole, sequences = whole[minted], sequences[minted]
        if len(sequences):
            self._found.setdefault(producer, _Tally()).add(sequences)
            self._check(rows, whole, producer, sequences)

    def _stray(self, rows: _Rows, odd: Spots, source: str) -> None:
        self._seen.stray += len(odd)
        shown = odd[: max(EXAMPLES - len(self._seen.stray_examples), 0)]
        ids = rows.batch[self._subject.columns.id].take(pa.array(shown)).to_pylist()
        self._seen.stray_examples += [{"source": source, "id": _shown(i)} for i in ids]

    def _check(self, rows: _Rows, chosen: Spots, producer: int, sequences: U64) -> None:
        content = self._subject.content
        if content is None:
            return
        wrong = rows.wrong_data(chosen, content, producer, sequences)
        if self._subject.columns.type:
            wrong |= rows.wrong_type(chosen, content, producer, sequences)
        if wrong.any():
            self._altered.setdefault(producer, _Tally()).add(sequences[wrong])
            self._show(rows.batch, chosen[wrong], producer, sequences[wrong], content)

    def _show(self, batch: pa.RecordBatch, wrong: Spots, producer: int, sequences: U64, content: Content) -> None:
        names = self._subject.columns
        room = max(EXAMPLES - len(self._seen.altered_examples), 0)
        for row, sequence in zip(wrong[:room].tolist(), sequences[:room].tolist(), strict=True):
            example = {
                "producer": producer,
                "sequence": sequence,
                "id": _text(batch[names.id][row].as_py()),
                "stored": _shown(batch[names.data][row].as_py()),
                "sent": _shown(_sent(content, producer, sequence)),
            }
            if names.type:
                example["stored_type"] = _shown(batch[names.type][row].as_py())
            self._seen.altered_examples.append(example)


class _Rows:
    """A batch whose columns are looked into row by row number, as bytes of fixed width where they are such."""

    def __init__(self, batch: pa.RecordBatch, subject: Subject) -> None:
        self.batch = batch
        self._columns = subject.columns
        self._ids = _binary(batch[subject.columns.id])
        self._words = fixed_width(self._ids, _ID_BYTES)
        self._data: pa.Array | None = None
        self._fixed: dict[int, npt.NDArray[np.uint8] | None] = {}

    def words(self, chosen: Spots) -> tuple[Spots, npt.NDArray[np.uint64]]:
        """Return those of *chosen* whose id has the right length, and these ids as pairs of eight bytes."""
        ids = self._words
        if ids is None:
            whole = pc.fill_null(pc.equal(pc.binary_length(self._ids), _ID_BYTES), False)
            chosen = chosen[whole.to_numpy(zero_copy_only=False)[chosen]]
            ids = fixed_width(self._ids.take(pa.array(chosen)), _ID_BYTES)
            assert ids is not None
            return chosen, ids.view(np.uint64)
        return chosen, _pick(ids.view(np.uint64), chosen)

    def wrong_data(self, chosen: Spots, content: Content, producer: int, sequences: U64) -> npt.NDArray[np.bool_]:
        """Which of *chosen* differ from what was sent. JSON that says the same in other words is the same."""
        column = self.batch[self._columns.data]
        if pa.types.is_nested(column.type):
            return _wrong_values(column.take(pa.array(chosen)).to_pylist(), content, producer, sequences)
        sent = content.expected(producer, sequences)
        wrong = self._unequal(chosen, sent.view(np.uint8).reshape(len(sent), -1))
        for spot in np.flatnonzero(wrong).tolist():
            value = column[int(chosen[spot])].as_py()
            wrong[spot] = value is None or not same_json(value, bytes(sent[spot]))
        return wrong

    def _unequal(self, chosen: Spots, sent: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which of *chosen* have not exactly the bytes of *sent*."""
        width = sent.shape[1]
        if self._data is None:
            self._data = _binary(self.batch[self._columns.data])
        if width not in self._fixed:
            self._fixed[width] = fixed_width(self._data, width)
        stored = self._fixed[width]
        if stored is not None:
            return differing(_pick(stored, chosen), sent)
        fits = pc.fill_null(pc.equal(pc.binary_length(self._data), width), False).to_numpy(zero_copy_only=False)[chosen]
        stored = fixed_width(self._data.take(pa.array(chosen[fits])), width)
        assert stored is not None
        wrong: npt.NDArray[np.bool_] = ~fits
        wrong[fits] = differing(stored, sent[fits])
        return wrong

    def wrong_type(self, chosen: Spots, content: Content, producer: int, sequences: U64) -> npt.NDArray[np.bool_]:
        """Which of *chosen* have another type than was sent."""
        stored = _dictionary(self.batch[self._columns.type])
        index_of = {name: index for index, name in enumerate(content.names)}
        names = [_text(name) for name in stored.dictionary.to_pylist()]
        translate = np.array([*(index_of.get(name, 255) for name in names), 255], dtype=np.uint8)
        codes = pc.fill_null(stored.indices, len(translate) - 1).to_numpy(zero_copy_only=False)
        wrong: npt.NDArray[np.bool_] = translate[codes[chosen]] != content.types(producer, sequences)
        return wrong


def _pick(values: npt.NDArray[_Scalar], chosen: Spots) -> npt.NDArray[_Scalar]:
    """Rows *chosen* of *values*; without a copy where these are all of them."""
    if len(chosen) == len(values) and len(values) and chosen[0] == 0:
        return values
    return values.take(chosen, axis=0)


def _sent(content: Content, producer: int, sequence: int) -> bytes:
    return bytes(content.expected(producer, np.array([sequence], dtype=np.uint64))[0])


def differing(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Say which rows of two arrays of bytes (rows, width) are not the same."""
    width = one.shape[1]
    unequal: npt.NDArray[np.bool_] = one.view(f"V{width}").reshape(-1) != other.view(f"V{width}").reshape(-1)
    return unequal


def _dictionary(column: pa.Array) -> pa.DictionaryArray:
    return column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()


def _groups(column: pa.DictionaryArray, size: int) -> Iterator[tuple[int | None, Spots]]:
    """Yield each dictionary code (None for null) with the numbers of its rows, ascending."""
    if not size:
        return
    codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
    if (codes == codes[0]).all():
        yield (int(codes[0]) if codes[0] >= 0 else None), np.arange(size)
        return
    narrow = codes.astype(np.int16) if len(column.dictionary) < 32_000 else codes  # numpy sorts 16 bits by radix
    order = np.argsort(narrow, kind="stable")
    breaks = np.flatnonzero(np.diff(codes[order])) + 1
    for rows in np.split(order, breaks):
        code = int(codes[rows[0]])
        yield (code if code >= 0 else None), rows


def _binary(column: pa.Array) -> pa.Array:
    """The column as large_binary, without copying the usual string types."""
    kind = column.type
    if isinstance(column, pa.DictionaryArray):
        column, kind = column.dictionary_decode(), column.type.value_type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        column = column.cast(pa.large_string())
    return column


def fixed_width(column: pa.Array, width: int) -> npt.NDArray[np.uint8] | None:
    """Return the bytes of a string or binary column as shape (rows, width), or None unless every value has that width."""
    if column.null_count:
        return None
    wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    _, offsets_buffer, data = column.buffers()
    if not len(column):
        return np.empty((0, width), dtype=np.uint8)
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64 if wide else np.int32)
    offsets = offsets[column.offset : column.offset + len(column) + 1]
    if int(offsets[-1] - offsets[0]) != width * len(column) or not (np.diff(offsets) == width).all():
        return None
    raw = np.frombuffer(data, dtype=np.uint8, count=int(offsets[-1]))
    return raw[int(offsets[0]) :].reshape(len(column), width)


def _wrong_values(values: list[Any], content: Content, producer: int, sequences: U64) -> npt.NDArray[np.bool_]:
    sent = content.expected(producer, sequences).tolist()
    pairs = zip(values, sent, strict=True)
    return np.array([stored != msgspec.json.decode(text) for stored, text in pairs], dtype=np.bool_)


def same_json(stored: str | bytes, sent: bytes) -> bool:
    """Say whether two JSON texts have the same meaning."""
    try:
        return bool(msgspec.json.decode(stored) == msgspec.json.decode(sent))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _shown(value: Any) -> str | None:
    return None if value is None else _text(value)[:_SHOWN_CHARACTERS]
