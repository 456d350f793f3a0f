"""Drills: the desk they work at, and each procedure against a collector that does right or wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pytest
from click.testing import CliRunner

from chaos.cli import icequake, run_command
from chaos.drills import MODULES, find_drill
from chaos.drills.desk import AdminClient, Desk, DrillFailed, Mended, perform, read_backup
from chaos.errors import BadInput
from loadtests.records.target import Ingest, Process, Target


class Pretender:
    """A collector, its clients and its table, where an event is an id; `lies` is the one thing that is done wrong."""

    def __init__(self, lies: str = "") -> None:
        self.lies = lies
        self.now_s = 1.0
        self.acks: dict[str, float] = {}
        self.waiting: list[str] = []
        self.table: list[str] = []
        self.arrive(300)
        self.discarded = 7  # by whoever did so before
        self.size = "2000"
        self.log: list[dict[str, Any]] = []
        self.on: list[str] = []
        self.running, self.mended, self.in_flight = True, False, False

    def arrive(self, count: int) -> None:
        new = [f"e{n}" for n in range(len(self.acks), len(self.acks) + count)]
        self.acks |= dict.fromkeys(new, self.now_s - 0.01)
        self.waiting += new

    # -- the admin listener

    def get(self, path: str) -> bytes:
        assert path == "export"
        waiting = self.waiting[:-10] if self.lies == "exports too little" else self.waiting
        lines = [json.dumps({"source": "s", "id": one}).encode() + b"\n" for one in waiting]
        digest = hashlib.sha256(b"".join(lines)).hexdigest()
        receipt = json.dumps({"receipt": {"events": len(lines), "sha256": digest}}).encode() + b"\n"
        if self.lies == "cut export":
            return b"".join(lines)
        return b"".join(lines[1:] if self.lies == "short export" else lines) + receipt

    def read(self, path: str) -> dict[str, Any]:
        if path == "config":
            return {"variables": {"ICEBERG_BUFFER_SIZE": self.size}}
        capacity = 2000 if self.lies == "old capacity" else int(self.size)
        held = min(len(self.waiting), 2000) if self.lies == "holds no more" else len(self.waiting)
        return {
            "events": held,
            "partitions": [{"events": held, "oldest_age_s": 60.0 if held else 0.0}],
            "capacity_events": capacity,
            "discarded_events": self.discarded,
        }

    def post(self, path: str, body: bytes = b"") -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, f"_{path}")(body)
        return answer

    def _flush(self, _body: bytes) -> dict[str, Any]:
        denied = {"r2-403", "r2-403-data"} & set(self.on) and self.lies != "permission not needed"
        self.in_flight = bool(denied)
        if self.lies == "flush refused" or denied:
            raise DrillFailed("POST /flush was answered with 503: the flush was not decided")
        if self.lies == "flush does nothing":
            return {"flushes": [], "buffered_events": len(self.waiting)}
        kept = 5 if self.lies == "flush leaves some" else 0
        taken, self.waiting = self.waiting[kept:], self.waiting[:kept]
        self.table += taken[1:] if self.lies == "flush drops" else taken
        outcome = "failed" if self.lies == "flush fails" else "committed"
        flush = {"outcome": outcome, "files": ["f1"], "events": len(taken)}
        return {"flushes": [flush], "buffered_events": 0}

    def _reset(self, _body: bytes) -> dict[str, Any]:
        gone, self.waiting = self.waiting, []
        lines = [json.dumps({"source": "s", "id": one}).encode() + b"\n" for one in gone]
        said = len(gone) - 10 if self.lies == "reset lies" else len(gone)
        self.discarded += said if self.lies == "reset lies" else len(gone)
        digest = hashlib.sha256(b"".join(lines[:said])).hexdigest()
        return {"discarded": {"events": said, "sha256": digest}, "kept_events": 0}

    def _replay(self, body: bytes) -> dict[str, Any]:
        lines = [json.loads(line) for line in body.splitlines()]
        ids = [line["id"] for line in lines if "id" in line]
        new = ids if self.lies == "replay doubles" else [one for one in ids if one not in {*self.waiting, *self.table}]
        self.waiting += new
        return {"accepted": len(new), "duplicate": len(ids) - len(new), "complete": "receipt" in lines[-1]}

    # -- the table

    def rows_of(self, paths: list[str]) -> dict[str, int]:
        return {} if self.lies == "orphan" else dict.fromkeys(paths, len(self.table))

    def holds(self, keys: set[tuple[str, str]]) -> set[tuple[str, str]]:
        rows = self.table[10:] if self.lies == "lost" else self.table
        return keys & {("s", one) for one in rows}

    def critical(self) -> list[str]:
        damaged = {"manifest-deleted", "data-file-deleted"} & set(self.on)
        return ["manifest-missing m1"] if damaged and self.lies != "doctor is blind" else []

    def mend(self, *, accept_loss: bool, export: bytes | None = None) -> Mended:
        damage = "manifest-deleted" if export is None else "data-file-deleted"
        if damage not in self.on or self.lies == "cannot mend":
            return Mended(left=("a guess",) if self.lies == "cannot mend" else ())
        if self.lies != "mends nothing":
            self.on.remove(damage)
            return Mended("rebuild-manifest" if export is None else "append-from-export")
        self.mended, again = True, self.mended
        return Mended() if again else Mended("rebuild-manifest")

    def denied(self) -> dict[str, str]:
        if self.lies == "still denied" or "r2-403" in self.on:
            names = ("PUT", "multipart upload", "conditional PUT")
            return dict.fromkeys(names if self.lies != "wrong name" else ("GET",), "AccessDenied")
        return {}

    # -- the clients

    def acked_before(self, moment_s: float) -> set[tuple[str, str]]:
        return {("s", one) for one, at_s in self.acks.items() if at_s < moment_s}

    def again_since(self, moment_s: float) -> set[tuple[str, str]]:
        return set()

    # -- everything else of a desk

    @contextmanager
    def fault(self, name: str, params: Mapping[str, Any]) -> Iterator[None]:
        self.on.append(name)
        yield
        if name in self.on:
            self.on.remove(name)

    def stop(self) -> int | None:
        self.running = False
        if self.lies not in ("killed", "stays", "forgets"):
            self.table, self.waiting = self.table + self.waiting, []
        elif self.lies == "forgets":
            self.waiting = self.waiting[10:]
        self.now_s += 0.5
        return {"killed": -9, "stays": 3, "forgets": 3}.get(self.lies, 0)

    def kill(self) -> None:
        self.running = False
        if self.lies == "forgets a replay":
            self.waiting = []

    def start(self, env: Mapping[str, str]) -> None:
        self.running = self.lies != "refuses"
        self.size = env.get("ICEBERG_BUFFER_SIZE", self.size) if self.lies != "old size" else self.size

    def idle(self) -> None:
        if self.running:
            self.arrive(20)
        if len(self.waiting) > 500 and not {"r2-403", "r2-403-data"} & set(self.on):
            self.table, self.waiting = self.table + self.waiting, []

    def end_traffic(self) -> None:
        """It takes its time: what waits is sealed by its age meanwhile, unless it waits behind a flush that cannot land."""
        if not self.in_flight:
            self.table, self.waiting = self.table + self.waiting, []

    def desk(self, name: str) -> Desk:
        def sleep(seconds: float) -> None:
            self.now_s += seconds

        return Desk(
            name=name,
            admin=cast(AdminClient, self),
            table=self,
            stop=self.stop,
            kill=self.kill,
            start=self.start,
            end_traffic=self.end_traffic,
            acked=lambda: len(self.acks),
            ledger=self,
            fault=self.fault,
            idle=self.idle,
            write=lambda event, **fields: self.log.append({"event": event, **fields}),
            clock=lambda: self.now_s,
            sleep=sleep,
        )

    def do(self, name: str) -> list[str]:
        """Do a drill; return the post-conditions that do not hold, and how it ended."""
        perform(name, find_drill(name).perform, self.desk(name))
        broken = [entry["check"] for entry in self.log if entry["state"] == "checked" and not entry["ok"]]
        return [*broken, self.log[-1]["state"]]


@pytest.mark.parametrize("name", MODULES)
def test_every_drill_holds_with_a_collector_that_does_right(name: str) -> None:
    """From beginning to end, timed, with post-conditions that were looked at."""
    right = Pretender()

    assert right.do(name) == ["done"]
    assert right.log[0] == {"event": "drill", "drill": name, "state": "begun"}
    assert len(right.log) >= 4
    assert right.log[-1]["seconds"] >= 0


@pytest.mark.parametrize(
    ("name", "lies", "seen"),
    [
        ("flush-and-verify", "flush does nothing", "committed"),
        ("flush-and-verify", "flush fails", "committed"),
        ("flush-and-verify", "flush drops", "rows"),
        ("flush-and-verify", "flush leaves some", "flushed"),
        ("flush-and-verify", "orphan", "files"),
        ("flush-and-verify", "flush refused", "failed"),
        ("export-clear-replay", "short export", "receipt"),
        ("export-clear-replay", "cut export", "failed"),
        ("export-clear-replay", "reset lies", "replayed"),
        ("export-clear-replay", "exports too little", "whole"),
        ("export-clear-replay", "replay doubles", "idempotent"),
        ("export-clear-replay", "forgets a replay", "replayed"),
        ("export-clear-replay", "lost", "brought back"),
        ("reset-accounted", "reset lies", "accounted"),
        ("reset-accounted", "exports too little", "nothing else"),
        ("scale-buffer", "old size", "configured"),
        ("scale-buffer", "old capacity", "in force"),
        ("scale-buffer", "refuses", "accepts"),
        ("scale-buffer", "holds no more", "holds more"),
        ("drain-and-restart", "killed", "ended"),
        ("drain-and-restart", "refuses", "accepts"),
        ("drain-and-restart", "lost", "drained"),
        ("drain-and-restart", "forgets", "left on disk"),
        ("restore-permissions", "still denied", "before"),
        ("restore-permissions", "wrong name", "named"),
        ("restore-permissions", "permission not needed", "held"),
        ("restore-permissions", "lost", "drained"),
        ("repair-the-table", "doctor is blind", "failed"),
        ("repair-the-table", "cannot mend", "mended"),
        ("repair-the-table", "mends nothing", "sound"),
        ("repair-the-table", "killed", "stopped"),
        ("repair-the-table", "refuses", "accepts"),
        ("repair-the-table", "lost", "all back"),
        ("restore-from-export", "cut export", "failed"),
        ("restore-from-export", "flush does nothing", "flushed"),
        ("restore-from-export", "doctor is blind", "failed"),
        ("restore-from-export", "cannot mend", "restored"),
        ("restore-from-export", "mends nothing", "sound"),
        ("restore-from-export", "lost", "all back"),
    ],
)
def test_a_collector_that_does_wrong_is_noticed(name: str, lies: str, seen: str) -> None:
    """Each way to do it wrong breaks the post-condition that is about it."""
    assert seen in Pretender(lies).do(name)


def test_an_answer_without_its_numbers_fails_the_drill() -> None:
    """And not the harness: the collector said something else than it promises."""
    odd = Pretender()
    odd._flush = lambda _body: {"flushes": [{"outcome": "committed"}]}  # type: ignore[method-assign]

    assert odd.do("flush-and-verify")[-1] == "failed"
    assert "KeyError" in odd.log[-1]["reason"]


def test_an_empty_buffer_is_no_drill() -> None:
    """Without events the procedure would prove nothing, and says so."""
    empty = Pretender()
    empty.waiting, empty.running = [], False

    assert empty.do("flush-and-verify") == ["failed"]
    assert "did not hold 200 events" in empty.log[-1]["reason"]


def test_a_drain_may_leave_events_on_disk() -> None:
    """Then exactly those are missing that the next start finds, and a flush brings them back."""
    stays = Pretender("stays")

    assert stays.do("drain-and-restart") == ["done"]
    assert "left on disk" in [entry.get("check") for entry in stays.log]


def test_damage_is_an_object_fault() -> None:
    """Another fault would leave nothing to repair, and is refused with those that there are."""
    with pytest.raises(BadInput, match=r"'slow-r2' damages no object; there are manifest-list-deleted"):
        find_drill("repair-the-table", {"fault": "slow-r2"})
    assert find_drill("repair-the-table", {"fault": ""}).params["fault"] == ""


def test_half_a_backup_ends_between_lines() -> None:
    """A replay that crashed had sent whole lines, and no receipt."""
    backup = read_backup(Pretender().get("export"))

    assert backup.half().endswith(b"\n")
    assert len(backup.half().splitlines()) == 150
    assert json.loads(backup.receipt)["receipt"]["events"] == 300


@pytest.mark.parametrize("name", MODULES)
def test_every_drill_is_a_procedure_to_read(name: str) -> None:
    """Its docstring says what a person does, step by step."""
    result = CliRunner().invoke(icequake, ["drill", name, "--print"], standalone_mode=False)

    assert result.return_value == 0
    assert "1. " in result.output
    assert find_drill(name).about in result.output


def test_mistakes_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown drill names the known ones; a target without an admin listener cannot be drilled."""
    with pytest.raises(BadInput, match="flush-and-verify"):
        find_drill("nothing")
    with pytest.raises(BadInput, match=r"drill flush-and-verify: Object contains unknown field `twice`"):
        find_drill("flush-and-verify", {"twice": True})
    process = Process(command=["x"], ready="http://127.0.0.1:1/")
    bare = Target(name="x", ingest=Ingest(url="http://127.0.0.1:1/"), process=process)
    assert find_drill("flush-and-verify").problem(bare) == (
        "target 'x' has no `admin`, which the drill flush-and-verify cannot do without"
    )
    assert run_command(["drill", "nothing"]) == 254
    assert "there is no drill" in capsys.readouterr().err


def test_what_an_admin_listener_cannot_answer_fails_the_drill() -> None:
    """No connection and no JSON are sentences of the drill, not of the harness."""
    with pytest.raises(DrillFailed, match="GET /buffer failed"):
        AdminClient("http://127.0.0.1:9/admin", "t").read("buffer")
