"""Traffic = rate curve x event mix: when requests are due, as a pure function of elapsed time.

A curve is a multiplier over elapsed time, piecewise linear, so that its area (requests due so far at rate 1) and the
inverse of that area have closed forms: the n-th arrival of a schedule can be computed without replaying the ones before.
Names and numbers live in `profiles.yaml`; this module only knows how to read them, and joins any curve with any mix.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from loadtests.errors import BadTraffic
from loadtests.records.content import TYPE_NAMES, UNIFORM
from loadtests.records.documents import load_yaml
from loadtests.records.errors import RecordError

PROFILES = Path(__file__).with_name("profiles.yaml")

Arrivals = Literal["constant", "poisson"]
ARRIVALS: tuple[Arrivals, ...] = get_args(Arrivals)
PLAIN_MIX = "uniform"
JOIN = "+"
"""Between the names of a curve and of a mix."""

Weight = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


_JUMP_S = 1e-9
"""A rise in less than a nanosecond is a jump: its slope would overflow."""


class Curve:
    """A multiplier of the rate over elapsed time.

    Args:
        points: (position, multiplier) pairs; positions run from 0 to 1 and never fall, multipliers are at least 0. Between
            two points the multiplier changes linearly; two points at one position are a jump.
        period_s: Seconds from position 0 to position 1.
        repeat: Whether the curve starts again after `period_s`; if not, its last value holds for ever.

    Raises:
        BadTraffic: the points do not describe a curve.
    """

    def __init__(self, points: Sequence[tuple[float, float]], *, period_s: float, repeat: bool = False) -> None:
        positions = [position for position, _ in points]
        if len(points) < 2 or positions[0] != 0 or positions[-1] != 1 or positions != sorted(positions):
            raise BadTraffic("a curve's points start at position 0, end at 1 and never go back.")
        if min(value for _, value in points) < 0 or not period_s > 0 or not math.isfinite(period_s):
            raise BadTraffic("a curve needs a positive period and multipliers of at least 0.")
        self._times = [position * period_s for position in positions]
        self._values = [value for _, value in points]
        segments = zip(pairwise(self._times), pairwise(self._values), strict=True)
        self._areas = list(accumulate(((b - a) * (u + v) / 2 for (a, b), (u, v) in segments), initial=0.0))
        self.period_s = period_s
        self._repeat = repeat
        if self._areas[-1] == 0 and (repeat or self._values[-1] == 0):
            raise BadTraffic("a curve must send something: every multiplier is 0.")

    def at(self, elapsed_s: float) -> float:
        """Return the multiplier at *elapsed_s* seconds after the start."""
        _, time_s = self._wrap(elapsed_s)
        index = self._segment(self._times, time_s)
        value, slope = self._line(index)
        return value + slope * (time_s - self._times[index])

    def area(self, elapsed_s: float) -> float:
        """Return the integral of the multiplier from 0 to *elapsed_s*: arrivals so far at a rate of 1/s."""
        periods, time_s = self._wrap(elapsed_s)
        tail = self._values[-1] * max(0.0, elapsed_s - self.period_s) if not self._repeat else 0.0
        index = self._segment(self._times, time_s)
        value, slope = self._line(index)
        into_s = time_s - self._times[index]
        return periods * self._areas[-1] + self._areas[index] + into_s * (value + slope * into_s / 2) + tail

    def when(self, area: float) -> float:
        """Return the elapsed time in seconds at which the area reaches *area*; infinity if it never does."""
        periods, rest = divmod(area, self._areas[-1]) if self._repeat else (0.0, area)
        if not self._repeat and rest >= self._areas[-1]:
            last = self._values[-1]
            return self.period_s + (rest - self._areas[-1]) / last if last > 0 else math.inf
        index = self._segment(self._areas, rest)
        value, slope = self._line(index)
        rest -= self._areas[index]
        root = math.sqrt(max(0.0, value * value + 2 * slope * rest))
        # This form of the quadratic's root is stable where the slope is 0.
        into_s = 2 * rest / (value + root) if rest > 0 and value + root > 0 else 0.0
        return periods * self.period_s + self._times[index] + into_s

    def phase(self, elapsed_s: float, count: int) -> int:
        """Return in which of *count* equal parts of the period *elapsed_s* lies."""
        return min(int(self._wrap(elapsed_s)[1] / self.period_s * count), count - 1)

    def _wrap(self, elapsed_s: float) -> tuple[float, float]:
        if self._repeat:
            return divmod(elapsed_s, self.period_s)
        return 0.0, min(elapsed_s, self.period_s)

    def _segment(self, edges: list[float], value: float) -> int:
        return min(bisect_right(edges, value), len(edges) - 1) - 1

    def _line(self, index: int) -> tuple[float, float]:
        """Return the multiplier at the start of segment *index* and its slope per second."""
        width = self._times[index + 1] - self._times[index]
        rise = self._values[index + 1] - self._values[index]
        return (self._values[index], rise / width) if width > _JUMP_S else (self._values[index + 1], 0.0)


def arrivals_after(
    elapsed_s: float, *, curve: Curve, rate_per_s: float, arrivals: Arrivals = "constant", seed: str, phase: float = 0.0
) -> Iterator[float]:
    """Yield, in order, the elapsed times in seconds of every arrival due after *elapsed_s*.

    The same arguments give the same times. Ends only when the curve falls to 0 for good.

    Args:
        elapsed_s: Seconds since the start of the test; a user who joins late does not catch up on what was before.
        curve: Multiplies the rate.
        rate_per_s: Arrivals per second where the curve is 1.
        arrivals: `constant`: evenly spaced under the curve; `poisson`: independent, exponential gaps.
        seed: Decides the gaps of Poisson arrivals.
        phase: Share of a gap (0 to 1) by which constant arrivals are shifted, so that users do not march in step.
    """
    due = _constant if arrivals == "constant" else _poisson
    for position in due(curve.area(elapsed_s) * rate_per_s, seed=seed, phase=phase):
        at_s = curve.when(position / rate_per_s)
        if math.isinf(at_s):
            return
        yield at_s


def _constant(start: float, *, seed: str, phase: float) -> Iterator[float]:  # noqa: ARG001  # one shape for both
    number = math.floor(start - phase) + 1
    while True:
        yield number + phase
        number += 1


def _poisson(start: float, *, seed: str, phase: float) -> Iterator[float]:  # noqa: ARG001
    random = Random(seed)
    while True:
        start += random.expovariate(1.0)
        yield start


class CurveSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A curve as `profiles.yaml` writes it; see `Curve`."""

    points: list[tuple[float, float]]
    period_s: Annotated[float, Meta(gt=0)] = 60.0
    repeat: bool = False


class Duplicates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that are sent once more, whatever became of them: their client saw no answer in time.

    Attributes:
        share: Share of ordinary requests.
        after_s: How long such a client waits; one of these is chosen. 0 is at once, beside the first.
    """

    share: Share = 0.0
    after_s: Annotated[list[Weight], Meta(min_length=1)] = field(default_factory=lambda: [0.0])


class Mix(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are sent, and in what requests. Shares of requests add up to at most 1; the rest is ordinary.

    Attributes:
        types: Share of each event type.
        shifts: Share of events whose `time` lies so many seconds from now (negative: late, positive: in the future).
        hour_turns_at_s: The clock of the events is set back so that an hour ends so many seconds after the first of them; None:
            it is right. It goes back by an hour and this at most.
        phases: Shares of types that follow each other in equal parts of the curve's period, as a recorded log has them by
            the hour; `types` are then those of the whole, and any names may be used.
        duplicates: Ordinary requests that are sent again.
        collisions: Share of requests that repeat the ids of one before under another source: other events, all to be kept.
        sizes: Share of requests just below, at and just above a limit of the contract.
        poison: Share of requests with one invalid event.
        over_limit: Share of requests that are larger than a limit of the contract, some by one, some by far.
    """

    types: dict[str, Weight] = field(default_factory=lambda: dict(UNIFORM))
    shifts: dict[int, Weight] = field(default_factory=lambda: {0: 1.0})
    hour_turns_at_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    phases: list[dict[str, Weight]] = field(default_factory=list)
    duplicates: Duplicates = field(default_factory=Duplicates)
    collisions: Share = 0.0
    sizes: Share = 0.0
    poison: Share = 0.0
    over_limit: Share = 0.0

    @property
    def special(self) -> bool:
        """Whether any request is not ordinary."""
        return bool(self.duplicates.share or self.collisions or self.sizes or self.poison or self.over_limit)


class TrafficSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named pair of curve and mix."""

    about: str
    curve: str = "steady"
    mix: str = PLAIN_MIX
    arrivals: Arrivals = "constant"


class Volume(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many events of each type a recorded log had in each hour, from `start` (RFC 3339) on."""

    start: str
    events: int
    events_per_s: float
    types: dict[str, list[int]]


class Profiles(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every named curve, mix and pair of both; `volume` in a file that `icequake baseline record` wrote."""

    curves: dict[str, CurveSpec]
    mixes: dict[str, Mix]
    traffic: dict[str, TrafficSpec]
    volume: Volume | None = None


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """One traffic by name: its curve, its mix and how arrivals are spaced."""

    name: str
    about: str
    curve: Curve
    mix: Mix
    arrivals: Arrivals


@cache
def load_profiles(path: Path = PROFILES) -> Profiles:
    """Read a profiles file.

    Raises:
        MissingRecord, InvalidDocument: the file is not there or not well formed.
        BadTraffic: a pair names a curve or mix that does not exist, or a share is not one.
    """
    profiles = load_yaml(path, Profiles)
    for name, spec in profiles.traffic.items():
        _known(spec.curve, profiles.curves, f"{path}: traffic.{name}.curve")
        _known(spec.mix, profiles.mixes, f"{path}: traffic.{name}.mix")
    for name, mix in profiles.mixes.items():
        for kind in mix.types if not mix.phases else ():
            _known(kind, TYPE_NAMES, f"{path}: mixes.{name}.types")
        if not (sum(mix.types.values()) > 0 and sum(mix.shifts.values()) > 0):
            raise BadTraffic(f"{path}: mixes.{name}: the shares must add up to more than 0.")
        if mix.collisions + mix.sizes + mix.poison + mix.over_limit > 1:
            raise BadTraffic(f"{path}: mixes.{name}: collisions, sizes, poison and over_limit are together over 1.")
    return profiles


def _known(name: str, names: Collection[str], where: str) -> None:
    if name not in names:
        raise BadTraffic(f"{where}: {name!r} is unknown; there are {', '.join(sorted(names))}.")


def traffic_names() -> list[str]:
    """Return every traffic that can be named: those of profiles.yaml, and each curve of theirs joined with each mix.

    A mix on the steady curve has a name already, so no such pair is listed.
    """
    profiles = load_profiles()
    plain = [name for name, spec in profiles.traffic.items() if spec.mix == PLAIN_MIX and name != "steady"]
    pairs = [f"{name}{JOIN}{mix}" for name in plain for mix in profiles.mixes if mix != PLAIN_MIX]
    return sorted([*profiles.traffic, *pairs])


def traffic_named(
    name: str, *, period_s: float | None = None, speed: float | None = None, arrivals: Arrivals | None = None
) -> Traffic:
    """Return the traffic *name*.

    Args:
        name: A key of `traffic` in profiles.yaml; two names joined by `+`, of a traffic of ordinary events and of a mix, such
            as `spike+hot-type`; or the path of a file (.yaml) that holds one traffic.
        period_s: Stretches or squeezes the curve to this many seconds; None keeps the profile's.
        speed: Squeezes the curve so many times instead.
        arrivals: How arrivals are spaced; None keeps the profile's.

    Raises:
        BadTraffic: there is no such traffic.
    """
    spec, profiles = _find(name)
    curve = profiles.curves[spec.curve]
    return Traffic(
        name=name,
        about=spec.about,
        curve=Curve(curve.points, period_s=period_s or curve.period_s / (speed or 1.0), repeat=curve.repeat),
        mix=profiles.mixes[spec.mix],
        arrivals=arrivals or spec.arrivals,
    )


def is_file(name: str) -> bool:
    """Whether *name* is meant as the path of a traffic file."""
    return name.endswith((".yaml", ".yml"))


def _find(name: str) -> tuple[TrafficSpec, Profiles]:
    profiles = _read_file(name) if is_file(name) else load_profiles()
    if is_file(name):
        return next(iter(profiles.traffic.values())), profiles
    first, joined, mix = name.partition(JOIN)
    if not joined:
        _known(name, profiles.traffic, "--traffic")
        return profiles.traffic[name], profiles
    plain = [key for key, spec in profiles.traffic.items() if spec.mix == PLAIN_MIX]
    _known(first, plain, f"--traffic {name}: before the {JOIN}")
    _known(mix, profiles.mixes, f"--traffic {name}: after the {JOIN}")
    spec = profiles.traffic[first]
    return replace(spec, mix=mix, about=f"{spec.about}; events as in {mix}"), profiles


def _read_file(name: str) -> Profiles:
    try:
        profiles = load_profiles(Path(name))
    except RecordError as error:
        raise BadTraffic(str(error)) from error
    if len(profiles.traffic) != 1:
        raise BadTraffic(f"{name}: a traffic file holds one traffic, this one {len(profiles.traffic)}.")
    return profiles
