"""A live run between baseline and Stop, driven by hand: what each action does, and that it stands in the timeline.

Stack and load generator are stand-ins; the runner, its steps and its records are real.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from rich.console import Console

from chaos.alerting.engine import Evaluator
from chaos.alerting.rules import parse_rules
from chaos.control import ACTIONS
from chaos.display import Display
from chaos.errors import BadInput, ChaosError, NotNow
from chaos.live import LiveSession, LoadForm, Setting
from chaos.live_run import LiveRunner, Totals
from chaos.request import Request
from chaos.scenario import find_scenario, load_plan
from chaos.stack import Addresses
from chaos.target import find_target
from loadtests.records.jsonl import JsonlWriter
from loadtests.records.timeline import read_timeline
from tests.chaos.fakes import PATIENCE_S, FakePipeline, ok, replying
from tests.chaos.test_target import ADDRESSES


class FakeStack(FakePipeline):
    """A stack of which nothing but addresses is needed; warden too."""

    name = "fake"

    @property
    def addresses(self) -> Addresses:  # type: ignore[override]
        return ADDRESSES

    def lost(self) -> dict[str, int]:
        return {}

    def revive(self) -> list[str]:
        return []

    def capabilities(self) -> dict[str, bool]:
        return {}

    def pyiceberg_properties(self, *, direct: bool) -> dict[str, str]:
        return {}

    def heal_all(self) -> list[dict[str, Any]]:
        self.log.append("heal all")
        return []


class Staged(LiveRunner):
    """Begins where the baseline has ended, and is over when faults are healed."""

    def _phases(self) -> None:
        self._generator.start(lambda: None)
        self._phase("inject", self._inject)
        self._phase("heal", self._heal)

    def begin(self) -> None:
        self.thread = threading.Thread(target=self._phases)
        self.thread.start()


class Stage:
    """One runner on the stage, and the session that it belongs to."""

    def __init__(self, tmp_path: Path, admin: str = "http://127.0.0.1:1/admin") -> None:
        self.stack = FakeStack()
        self.pressed = threading.Event()
        path, target = find_target("reference")
        assert target.admin is not None
        target = msgspec.structs.replace(target, admin=msgspec.structs.replace(target.admin, url=admin))
        plan = load_plan(find_scenario("live"))
        anything = cast(Any, self.stack)
        display = Display(Console(file=io.StringIO()), quiet=True)
        self.runner = Staged(
            Request(plan, path, target, tmp_path / "runs", 1, ("icequake", "live")),
            stack=anything, warden=anything, display=display, check_ui=lambda: None, stop_ui=self._press_stop,
        )  # fmt: skip
        setting = Setting(plan, path, target, tmp_path / "runs", ("icequake", "live"))
        self.session = LiveSession(
            setting, stack=anything, warden=anything, display=lambda: display, ui=cast(Any, None)
        )
        self.session._runner = self.runner

    def _press_stop(self) -> None:
        self.pressed.set()
        self.runner.end(None)

    def begin(self) -> None:
        self.status(attempted=1)
        self.runner.begin()
        self.wait(lambda: self.runner._drills is not None)

    def end(self) -> None:
        self.runner.end(None)
        self.runner.thread.join(PATIENCE_S)
        assert not self.runner.thread.is_alive()

    def act(self, action: str, **arguments: Any) -> dict[str, Any]:
        return self.session.act(action, arguments)

    def wait(self, holds: Callable[[], bool]) -> None:
        never = threading.Event()
        for _ in range(int(PATIENCE_S * 100)):
            if holds():
                return
            never.wait(0.01)
        raise AssertionError("waited in vain")

    def operator(self) -> list[dict[str, Any]]:
        return [entry for entry in read_timeline(self.runner.run.timeline) if entry["event"] == "operator"]

    def status(self, **counts: int) -> None:
        """Write what a generator process would."""
        with JsonlWriter(self.runner.run.status / "locust-0.jsonl", "status", self.runner.run.info.run_id) as writer:
            writer.append(counts)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    made.begin()
    yield made
    made.end()


def test_every_action_of_the_api_is_one_of_the_session() -> None:
    """No name that the API takes ends in a missing method."""
    assert [action for action in ACTIONS if not hasattr(LiveSession, f"_{action}")] == []


def test_inject_and_heal_stand_in_the_timeline_with_step_and_parameters(stage: Stage) -> None:
    """Who did what, and what became of it."""
    step = stage.act("inject", fault="nothing", for_s=None)["step"]
    stage.wait(lambda: stage.session.state(0)["faults"] == ["nothing"])
    stage.act("heal", step=step)
    assert stage.session.state(0)["faults"] == []
    inject, heal = stage.operator()
    assert (inject["action"], inject["fault"], inject["step"]) == ("inject", "nothing", step)
    assert (heal["action"], heal["step"]) == ("heal", step)


def test_a_fault_is_shown_from_when_it_acts(stage: Stage) -> None:
    """It counts as injected when its effect has been measured, which a slow one makes slow."""
    zero_ns = stage.runner.run.info.started_mono_ns
    injected = {"event": "step", "step": 0, "fault": "slow-r2", "state": "injected"}
    stage.runner._heard({**injected, "t_ns": zero_ns + 9_000_000_000, "began_ns": zero_ns + 4_000_000_000})

    (step,) = stage.session.state(0)["steps"]
    assert (step["injected_s"], step["state"]) == (4.0, "injected")


def test_a_mark_is_one_line_of_at_most_200_characters(stage: Stage) -> None:
    """Line breaks and spaces are folded; nothing is no mark."""
    stage.act("mark", text="  paged\nthe on-call " + "x" * 300)
    (mark,) = stage.operator()
    assert mark["text"].startswith("paged the on-call x")
    assert len(mark["text"]) == 200
    with pytest.raises(BadInput, match="give a text"):
        stage.act("mark", text=" \n ")


def test_halt_heals_ends_the_traffic_and_taints_the_run(stage: Stage) -> None:
    """It is healed before Stop is pressed, and the run says who ended it."""
    stage.act("inject", fault="nothing", for_s=None)
    stage.act("halt")
    assert stage.session.state(0)["faults"] == []
    assert stage.pressed.wait(PATIENCE_S)
    assert stage.runner.run.info.stopped == "halted by the operator"
    assert [entry["action"] for entry in stage.operator()] == ["inject", "halt"]
    assert "heal all" in stage.stack.log


def test_nothing_is_injected_before_the_baseline_has_ended_or_after_stop(tmp_path: Path) -> None:
    """The sentence says which phase it is; nothing is written."""
    made = Stage(tmp_path)
    for action in ({"fault": "nothing"}, {"drill": "flush-and-verify"}):
        with pytest.raises(NotNow, match="phase created"):
            made.act("inject" if "fault" in action else "drill", **action)
    made.begin()
    made.end()
    with pytest.raises(NotNow, match="phase heal"):
        made.act("inject", fault="nothing")
    assert made.operator() == []


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("inject", {}),
        ("inject", {"fault": "nothing", "with": []}),
        ("inject", {"fault": "nothing", "for_s": True}),
        ("inject", {"fault": "nothing", "foo": 1}),
        ("heal", {"step": 99}),
        ("mark", {}),
        ("drill", {}),
        ("drill", {"drill": "no-such"}),
        ("drill", {"drill": "flush-and-verify", "with": {"x": 1}}),
        ("flush", {"now": True}),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(tmp_path: Path, action: str, arguments: dict[str, Any]) -> None:
    """BadInput, never a traceback."""
    with pytest.raises(BadInput):
        Stage(tmp_path).act(action, **arguments)


def test_a_flush_says_what_the_target_answered(tmp_path: Path) -> None:
    """And stands in the timeline, failed or not."""
    with replying(
        lambda request: ok('{"flushes": [{"events": 7, "outcome": "committed"}], "buffered_events": 2}')
    ) as one:
        made = Stage(tmp_path / "a", f"{one.url}/admin")
        made.begin()
        assert made.act("flush")["buffered_events"] == 2
        made.end()
        assert one.requests[0].startswith(b"POST /admin/flush ")
    assert [(entry["ok"], entry.get("buffered")) for entry in made.operator()] == [(True, 2)]

    broken = Stage(tmp_path / "b", "http://127.0.0.1:9/admin")
    broken.begin()
    with pytest.raises(ChaosError, match="did not flush"):
        broken.act("flush")
    broken.end()
    assert [entry["ok"] for entry in broken.operator()] == [False]


def test_a_drill_is_done_beside_the_traffic_and_shown_with_its_checks(tmp_path: Path) -> None:
    """One that the target refuses has failed, with the reason; meanwhile no other begins."""
    asked, answer = threading.Event(), threading.Event()

    def refuse(_: bytes) -> bytes:
        asked.set()
        answer.wait(PATIENCE_S)
        return ok("no", "403 Forbidden")

    with replying(refuse) as server:
        made = Stage(tmp_path, f"{server.url}/admin")
        made.begin()
        step = made.act("drill", drill="flush-and-verify")["step"]
        assert asked.wait(PATIENCE_S)
        with pytest.raises(NotNow, match="a drill is being done"):
            made.act("drill", drill="flush-and-verify")
        with pytest.raises(NotNow, match="a drill stops and starts"):
            made.act("inject", fault="kill-collector")
        answer.set()
        made.wait(lambda: made.session.state(0)["drills"][0]["state"] == "failed")
        (drill,) = made.session.state(0)["drills"]
        made.end()
    assert (drill["step"], drill["drill"]) == (step, "flush-and-verify")
    assert "403" in drill["reason"]
    assert [entry["action"] for entry in made.operator()] == ["drill"]


def test_the_state_counts_what_the_generators_wrote_and_gives_history_since(stage: Stage) -> None:
    """All processes together; a page that has seen the past is given the rest only."""
    stage.status(attempted=30, acked=20, refused=5, unknown=0, not_sent=0)
    stage.wait(lambda: stage.session.state(0)["counts"].get("acked") == 20)
    stage.wait(lambda: len(stage.session.state(0)["history"]) >= 1)
    state = stage.session.state(0)
    last = state["history"][-1]["t_s"]
    assert all(point["t_s"] > last for point in stage.session.state(last)["history"])
    assert {row["name"] for row in state["alerts"]} >= {
        "BufferHalfFull",
        "BufferAlmostFull",
        "FlushFailing",
        "FlushStalled in truth",
    }


def test_an_alert_is_written_when_it_fires(stage: Stage) -> None:
    """Here of a target that answers nothing; when the table fires is said in alerting/test_live."""
    (group,) = parse_rules("groups: [{name: g, rules: [{alert: Silent, expr: absent(up)}]}]", "test")
    name = group.rules[0].name
    stage.runner._alerts._own = [Evaluator(group)]
    stage.wait(
        lambda: any(row["name"] == name and row["state"] == "firing" for row in stage.session.state(0)["alerts"])
    )
    alerts = [entry for entry in read_timeline(stage.runner.run.timeline) if entry["event"] == "alert"]
    assert [(entry["name"], entry["state"]) for entry in alerts] == [(name, "firing")]


def test_counters_of_a_target_that_was_restarted_go_on() -> None:
    """It counts from zero again; the session does not, nor while the target is silent."""
    totals = Totals()
    assert totals.now() == {}
    for said in (
        {"committed": 5, "failed": 1},
        {},
        {"committed": 0, "failed": 0},
        {"committed": 2, "failed": 0},
        {"committed": 1},
    ):
        totals.take(said)
    assert totals.now() == {"committed": 8, "failed": 1}


def test_start_is_refused_while_the_last_run_settles(stage: Stage) -> None:
    """Until its verdict is there."""
    form = msgspec.to_builtins(LoadForm(events_per_s=1, batch=1, profile="steady", seed=1, mode="batch"))
    with pytest.raises(NotNow, match="still settling"):
        stage.act("begin", **form)


def test_without_a_run_everything_is_not_now(tmp_path: Path) -> None:
    """Before the first Start."""
    made = Stage(tmp_path)
    made.session._runner = None
    assert made.session.state(0)["run"] is None
    for action in ("heal", "halt", "flush"):
        with pytest.raises(NotNow, match="press Start"):
            made.act(action)
