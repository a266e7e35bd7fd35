from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from baimo.core.call import Usage
from baimo.core.money import FREE, MICROS, Price, Tier, converted, total_micros

rates = st.decimals(min_value=0, max_value=1000, places=6, allow_nan=False, allow_infinity=False)
counts = st.integers(min_value=0, max_value=10_000_000)
amounts = st.integers(min_value=-(10**12), max_value=10**12) | st.none()


def halves_to_even(exact: Fraction) -> int:
    return round(exact)  # Fraction.__round__ takes halves to even


@given(rates, rates, rates | st.none(), counts, counts, counts | st.none())
def test_a_call_costs_exactly_its_tokens_times_their_rates(
    fresh: Decimal, out: Decimal, cached: Decimal | None, tokens_in: int, tokens_out: int, hit: int | None
) -> None:
    price = Price(input_per_million=fresh, output_per_million=out, cached_per_million=cached)
    usage = Usage(tokens_in=tokens_in, tokens_out=tokens_out, tokens_cached=hit)
    from_cache = min(hit or 0, tokens_in)
    dollars = (
        Fraction(tokens_in - from_cache) * Fraction(fresh)
        + Fraction(from_cache) * Fraction(fresh if cached is None else cached)
        + Fraction(tokens_out) * Fraction(out)
    ) / 1_000_000
    assert price.cost_micros(usage) == halves_to_even(dollars * MICROS)


def test_a_price_of_1_per_million_makes_a_micro_unit_per_token() -> None:
    price = Price(input_per_million=Decimal("2.5"), output_per_million=Decimal(10))
    assert price.cost_micros(Usage(tokens_in=1000, tokens_out=100)) == 2500 + 1000


def test_a_decimal_price_is_not_rounded_through_binary() -> None:
    price = Price(input_per_million=Decimal("0.1"), output_per_million=Decimal("0.2"))
    assert price.cost_micros(Usage(tokens_in=3, tokens_out=6)) == 2  # 1.5 goes to even


@given(st.sampled_from(["tokens_in", "tokens_out"]), counts)
def test_an_unknown_count_makes_an_unknown_cost(missing: str, tokens: int) -> None:
    known = {"tokens_in": tokens, "tokens_out": tokens, missing: None}
    assert FREE.cost_micros(Usage(**known)) is None


@given(rates, st.booleans())
def test_an_unknown_price_makes_an_unknown_cost_and_never_0(rate: Decimal, known_is_input: bool) -> None:
    price = Price(
        input_per_million=rate if known_is_input else None,
        output_per_million=None if known_is_input else rate,
    )
    assert price.cost_micros(Usage(tokens_in=0, tokens_out=0)) is None


@given(counts)
def test_a_local_model_costs_0_and_that_is_known(tokens: int) -> None:
    assert FREE.cost_micros(Usage(tokens_in=tokens, tokens_out=tokens)) == 0


TIERED = Price(
    input_per_million=Decimal(1),
    output_per_million=Decimal(10),
    cached_per_million=Decimal("0.1"),
    tiers=(
        Tier(above_tokens=32_000, input_per_million=Decimal(2), output_per_million=Decimal(20)),
        Tier(
            above_tokens=128_000,
            input_per_million=Decimal(4),
            output_per_million=Decimal(40),
            cached_per_million=Decimal("0.4"),
        ),
    ),
)


@given(st.integers(min_value=0, max_value=400_000), counts)
def test_the_length_of_the_prompt_chooses_one_tier_for_the_whole_call(
    tokens_in: int, tokens_out: int
) -> None:
    factor = 4 if tokens_in > 128_000 else 2 if tokens_in > 32_000 else 1
    assert TIERED.cost_micros(Usage(tokens_in=tokens_in, tokens_out=tokens_out)) == factor * (
        tokens_in + 10 * tokens_out
    )


def test_a_tier_begins_above_its_border_and_not_at_it() -> None:
    assert TIERED.cost_micros(Usage(tokens_in=32_000, tokens_out=0)) == 32_000
    assert TIERED.cost_micros(Usage(tokens_in=32_001, tokens_out=0)) == 64_002


def test_a_tier_without_a_rate_for_cached_tokens_bills_them_as_its_own_input() -> None:
    usage = Usage(tokens_in=40_000, tokens_out=0, tokens_cached=40_000)
    assert TIERED.cost_micros(usage) == 80_000


def test_a_tier_whose_rate_is_unknown_makes_the_long_call_unknown() -> None:
    price = Price(input_per_million=Decimal(1), output_per_million=Decimal(1), tiers=(Tier(above_tokens=10),))
    assert price.cost_micros(Usage(tokens_in=10, tokens_out=1)) == 11
    assert price.cost_micros(Usage(tokens_in=11, tokens_out=1)) is None


def test_an_hours_cache_writes_beyond_all_cache_writes_make_the_cost_unknown() -> None:
    rate = Decimal(1)
    price = Price(input_per_million=rate, output_per_million=rate, cache_write_1h_per_million=2 * rate)
    usage = Usage(tokens_in=10, tokens_out=1, tokens_cache_write=4, tokens_cache_write_1h=4)
    assert price.cost_micros(usage) == 6 + 8 + 1
    assert price.cost_micros(replace(usage, tokens_cache_write=3)) is None
    assert price.cost_micros(replace(usage, tokens_cache_write=None)) is None


@given(st.lists(amounts, max_size=8))
def test_a_sum_is_known_only_when_every_amount_is(parts: list[int | None]) -> None:
    expected = None if None in parts else sum(part for part in parts if part is not None)
    assert total_micros(parts) == expected


@given(amounts, st.sampled_from(["USD", "CNY"]), st.decimals(min_value="0.001", max_value=1000, places=4))
def test_an_amount_is_converted_by_its_rate_or_not_at_all(
    micros: int | None, currency: str, rate: Decimal
) -> None:
    found = converted(micros, currency, "USD", {"CNY": float(rate)})
    if micros is None:
        assert found is None
    elif currency == "USD":
        assert found == micros
    else:
        assert found is not None
        assert (
            abs(Fraction(found) - Fraction(micros) * Fraction(rate))
            <= Fraction(1, 2) + abs(Fraction(micros) * Fraction(rate)) / 2**50
        )


@given(st.integers(min_value=1, max_value=10**12))
def test_a_foreign_amount_without_a_rate_is_unknown_and_never_0(micros: int) -> None:
    assert converted(micros, "CNY", "USD", {"EUR": 1.1}) is None


def test_nothing_is_nothing_in_every_currency() -> None:
    assert converted(0, "CNY", "USD", {}) == 0
