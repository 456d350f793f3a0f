"""Measurements come back sorted by time, from every part of every writer."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.records.errors import CorruptRecord, NewerVersion
from loadtests.records.series import COLUMNS, SeriesWriter, read_series

SAMPLES = st.lists(
    st.tuples(
        st.integers(0, 2**62),
        st.sampled_from(["fill_ratio", "buffer_events", "target:x"]),
        st.floats(allow_nan=False),
        st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "x y"]), max_size=2),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(samples=SAMPLES, part_rows=st.integers(1, 9))
def test_what_was_added_is_read(
    samples: list[tuple[int, str, float, dict[str, str]]], part_rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Time, name, value and labels of every sample, whatever the size of parts."""
    directory = tmp_path_factory.mktemp("series")
    writer = SeriesWriter(directory, "target", "ab12cd34", part_rows=part_rows)
    for t_ns, name, value, labels in samples:
        writer.add(t_ns, name, value, labels)
    writer.close()
    rows = [(row["t_ns"], row["name"], row["value"], row["labels"]) for row in read_series(directory).to_pylist()]
    wanted = [
        (t, name, value, ",".join(f"{k}={v}" for k, v in sorted(labels.items()))) for t, name, value, labels in samples
    ]
    assert sorted(rows) == sorted(wanted)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_writers_are_merged_and_names_chosen(tmp_path: Path) -> None:
    """Different writers know different names; a reader asks for those it wants."""
    for writer, name in (("a", "fill_ratio"), ("b", "snapshots")):
        one = SeriesWriter(tmp_path, writer, "r")
        one.add(1, name, 0.5)
        one.add(2, "both", 1)
        one.close()
    assert read_series(tmp_path, ["fill_ratio", "none"])["name"].to_pylist() == ["fill_ratio"]
    assert sorted(read_series(tmp_path)["name"].to_pylist()) == ["both", "both", "fill_ratio", "snapshots"]


def test_no_samples_is_an_empty_table(tmp_path: Path) -> None:
    """A run that ended at once has the columns all the same, and a writer without samples writes nothing."""
    SeriesWriter(tmp_path, "a", "r").close()
    assert list(tmp_path.iterdir()) == []
    assert read_series(tmp_path).schema == COLUMNS
    assert read_series(tmp_path, ["x"]).num_rows == 0


def test_a_part_that_was_being_written_is_no_part(tmp_path: Path) -> None:
    """What a killed writer left is not read."""
    writer = SeriesWriter(tmp_path, "a", "r")
    writer.add(1, "x", 1)
    writer.close()
    (tmp_path / "a-0002.part").write_bytes(b"PAR1 half")
    assert read_series(tmp_path).num_rows == 1


def part(tmp_path: Path, schema: str | None, *, drop: str = "", more: bool = False) -> None:
    columns = {"t_ns": [1], "name": ["x"], "labels": [""], "value": [1.0]}
    columns = {name: values for name, values in columns.items() if name != drop}
    if more:
        columns["unit"] = ["ms"]
    table = pa.table(columns).replace_schema_metadata({"schema": schema} if schema else None)
    pq.write_table(table, tmp_path / "a-0001.parquet")


def test_a_newer_minor_with_further_columns_is_read(tmp_path: Path) -> None:
    """What this version does not know is left out."""
    part(tmp_path, "icequake.series/1.4", more=True)
    assert read_series(tmp_path).to_pylist() == [{"t_ns": 1, "name": "x", "labels": "", "value": 1.0}]


def test_a_newer_major_is_refused(tmp_path: Path) -> None:
    """With the sentence of every format."""
    part(tmp_path, "icequake.series/2.0")
    with pytest.raises(NewerVersion, match=r"a-0001\.parquet has format icequake\.series/2\.0"):
        read_series(tmp_path)


@pytest.mark.parametrize("kind", ["no schema", "other kind", "no column", "wrong type", "no parquet", "cut"])
def test_a_file_that_is_no_part_is_corrupt(tmp_path: Path, kind: str) -> None:
    """Foreign, incomplete and broken files are named in a sentence."""
    part(tmp_path, {"no schema": None, "other kind": "icequake.hist/1.0"}.get(kind, "icequake.series/1.0"),
         drop="value" if kind in ("no column", "wrong type") else "")  # fmt: skip
    path = tmp_path / "a-0001.parquet"
    if kind == "wrong type":
        table = pq.read_table(path)
        pq.write_table(table.append_column("value", pa.array([["list"]])), path)
    elif kind == "no parquet":
        path.write_bytes(b"hello")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptRecord, match=r"a-0001\.parquet "):
        read_series(tmp_path)
