"""Colours can be told from what lies behind them, by day and by night."""

from __future__ import annotations

import pytest

from reports.palette import PALETTE, dark_twins

TEXT = ("text", "muted", "link", "pass", "fail", "inconclusive", "band")
BEHIND = ("page", "card", "line", "grid", "phase")
CHIP = 0.13
"""How much of its own colour lies behind a verdict's chip."""


def channels(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def luminance(rgb: list[float]) -> float:
    """WCAG 2.2, relative luminance."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_a_contrast_of_at_least_four_and_a_half(scheme: str) -> None:
    """On cards and on the page; a verdict also on its own tinted chip."""
    inks = {role: channels(getattr(ink, scheme)) for role, ink in PALETTE.items()}
    for role in TEXT:
        assert contrast(inks[role], inks["card"]) >= 4.5, role
    for role in ("text", "muted", "link"):
        assert contrast(inks[role], inks["page"]) >= 4.5, role
    for role in ("pass", "fail", "inconclusive"):
        chip = [a * CHIP + b * (1 - CHIP) for a, b in zip(inks[role], inks["card"], strict=True)]
        assert contrast(inks[role], chip) >= 4.5, role


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_have_a_contrast_of_at_least_three(scheme: str) -> None:
    """Every curve and mark against the card it is drawn on."""
    card = channels(getattr(PALETTE["card"], scheme))
    for role in set(PALETTE) - set(BEHIND):
        assert contrast(channels(getattr(PALETTE[role], scheme)), card) >= 3, role


def test_no_two_roles_share_a_light_colour() -> None:
    """The charts are turned dark by swapping light colours."""
    assert len(dark_twins()) == len(PALETTE)
