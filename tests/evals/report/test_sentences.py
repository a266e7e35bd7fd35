from __future__ import annotations

from dataclasses import replace

import pytest

from baimo.core.verdict import Flag
from baimo.evals.report.sentences import account, headline
from tests.evals.report.reports import forecast, full, standing, verdict


def test_a_winner_alone_in_its_tier_is_the_best() -> None:
    told = account(verdict([standing("a/x"), standing("b/y", 0.5, tier=2), standing("c/z", 0.4, tier=2)]))
    assert told.headline == "a/x does this task best."
    assert told.tiers == "a/x is separated from all 2 others."
    assert "0.900 (interval 0.860 to 0.930); 2.50 USD per 1,000 answers; 840 ms" in told.figures


def test_an_uncertain_verdict_says_what_certainty_would_take() -> None:
    lines = [standing("a/x"), standing("b/y", 0.89), standing("c/z", 0.4, tier=2)]
    told = account(
        verdict(
            lines,
            certain=False,
            stopped="max_cost",
            error_bound=0.18,
            calls_left=1893.0,
            cost_left_micros=1_204_000,
        )
    )
    assert told.headline == "a/x leads, but it is not certain yet."
    assert told.tiers == (
        "These 2 are separated from the remaining candidate: a/x, b/y."
        " Among them we cannot tell at this budget; it would take about 1,900 more calls, 1.20 USD."
    )
    assert "18%" in told.stopped and "5%" in told.stopped and "money" in told.stopped


def test_a_limit_of_the_key_that_ended_it_is_named() -> None:
    lines = [standing("a/x"), standing("b/y", 0.89)]
    told = account(verdict(lines, certain=False, stopped="over_limit", error_bound=0.18, calls_left=50.0))
    assert "the limit of the key or tenant" in told.stopped and "18%" in told.stopped


def test_an_unknown_price_is_said_to_be_unknown_and_never_shown_as_zero() -> None:
    lines = [standing("a/x", cost_per_1000_micros=None), standing("b/y", 0.89)]
    told = account(
        verdict(
            lines,
            cost_micros=None,
            cost_exhaustive_micros=None,
            certain=False,
            stopped="max_calls",
            calls_left=50.0,
        )
    )
    assert "its price is not known" in told.figures
    assert "what it cost is not known" in told.spent
    assert "at a price that is not known" in told.tiers
    assert any("price of a/x is not known" in warning for warning in told.warnings)


@pytest.mark.parametrize(
    ("assurance", "word"),
    [("calibrated", "in replays on recorded boards"), ("guaranteed", "a finite-sample guarantee")],
)
def test_the_assurance_is_explained_in_the_terms_of_its_own_claim(assurance: str, word: str) -> None:
    told = account(verdict([standing("a/x"), standing("b/y", 0.5, tier=2)], assurance=assurance))
    assert word in told.assurance and "these 500 examples" in told.assurance


def test_nothing_judged_names_no_winner_and_divides_by_nothing() -> None:
    told = account(verdict([standing("a/x", None), standing("b/y", None)], calls_exhaustive=0))
    assert told.headline == "Nothing could be judged, so there is no winner."
    assert any("2 candidates have no judged answer" in warning for warning in told.warnings)


def test_one_candidate_is_compared_with_nothing() -> None:
    told = account(verdict([standing("a/x")]))
    assert told.headline == "a/x scores 0.900; there was nothing to compare it with."
    assert told.tiers == told.assurance == told.stopped == ""


def test_a_disqualified_leader_is_passed_over_aloud() -> None:
    flag = Flag(kind="constant", detail={"share": 1.0}, disqualifies=True)
    told = account(verdict([standing("gamer/x", 0.99, flags=(flag,)), standing("b/y", 0.8)], winner="b/y"))
    assert told.warnings[0].startswith(
        "gamer/x scores higher but is not named: it gives the same reply to 100%"
    )


def test_only_disqualified_leaders_leave_no_winner() -> None:
    assert "No winner is named" in account(verdict([standing("a/x"), standing("b/y")], winner=None)).headline


@pytest.mark.parametrize(
    ("calls", "held"),
    [(50, "fewer calls than forecast"), (200, "within the forecast"), (900, "more calls than forecast")],
)
def test_the_forecast_is_held_against_the_fact(calls: int, held: str) -> None:
    told = account(
        verdict([standing("a/x"), standing("b/y")], calls=calls, calls_paid=calls, forecast=forecast())
    )
    assert held in told.forecast and "100–400 calls" in told.forecast


def test_answers_from_the_store_are_said_to_have_cost_nothing() -> None:
    told = account(verdict([standing("a/x"), standing("b/y")], calls=200, calls_paid=199))
    assert told.spent.endswith("One of the answers was stored already and cost nothing.")


def test_failures_form_losses_flags_and_unscored_answers_are_warned_of() -> None:
    warnings = " ".join(account(full().verdict).warnings)
    for part in ("3 calls failed", "2 answers could not be scored", "acme/small loses 0.420", "other/base"):
        assert part in warnings


def test_who_was_never_judged_or_was_left_out_is_behind_nobody() -> None:
    lines = [standing("a", 0.9), standing("b", 0.5, tier=2), standing("c", None, tier=None, failed=6)]
    out = standing("d", 0.9, tier=3, flags=(Flag(kind="withdrawn", detail={"reason": "no key"}),))
    told = account(verdict([*lines, replace(out, score=None)]))
    assert told.tiers == "a is separated from the other candidate."
    assert any("no judged answer: c" in warning for warning in told.warnings)


def test_a_candidate_that_alone_was_judged_is_compared_with_nothing() -> None:
    told = account(verdict([standing("a", 0.9), standing("c", None, tier=2, failed=6)]))
    assert told.headline == "a scores 0.900; there was nothing to compare it with."
    assert (told.tiers, told.stopped, told.assurance) == ("", "", "")


def test_the_cheapest_is_claimed_among_known_prices_only() -> None:
    unknown = {"cost_per_1000_micros": None, "cost_micros": None}
    lines = [standing("a"), standing("b", 0.89)]
    assert (
        headline(verdict(lines, decision="cheapest"))
        == "a is the cheapest candidate within 0.01 of the best."
    )
    one = verdict([lines[0], replace(lines[1], **unknown)], decision="cheapest")
    assert headline(one).endswith("best among those with a known price; without one is b.")
    none = verdict([replace(lines[0], **unknown), lines[1]], decision="cheapest")
    assert headline(none).startswith(
        "a is within 0.01 of the best; whether it is the cheapest cannot be said"
    )


def test_a_single_example_is_not_spoken_of_as_several() -> None:
    told = account(verdict([standing("a"), standing("b", 0.5, tier=2)], examples=1, stopped="exhausted"))
    assert "1 examples" not in " ".join((told.headline, *told.body))
    assert told.headline == "a scores best on the only example."
