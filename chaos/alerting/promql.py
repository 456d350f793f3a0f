"""PromQL over recorded samples: the part of the language that alert rules are written in.

The parser is `promql-parser`; this is the evaluator. It has instant and range selectors with offset, the functions below,
aggregations by/without, arithmetic, comparisons with and without bool, and/or/unless, and one-to-one matching by on/ignoring.
Anything else raises `Unsupported` when the rule is read, never in the middle of an evaluation. Semantics are those of
Prometheus 3: half-open ranges, a lookback of five minutes, staleness at a scrape that lacks the series, extrapolated rates;
tests hold them equal to promtool's.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import promql_parser as ql

from chaos.alerting.errors import AlertRuleError, Unsupported
from chaos.alerting.range_functions import RANGE_FUNCTIONS, predict_linear
from chaos.alerting.samples import Labels, Samples, Series

Vector = dict[Labels, float]
"""An instant vector by label set; the metric's name is the label `__name__` where the language keeps it."""

Value = float | Vector

_NAME = "__name__"
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": lambda a, b: _divide(a, b), "%": lambda a, b: math.fmod(a, b) if b else math.nan,
    "^": lambda a, b: _power(a, b),
}  # fmt: skip
_COMPARISON: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip
_SETS = ("and", "or", "unless")
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum, "max": max, "min": min, "count": lambda v: float(len(v)), "avg": lambda v: math.fsum(v) / len(v),
    "group": lambda _: 1.0,
}  # fmt: skip
_PLAIN: dict[str, Callable[[float], float]] = {
    "abs": abs, "ceil": math.ceil, "floor": math.floor, "sqrt": lambda v: math.sqrt(v) if v >= 0 else math.nan,
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """A parsed expression that can be evaluated throughout."""

    text: str
    tree: Any = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Parse *text*.

        Raises:
            AlertRuleError: it is not PromQL.
            Unsupported: it is, but not the part that can be evaluated here.
        """
        try:
            tree = ql.parse(text)
        except ValueError as error:
            raise AlertRuleError(f"{text!r} is not PromQL: {error}.") from error
        _check(tree)
        return cls(text, tree)

    def metrics(self) -> set[str]:
        """Return the metric names it selects."""
        return set(_metrics(self.tree))

    def at(self, samples: Samples, t_s: float) -> Value:
        """Evaluate at an instant (seconds, on the samples' clock)."""
        return _Evaluation(samples, float(t_s)).value(self.tree)


def _check(node: Any) -> None:
    problem = _unsupported(node)
    if problem:
        raise Unsupported(f"{problem} cannot be evaluated here")
    for child in _children(node):
        _check(child)


def _unsupported(node: Any) -> str | None:
    if isinstance(node, ql.SubqueryExpr):
        return "a subquery"
    if isinstance(node, ql.VectorSelector):
        return (
            "a selector with @ or without a metric name"
            if node.at or not node.name or node.matchers.or_matchers
            else None
        )
    if isinstance(node, ql.Call):
        known = {"absent", "time", "vector", "scalar", "predict_linear", *_PLAIN, *RANGE_FUNCTIONS}
        return None if node.func.name in known else f"the function {node.func.name}"
    if isinstance(node, ql.AggregateExpr):
        return None if str(node.op) in _AGGREGATES else f"the aggregation {node.op}"
    if isinstance(node, ql.BinaryExpr):
        known = {*_ARITHMETIC, *_COMPARISON, *_SETS}
        card = node.modifier.card if node.modifier else None
        if card in (ql.VectorMatchCardinality.ManyToOne, ql.VectorMatchCardinality.OneToMany):
            return "group_left or group_right"
        return None if str(node.op) in known else f"the operator {node.op}"
    if isinstance(node, ql.NumberLiteral | ql.ParenExpr | ql.UnaryExpr | ql.MatrixSelector):
        return None
    return f"{type(node).__name__}"


def _children(node: Any) -> list[Any]:
    if isinstance(node, ql.Call):
        return list(node.args)
    if isinstance(node, ql.BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, ql.AggregateExpr | ql.ParenExpr | ql.UnaryExpr):
        return [node.expr]
    return [node.vector_selector] if isinstance(node, ql.MatrixSelector) else []


def _metrics(node: Any) -> list[str]:
    own = [str(node.name)] if isinstance(node, ql.VectorSelector) else []
    return own + [name for child in _children(node) for name in _metrics(child)]


@dataclass(frozen=True)
class _Evaluation:
    samples: Samples
    t_s: float

    def value(self, node: Any) -> Value:
        if isinstance(node, ql.NumberLiteral):
            return float(node.val)
        if isinstance(node, ql.ParenExpr):
            return self.value(node.expr)
        if isinstance(node, ql.UnaryExpr):
            return _map(self.value(node.expr), lambda v: -v)
        if isinstance(node, ql.VectorSelector):
            return self._instant(node)
        if isinstance(node, ql.AggregateExpr):
            return self._aggregate(node)
        if isinstance(node, ql.BinaryExpr):
            return _binary(node, self.value(node.lhs), self.value(node.rhs))
        return self._call(node)

    def _instant(self, node: Any) -> Vector:
        at_s = self.t_s - _seconds(node.offset)
        found = ((series, series.at(at_s)) for series in self._selected(node))
        return {s.labels | {(_NAME, node.name)}: value for s, value in found if value is not None}

    def _selected(self, node: Any) -> list[Series]:
        return [series for series in self.samples.named(node.name) if _matches(node.matchers.matchers, series.labels)]

    def _call(self, node: Any) -> Value:
        name, arguments = node.func.name, node.args
        if name == "time":
            return self.t_s
        if name == "absent":
            vector = self.value(arguments[0])
            return {} if vector else {_labels_of_absent(arguments[0]): 1.0}
        if name == "vector":
            return {frozenset(): _number(self.value(arguments[0]))}
        if name == "scalar":
            vector = self.value(arguments[0])
            return next(iter(vector.values())) if isinstance(vector, dict) and len(vector) == 1 else math.nan
        if name in _PLAIN:
            return _map(self.value(arguments[0]), _PLAIN[name])
        if name == "predict_linear":
            ahead_s = _number(self.value(arguments[1]))
            return self._ranges(arguments[0], lambda t, v, _start, _end: predict_linear(t, v, self.t_s, ahead_s))
        found = self._ranges(arguments[0], RANGE_FUNCTIONS[name])
        if name != "last_over_time":  # the only one that keeps the metric's name
            return found
        return {labels | {(_NAME, arguments[0].vector_selector.name)}: value for labels, value in found.items()}

    def _ranges(self, node: Any, function: Callable[[list[float], list[float], float, float], float | None]) -> Vector:
        selector = node.vector_selector
        end_s = self.t_s - _seconds(selector.offset)
        start_s = end_s - _seconds(node.range)
        result: Vector = {}
        for series in self._selected(selector):
            times, values = series.between(start_s, end_s)
            value = function(times, values, start_s, end_s) if times else None
            if value is not None:
                result[series.labels] = value
        return result

    def _aggregate(self, node: Any) -> Vector:
        vector = self.value(node.expr)
        groups: dict[Labels, list[float]] = {}
        for labels, value in vector.items() if isinstance(vector, dict) else ():
            groups.setdefault(_grouped(labels, node.modifier), []).append(value)
        return {labels: _AGGREGATES[str(node.op)](values) for labels, values in groups.items()}


def _binary(node: Any, left: Value, right: Value) -> Value:
    op, modifier = str(node.op), node.modifier
    if op in _SETS:
        return _set(op, _vector(left), _vector(right), modifier)
    as_bool = modifier is not None and modifier.return_bool
    if isinstance(left, float) and isinstance(right, float):
        return _one(op, left, right, as_bool=True) or 0.0
    if isinstance(right, float):
        return _over(_vector(left), lambda value: (value, right), op, as_bool, keep_left=True)
    if isinstance(left, float):
        return _over(right, lambda value: (left, value), op, as_bool, keep_left=False)
    return _matched(op, left, right, modifier, as_bool)


def _over(
    vector: Vector, pair: Callable[[float], tuple[float, float]], op: str, as_bool: bool, *, keep_left: bool
) -> Vector:
    """Vector with scalar: a comparison keeps the vector's own value, and its name."""
    result: Vector = {}
    for labels, value in vector.items():
        a, b = pair(value)
        if op in _COMPARISON and not as_bool:
            if _COMPARISON[op](a, b):
                result[labels] = a if keep_left else b
        else:
            result[_nameless(labels)] = _one(op, a, b, as_bool=True) or 0.0
    return result


def _matched(op: str, left: Vector, right: Vector, modifier: Any, as_bool: bool) -> Vector:
    by_key = {_key(labels, modifier): value for labels, value in right.items()}
    if len(by_key) < len(right) or len({_key(labels, modifier) for labels in left}) < len(left):
        raise AlertRuleError(f"many-to-many matching at {op!r}: several series have the same labels.")
    result: Vector = {}
    for labels, value in left.items():
        key = _key(labels, modifier)
        if key not in by_key:
            continue
        if op in _COMPARISON and not as_bool:
            if _COMPARISON[op](value, by_key[key]):
                result[labels if modifier is None or modifier.matching is None else key] = value
        else:
            result[_nameless(key)] = _one(op, value, by_key[key], as_bool=True) or 0.0
    return result


def _one(op: str, a: float, b: float, *, as_bool: bool) -> float:
    if op in _ARITHMETIC:
        return _ARITHMETIC[op](a, b)
    return float(_COMPARISON[op](a, b)) if as_bool else a


def _set(op: str, left: Vector, right: Vector, modifier: Any) -> Vector:
    keys = {_key(labels, modifier) for labels in right}
    if op == "and":
        return {labels: value for labels, value in left.items() if _key(labels, modifier) in keys}
    if op == "unless":
        return {labels: value for labels, value in left.items() if _key(labels, modifier) not in keys}
    taken = {_key(labels, modifier) for labels in left}
    return left | {labels: value for labels, value in right.items() if _key(labels, modifier) not in taken}


def _key(labels: Labels, modifier: Any) -> Labels:
    matching = modifier.matching if modifier is not None else None
    if matching is None:
        return _nameless(labels)
    if matching.type == ql.LabelModifierType.Include:
        return frozenset(pair for pair in labels if pair[0] in matching.labels)
    return frozenset(pair for pair in labels if pair[0] not in {*matching.labels, _NAME})


def _grouped(labels: Labels, modifier: Any) -> Labels:
    if modifier is None:
        return frozenset()
    if modifier.type == ql.AggModifierType.By:
        return frozenset(pair for pair in labels if pair[0] in modifier.labels)
    return frozenset(pair for pair in labels if pair[0] not in {*modifier.labels, _NAME})


def _matches(matchers: list[Any], labels: Labels) -> bool:
    values = dict(labels)
    return all(_match(matcher, values.get(matcher.name, "")) for matcher in matchers)


def _match(matcher: Any, value: str) -> bool:
    if matcher.op in (ql.MatchOp.Equal, ql.MatchOp.NotEqual):
        return (value == matcher.value) is (matcher.op == ql.MatchOp.Equal)
    return (re.fullmatch(matcher.value, value) is not None) is (matcher.op == ql.MatchOp.Re)


def _labels_of_absent(node: Any) -> Labels:
    """`absent` gets the labels that the selector demands by equality."""
    while isinstance(node, ql.ParenExpr):
        node = node.expr
    if not isinstance(node, ql.VectorSelector):
        return frozenset()
    return frozenset((m.name, m.value) for m in node.matchers.matchers if m.op == ql.MatchOp.Equal)


def _map(value: Value, function: Callable[[float], float]) -> Value:
    if isinstance(value, float):
        return float(function(value))
    return {_nameless(labels): float(function(v)) for labels, v in value.items()}


def _vector(value: Value) -> Vector:
    return {frozenset(): value} if isinstance(value, float) else value


def _number(value: Value) -> float:
    return value if isinstance(value, float) else math.nan


def _nameless(labels: Labels) -> Labels:
    return frozenset(pair for pair in labels if pair[0] != _NAME)


def _seconds(duration: timedelta | None) -> float:
    return 0.0 if duration is None else duration.total_seconds()


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if not a or math.isnan(a) else math.copysign(math.inf, a)


def _power(a: float, b: float) -> float:
    try:
        return float(a**b)
    except (OverflowError, ZeroDivisionError):
        return math.inf
