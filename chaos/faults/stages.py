"""The stages of the pipeline that a fault can hit, in the order in which an event passes them."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """One stage; `about` says what happens there."""

    INGEST = "ingest"
    BUFFER = "buffer"
    ENCODE = "encode"
    DATA = "data"
    MANIFEST = "manifest"
    COMMIT = "commit"
    CATALOG_READ = "catalog-read"
    RECOVERY = "recovery"
    HOST = "host"
    TABLE = "table"

    @property
    def about(self) -> str:
        """What happens at this stage, in a few words."""
        return _ABOUT[self]


_ABOUT = {
    Stage.INGEST: "requests of clients and their answers",
    Stage.BUFFER: "an event is buffered, acknowledged, and cleared when it is in the table",
    Stage.ENCODE: "a flush is cut and becomes a data file",
    Stage.DATA: "data files are uploaded",
    Stage.MANIFEST: "manifests and manifest lists are read and uploaded",
    Stage.COMMIT: "the catalog is asked for a new snapshot",
    Stage.CATALOG_READ: "the table's state is read from the catalog",
    Stage.RECOVERY: "the process ends or stops, and goes on",
    Stage.HOST: "the collector's machine: disk, locks, clock",
    Stage.TABLE: "the table as it lies in the object store",
}
