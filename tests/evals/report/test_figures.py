from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.verdict import Flag
from baimo.evals.report import figures


@given(st.text())
def test_cleaned_text_is_always_valid_xml_and_utf8(foreign: str) -> None:
    from xml.sax.saxutils import escape

    shown = figures.clean(foreign)
    ElementTree.fromstring(f"<a>{escape(shown)}</a>".encode())


def test_terminal_codes_and_bidirectional_overrides_are_made_visible() -> None:
    assert figures.name("a\x1b[2Jb\u202ec\r\nd") == "a\ufffd[2Jb\ufffdc d"


@given(st.text(), st.integers(1, 40))
def test_a_shortened_text_never_takes_more_columns_than_it_may(shown: str, most: int) -> None:
    short = figures.shortened(shown, most)
    assert figures.columns(short) <= most
    assert short == shown or "…" in short


def test_both_ends_of_a_long_name_survive() -> None:
    assert figures.shortened("vendor/very-long-model-name-2026", 13) == "vendor…e-2026"


@given(st.text(alphabet=st.sampled_from("ab 中文，。x-"), max_size=80), st.integers(2, 30))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces(shown: str, most: int) -> None:
    lines = figures.wrapped(shown, most)
    # a Chinese character keeps the stops that follow it, however narrow the line
    assert all(figures.columns(line) <= max(most, 4) or "，" in line or "。" in line for line in lines)
    assert "".join("".join(lines).split()) == "".join(shown.split())


def test_chinese_breaks_between_characters_but_not_before_a_stop() -> None:
    assert figures.wrapped("一二三四，五六", 8) == ["一二三", "四，五六"]


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (None, "?"),
        (0, "0"),
        (1_710_000, "1.71"),
        (4_200, "0.0042"),
        (41_234_567_890, "41,235"),
        (3, "0.000003"),
    ],
)
def test_money_shows_unknown_as_a_question_mark_and_small_amounts_with_two_digits(
    micros: int | None, shown: str
) -> None:
    assert figures.amount(micros) == shown


@given(
    st.one_of(
        st.none(), st.sampled_from([math.nan, math.inf]), st.floats(-1e300, 1e300), st.integers(0, 10**15)
    )
)
def test_no_figure_is_ever_shown_as_nan_or_with_an_exponent(value: float | None) -> None:
    for shown in (figures.count(value), figures.about(value), figures.amount(value)):
        assert shown == "?" or (shown.lstrip("-").replace(",", "").replace(".", "").isdigit())
    assert (figures.score(value) == "?") == (value is None or not math.isfinite(value))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0%"),
        (0.00002, "<0.01%"),
        (0.0503, "5%"),
        (0.061, "6.1%"),
        (0.9999, "99.9%"),
        (1.0, "100%"),
        (math.nan, "?"),
    ],
)
def test_a_share_is_never_rounded_to_certainty(value: float, shown: str) -> None:
    assert figures.share(value) == shown


def test_a_flag_of_a_later_version_is_named_with_what_it_carries() -> None:
    assert figures.flag(Flag(kind="echo", detail={"share": 0.5})) == "echo (share 0.5)"


def test_a_flag_whose_detail_is_missing_still_reads() -> None:
    assert "?" in figures.flag(Flag(kind="copy"))


@pytest.mark.parametrize(
    ("lang", "said"),
    [("en", ("left out", "it was left out on the way: no key")), ("zh", ("已退出", "中途退出：no key"))],
)
def test_who_was_left_out_on_the_way_is_told_in_both_languages(
    lang: str, said: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAIMO_LANG", lang)
    found = Flag(kind="withdrawn", detail={"reason": "no key"}, disqualifies=True)
    assert (figures.flag_name("withdrawn"), figures.flag(found)) == said
