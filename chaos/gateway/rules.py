"""
Rules: which requests are touched, and what happens to them. A rule is JSON:

    {"match":  {"upstream": "catalog", "object": "commit", "nth": 2},
     "action": {"do": "applied", "then": {"answer": "drop"}}}

**match** (every field that is given must hold; none given: every request)

    upstream   listener name, or a list of them          object  kind from `objects.KINDS`, or a list of them
    verb       method, or a list of them                 path    regular expression, searched in path?query
    nth        the n-th matching request only, or a list of such numbers, counted from 1 since the rule was put
    every      each n-th                                 first   the first n that it takes effect on
    share      0 to 1, drawn per matching request from the seed, so two runs with one seed choose alike
    during     {"from_s": a, "to_s": b}, seconds since the rule was put; requests outside are not counted

`nth`, `every` and `first` exclude each other; `share` is drawn after them.

**action** ("do" names it)

    pass       nothing; the control experiment
    delay      wait `seconds` (± `jitter_s`, seeded) before forwarding
    throttle   body at `bytes_per_s`, `direction` request | answer | both
    r2-limits  R2's own rules: 429 on a second write to one key within `write_interval_s`; with `equal_parts`, 400 InvalidPart
               when a multipart upload is completed whose parts (the last excepted) differ in size
    refuse     not forwarded: after `hold_s`, `answer`
    applied    forwarded `times` (1 or 2) times to the end, whether or not the client still waits; then, after `hold_s`, `then`.
               With two times, `keep` says whose real answer counts, first | second (default). An upstream that does not
               answer 2xx did not apply it: its answer goes through unchanged and the rule counts the request as passed
    zombie     held whole; the client is told `answer` at once; forwarded later: `until` next-arrives (before the next request
               with the same path and `next_verb`, default the same verb, is forwarded), next-answered (after that one was
               answered) or time (`seconds`)
    hold       held unforwarded for `seconds` (null: until the rule is deleted), then forwarded, or answered with `then`
    stale      for load-table: answer with an earlier state. `since` commit: the state before the first commit after the rule
               was put, read by the gateway just before it forwards that commit; rule: the first answer after the rule was put.
               For `reads` answers or `seconds`, whichever ends first (null: no bound); `repeat` arms it again at the next commit
    cut        body broken off after `after_bytes`, `direction` request (never whole at the upstream) | answer (applied)

`delay`, `throttle`, `r2-limits` and `pass` combine with one another and with one of the others; of two others the rule put
first acts and the later one counts the request as passed.

**answer** ("answer" names it)

    real       what the upstream said (only after `applied`)
    status     `status`, and `retry_after_s`, `code` (S3 code or Iceberg error type), `message`, `body`, `headers`;
               without a body, the one that R2 or a REST catalog sends, and an HTML page for 502, 504, 520 and above
    drop       nothing: the connection ends, `how` close | reset
    truncated  the real head, and the body's first `keep_bytes`, at most all but its last byte (an answer without body: half its
               head), then the connection ends (only after `applied`)
    garbage    `status` (200) with `body`, or else `size_bytes` of seeded noise

**on_delete** "release" (default) or "drop": what happens to requests that the rule still holds when it is deleted. A zombie is
forwarded, or given up, at that moment: a rule that is deleted at once leaves no time for its trigger, so bound it with `first`.
**seed**: overrides the gateway's.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from chaos.gateway.errors import BadRule
from chaos.gateway.objects import KINDS

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Count = Annotated[int, Meta(ge=1)]
StatusCode = Annotated[int, Meta(ge=200, le=599)]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: a typing mistake in a rule is an error, never ignored."""


class During(_Part, frozen=True):
    """Seconds since the rule was put in which it matches."""

    from_s: Seconds = 0.0
    to_s: Seconds | None = None


class Match(_Part, frozen=True):
    """Which requests a rule concerns; see the module's docstring."""

    upstream: str | tuple[str, ...] | None = None
    verb: str | tuple[str, ...] | None = None
    object: str | tuple[str, ...] | None = None
    path: str | None = None
    nth: Count | tuple[Count, ...] | None = None
    every: Count | None = None
    first: Count | None = None
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    during: During = During()


class Real(_Part, frozen=True, tag_field="answer", tag="real"):
    """What the upstream said."""


class Status(_Part, frozen=True, tag_field="answer", tag="status"):
    """A status of our own."""

    status: StatusCode
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None
    code: str | None = None
    message: str | None = None
    body: str | None = None
    headers: dict[str, str] = {}


class Drop(_Part, frozen=True, tag_field="answer", tag="drop"):
    """No answer: the connection ends."""

    how: Literal["close", "reset"] = "close"


class Truncated(_Part, frozen=True, tag_field="answer", tag="truncated"):
    """The real answer, not all of it."""

    keep_bytes: Annotated[int, Meta(ge=0)] = 100


class Garbage(_Part, frozen=True, tag_field="answer", tag="garbage"):
    """A success that says nothing."""

    status: StatusCode = 200
    body: str | None = None
    size_bytes: Annotated[int, Meta(ge=0, le=1_048_576)] = 64


Told = Real | Status | Drop | Truncated | Garbage


class Pass(_Part, frozen=True, tag_field="do", tag="pass"):
    """No-op."""


class Delay(_Part, frozen=True, tag_field="do", tag="delay"):
    """Wait before forwarding."""

    seconds: Seconds
    jitter_s: Seconds = 0.0


class Throttle(_Part, frozen=True, tag_field="do", tag="throttle"):
    """Bodies at a fixed rate."""

    bytes_per_s: Count
    direction: Literal["request", "answer", "both"] = "both"


class R2Limits(_Part, frozen=True, tag_field="do", tag="r2-limits"):
    """R2's rate limit per key and its rule on part sizes."""

    write_interval_s: Seconds = 1.0
    equal_parts: bool = True


class Refuse(_Part, frozen=True, tag_field="do", tag="refuse"):
    """Answered by the gateway, never forwarded."""

    answer: Told
    hold_s: Seconds = 0.0


class Applied(_Part, frozen=True, tag_field="do", tag="applied"):
    """Applied; then something else than the plain answer."""

    then: Told
    hold_s: Seconds = 0.0
    times: Annotated[int, Meta(ge=1, le=2)] = 1
    keep: Literal["first", "second"] = "second"


class Zombie(_Part, frozen=True, tag_field="do", tag="zombie"):
    """Answered now, applied later."""

    answer: Told
    until: Literal["next-arrives", "next-answered", "time"] = "next-arrives"
    next_verb: str | None = None
    seconds: Seconds | None = None


class Hold(_Part, frozen=True, tag_field="do", tag="hold"):
    """Kept back, then forwarded or answered."""

    seconds: Seconds | None = None
    then: Told | None = None


class Stale(_Part, frozen=True, tag_field="do", tag="stale"):
    """An earlier state of the table."""

    reads: Count | None = None
    seconds: Seconds | None = None
    since: Literal["commit", "rule"] = "commit"
    repeat: bool = False


class Cut(_Part, frozen=True, tag_field="do", tag="cut"):
    """A body broken off."""

    after_bytes: Annotated[int, Meta(ge=0)]
    direction: Literal["request", "answer"] = "answer"


Action = Pass | Delay | Throttle | R2Limits | Refuse | Applied | Zombie | Hold | Stale | Cut
COMBINING = (Pass, Delay, Throttle, R2Limits)
"""Actions that leave the outcome of a request to others."""


class Rule(_Part, frozen=True):
    """One rule; see the module's docstring."""

    action: Action
    match: Match = Match()
    on_delete: Literal["release", "drop"] = "release"
    seed: int | None = None


def decode_rule(content: bytes, *, upstreams: frozenset[str]) -> Rule:
    """Return the rule that *content* (JSON) describes.

    Raises:
        BadRule: it is not JSON, has an unknown field or value, names an unknown upstream or kind, or contradicts itself.
    """
    try:
        rule = msgspec.json.decode(content, type=Rule)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRule(f"The rule cannot be read: {error}.") from None
    _check_match(rule.match, upstreams)
    _check_action(rule)
    return rule


def names(value: str | tuple[str, ...] | None) -> frozenset[str]:
    """Return one name or many as a set; None gives the empty set, which means any."""
    if value is None:
        return frozenset()
    return frozenset((value,) if isinstance(value, str) else value)


def _check_match(match: Match, upstreams: frozenset[str]) -> None:
    _check_known("match.upstream", names(match.upstream), upstreams)
    _check_known("match.object", names(match.object), KINDS)
    if sum(limit is not None for limit in (match.nth, match.every, match.first)) > 1:
        raise BadRule("match has more than one of nth, every and first; keep one.")
    if match.during.to_s is not None and match.during.to_s <= match.during.from_s:
        raise BadRule("match.during ends before it begins; to_s must be larger than from_s.")
    try:
        re.compile(match.path or "")
    except re.error as error:
        raise BadRule(f"match.path is not a regular expression: {error}.") from None


def _check_known(field: str, given: frozenset[str], known: frozenset[str]) -> None:
    if unknown := sorted(given - known):
        raise BadRule(f"{field} {unknown[0]!r} is unknown; use one of {', '.join(sorted(known))}.")


def _check_headers(field: str, headers: dict[str, str]) -> None:
    for name, value in headers.items():
        if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise BadRule(f"{field}: {name!r} is not a header field on one line of Latin-1 text.")
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            raise BadRule(f"{field}: {name} is the gateway's own; leave it out.")


def _check_action(rule: Rule) -> None:
    action = rule.action
    field = {Refuse: "answer", Zombie: "answer", Hold: "then", Applied: "then"}.get(type(action), "")
    told = getattr(action, field, None)
    if isinstance(told, Real | Truncated) and not isinstance(action, Applied):
        raise BadRule(f"action.{field}: real and truncated need an upstream's answer; use them after applied.")
    if isinstance(told, Status):
        _check_headers(f"action.{field}.headers", told.headers)
    if isinstance(action, Zombie) and (action.until == "time") != (action.seconds is not None):
        raise BadRule("action.seconds and action.until time go together in zombie; give both or neither.")
    if isinstance(action, Stale) and names(rule.match.object) != {"load-table"}:
        raise BadRule("stale answers only load-table; set match.object to load-table.")
