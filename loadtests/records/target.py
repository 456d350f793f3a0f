"""The target file: where a pipeline takes events, where they should end up, and what it promises.

With `process`, the harness starts, kills and restarts the target itself; `{port}` and `{admin_port}` in URLs stand for the
ports it hands to it as LISTEN_PORT and ADMIN_PORT, `{python}` in the command for the running interpreter, `{here}` for the
directory of the target file. Without it, faults that the harness cannot inject are skipped and said to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

from loadtests.records.documents import load_yaml
from loadtests.records.errors import InvalidDocument
from loadtests.records.schema import schema_name

KIND = "target"

Mode = Literal["batch", "structured", "binary", "json-events"]
"""How CloudEvents are written in HTTP; json-events is `{"events": [...]}`."""
Positive = Annotated[float, Meta(gt=0)]
Url = Annotated[str, Meta(pattern="^https?://", description="An http or https URL.")]


class Ingest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events go in, and how they are written unless a scenario says otherwise.

    Attributes:
        paths: By mode, paths other than the URL's.
    """

    url: Url
    mode: Mode = "batch"
    paths: dict[Mode, Annotated[str, Meta(pattern="^/")]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def address(self, url: str, mode: Mode) -> str:
        """Return *url* with the path to which events are posted in *mode*."""
        return urlsplit(url)._replace(path=self.paths[mode]).geturl() if mode in self.paths else url


class Admin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The collector's own admin listener, if it has one like the reference collector's."""

    url: Url
    token_env: str = "ADMIN_TOKEN"  # noqa: S105  # the name of a variable, not a secret


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Prometheus endpoint, and what its metrics mean; all but the URL may be left out.

    Attributes:
        fill: The gauge of the fullest buffer (0-1).
        buffered: A gauge of events held.
        flushes_failed, discarded: Counters of flushes that failed, and of accepted events that were given up; selectors.
        last_commit_s: A gauge: when the last commit succeeded, in seconds since 1970; a selector.
        oldest_age_s: A gauge: seconds since the oldest event held was accepted; a selector.
        accepted: A counter of events answered with a success; a selector.
        refused_requests: A counter of requests answered with a refusal; a selector, which may find several series.
        flushes_committed: A counter of flushes that landed, one snapshot each; a selector.
        stale_s: How old a value may be when it is read, for a target that does not take it at that moment.

    `flushes_failed`, `discarded`, `last_commit_s` and `oldest_age_s` are only used by alert rules (`icequake alerts`), which are
    skipped where they are missing. What `fill`, `buffered`, `accepted`, `refused_requests` and `flushes_committed` say is held
    against the truth (check `metrics.truth`).
    """

    url: Url
    fill: str | None = None
    buffered: str | None = None
    flushes_failed: str | None = None
    discarded: str | None = None
    last_commit_s: str | None = None
    oldest_age_s: str | None = None
    accepted: str | None = None
    refused_requests: str | None = None
    flushes_committed: str | None = None
    stale_s: Annotated[float, Meta(ge=0, le=600)] = 1.0


class Logs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command whose output is JSON lines; `fill` is the field with the fill rate in percent."""

    command: str
    fill: str


class CrashPoints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the target is told to kill itself at a named point of its code.

    Attributes:
        env: The variable that arms a point.
        format: Its value, with `{point}` and `{nth}`.
        arguments: What the command line needs beside it.
    """

    env: str
    format: str = "{point}=kill@{nth}"
    arguments: list[str] = field(default_factory=list)


class Process(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the harness starts the target. `{python}` and `{here}` are filled in."""

    command: Annotated[list[str], Meta(min_length=1)]
    ready: Url
    ready_s: Positive = 30.0
    env: dict[str, str] = field(default_factory=dict)
    crash_points: CrashPoints | None = None


class Hook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Commands of the owner for a fault that only the owner can inject."""

    inject: str
    heal: str
    probe: str | None = None


class Storage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The object store as the collector sees it; credentials come from the environment."""

    endpoint: Url
    bucket: str
    credentials: Literal["env"] = "env"


class Columns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of the table's columns. `type` and `time` are judged only when named."""

    id: str = "id"
    source: str = "source"
    data: str = "data"
    type: str | None = None
    time: str | None = None


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Iceberg table; `catalog` holds pyiceberg catalog properties (for a table that is not on a local stack)."""

    catalog: dict[str, str] = field(default_factory=dict)
    identifier: Annotated[str, Meta(pattern=r"^[^.]+(\.[^.]+)+$")] | None = None
    columns: Columns = field(default_factory=Columns)


class Refusals(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which answers are the target's own refusals. Without `marker` in the Content-Type they are unknown:
    somebody between us and the target may have sent them."""

    statuses: list[Annotated[int, Meta(ge=400, le=599)]] = field(default_factory=lambda: [429, 503])
    marker: str | None = "application/problem+json"


class RequestLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one request may be at most; whatever is larger is answered 413 and not kept.

    Attributes:
        body_bytes: The body on the wire, compressed or not.
        event_bytes: The JSON text of one event; in binary mode its body and the names and values of its ce- headers.
        batch_events: Events in one request.
    """

    body_bytes: Annotated[int, Meta(ge=1024)]
    event_bytes: Annotated[int, Meta(ge=1024)]
    batch_events: Annotated[int, Meta(ge=1)]


class Contract(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the target promises; verdicts are judged against it.

    Attributes:
        durability: What a 2xx means. Under `memory`, events acknowledged before the process was killed may be lost; under
            `page_cache`, those acknowledged before a power cut, since a killed process loses nothing that it has written; under `fsync`
            and `committed`, none.
        capacity_events: How many events one buffer holds.
        buffers: `per_type`: each event type (and hour) has a buffer of its own; `shared`: there is one for all events.
        overflow: What a full buffer does. Under `drop_oldest`, events acknowledged before it was last full may be lost; under
            `reject` and `block` none may.
        limits: What a request may be at most; without them, requests at and over the limits cannot be sent.
        invalid: What becomes of a request in which one event is invalid: `reject_request` keeps none of it and answers 400,
            415 or 422; `skip_event` keeps the valid ones and answers 2xx.
    """

    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    durability: Literal["memory", "page_cache", "fsync", "committed"] = "fsync"
    capacity_events: Annotated[int, Meta(gt=0)] | None = None
    buffers: Literal["per_type", "shared"] = "per_type"
    overflow: Literal["reject", "block", "drop_oldest"] = "reject"
    freshness_s: Positive = 120.0
    refusals: Refusals = field(default_factory=Refusals)
    limits: RequestLimits | None = None
    invalid: Literal["reject_request", "skip_event"] = "reject_request"


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pipeline under test.

    `allow` names hosts beyond this machine that may be loaded; `allow_faults` the faults, or mechanisms, that may be injected
    (missing: everything on this machine, nothing elsewhere).
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Lower-case letters, digits, - and _.")]
    ingest: Ingest
    admin: Admin | None = None
    metrics: Metrics | None = None
    logs: Logs | None = None
    process: Process | None = None
    hooks: dict[str, Hook] = field(default_factory=dict)
    storage: Storage | None = None
    table: Table = field(default_factory=Table)
    contract: Contract = field(default_factory=Contract)
    allow: list[str] = field(default_factory=list)
    allow_faults: list[str] | None = None
    schema: str = schema_name(KIND)


def load_target(path: Path) -> Target:
    """Read a target file. Raises MissingRecord, NewerVersion or InvalidDocument (file, line, sentence)."""
    target = load_yaml(path, Target, schema=KIND)
    if target.process is None and (target.table.identifier is None or not target.table.catalog):
        raise InvalidDocument(
            path,
            None,
            "table: without `process` the table's `catalog` properties and `identifier` must be given.",
        )
    return target
