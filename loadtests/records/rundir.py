"""The run directory: everything one run recorded, and the only interface between the stages of icequake.

run.json          who, argv, versions, seed, phase, times            written by the controller
scenario.yaml     the scenario as it was given
target.yaml       the target, secrets redacted
stack.json        where the table is, for readers (no secrets)
ledger/           what was sent and answered, a file a generator process
hist/ status/     latency histograms and one-second status lines of the generators
workers.jsonl     workers that joined or were lost                     the master of several generator processes
timeline.jsonl    phases, steps, processes, probes                   the controller
gateway.jsonl     every request on the faulted path                  the gateway
series/           measurements over time, Parquet
visible.jsonl     the table while traffic ran                        the auditor
observed/         the table after it settled, a record a data file   the final read
journal.jsonl     what was injected, before it was; and its undoing  the warden
logs/             what each process printed
verdict.json report.html report.md summary.txt junit.xml             the judge and the report
"""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct, field

from loadtests.records.documents import known_fields, read_document, write_document
from loadtests.records.errors import CorruptRecord, MissingRecord, RecordError
from loadtests.records.redaction import redacted, redacted_arguments, redacted_scenario
from loadtests.records.schema import check_schema, schema_name
from loadtests.records.target import KIND as TARGET
from loadtests.records.target import Target

KIND = "run"
LAST = "last"
_DIRECTORIES = ("ledger", "hist", "status", "series", "observed", "logs")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class SettleEnd(Struct, frozen=True, kw_only=True):
    """What the target was asked after settling: whether it still takes traffic at the baseline rate."""

    attempted: int
    refused: int


class RoundTrip(Struct, frozen=True, kw_only=True):
    """New events sent after settling: were they acked and seen in the table?

    `buffered` is what the target said it held when the wait for them was over; None when it does not say.
    """

    ok: bool
    producer: int
    first: int
    buffered: int | None = None


class RunWindow(Struct, kw_only=True):
    """When each phase of a run began, in monotonic nanoseconds; None where it was not reached.

    Attributes:
        settle: Why settling ended: `empty` (the target says it buffers nothing), `timeout` or `interrupted`.
        buffered_at_end: Events the target said it still held after settling; None when it does not say.
    """

    baseline_start_ns: int | None = None
    inject_start_ns: int | None = None
    traffic_end_ns: int | None = None
    healed_ns: int | None = None
    settle_end_ns: int | None = None
    settle: str | None = None
    buffered_at_end: int | None = None
    refusing_probe: SettleEnd | None = None
    roundtrip: RoundTrip | None = None


class NightPart(Struct, frozen=True, kw_only=True):
    """Which part of a night a run was (`icequake nightly`).

    Attributes:
        preset: What the night's list of runs is called.
        night: The same for every run of one night, and for no other's.
        number, of: Which run of how many, from 1.
        set: What the list changes in the scenario, as `icequake run --set` does.
    """

    preset: str
    night: str
    number: int
    of: int
    set: list[str] = field(default_factory=list)


class RunInfo(Struct, kw_only=True):
    """The content of run.json.

    Attributes:
        run_id: Eight characters of a-z and 0-9; part of every event's source and of the table's namespace.
        phase: The last phase that was entered.
        stopped: Why the run ended before its end, in one sentence; None when it did not.
        mix, phases: Weights of the event types, as `loadtests.records.content.Content` takes them.
        capabilities: What the stack can show, as tried before the run (see docs/stacks.md); empty when the target does not use it.
        expect: The verdict it must have, when whoever started it said so: a naive target must FAIL.
        night: Which part of a night it was; None for a run of its own.
    """

    run_id: str
    scenario: str
    target: str
    seed: int
    phase: str = "created"
    stack: str = ""
    argv: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    mix: dict[str, float] = field(default_factory=dict)
    phases: list[dict[str, float]] = field(default_factory=list)
    capabilities: dict[str, bool] = field(default_factory=dict)
    started_unix_ns: int = 0
    started_mono_ns: int = 0
    ended_unix_ns: int | None = None
    ended_mono_ns: int | None = None
    window: RunWindow = field(default_factory=RunWindow)
    stopped: str | None = None
    expect: str | None = None
    night: NightPart | None = None
    schema: str = schema_name(KIND)


def new_run_id() -> str:
    """Return a fresh random run id: a letter and seven more of a-z0-9, fit for a namespace."""
    return secrets.choice(_ALPHABET[:26]) + "".join(secrets.choice(_ALPHABET) for _ in range(7))


class RunDir:
    """Paths and documents of one run directory. Create with `create`, read with `open` or `find`."""

    def __init__(self, root: Path, info: RunInfo) -> None:
        root = root.absolute()  # processes that work elsewhere are given these paths
        self.root = root
        self.info = info
        self.ledger = root / "ledger"
        self.hist = root / "hist"
        self.status = root / "status"
        self.series = root / "series"
        self.observed = root / "observed"
        self.logs = root / "logs"
        self.scenario = root / "scenario.yaml"
        self.target = root / "target.yaml"
        self.stack = root / "stack.json"
        self.timeline = root / "timeline.jsonl"
        self.gateway_log = root / "gateway.jsonl"
        self.visible = root / "visible.jsonl"
        self.journal = root / "journal.jsonl"
        self.verdict = root / "verdict.json"
        self.report_html = root / "report.html"
        self.report_md = root / "report.md"
        self.summary = root / "summary.txt"
        self.junit = root / "junit.xml"

    @classmethod
    def create(cls, runs: Path, info: RunInfo, *, scenario_text: str, target: Target) -> RunDir:
        """Make a new run directory under *runs* and point `last` at it.

        Raises:
            RecordError: it cannot be created; one sentence.
        """
        info.argv = redacted_arguments(info.argv)
        info.started_unix_ns = info.started_unix_ns or time.time_ns()
        info.started_mono_ns = info.started_mono_ns or time.monotonic_ns()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(info.started_unix_ns / 1e9))
        root = runs / f"{stamp}-{_slug(info.scenario)}-{_slug(info.target)}-{info.run_id}"
        try:
            for name in _DIRECTORIES:
                (root / name).mkdir(parents=True, mode=0o700)
            run = cls(root, info)
            run.scenario.write_text(redacted_scenario(scenario_text), encoding="utf-8")
            plain = msgspec.to_builtins(redacted(target))
            run.target.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
            run.save()
            _point_last(runs, root)
        except OSError as error:
            raise RecordError(f"the run directory {root} cannot be created: {error.strerror}.") from error
        return run

    @classmethod
    def open(cls, root: Path) -> RunDir:
        """Open an existing run directory. Raises MissingRecord, CorruptRecord, NewerVersion."""
        if not (root / "run.json").is_file():
            raise MissingRecord(f"{root} is not a run directory (it has no run.json).")
        return cls(root, read_document(root / "run.json", RunInfo, schema=KIND))

    @classmethod
    def find(cls, runs: Path, name: str) -> RunDir:
        """Open a run by path, by `last`, by directory name or by run id below *runs*."""
        for directory in (Path(name), runs / name):
            if _is_run(directory):
                return cls.open(directory.resolve())
        matches = sorted(runs.glob(f"*-{name}")) if re.fullmatch(r"[a-z0-9]+", name) else []
        if len(matches) != 1:
            raise MissingRecord(f"there is no run {name!r} in {runs}; `icequake list runs` shows what there is.")
        return cls.open(matches[0])

    def save(self) -> None:
        """Replace run.json atomically with the present `info`."""
        write_document(self.root / "run.json", self.info)

    def load_target(self) -> Target:
        """Return the (redacted) target of this run. Raises CorruptRecord and NewerVersion."""
        try:
            plain = yaml.safe_load(self.target.read_text(encoding="utf-8"))
            check_schema(plain.get("schema") if isinstance(plain, dict) else None, TARGET, self.target)
            return msgspec.convert(known_fields(plain, Target), Target)
        except (OSError, ValueError, yaml.YAMLError, msgspec.ValidationError) as error:
            raise CorruptRecord(f"{self.target} cannot be read as a target: {error}.") from error


def _is_run(directory: Path) -> bool:
    try:
        return (directory / "run.json").is_file()
    except OSError:  # a name that no file can have
        return False


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def _point_last(runs: Path, root: Path) -> None:
    draft = runs / f".{LAST}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(root.name)
    os.replace(draft, runs / LAST)
