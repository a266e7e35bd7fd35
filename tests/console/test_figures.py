"""Figures as pages show them."""

from __future__ import annotations

from contextvars import copy_context

import pytest

from baimo.console.figures import short
from baimo.text import speak


@pytest.mark.parametrize(
    ("value", "english", "chinese"),
    [
        (None, "–", "–"),
        (999, "999", "999"),
        (12_345, "12.3 k", "1.23 万"),
        (999_999, "1,000 k", "100 万"),
        (32_800_000, "32.8 M", "3,280 万"),
        (123_456_789, "123 M", "1.23 亿"),
        (2_000_000_000_000, "2,000 G", "20,000 亿"),
    ],
)
def test_large_numbers_are_short_and_never_have_an_exponent(
    value: float | None, english: str, chinese: str
) -> None:
    for language, shown in (("en", english), ("zh", chinese)):
        reader = copy_context()
        reader.run(speak, language)
        assert reader.run(short, value) == shown
