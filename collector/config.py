"""The collector's configuration: environment variables in, frozen typed objects out.

``VARIABLES`` is the one list: ``from_environ`` reads through it and ``--help`` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from collector.errors import ConfigError

ADMIN_TOKEN_MIN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: ``default`` is None where a value is required and "" where it may be absent."""

    name: str
    default: str | None
    help: str
    secret: bool = False


VARIABLES: tuple[Variable, ...] = (
    Variable("LISTEN_HOST", "127.0.0.1", "Address of the ingest listener."),
    Variable("LISTEN_PORT", "8787", "Port of the ingest listener; 0 takes a free one."),
    Variable("ADMIN_HOST", "127.0.0.1", "Address of the admin listener."),
    Variable("ADMIN_PORT", "8788", "Port of the admin listener; 0 takes a free one."),
    Variable("ADMIN_TOKEN", None, "Bearer token of the admin listener, at least 32 bytes.", secret=True),
    Variable("ADMIN_FLUSH_TIMEOUT_S", "120", "How long POST /admin/flush waits for a decision."),
    Variable("DATA_DIR", None, "Directory of the buffer; created with mode 0700, locked by one process."),
    Variable("S3_ENDPOINT", "", "Object store endpoint; empty means AWS."),
    Variable("S3_REGION", "us-east-1", "Object store region."),
    Variable("AWS_ACCESS_KEY_ID", "", "Object store key; empty lets the catalog vend one.", secret=True),
    Variable("AWS_SECRET_ACCESS_KEY", "", "Object store secret.", secret=True),
    Variable("S3_CONNECT_TIMEOUT_S", "5", "Time to connect to the object store."),
    Variable("S3_REQUEST_TIMEOUT_S", "30", "Silence on an object store connection that counts as failure."),
    Variable("CATALOG_URI", None, "Iceberg REST catalog."),
    Variable("CATALOG_WAREHOUSE", "", "Warehouse name or location, for example s3://analytics."),
    Variable("CATALOG_CREDENTIAL", "", "OAuth2 client credential, id:secret.", secret=True),
    Variable("CATALOG_TOKEN", "", "Bearer token instead of CATALOG_CREDENTIAL.", secret=True),
    Variable("CATALOG_OAUTH2_URI", "", "Token endpoint; CATALOG_URI/v1/oauth/tokens when empty."),
    Variable("CATALOG_CONNECT_TIMEOUT_S", "5", "Time to connect to the catalog."),
    Variable("CATALOG_READ_TIMEOUT_S", "30", "Silence on a catalog connection that counts as failure."),
    Variable("TABLE_IDENTIFIER", None, "Table as namespace.table; both are created when missing."),
    Variable("ICEBERG_BUFFER_SIZE", "2000", "Capacity of one partition buffer, in events; at it, 503."),
    Variable("ICEBERG_BUFFER_FLUSH_AT", "0.5", "A partition at this share of its capacity is flushed, 0 < x <= 1."),
    Variable("ICEBERG_BUFFER_TIMEOUT_MS", "30000", "A partition whose oldest event is this old is flushed."),
    Variable("BUFFER_MAX_PARTITIONS", "512", "Distinct (type, hour) pairs buffered at once; beyond, 503."),
    Variable("DEDUPE_WINDOW_S", "3600", "How long a (source, id) is remembered; survives restart. 0 turns it off."),
    Variable("DEDUPE_MAX_EVENTS", "10000000", "Most (source, id) pairs remembered; the oldest go first."),
    Variable("SNAPSHOTS_MAX", "60", "Snapshots kept in the table; older ones are expired."),
    Variable("SNAPSHOT_MIN_AGE_S", "300", "No snapshot younger than this is expired."),
    Variable("MANIFESTS_MAX", "40", "Manifests of a snapshot before a flush merges small ones."),
    Variable("MAX_BODY_BYTES", "4194304", "Largest request body on the wire."),
    Variable("MAX_DECOMPRESSED_BYTES", "16777216", "Largest body after each stage of decompression."),
    Variable("MAX_BATCH_EVENTS", "2000", "Most events in one request."),
    Variable("MAX_EVENT_BYTES", "1048576", "Largest single event, at least 65536."),
    Variable("MAX_ATTRIBUTES", "64", "Most attributes of one event."),
    Variable("MAX_JSON_DEPTH", "64", "Deepest nesting of an event, its envelope included."),
    Variable("MAX_NUMBER_CHARS", "308", "Longest JSON number literal."),
    Variable("MAX_HEADERS", "128", "Most header fields of one request."),
    Variable("MAX_HEADER_BYTES", "81920", "Largest request head; above 64 KiB so that binary mode fits."),
    Variable("HEADER_TIMEOUT_S", "10", "Time to send a request head."),
    Variable("BODY_TIMEOUT_S", "20", "Time to send a request body; then 408."),
    Variable("MAX_CONCURRENT_REQUESTS", "256", "Requests in flight; beyond, 503."),
    Variable("DRAIN_S", "25", "Time SIGTERM leaves for flushing; the rest stays on disk and the exit code is 3."),
    Variable("LOG_INTERVAL_S", "10", "Seconds between two lines with buffer_fill_rate."),
    Variable("COLLECTOR_FAULTS", "", "Crash points, for tests; refused without --allow-faults."),
)


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When a partition is due: at ``size_events * flush_at`` events or when its oldest is ``timeout_ms`` old."""

    size_events: int = 2000
    flush_at: float = 0.5
    timeout_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class DedupeConfig:
    """How long, and how many, (source, id) pairs are remembered; ``window_s`` 0 turns it off."""

    window_s: int = 3600
    max_events: int = 10_000_000


@dataclass(frozen=True, slots=True)
class MaintenanceConfig:
    """Bounds that keep table metadata small."""

    snapshots_max: int = 60
    snapshot_min_age_s: int = 300
    manifests_max: int = 40


@dataclass(frozen=True, slots=True)
class S3Config:
    """The object store; an empty endpoint means AWS, empty keys leave credentials to the catalog."""

    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class CatalogConfig:
    """The Iceberg REST catalog and the table."""

    uri: str
    table_identifier: str
    warehouse: str = ""
    credential: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    oauth2_uri: str = ""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may be at most; see ``VARIABLES`` for each meaning."""

    body_bytes: int = 4 << 20
    decompressed_bytes: int = 16 << 20
    batch_events: int = 2000
    event_bytes: int = 1 << 20
    attributes: int = 64
    json_depth: int = 64
    number_chars: int = 308
    headers: int = 128
    header_bytes: int = 80 << 10
    header_timeout_s: float = 10.0
    body_timeout_s: float = 20.0
    concurrent_requests: int = 256


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server binds."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the collector is told; secrets do not appear in its repr."""

    ingest: Listener
    admin: Listener
    admin_token: bytes = field(repr=False)
    admin_flush_timeout_s: float
    data_dir: Path
    s3: S3Config
    catalog: CatalogConfig
    flush: FlushPolicy
    buffer_max_partitions: int
    dedupe: DedupeConfig
    maintenance: MaintenanceConfig
    limits: Limits
    drain_s: float
    log_interval_s: float
    faults: str
    variables: tuple[tuple[str, str], ...] = ()
    """Every variable as it is in force; a secret that is set is ``***``."""

    def secrets(self) -> tuple[str, ...]:
        """Return every secret text, for redaction."""
        credential = self.catalog.credential
        found = (
            self.admin_token.decode(errors="replace"),
            self.s3.secret_access_key,
            self.s3.access_key_id,
            credential,
            credential.partition(":")[2],
            self.catalog.token,
        )
        return tuple(text for text in found if text)


class _Reader:
    """Reads each variable once, casts it, and names it in the error."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._variables = {variable.name: variable for variable in VARIABLES}

    def text(self, name: str) -> str:
        variable = self._variables[name]
        value = self._environ.get(name, "").strip() or variable.default
        if value is None:
            raise ConfigError(f"{name} is missing: {variable.help}")
        return value

    def shown(self, variable: Variable) -> str:
        text = self.text(variable.name)
        return "***" if text and variable.secret else text

    def integer(self, name: str, least: int, most: int = 2**53) -> int:
        text = self.text(name)
        if not re.fullmatch(r"[0-9]{1,16}", text) or not least <= int(text) <= most:
            bounds = f"of at least {least}" if most == 2**53 else f"from {least} to {most}"
            raise ConfigError(f"{name} must be a whole number {bounds}, got {text!r}")
        return int(text)

    def seconds(self, name: str, least: float) -> float:
        text = self.text(name)
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or float(text) < least:
            raise ConfigError(f"{name} must be a number of seconds of at least {least:g}, got {text!r}")
        return float(text)

    def share(self, name: str) -> float:
        text = self.text(name)
        if not re.fullmatch(r"[0-9](\.[0-9]{1,9})?", text) or not 0 < float(text) <= 1:
            raise ConfigError(f"{name} must be a number above 0 and up to 1, got {text!r}")
        return float(text)

    def url(self, name: str) -> str:
        text = self.text(name)
        if not text:
            return text
        try:
            parts = urlsplit(text)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise ConfigError(f"{name} must be an http or https URL, for example http://127.0.0.1:8181")
        if parts.username or parts.password:
            raise ConfigError(f"{name} must not contain a password: it would reach logs")
        return text.rstrip("/")

    def host(self, name: str) -> str:
        text = self.text(name)
        if not re.fullmatch(r"[A-Za-z0-9.:\-\[\]]+", text):
            raise ConfigError(f"{name} must be a host name or an address, got {text!r}")
        return text

    def token(self, name: str) -> bytes:
        token = self.text(name).encode()
        if len(token) < ADMIN_TOKEN_MIN_BYTES:
            raise ConfigError(f"{name} has {len(token)} bytes, but needs at least {ADMIN_TOKEN_MIN_BYTES}")
        if not re.fullmatch(rb"[\x21-\x7e]+", token):
            raise ConfigError(f"{name} must consist of printable ASCII characters without spaces")
        return token


def from_environ(environ: Mapping[str, str]) -> Config:
    """Read the whole configuration; raises ``ConfigError`` with one sentence that names the variable."""
    read = _Reader(environ)
    config = Config(
        ingest=Listener(read.host("LISTEN_HOST"), read.integer("LISTEN_PORT", 0, 65535)),
        admin=Listener(read.host("ADMIN_HOST"), read.integer("ADMIN_PORT", 0, 65535)),
        admin_token=read.token("ADMIN_TOKEN"),
        admin_flush_timeout_s=read.seconds("ADMIN_FLUSH_TIMEOUT_S", 1),
        data_dir=Path(read.text("DATA_DIR")),
        s3=_s3(read),
        catalog=_catalog(read),
        flush=FlushPolicy(
            size_events=read.integer("ICEBERG_BUFFER_SIZE", 1, 10_000_000),
            flush_at=read.share("ICEBERG_BUFFER_FLUSH_AT"),
            timeout_ms=read.integer("ICEBERG_BUFFER_TIMEOUT_MS", 1),
        ),
        buffer_max_partitions=read.integer("BUFFER_MAX_PARTITIONS", 1),
        dedupe=DedupeConfig(read.integer("DEDUPE_WINDOW_S", 0), read.integer("DEDUPE_MAX_EVENTS", 1)),
        maintenance=MaintenanceConfig(
            snapshots_max=read.integer("SNAPSHOTS_MAX", 2),
            snapshot_min_age_s=read.integer("SNAPSHOT_MIN_AGE_S", 0),
            manifests_max=read.integer("MANIFESTS_MAX", 2),
        ),
        limits=_limits(read),
        drain_s=read.seconds("DRAIN_S", 0),
        log_interval_s=read.seconds("LOG_INTERVAL_S", 0.1),
        faults=read.text("COLLECTOR_FAULTS"),
        variables=tuple((variable.name, read.shown(variable)) for variable in VARIABLES),
    )
    if config.ingest.port and config.ingest == config.admin:
        raise ConfigError("ADMIN_PORT must differ from LISTEN_PORT")
    return config


def _s3(read: _Reader) -> S3Config:
    s3 = S3Config(
        endpoint=read.url("S3_ENDPOINT"),
        region=read.text("S3_REGION"),
        access_key_id=read.text("AWS_ACCESS_KEY_ID"),
        secret_access_key=read.text("AWS_SECRET_ACCESS_KEY"),
        connect_timeout_s=read.seconds("S3_CONNECT_TIMEOUT_S", 0.1),
        request_timeout_s=read.seconds("S3_REQUEST_TIMEOUT_S", 0.1),
    )
    if bool(s3.access_key_id) != bool(s3.secret_access_key):
        raise ConfigError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be given together")
    return s3


def _catalog(read: _Reader) -> CatalogConfig:
    identifier = read.text("TABLE_IDENTIFIER")
    if not re.fullmatch(r"[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)+", identifier):
        raise ConfigError(f"TABLE_IDENTIFIER must look like namespace.table, got {identifier!r}")
    credential = read.text("CATALOG_CREDENTIAL")
    if credential and ":" not in credential:
        raise ConfigError("CATALOG_CREDENTIAL must look like id:secret")
    uri = read.url("CATALOG_URI")
    return CatalogConfig(
        uri=uri,
        table_identifier=identifier,
        warehouse=read.text("CATALOG_WAREHOUSE"),
        credential=credential,
        token=read.text("CATALOG_TOKEN"),
        oauth2_uri=read.url("CATALOG_OAUTH2_URI") or f"{uri}/v1/oauth/tokens",
        connect_timeout_s=read.seconds("CATALOG_CONNECT_TIMEOUT_S", 0.1),
        read_timeout_s=read.seconds("CATALOG_READ_TIMEOUT_S", 0.1),
    )


def _limits(read: _Reader) -> Limits:
    limits = Limits(
        body_bytes=read.integer("MAX_BODY_BYTES", 65536, 1 << 30),
        decompressed_bytes=read.integer("MAX_DECOMPRESSED_BYTES", 65536, 1 << 30),
        batch_events=read.integer("MAX_BATCH_EVENTS", 1),
        event_bytes=read.integer("MAX_EVENT_BYTES", 65536, 1 << 30),
        attributes=read.integer("MAX_ATTRIBUTES", 10),
        json_depth=read.integer("MAX_JSON_DEPTH", 2, 500),
        number_chars=read.integer("MAX_NUMBER_CHARS", 20, 4000),
        headers=read.integer("MAX_HEADERS", 16),
        header_bytes=read.integer("MAX_HEADER_BYTES", 4096, 1 << 24),
        header_timeout_s=read.seconds("HEADER_TIMEOUT_S", 0.1),
        body_timeout_s=read.seconds("BODY_TIMEOUT_S", 0.1),
        concurrent_requests=read.integer("MAX_CONCURRENT_REQUESTS", 1),
    )
    if limits.event_bytes > limits.decompressed_bytes:
        raise ConfigError("MAX_EVENT_BYTES must not exceed MAX_DECOMPRESSED_BYTES")
    return limits


def help_text() -> str:
    """Return the documentation of every variable, one line each."""
    width = max(len(variable.name) for variable in VARIABLES)
    return "\n".join(f"  {variable.name:<{width}}  {variable.help}{_default(variable)}" for variable in VARIABLES)


def _default(variable: Variable) -> str:
    if variable.default is None:
        return " [required]"
    return f" [{variable.default}]" if variable.default else ""
