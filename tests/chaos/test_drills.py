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
from chaos.drills.desk import AdminClient, Desk, DrillFailed, perform, read_backup
from chaos.drills.hands import visible_of
from chaos.errors import BadInput
from loadtests.records.target import Ingest, Process, Target


class Pretender:
    """A collector's admin listener that keeps events as ids; `lies` is the one thing it does wrong."""

    def __init__(self, lies: str = "") -> None:
        self.lies = lies
        self.waiting = [f"e{n}" for n in range(300)]
        self.table: list[str] = []
        self.acked = 300
        self.discarded = 0
        self.size = "2000"
        self.status: int | None = 0
        self.log: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.now_s = 0.0
        self.running = True

    # -- the admin listener

    def get(self, path: str) -> bytes:
        assert path == "export"
        content = b"".join(json.dumps({"id": one}).encode() + b"\n" for one in self.waiting)
        receipt = {"events": len(self.waiting), "sha256": hashlib.sha256(content).hexdigest()}
        if self.lies == "cut export":
            return content
        if self.lies == "short export":
            content = content.partition(b"\n")[2]
        return content + json.dumps({"receipt": receipt}).encode() + b"\n"

    def read(self, path: str) -> dict[str, Any]:
        if path == "config":
            return {"variables": {"ICEBERG_BUFFER_SIZE": self.size}}
        capacity = 2000 if self.lies == "old capacity" else int(self.size)
        return {"events": len(self.waiting), "capacity_events": capacity, "discarded_events": self.discarded}

    def post(self, path: str, body: bytes = b"") -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, f"_{path}")(body)
        return answer

    def _flush(self, _body: bytes) -> dict[str, Any]:
        if self.lies == "flush refused":
            raise DrillFailed("POST /flush was answered with 503: the flush was not decided")
        if self.lies == "flush does nothing":
            return {"flushes": [], "buffered_events": len(self.waiting)}
        taken, self.waiting = self.waiting, []
        self.table += taken[1:] if self.lies == "flush drops" else taken
        outcome = "failed" if self.lies == "flush fails" else "committed"
        flush = {"outcome": outcome, "files": ["f1"], "events": len(taken)}
        return {"flushes": [flush], "buffered_events": 0}

    def _reset(self, _body: bytes) -> dict[str, Any]:
        gone, self.waiting = len(self.waiting), []
        self.discarded = gone
        said = gone - 10 if self.lies == "reset lies" else gone
        return {"discarded": {"events": said}, "kept_events": 0}

    def _replay(self, body: bytes) -> dict[str, Any]:
        lines = [json.loads(line) for line in body.splitlines()]
        ids = [line["id"] for line in lines if "id" in line]
        new = ids if self.lies == "replay doubles" else [one for one in ids if one not in {*self.waiting, *self.table}]
        self.waiting += new
        return {"accepted": len(new), "duplicate": len(ids) - len(new), "complete": "receipt" in lines[-1]}

    # -- everything else of a desk

    def rows_of(self, paths: list[str]) -> dict[str, int]:
        return {} if self.lies == "orphan" else dict.fromkeys(paths, len(self.table))

    def stop(self) -> int | None:
        self.running = False
        if self.lies != "killed":
            self.table, self.waiting = self.table + self.waiting, []
        return -9 if self.lies == "killed" else self.status

    def start(self, env: Mapping[str, str]) -> None:
        self.running = self.lies != "refuses"
        self.size = env.get("ICEBERG_BUFFER_SIZE", self.size) if self.lies != "old size" else self.size

    @contextmanager
    def fault(self, name: str, params: Mapping[str, Any]) -> Iterator[None]:
        self.faults.append(name)
        yield
        self.faults.append("healed")

    def desk(self, name: str) -> Desk:
        def idle() -> None:
            if self.running and self.lies != "refuses":
                self.acked += 1
                self.table.append(f"late{self.acked}")

        def sleep(seconds: float) -> None:
            self.now_s += seconds

        return Desk(
            name=name,
            admin=cast(AdminClient, self),
            table=self,
            stop=self.stop,
            start=self.start,
            end_traffic=lambda: None,
            acked=lambda: self.acked,
            visible=lambda: len(self.table),
            fault=self.fault,
            idle=idle,
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
        ("flush-and-verify", "orphan", "files"),
        ("flush-and-verify", "flush refused", "failed"),
        ("export-clear-replay", "short export", "receipt"),
        ("export-clear-replay", "cut export", "failed"),
        ("export-clear-replay", "reset lies", "replayed"),
        ("export-clear-replay", "replay doubles", "idempotent"),
        ("reset-accounted", "reset lies", "accounted"),
        ("scale-buffer", "old size", "configured"),
        ("scale-buffer", "old capacity", "in force"),
        ("scale-buffer", "refuses", "accepts"),
        ("drain-and-restart", "killed", "ended"),
        ("drain-and-restart", "refuses", "accepts"),
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
    empty.waiting = []

    assert empty.do("flush-and-verify") == ["failed"]
    assert "did not hold 200 events" in empty.log[-1]["reason"]


def test_visible_is_what_is_acknowledged_and_no_longer_pending() -> None:
    """The auditor's count of acknowledged events alone says nothing of the table."""
    assert visible_of({"acked": 10, "pending": 4}) == 6
    assert visible_of({"acked": 10, "error": "no table"}) == visible_of({}) == 0


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
