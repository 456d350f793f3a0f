"""What a rule may say, and the sentence for what it may not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chaos.gateway import rules
from chaos.gateway.errors import BadRule
from chaos.gateway.rules import Applied, Drop, decode_rule

UPSTREAMS = frozenset(("r2", "catalog"))
PASS: dict[str, Any] = {"do": "pass"}


def decode(document: Any) -> rules.Rule:
    return decode_rule(json.dumps(document).encode(), upstreams=UPSTREAMS)


def test_rule_of_the_docstring_is_a_rule() -> None:
    """The example that the documentation begins with is accepted as it stands."""
    example = (rules.__doc__ or "").partition("JSON:")[2].partition("**match**")[0]

    rule = decode_rule(example.encode(), upstreams=UPSTREAMS)
    assert (2, Applied(then=Drop())) == (rule.match.nth, rule.action)


@pytest.mark.parametrize("action", rules.Action.__args__)
def test_every_action_and_answer_is_documented(action: Any) -> None:
    """The docstring is the reference: each name that JSON may give is in it."""
    assert f"    {action.__struct_config__.tag} " in (rules.__doc__ or "")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"match": {}}, "action"),
        ({"action": {"do": "explode"}}, "explode"),
        ({"action": PASS, "match": {"verbs": "GET"}}, "verbs"),
        ({"action": PASS, "match": {"object": "manifests"}}, "match.object 'manifests' is unknown"),
        ({"action": PASS, "match": {"upstream": ["r2", "s3"]}}, "match.upstream 's3' is unknown"),
        ({"action": PASS, "match": {"nth": 1, "first": 2}}, "more than one"),
        ({"action": PASS, "match": {"nth": 0}}, "nth"),
        ({"action": PASS, "match": {"share": 1.5}}, "share"),
        ({"action": PASS, "match": {"path": "("}}, "not a regular expression"),
        ({"action": PASS, "match": {"during": {"from_s": 5, "to_s": 5}}}, "ends before it begins"),
        ({"action": {"do": "refuse", "answer": {"answer": "real"}}}, "need an upstream's answer"),
        ({"action": {"do": "zombie", "answer": {"answer": "truncated"}}}, "need an upstream's answer"),
        ({"action": {"do": "refuse", "answer": {"answer": "status", "status": 99}}}, "status"),
        ({"action": {"do": "zombie", "answer": {"answer": "drop"}, "seconds": 3}}, "go together"),
        ({"action": {"do": "stale"}, "match": {"object": "commit"}}, "load-table"),
        ({"action": {"do": "delay", "seconds": -1}}, "seconds"),
        ({"action": {"do": "applied", "times": 3, "then": {"answer": "drop"}}}, "times"),
        (
            {"action": {"do": "refuse", "answer": {"answer": "status", "status": 503, "headers": {"X": "a\r\nB: c"}}}},
            "one line",
        ),
        (
            {
                "action": {
                    "do": "applied",
                    "then": {"answer": "status", "status": 503, "headers": {"Content-Length": "9"}},
                }
            },
            "own",
        ),
    ],
)
def test_wrong_rule_is_refused_with_a_sentence(document: Any, words: str) -> None:
    """The sentence names the field or the value that is wrong."""
    with pytest.raises(BadRule, match=words.replace("(", r"\(")):
        decode(document)


def test_what_is_not_json_is_refused() -> None:
    """Broken JSON gives a sentence as well."""
    with pytest.raises(BadRule, match="cannot be read"):
        decode_rule(b"{", upstreams=UPSTREAMS)
