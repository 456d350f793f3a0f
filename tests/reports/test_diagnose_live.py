"""The root-cause page of a live target: what is planted is the first suspect, and a healthy one has none."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.records.ledger import Outcome
from loadtests.records.target import Admin, Contract, Ingest, Metrics, Target
from loadtests.records.target_config import TargetConfig
from reports.diagnosis.answer import Answer
from reports.diagnosis.asking import look, usual_of
from reports.diagnosis.command import main
from reports.diagnosis.live import Live, Usual, diagnose_live
from reports.diagnosis.probes import Probe, Probes, ask_door, probed
from reports.diagnosis.watched import Watched, watch
from reports.runrecords import read_run
from tests.chaos.fakes import ok, replying
from tests.histories import HandMadeRun

START_S = 1_700_000_000.0
USUAL = Usual(90.0, {"page.view": 1 / 3, "click": 1 / 3, "search": 1 / 3})
GOOD = Probes(*(Probe(what, (5.0, 6.0, 5.0)) for what in ("catalog", "store", "door")))
TARGET = Target(
    name="mine",
    ingest=Ingest(url="http://127.0.0.1:1/events"),
    metrics=Metrics(
        url="http://127.0.0.1:1/metrics",
        fill="fill",
        buffered="held",
        accepted="accepted_total",
        flushes_failed='flushes_total{outcome="failed"}',
        last_commit_s="committed_s",
    ),
    contract=Contract(capacity_events=1000, freshness_s=30),
)


def scrapes(
    *, rates: Mapping[str, float] | None = None, put_s: float = 0.1, commit_s: float = 0.05, failed: float = 0.0,
    committed_ago_s: float = 1.0, silent: range = range(0), count: int = 21,
) -> Watched:  # fmt: skip
    """A scrape and a flush a second, after a past of a thousand quick flushes; every buffer is emptied every five seconds."""
    rates = rates or {"page.view": 30, "click": 30, "search": 30}
    watched = Watched()
    for second in range(count):
        filled = {kind: rate * (second % 5) / 1000 for kind, rate in rates.items()}
        sample = {
            "accepted_total": 5_000 + sum(rates.values()) * second,
            "fill": max(filled.values()),
            "held": 10.0,
            "flushes_total{outcome=failed}": 3 + failed * second,
            "committed_s": START_S + second - committed_ago_s,
            "collector_flush_duration_seconds_count": 1000.0 + second,
            "collector_flush_stage_seconds_total{stage=put}": 100 + put_s * second,
            "collector_flush_stage_seconds_total{stage=commit}": 50 + commit_s * second,
            **{f"collector_partition_fill_ratio{{hour=1,type={kind}}}": value for kind, value in filled.items()},
        }
        watched.take(START_S + second, None if second in silent else sample)
    return watched


def answers(
    watched: Watched, probes: Probes = GOOD, *, usual: Usual | None = USUAL, config: TargetConfig | None = None
) -> list[Answer]:
    found = diagnose_live(Live(TARGET, watched, probes, usual, config))
    assert len(found) == 7
    return found


def test_a_healthy_target_has_no_suspect() -> None:
    """Every question is answered, none by yes."""
    assert {answer.suspect for answer in answers(scrapes())} == {False}


def test_without_a_usual_run_volume_is_told_and_not_judged() -> None:
    """What comes in, by type, and how to have it judged."""
    found = [answer for answer in answers(scrapes(), usual=None) if answer.suspect is None]
    assert len(found) == 2
    assert all("--usual RUN" in answer.answer for answer in found)
    assert "90 events/s" in found[0].answer


@pytest.mark.parametrize("usual", [USUAL, None])
def test_buffers_that_stay_full_tell_nothing_of_types(usual: Usual | None) -> None:
    """The very moment at which somebody asks: what is full rises no more, whatever comes in."""
    watched = Watched()
    for second in range(21):
        full = {f"collector_partition_fill_ratio{{hour=1,type={kind}}}": 1.0 for kind in USUAL.shares}
        watched.take(START_S + second, {"accepted_total": 5_000.0, "fill": 1.0, "held": 3_000.0, **full})

    said = {answer.question.split()[1]: answer for answer in answers(watched, usual=usual)}

    assert said["specific"].suspect is None
    full = next(answer for answer in answers(watched, usual=usual) if answer.question.startswith("Is the buffer"))
    assert full.suspect
    assert full.answer.startswith("yes: the fullest buffer is 100% full")


@pytest.mark.parametrize(
    ("watched", "probes", "question", "said"),
    [
        (scrapes(rates={"page.view": 90, "click": 90, "search": 90}), GOOD, "Is there an unusual spike", "usual are 90"),
        (scrapes(rates={"page.view": 30, "click": 300, "search": 30}), GOOD, "Are specific event types", "click (100% of the growth)"),
        (scrapes(put_s=3.0), GOOD, "Is R2", "100 -> 3,000 ms a flush"),
        (scrapes(commit_s=3.0), GOOD, "Is the Iceberg catalog", "50 -> 3,000 ms a flush"),
        (scrapes(), Probes(Probe("loading", (), "503: away"), GOOD.store, GOOD.door), "Is the Iceberg catalog", "503: away"),
        (scrapes(), Probes(GOOD.catalog, Probe("reading", (2500.0,)), GOOD.door), "Is R2", "took 2,500 ms"),
        (scrapes(), Probes(GOOD.catalog, GOOD.store, Probe("door", (), "reset")), "Is the network", "reset"),
        (scrapes(silent=range(5, 15)), GOOD, "Does the target answer", "11 of 21 scrapes"),
        (scrapes(failed=1), GOOD, "Does the target answer", "20 flushes failed"),
        (scrapes(committed_ago_s=300), GOOD, "Does the target answer", "300 s ago, and 10 events wait"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_the_first_suspect(watched: Watched, probes: Probes, question: str, said: str) -> None:
    """With its evidence."""
    first = answers(watched, probes)[0]
    assert first.suspect
    assert first.question.startswith(question)
    assert said in first.answer


def test_a_failing_catalog_comes_before_the_flushes_that_fail_of_it() -> None:
    """The cause before its symptom."""
    found = answers(scrapes(failed=1), Probes(Probe("loading", (), "refused"), GOOD.store, GOOD.door))
    assert [answer.question.split()[2] for answer in found if answer.suspect] == ["Iceberg", "target"]


def test_a_smaller_buffer_than_stated_is_found() -> None:
    """In the configuration that the target says is in force."""
    config = TargetConfig(variables={"ICEBERG_BUFFER_SIZE": "100"}, defaults={"ICEBERG_BUFFER_SIZE": "2000"})
    first = answers(scrapes(), config=config)[0]
    assert "ICEBERG_BUFFER_SIZE is 100, and the target file states 1,000" in first.answer
    assert "not at its default: ICEBERG_BUFFER_SIZE=100 (default 2000)" in first.evidence


def test_fill_is_of_the_capacity_in_force() -> None:
    """A tenth of a buffer that was made larger is more events than a tenth of the one that the target file states."""
    config = TargetConfig(variables={"ICEBERG_BUFFER_SIZE": "20000"}, defaults={})
    watched = scrapes()
    stated, in_force = Live(TARGET, watched).rates_by_type(), Live(TARGET, watched, config=config).rates_by_type()
    assert in_force["click"] == pytest.approx(20 * stated["click"])


def test_a_target_that_never_answers_is_the_suspect() -> None:
    """What it alone could say is unknown."""
    found = answers(scrapes(silent=range(21)))
    assert found[0].answer == "no: it answered no scrape"
    assert sum(answer.suspect is None for answer in found) == 4


def test_counters_that_begin_anew_count_from_zero() -> None:
    """A restart while it was watched."""
    watched = Watched()
    for second, value in enumerate((100.0, 110.0, 5.0, 15.0)):
        watched.take(START_S + second, {"x": value})
    assert watched.growth("x") == {"": 25.0}


def test_a_target_is_watched_as_long_as_was_asked() -> None:
    """Once a second; what gets no answer, or none that is Prometheus text, is a scrape without answer."""
    now, watched_at = [START_S], list[float]()

    def scrape() -> Mapping[str, float]:
        watched_at.append(now[0])
        if len(watched_at) == 2:
            raise OSError("no answer")
        return {"x": float(len(watched_at))}

    def sleep(seconds: float) -> None:
        now[0] += seconds

    watched = watch(scrape, 2.0, clock=lambda: now[0], sleep=sleep)
    assert watched.asked_s == [START_S, START_S + 1, START_S + 2]
    assert watched.answered_s == [START_S, START_S + 2]


def test_a_request_that_hangs_is_given_up() -> None:
    """And says so."""
    never = threading.Event()
    assert probed("loading", never.wait, deadline_s=0.2).error == "no answer within 0.2 s"
    never.set()


@pytest.mark.integration
def test_an_error_status_at_the_door_is_an_answer_and_a_closed_door_is_none() -> None:
    """Nobody GETs events; that the collector says so is enough."""
    refusal = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
    with replying(lambda _: refusal) as server:
        assert ask_door(f"{server.url}/events").error is None
        url = server.url
    assert "refused" in str(ask_door(f"{url}/events").error)


def test_the_baseline_of_a_run_is_what_is_usual(tmp_path: Path) -> None:
    """Its rate and its mix; what came after it is not."""
    run = HandMadeRun(tmp_path)
    for second in range(1, 10):
        run.batch(second * 30, 30, outcome=Outcome.ACKED, at=second)
    for second in range(10, 40):
        run.batch(10_000 + second * 300, 300, outcome=Outcome.ACKED, at=second)
    usual = usual_of(read_run(run.written(), observed=False))
    assert usual is not None
    assert usual.events_per_s == pytest.approx(30)
    assert sum(usual.shares.values()) == pytest.approx(1)


METRICS_TEXT = "accepted_total 10\nheld 0\n"


@pytest.mark.integration
def test_the_command_watches_a_live_target(tmp_path: Path) -> None:
    """What it asks for a catalog is none, and that is the suspect. Nothing is changed: every request is a GET."""
    config = json.dumps({"variables": {"ICEBERG_BUFFER_SIZE": "100"}, "defaults": {}})

    def reply(request: bytes) -> bytes:
        return ok(config) if b"/admin/config" in request else ok(METRICS_TEXT)

    with replying(reply) as server:
        path = tmp_path / "mine.yaml"
        path.write_text(
            f"name: mine\ningest: {{url: '{server.url}/events'}}\nmetrics: {{url: '{server.url}/metrics', accepted: accepted_total}}\n"
            f"admin: {{url: '{server.url}/admin', token_env: MY_TOKEN}}\n"
            f"table: {{identifier: a.b, catalog: {{type: rest, uri: '{server.url}/catalog'}}}}\n"
        )
        done = CliRunner().invoke(main, ["--target", str(path), "--for", "0s", "--json"], env={"MY_TOKEN": "x"})
        assert done.exit_code == 1, done.output
        assert all(request.startswith(b"GET ") for request in server.requests)
    answered = json.loads(done.stdout)
    assert len(answered) == 7
    assert [answer["question"] for answer in answered if answer["suspect"]] == [answered[0]["question"]]
    assert answered[0]["question"].startswith("Is the Iceberg catalog")


def test_a_configuration_that_cannot_be_asked_is_said() -> None:
    """Without the token, in one sentence."""
    target = Target(
        name="mine", ingest=Ingest(url="http://127.0.0.1:1/events"), metrics=Metrics(url="http://127.0.0.1:1/metrics"),
        admin=Admin(url="http://127.0.0.1:1/admin", token_env="MY_TOKEN"),
    )  # fmt: skip
    live = look(target, "reference", 0, None, say=lambda _: None, environ={}, sleep=lambda _: None)
    assert "its configuration was not asked: MY_TOKEN is not set" in live.notes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "reference"], "have places that a run fills in"),
        (["--target", "no-such"], "there is no target 'no-such'"),
        (["--target", "reference", "--for", "long"], "is not a span of time"),
        (["--target", "reference", "--usual", "no-such"], "no-such"),
        ([], "give either RUN"),
        (["last", "--target", "reference"], "give either RUN"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    """And watch nothing."""
    done = CliRunner().invoke(main, [*arguments, "--runs", str(tmp_path)])
    assert done.exit_code not in (0, 1)
    assert sentence in done.output
