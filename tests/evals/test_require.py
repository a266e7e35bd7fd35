from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.verdict import Verdict
from baimo.errors import UsageError
from baimo.evals.require import NAMES, requirement
from tests.evals.report.reports import full, standing, verdict


def board() -> Verdict:
    return verdict(
        [
            standing("acme/large", 0.93, malformed=4, failed=10, cost_per_1000_micros=2_500_000),
            standing(
                "acme/small few-shot, v2 [beta]",
                0.8,
                tier=2,
                cost_per_1000_micros=None,
                latency_ms_median=None,
            ),
        ]
    )


@pytest.mark.parametrize(
    "source",
    [
        "score>=0.93",
        " score >= 0.9 ,low>0.85, strict<=1",
        "lenient==0.93",
        "cost_per_1000<=2.5",
        "latency_ms<1e3",
        "malformed_rate<=4%",
        "failed_rate<0.1",
        "error_bound<=delta".replace("delta", "0.05"),
        "certain",
        "certain,score>0.5",
        "certain==true",
        "certain!=false",
        "winner==acme/large",
        "winner != 'acme/small'",
        "score[acme/small few-shot, v2 [beta]]>=0.8, certain",
        "score!=1",
    ],
)
def test_what_holds_has_nothing_unmet(source: str) -> None:
    assert requirement(source).unmet(board()) is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("score>=0.95", "score>=0.95 does not hold: score[acme/large] is 0.93"),
        ("certain==false", "certain==false does not hold: certain is true"),
        ("winner==acme/small", "winner is acme/large"),
        ("failed_rate<=0.05", "failed_rate[acme/large] is 0.0909091"),
        ("score[nobody]>0", "there is no candidate nobody"),
    ],
)
def test_what_does_not_hold_says_what_was_found(source: str, reason: str) -> None:
    assert reason in (requirement(source).unmet(board()) or "")


@pytest.mark.parametrize("figure", ["cost_per_1000", "latency_ms"])
@pytest.mark.parametrize("comparison", ["<=1e9", ">=0", "!=1"])
def test_an_unknown_figure_never_meets_a_requirement(figure: str, comparison: str) -> None:
    reason = requirement(f"{figure}[acme/small few-shot, v2 [beta]]{comparison}").unmet(board())
    assert reason is not None and "is not known" in reason


def test_without_a_winner_nothing_about_the_winner_holds() -> None:
    nobody = verdict([standing("a", None)])
    for source in ("score>=0", "winner!=a", "low>=0"):
        assert "there is no winner" in (requirement(source).unmet(nobody) or "")


def test_every_condition_that_does_not_hold_is_named() -> None:
    reasons = requirement("score>=0.99,certain,low>=0.99").unmet(full().verdict)
    assert reasons is not None and len(reasons.splitlines()) == 2


@pytest.mark.parametrize(
    ("source", "at"),
    [
        ("", 0),
        ("scor>=1", 0),
        ("score>>0.9", 6),
        ("score=0.9", 5),
        ("score>=high", 7),
        ("score>=0.9,", 11),
        ("score>=0.9, cost<1", 12),
        ("score[acme>=1", 5),
        ("certain[x]==true", 7),
        ("certain>=true", 7),
        ("certain==yes", 9),
        ("winner==", 8),
        ("score>=5%%", 7),
    ],
)
def test_what_cannot_be_read_is_pointed_at(source: str, at: int) -> None:
    with pytest.raises(UsageError) as caught:
        requirement(source)
    shown, pointer = str(caught.value).splitlines()[-2:]
    assert shown == f"  {source}" and pointer == "  " + " " * at + "^"
    assert caught.value.hint


def test_the_pointer_allows_for_wide_characters() -> None:
    with pytest.raises(UsageError) as caught:
        requirement("score[模型]>=x")
    assert str(caught.value).splitlines()[-1] == "  " + " " * len("score[模型]>=") + "  ^"


@given(st.text(max_size=40))
def test_any_text_is_either_read_or_refused_with_a_message(source: str) -> None:
    try:
        conditions = requirement(source).conditions
    except UsageError as error:
        assert str(error)
    else:
        assert all(condition.figure in NAMES for condition in conditions)


@given(st.floats(0, 1), st.floats(0, 1))
def test_comparisons_are_those_of_numbers(found: float, wanted: float) -> None:
    made = verdict([standing("a", found)])
    assert (requirement(f"score>={wanted!r}").unmet(made) is None) == (found >= wanted)
    assert (requirement(f"score<{wanted!r}").unmet(made) is None) == (found < wanted)
