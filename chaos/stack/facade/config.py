"""What the two processes are told, in one JSON file that only its owner can read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Addresses, keys and places of catalog and object store.

    Attributes:
        host: Address both bind to.
        s3_port: Port of the object store.
        catalog_port: Port of the catalog.
        access_key: The only key the object store takes, and the client id of the catalog.
        secret_key: Its secret, and the client secret of the catalog; also signs tokens.
        region: Region of the buckets.
        buckets: Made by the object store before it serves.
        warehouse: Where tables go that are created without a location, such as ``s3://analytics``.
        database: The catalog's SQLite file.
        lock_timeout_s: How long a request waits for a locked database before it is answered with 503.
    """

    host: str
    s3_port: int
    catalog_port: int
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    buckets: tuple[str, ...]
    warehouse: str
    database: str
    lock_timeout_s: float = 2.0

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read a file that :meth:`document` was written to."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "buckets": tuple(values["buckets"])})

    def document(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return asdict(self)

    @property
    def s3_url(self) -> str:
        """Where the object store answers."""
        return f"http://{self.host}:{self.s3_port}"

    @property
    def catalog_url(self) -> str:
        """Where the catalog answers."""
        return f"http://{self.host}:{self.catalog_port}"
