"""A row taken from an export is the row that the collector would have written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from chaos.table.exports import row_of
from collector.cloudevents import DATA_ABSENT, DATA_BINARY, DATA_JSON, DATA_TEXT, Event
from collector.encode import SCHEMA, to_rows
from collector.lines import to_line

TIME_US = 1_795_600_800_123_456


def event(**more: Any) -> Event:
    given: dict[str, Any] = {
        "id": "1",
        "source": "urn:a",
        "type": "view",
        "time": "2026-11-25T10:00:00.123456Z",
        "time_us": TIME_US,
        "subject": None,
        "datacontenttype": None,
        "dataschema": None,
        "data": None,
        "data_kind": DATA_ABSENT,
        "extensions": None,
    }
    return Event(**{**given, **more})


@pytest.mark.parametrize(
    "one",
    [
        event(),
        event(data=b'{"a": 1.0 }', data_kind=DATA_JSON),
        event(data=b'{"a":\n1}', data_kind=DATA_JSON),
        event(data=b'"x"', data_kind=DATA_JSON),
        event(data=b"plain \xc3\xa9", data_kind=DATA_TEXT, datacontenttype="text/plain"),
        event(data=b"\0nul", data_kind=DATA_TEXT, datacontenttype="text/plain"),
        event(data=b"\0\xff", data_kind=DATA_BINARY, datacontenttype="image/png"),
        event(subject="s", dataschema="urn:b", extensions=b'{"traceid":"7","n":3,"b":true}'),
        event(data=b"[1]", data_kind=DATA_JSON, datacontenttype="application/vnd.x+json; charset=utf-8"),
        event(time="2026-11-25T12:00:00.123456+02:00"),
    ],
)
def test_an_exported_event_becomes_the_same_row(one: Event) -> None:
    """Column by column, whatever its data is."""
    expected = to_rows([one]).table
    row = row_of(to_line(one))
    found = pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names}], schema=SCHEMA)
    assert found.to_pylist() == expected.to_pylist()
