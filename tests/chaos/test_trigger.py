"""A trigger is an ordinal, an object the gateway knows, and perhaps a verb."""

from __future__ import annotations

import pytest

from chaos.gateway.objects import KINDS
from chaos.trigger import Trigger, parse_trigger


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("2nd commit POST", Trigger(2, "commit", "POST")),
        ("1st data-file PUT", Trigger(1, "data-file", "PUT")),
        ("3rd manifest-list", Trigger(3, "manifest-list", None)),
        (" 11th  token  POST ", Trigger(11, "token", "POST")),
    ],
)
def test_a_trigger_is_read(text: str, trigger: Trigger) -> None:
    """With or without a verb, with any spacing."""
    assert parse_trigger(text) == trigger


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_object_of_the_gateway_can_trigger(kind: str) -> None:
    """What the log names, a scenario may wait for."""
    assert parse_trigger(f"1st {kind}").object == kind


@pytest.mark.parametrize(
    "text",
    ["", "commit", "2 commit POST", "second commit", "0th commit", "-1st commit", "2nd commit post", "2nd commit PATCH",
     "2nd commit POST now", "2nd Commit POST", "2nd commit POST\n2nd"],
)  # fmt: skip
def test_another_form_is_refused_with_an_example(text: str) -> None:
    """The sentence shows how it is written."""
    with pytest.raises(ValueError, match=r'^after: .* is not of the form "2nd commit POST"\.$'):
        parse_trigger(text)


def test_an_unknown_object_is_refused_with_the_known_ones() -> None:
    """It would never come, and the step would be void after minutes of traffic."""
    with pytest.raises(ValueError, match=r"knows no object 'snapshot'; it knows commit, config,"):
        parse_trigger("1st snapshot POST")
