from itertools import islice, pairwise, product, takewhile
from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from loadtests.errors import BadTraffic
from loadtests.records.content import TYPE_NAMES
from loadtests.traffic import Curve, arrivals_after, load_profiles, traffic_named, traffic_names

STEADY = Curve([(0, 1), (1, 1)], period_s=60)


def until(end_s: float, **kwargs) -> list[float]:
    kwargs = {"curve": STEADY, "rate_per_s": 10, "seed": "s", **kwargs}
    return list(takewhile(lambda at_s: at_s <= end_s, arrivals_after(kwargs.pop("elapsed_s", 0.0), **kwargs)))


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    inner = sorted(draw(st.lists(st.floats(0, 1), max_size=6)))
    values = st.floats(0, 10).map(lambda value: 0.0 if value < 1e-3 else value)
    points = [(position, draw(values)) for position in [0.0, *inner, 1.0]]
    points[-1] = (1.0, draw(st.floats(0.1, 10)))
    try:
        return Curve([(0.0, 1.0), *points], period_s=draw(st.floats(0.5, 1000)), repeat=draw(st.booleans()))
    except BadTraffic:  # nothing but zeros, up to a jump at the very end
        reject()


@given(curves(), st.floats(0, 5000))
def test_when_is_the_inverse_of_area(curve: Curve, area: float):
    """The time at which a curve's area reaches a value has that area."""
    assert curve.area(curve.when(area)) == pytest.approx(area, rel=1e-6, abs=1e-6)


@given(curves(), st.floats(0, 2000), st.floats(0, 2000))
def test_area_never_falls(curve: Curve, one: float, other: float):
    """More time never means fewer arrivals."""
    assert curve.area(min(one, other)) <= curve.area(max(one, other)) + 1e-6


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_a_schedule_is_a_pure_function(arrivals):
    """The same arguments give the same times."""
    first = until(30, arrivals=arrivals)

    assert first == until(30, arrivals=arrivals)
    assert first == sorted(first)


def test_constant_arrivals_do_not_depend_on_when_one_looks():
    """A user who joins later gets exactly the arrivals that are still to come."""
    whole = until(30, phase=0.3)

    assert [at_s for at_s in whole if at_s > 12.34] == until(30, phase=0.3, elapsed_s=12.34)


def test_poisson_arrivals_depend_on_the_seed():
    """Two seeds give two schedules."""
    assert until(5, arrivals="poisson", seed="a") != until(5, arrivals="poisson", seed="b")


def test_poisson_arrivals_have_the_mean_and_the_spread_of_poisson_arrivals():
    """Gaps have the mean 1/rate and as large a standard deviation."""
    times = list(islice(arrivals_after(0, curve=STEADY, rate_per_s=50, arrivals="poisson", seed="x"), 20_000))
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5

    assert mean == pytest.approx(1 / 50, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)


def test_a_spike_multiplies_arrivals_while_it_lasts():
    """An eightfold spike brings eight times the arrivals."""
    spike = traffic_named("spike", period_s=100).curve
    times = until(100, curve=spike, rate_per_s=10)

    assert sum(at_s <= 40 for at_s in times) == pytest.approx(400, abs=1)
    assert sum(40 < at_s <= 60 for at_s in times) == pytest.approx(1600, abs=1)


def test_a_ramp_holds_its_last_value():
    """After its period a curve that does not repeat goes on with its last value."""
    ramp = traffic_named("ramp", period_s=10).curve

    assert [round(ramp.at(x), 3) for x in (0, 5, 10, 1000)] == [0.1, 0.55, 1, 1]
    assert sum(at_s > 90 for at_s in until(100, curve=ramp)) == pytest.approx(100, abs=1)


def test_a_repeating_curve_starts_again():
    """One period of a burst is like any other."""
    burst = traffic_named("burst").curve

    assert burst.area(1000) == pytest.approx(1000, rel=1e-6)
    assert burst.at(1) == burst.at(9991)


def test_a_curve_that_ends_at_zero_ends_its_schedule():
    """When nothing more is due, the schedule is over."""
    falling = Curve([(0, 1), (1, 0)], period_s=10)

    assert len(list(arrivals_after(0, curve=falling, rate_per_s=10, seed="s"))) in (49, 50)


@pytest.mark.parametrize(
    "points", [[(0, 1)], [(0.1, 1), (1, 1)], [(0, 1), (0.5, 1), (0.4, 1), (1, 1)], [(0, 0), (1, 0)], [(0, -1), (1, 1)]]
)
def test_points_that_are_no_curve_are_refused(points):
    """A curve starts at 0, ends at 1, never goes back, is never negative and sends something."""
    with pytest.raises(BadTraffic):
        Curve(points, period_s=60)


def test_every_bundled_traffic_can_be_used():
    """Each name in profiles.yaml, and each pair, has a curve that sends something and a mix of known types."""
    for name in traffic_names():
        traffic = traffic_named(name)

        assert traffic.about
        assert set(traffic.mix.types) <= set(TYPE_NAMES)
        assert traffic.curve.when(1.0) > 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("traffic: {x: {about: a, curve: nope}}\nmixes: {uniform: {}}\ncurves: {}", "nope"),
        ("traffic: {}\nmixes: {m: {types: {nope: 1}}}\ncurves: {}", "nope"),
        ("traffic: {}\nmixes: {m: {types: {click: 0}}}\ncurves: {}", "more than 0"),
    ],
)
def test_a_profile_that_refers_to_nothing_is_refused(tmp_path: Path, text: str, says: str):
    """An unknown curve or type, or shares that add up to nothing, is named in the error."""
    path = tmp_path / "profiles.yaml"
    path.write_text(text)

    with pytest.raises(BadTraffic, match=says):
        load_profiles(path)


def test_a_pair_joins_any_curve_with_any_mix():
    """Both names mean in a pair what they mean alone, spacing of the arrivals included."""
    profiles = load_profiles()
    curves = [name for name, spec in profiles.traffic.items() if spec.mix == "uniform"]

    for curve, mix in product(curves, profiles.mixes):
        alone, pair = traffic_named(curve), traffic_named(f"{curve}+{mix}")

        assert pair.name == f"{curve}+{mix}"
        assert pair.mix == profiles.mixes[mix]
        assert pair.arrivals == alone.arrivals
        assert [pair.curve.at(s) for s in range(70)] == [alone.curve.at(s) for s in range(70)]
    assert {"ramp", "spike", "burst", "diurnal", "soak", "trickle", "steady"} <= set(curves)


def test_pairs_are_listed_once():
    """The drop-down has every pair that is not a name of its own already."""
    profiles = load_profiles()
    listed = traffic_names()

    curves = [name for name, spec in profiles.traffic.items() if spec.mix == "uniform" and name != "steady"]
    assert len(set(listed)) == len(listed) == len(profiles.traffic) + len(curves) * (len(profiles.mixes) - 1)
    assert "spike+hot-type" in listed
    assert "steady+late" not in listed


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("spike+hot", r"after the \+: 'hot' is unknown; there are .*hot-type"),
        ("hot-type+late", r"before the \+: 'hot-type' is unknown; there are .*ramp"),
        ("+late", r"before the \+: '' is unknown"),
        ("spike+", r"after the \+: '' is unknown"),
        ("spike+late+poison", r"after the \+: 'late\+poison' is unknown"),
    ],
)
def test_a_pair_of_unknown_names_is_told(name: str, says: str):
    """Which half is wrong, and what there is."""
    with pytest.raises(BadTraffic, match=says):
        traffic_named(name)


def test_an_unknown_traffic_names_those_there_are():
    """A misspelt name is answered with the list."""
    with pytest.raises(BadTraffic, match=r"'stedy' is unknown.*steady"):
        traffic_named("stedy")


def test_a_rise_within_less_than_a_nanosecond_is_a_jump():
    """Two points almost at one position neither overflow nor lose arrivals."""
    curve = Curve([(0.0, 1.0), (5e-324, 2.0), (1.0, 2.0)], period_s=1.0)

    assert curve.area(0.0) == 0.0
    assert curve.area(1.0) == pytest.approx(2.0)
    assert curve.when(1.0) == pytest.approx(0.5)
