"""`icequake drill NAME --live`: what it says and ends with, whatever the session and the drill do.

Sessions are the real control API over operations that play a drill step by step; the last test is a whole session.
"""

from __future__ import annotations

import json
import stat
import threading
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chaos.cli import run_command
from chaos.control import ControlServer
from chaos.drills.by_hand import follow
from chaos.errors import BadState, NotNow
from chaos.loopback import open_url
from chaos.session_file import FILE, announced, find_session
from loadtests.records.errors import MissingRecord
from loadtests.records.rundir import RunDir
from loadtests.records.timeline import read_timeline
from tests.live_session import live

RUN = "ab12cd34"
READABLE = {"state": "checked", "check": "readable", "ok": True, "detail": "3 files, 900 rows"}
DROPPED = {"state": "checked", "check": "fill drops", "ok": False, "detail": "40 before, 60 after"}
DETECTED = {"state": "reached", "check": "detected", "ok": True, "detail": "manifest-missing"}


def drill(state: str, *checks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"step": 2, "drill": "flush-and-verify", "state": state, "checks": list(checks), "seconds": 1.5, **more}


def shown(*drills: dict[str, Any], run: str = RUN) -> dict[str, Any]:
    return {"run": {"id": run}, "drills": list(drills), "history": []}


class Played:
    """A session in which a drill does what it is told, one state for each time it is asked."""

    def __init__(self, *states: dict[str, Any], refuse: Exception | None = None) -> None:
        self.states, self.refuse = list(states), refuse
        self.asked: list[dict[str, Any]] = []

    def state(self, since_s: float) -> dict[str, Any]:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def faults(self) -> list[dict[str, Any]]:
        return []

    def drills(self) -> list[dict[str, Any]]:
        return [
            {"name": "flush-and-verify", "about": "Force a flush", "problem": None},
            {"name": "scale-buffer", "about": "Scale", "problem": "the target has no `process`"},
        ]

    def report(self, run_id: str) -> bytes:
        return b""

    def act(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked.append({"action": action, **arguments})
        if self.refuse is not None:
            raise self.refuse
        return {"step": 2, "run": RUN}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.control.EVENT_S", 0.001)


def command(session: Played, runs: Path, *arguments: str) -> int:
    with ControlServer(session) as control, announced(runs, control.url, control.token):
        return run_command(["drill", *arguments, "--live", "--runs", str(runs)])


@pytest.mark.parametrize(
    ("last", "exit_code", "said"),
    [
        (drill("done", READABLE, DETECTED), 0, "all 1 post-conditions hold, after 1.5 s."),
        (drill("done", READABLE, DROPPED), 1, "1 of 2 post-conditions do not hold: fill drops."),
        (
            drill("failed", READABLE, reason="POST /flush was answered with 503."),
            1,
            "it could not be done: POST /flush",
        ),
        (drill("stopped", READABLE, reason="the run ended"), 2, "it was not done to its end: the run ended."),
        (drill("void", reason="its turn never came"), 2, "it was not done to its end: its turn never came."),
        (drill("done"), 2, "it checked nothing."),
        (drill("done", DETECTED), 2, "it checked nothing."),
        (drill("broken", READABLE, reason="KeyError('x')"), 255, "icequake failed in it: KeyError('x')."),
    ],
)
def test_a_drill_is_as_good_as_its_post_conditions(last: dict[str, Any], exit_code: int, said: str) -> None:
    """Reaching a milestone proves nothing, and neither does a drill that checked nothing or had no end."""
    outcome = follow([shown(), shown(drill("begun")), shown(last)], RUN, 2, lambda _: None)

    assert outcome.exit_code == exit_code
    assert said in outcome.sentence


@pytest.mark.integration
def test_its_steps_are_printed_once_each_as_they_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other drills of the run are not mixed in; parameters reach the session as YAML."""
    other = {**drill("done", DROPPED), "step": 1}
    session = Played(
        shown(other), shown(other, drill("armed")), shown(other, drill("begun", DETECTED)),
        shown(other, drill("begun", DETECTED, READABLE)), shown(other, drill("done", DETECTED, READABLE)),
    )  # fmt: skip

    assert command(session, tmp_path, "restore-permissions", "--with", "operation=GET") == 0

    assert session.asked == [{"action": "drill", "drill": "restore-permissions", "with": {"operation": "GET"}}]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "drill flush-and-verify begun",
        "drill flush-and-verify: detected; manifest-missing",
        "drill flush-and-verify: readable holds, 3 files, 900 rows",
        "drill flush-and-verify done",
        "restore-permissions: all 1 post-conditions hold, after 1.5 s.",
    ]


def test_a_session_that_ends_or_begins_another_run_proves_nothing() -> None:
    """The last state of the drill's own run was not its end; another run's step 2 is another thing."""
    for states in ([shown(drill("begun", READABLE))], [shown(drill("begun")), shown(drill("done", READABLE), run="x")]):
        outcome = follow(states, RUN, 2, lambda _: None)
        assert outcome.exit_code == 2
        assert "before the drill came to its end" in outcome.sentence


@pytest.mark.integration
def test_what_the_session_does_not_allow_now_is_a_sentence_and_inconclusive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was done and nothing is proved; the sentence is the session's own."""
    session = Played({"run": None, "drills": []}, refuse=NotNow("there is no run yet; press Start."))

    assert command(session, tmp_path, "flush-and-verify") == 2
    assert capsys.readouterr().err == "icequake: the drill was not begun: there is no run yet; press Start.\n"


@pytest.mark.integration
def test_without_a_name_it_lists_what_the_session_can_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason why it cannot do the others."""
    assert command(Played(shown()), tmp_path) == 0
    flush, scale = capsys.readouterr().out.splitlines()
    assert flush.split(maxsplit=1) == ["flush-and-verify", "Force a flush"]
    assert scale.split(maxsplit=1) == ["scale-buffer", "not here: the target has no `process`"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("flush-and-verify",), "no live session runs below"),
        (
            ("flush-and-verify", "--seed", "1", "--set", "a=b"),
            "--seed, --set: the session that --live means has its own",
        ),
        (("flush-and-verify", "--target", "reference"), "--target: the session"),
        (("no-such-drill",), "there is no drill 'no-such-drill'"),
        (("scale-buffer", "--with", "after"), "write key=value"),
        (("scale-buffer", "--with", "after=["), "the value is not YAML"),
        (("scale-buffer", "--with", "after=no"), "drill scale-buffer"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any session is asked."""
    assert run_command(["drill", *arguments, "--live", "--runs", str(tmp_path)]) == 254
    assert sentence in capsys.readouterr().err


def test_a_session_that_was_killed_is_told_from_one_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file is left behind, and nothing answers there."""
    with announced(tmp_path, "http://127.0.0.1:1", "t"):
        assert run_command(["drill", "flush-and-verify", "--live", "--runs", str(tmp_path)]) == 255
    assert "is `icequake live` still running?" in capsys.readouterr().err


def test_a_session_announces_itself_to_its_owner_only_and_takes_only_its_own_file_away(tmp_path: Path) -> None:
    """The token opens the session, and a later session is not hidden when an earlier one ends."""
    with announced(tmp_path, "http://127.0.0.1:1", "first"):
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
        assert find_session(tmp_path).token == "first"
        with announced(tmp_path, "http://127.0.0.1:2", "second"):
            assert find_session(tmp_path).url == "http://127.0.0.1:2"
        with pytest.raises(BadState, match="no live session runs"):
            find_session(tmp_path)
        (tmp_path / FILE).write_text("{}")
        with pytest.raises(BadState, match="is not what a live session writes"):
            find_session(tmp_path)
    assert (tmp_path / FILE).exists()


# -- a whole session


def press_start(url: str) -> None:
    """Start a test as Locust's own page does, without the page."""
    form = urllib.parse.urlencode({"user_count": 20, "spawn_rate": 20}).encode()
    with open_url(urllib.request.Request(f"{url}swarm", data=form), timeout=120) as answer:  # loopback
        assert json.loads(answer.read())["success"]


def wait_phase(runs: Path, phase: str) -> RunDir:
    """Wait until there is a run, and it is in *phase*."""
    never = threading.Event()
    for _ in range(1200):
        with suppress(MissingRecord):
            run = RunDir.find(runs, "last")
            if run.info.phase == phase:
                return run
        never.wait(0.1)
    raise AssertionError(f"the run never came to phase {phase}")


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_in_a_real_session_a_drill_lands_in_the_timeline_and_in_the_verdict(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before Start it is refused; then two drills hold, one after the other; after Stop the verdict has a check for each."""
    names = ("flush-and-verify", "drain-and-restart")
    with live(tmp_path, "--seed", "5") as session:
        assert run_command(["drill", names[0], "--live", "--runs", str(tmp_path)]) == 2
        press_start(session.url)
        run = wait_phase(tmp_path, "inject")
        for name in names:
            assert run_command(["drill", name, "--live", "--runs", str(tmp_path)]) == 0, capfd.readouterr()
        with open_url(urllib.request.Request(f"{session.url}stop", data=b""), timeout=120):  # loopback
            pass
        wait_phase(tmp_path, "done")
        assert session.end() == 0
        assert not (tmp_path / FILE).exists()

    drills = [entry for entry in read_timeline(run.timeline) if entry["event"] == "drill"]
    assert [(one["drill"], one["state"]) for one in drills if one["state"] in ("begun", "done")] == [
        (name, state) for name in names for state in ("begun", "done")
    ]
    verdict = json.loads(run.verdict.read_text(encoding="utf-8"))
    checks = {check["id"]: check["verdict"] for check in verdict["checks"]}
    assert [checks[f"drill.{name}"] for name in names] == ["PASS", "PASS"]
    said = capfd.readouterr()
    assert "press Start" in said.err
    assert said.out.count("post-conditions hold, after") == len(names)
