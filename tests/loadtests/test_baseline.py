"""A recorded log comes back as traffic with the same volume by type and hour."""

import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.cli import run_command
from chaos.commands.baseline import baseline
from chaos.scenario import load_plan
from loadtests.baseline import BIN_S, HOUR_S, Counted, count_log, profiles_of, write_profiles
from loadtests.errors import BadTraffic
from loadtests.events import EventFactory
from loadtests.records.content import TYPES_MAX, Content
from loadtests.records.target import Contract
from loadtests.requests import Requests
from loadtests.shapes import Shapes
from loadtests.traffic import Traffic, arrivals_after, load_profiles, traffic_named

MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
START_BIN = int(MIDNIGHT.timestamp()) // BIN_S


def log_lines(events: list[tuple[str, datetime]]) -> bytes:
    lines = [
        {"specversion": "1.0", "id": str(n), "source": "/shop", "type": kind, "time": at.isoformat()}
        for n, (kind, at) in enumerate(events)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def some_day(seed: int = 1) -> list[tuple[str, datetime]]:
    """Three hours: orders all the time, refunds only in the second hour, nothing at all in the last half hour but one."""
    random = Random(seed)
    events = [("com.shop.order", MIDNIGHT + timedelta(seconds=random.uniform(0, 9000))) for _ in range(4000)]
    events += [("com.shop.refund", MIDNIGHT + timedelta(seconds=random.uniform(3600, 7200))) for _ in range(700)]
    return [*events, ("com.shop.rare", MIDNIGHT + timedelta(seconds=10_700))]


def replayed(traffic: Traffic, *, requests_per_s: float, batch: int) -> Counter[tuple[str, int]]:
    """Events by type and hour of the recorded time, one pass of the curve, as the generator numbers and types them."""
    mix, period_s = traffic.mix, traffic.curve.period_s
    hours = len(mix.phases)

    def factory(producer: int) -> EventFactory:
        return EventFactory(seed=7, run_id="ab12cd34", producer=producer, mix=mix, batch=batch)

    turns: list[tuple[int, int, int]] = []
    shapes = Shapes(mix, batch=batch, mode="batch", contract=Contract(), seed=7, producer=3)
    requests = Requests(
        factory,
        producer=3,
        shapes=shapes,
        phase_of=lambda at_ns: traffic.curve.phase(at_ns / 1e9, hours),
        turned=lambda *turn: turns.append(turn),
    )
    content = Content(7, mix.types, phases=mix.phases)
    sent: list[tuple[int, int]] = []
    times = arrivals_after(0, curve=traffic.curve, rate_per_s=requests_per_s, seed="s", phase=0.5)
    for at_s in takewhile(lambda at_s: at_s < period_s, times):
        (part,) = requests.place(requests.next_shape(), intended_ns=int(at_s * 1e9))
        sent.append((part.first, traffic.curve.phase(at_s, hours)))
    for turn in turns:
        content.turn(*turn)
    counts: Counter[tuple[str, int]] = Counter()
    for first, hour in sent:
        for index in content.types(3, np.arange(first, first + batch, dtype=np.uint64)):
            counts[content.names[index], hour] += 1
    return counts


def recorded(counted: Counted, tmp_path: Path) -> Path:
    path = tmp_path / "traffic.yaml"
    write_profiles(path, profiles_of(counted, about="a test"))
    return path


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["order", "refund", 'größe, "x"', "click"]), st.integers(0, 35)),
        st.integers(1, 120),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from([1.0, 60.0, 720.0]),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_the_replayed_volume_of_each_type_and_hour_is_the_recorded_one(tmp_path_factory, numbers, speed, scale):
    """At any speed and scale, to within a few events of each."""
    bins = Counter({(kind, START_BIN + at): number for (kind, at), number in numbers.items()})
    path = recorded(Counted(bins), tmp_path_factory.mktemp("replay"))
    volume = load_profiles(path).volume
    traffic = traffic_named(str(path), speed=speed)

    counts = replayed(traffic, requests_per_s=volume.events_per_s * speed * scale, batch=1)

    for kind, by_hour in volume.types.items():
        for hour, number in enumerate(by_hour):
            assert abs(counts[kind, hour] - number * scale) <= 5, (kind, hour, number, counts[kind, hour])
    assert abs(counts.total() - volume.events * scale) <= 1


def test_in_requests_of_many_events_the_volume_is_right_to_a_request(tmp_path: Path):
    """The hour may be off by the events of one request, and by a few of each type."""
    path = tmp_path / "day.ndjson"
    path.write_bytes(log_lines(some_day()))
    recorded_path = recorded(count_log(path), tmp_path)
    volume = load_profiles(recorded_path).volume
    traffic = traffic_named(str(recorded_path), speed=3600)

    counts = replayed(traffic, requests_per_s=volume.events_per_s * 3600 / 20, batch=20)

    assert volume.types["com.shop.refund"] == [0, 700, 0]
    assert counts["com.shop.refund", 0] == counts["com.shop.refund", 2] == 0
    assert abs(counts["com.shop.refund", 1] - 700) <= 20
    assert abs(counts["com.shop.order", 0] - volume.types["com.shop.order"][0]) <= 20


@pytest.mark.parametrize("form", ["ndjson", "ndjson.gz", "parquet-text", "parquet-time"])
def test_a_log_is_read_in_each_form(tmp_path: Path, form: str):
    """NDJSON, gzipped NDJSON, and Parquet with times as text or as timestamps say the same."""
    events = some_day()
    path = tmp_path / ("day.parquet" if form.startswith("parquet") else f"day.{form}")
    if form.startswith("parquet"):
        times = [at for _, at in events] if form == "parquet-time" else [at.isoformat() for _, at in events]
        pq.write_table(
            pa.table({"type": [kind for kind, _ in events], "time": times, "id": list(range(len(events)))}), path
        )
    else:
        text = log_lines(events)
        path.write_bytes(gzip.compress(text) if form.endswith("gz") else text)

    counted = count_log(path)

    assert counted.events == len(events)
    assert counted.bins == Counter((kind, int(at.timestamp()) // BIN_S) for kind, at in events)


def test_what_has_no_type_or_time_is_counted_apart(tmp_path: Path):
    """Broken lines and events without a time are left out, and said to be."""
    path = tmp_path / "day.ndjson"
    path.write_bytes(
        log_lines(some_day()[:5])
        + b'{"type":"x"}\n{"type":"","time":"2026-11-24T00:00:00Z"}\nnot json\n\n{"type":"x","time":"yesterday"}\n\xff\n'
    )

    counted = count_log(path)

    assert (counted.events, counted.unusable) == (5, 5)


def test_a_part_of_a_log_can_be_chosen(tmp_path: Path):
    """From one time on, before another."""
    path = tmp_path / "day.ndjson"
    path.write_bytes(log_lines([("a", MIDNIGHT + timedelta(hours=hour)) for hour in range(10)]))

    counted = count_log(path, since=MIDNIGHT + timedelta(hours=2), until=MIDNIGHT + timedelta(hours=5))

    assert counted.events == 3


def test_more_types_than_can_be_told_apart_are_taken_together(tmp_path: Path):
    """The rarest become one; nothing is dropped."""
    bins = Counter({(f"type-{n}", START_BIN): 1 + n for n in range(TYPES_MAX + 50)})
    volume = load_profiles(recorded(Counted(bins), tmp_path)).volume

    assert len(volume.types) == TYPES_MAX
    assert sum(sum(numbers) for numbers in volume.types.values()) == bins.total()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "holds no event"),
        (log_lines([("a", MIDNIGHT), ("a", MIDNIGHT + timedelta(days=60))]), "more than a month"),
    ],
)
def test_a_log_that_makes_no_traffic_is_told(tmp_path: Path, text: bytes, sentence: str):
    """In one sentence."""
    path = tmp_path / "day.ndjson"
    path.write_bytes(text)

    with pytest.raises(BadTraffic, match=sentence):
        profiles_of(count_log(path), about="")


def test_the_command_writes_traffic_and_a_scenario_that_can_be_run(tmp_path: Path):
    """The scenario names the file beside it, and one pass of the curve with its baseline is the recorded time."""
    path = tmp_path / "day.ndjson"
    path.write_bytes(log_lines(some_day()))

    result = CliRunner().invoke(baseline, ["record", str(path), "--out", str(tmp_path / "out"), "--speed", "120"])

    assert result.exit_code == 0, result.output
    assert "4,701 events of 3 types in 3 hours from 2026-11-24T00:00:00Z on" in result.output
    scenario = load_plan(tmp_path / "out" / "replay.yaml").scenario
    assert scenario.baseline_s + scenario.traffic.for_s == 3 * HOUR_S / 120
    assert scenario.traffic.events_per_s == pytest.approx(4701 / (3 * HOUR_S) * 120, rel=1e-4)
    assert Path(scenario.traffic.profile).is_file()


def test_a_wrong_log_exits_254_with_a_sentence(tmp_path: Path, capsys):
    """Bad files are the user's to change."""
    path = tmp_path / "day.parquet"
    path.write_bytes(b"PAR1")

    assert run_command(["baseline", "record", str(path), "--out", str(tmp_path)]) == 254
    assert "cannot be read" in capsys.readouterr().err
