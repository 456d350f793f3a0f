"""What drills ask of the run's table, read past every fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.drills.desk import DrillFailed


class CatalogFiles:
    """Data files of a table.

    Args:
        properties: pyiceberg catalog properties.
    """

    def __init__(self, properties: Mapping[str, str], identifier: str) -> None:
        self._properties, self._identifier = dict(properties), identifier

    def rows_of(self, paths: list[str]) -> dict[str, int]:
        """Return the number of rows read from each of *paths* that the current snapshot references."""
        from pyiceberg.catalog import load_catalog  # takes a second, which only drills need to spend

        try:
            table = load_catalog("drill", **self._properties).load_table(self._identifier)
            referenced = {task.file.file_path for task in table.scan().plan_files()}
            return {path: _rows(table, path) for path in paths if path in referenced}
        except Exception as error:  # whatever pyiceberg, Arrow or the network has to say, the files were not readable
            raise DrillFailed(f"the table could not be read: {error}") from error


def _rows(table: Any, path: str) -> int:
    import pyarrow.parquet as pq

    with table.io.new_input(path).open() as file:
        return int(pq.read_table(file).num_rows)
