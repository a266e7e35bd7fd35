"""Money in integer micro-units (a millionth of the currency's unit), never floats.

Prevents the failure that made other ledgers wrong: an unknown price or an unknown token count treated as 0.
Unknown is None, and None stays None through every sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from baimo.core.call import Usage

MICROS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Rates of a call with a long prompt. They replace the base rates for the whole call, not for the excess."""

    above_tokens: int
    """Holds for prompts of more tokens than this."""
    input_per_million: Decimal | None = None
    """Fresh prompt tokens."""
    output_per_million: Decimal | None = None
    """Generated tokens, reasoning included."""
    cached_per_million: Decimal | None = None
    """Prompt tokens read from the provider's cache; None = billed as input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost, per million tokens, in units of `currency`. None = not known."""

    currency: str = "USD"
    """ISO 4217 code."""
    input_per_million: Decimal | None = None
    """Fresh prompt tokens."""
    output_per_million: Decimal | None = None
    """Generated tokens, reasoning included."""
    cached_per_million: Decimal | None = None
    """Prompt tokens read from the provider's cache; None = billed as input."""
    tiers: tuple[Tier, ...] = ()
    """Rates of longer prompts, in rising order; the rates above are those of the shortest."""
    source: str = ""
    """Where the price was read (an address or 'local')."""
    as_of: str = ""
    """ISO date on which it was read."""

    def cost_micros(self, usage: Usage) -> int | None:
        """Cost of one call in micro-units of `currency`; None when a price or a count that matters is unknown.

        One unit per million tokens is one micro-unit per token, so the product is exact before rounding.
        """
        if usage.tokens_in is None or usage.tokens_out is None:
            return None
        rates = next((tier for tier in reversed(self.tiers) if usage.tokens_in > tier.above_tokens), self)
        if rates.input_per_million is None or rates.output_per_million is None:
            return None
        cached = min(usage.tokens_cached or 0, usage.tokens_in)
        cached_rate = rates.cached_per_million
        exact = (
            (usage.tokens_in - cached) * rates.input_per_million
            + cached * (rates.input_per_million if cached_rate is None else cached_rate)
            + usage.tokens_out * rates.output_per_million
        )
        return int(exact.to_integral_value(ROUND_HALF_EVEN))


FREE = Price(input_per_million=Decimal(0), output_per_million=Decimal(0), source="local")
"""The price of a model that runs in this process: known, and nothing."""


def total_micros(amounts: list[int | None]) -> int | None:
    """The sum, or None as soon as one amount is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def converted(micros: int | None, currency: str, to: str, rates: Mapping[str, float]) -> int | None:
    """An amount in another currency; None when the amount or the rate is not known.

    Args:
        micros: micro-units of `currency`.
        currency: ISO 4217 code of the amount.
        to: ISO 4217 code of the result.
        rates: units of `to` for one unit of each other currency.
    """
    if micros is None or currency == to:
        return micros
    if micros == 0:
        return 0
    return round(micros * rates[currency]) if currency in rates else None
