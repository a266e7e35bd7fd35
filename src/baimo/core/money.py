"""Money in integer micro-units (a millionth of the currency's unit), never floats.

Prevents the failure that made other ledgers wrong: an unknown price or an unknown token count treated as 0.
Unknown is None, and None stays None through every sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any, NamedTuple

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


class Cost(NamedTuple):
    """An exact amount: `micros` micro-units and `rest` millionths of one (the rounding's remainder)."""

    micros: int
    rest: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Whole micro-units per million tokens, and per call: what an exact cost is reckoned with."""

    input: int
    output: int
    cached: int
    cache_write: int
    call: int
    cache_write_1h: int | None = None
    """None = not known."""

    @property
    def calls_only(self) -> bool:
        """Whether tokens cost nothing, so that a cost can be told without their number."""
        return not (self.input or self.output or self.cached or self.cache_write or self.cache_write_1h)

    def keeping(self, tokens_cache_write: int, tokens_1h: int) -> Rates | None:
        """The same, with the rate that all cache-write tokens were written at on average, rounded half to even.

        So a cost follows from two numbers that a Record has; it is off by less than a micro-unit per million tokens.

        Args:
            tokens_cache_write: all of them.
            tokens_1h: those of them that are kept for an hour.

        Returns:
            None where the rate of an hour is not known, or the counts contradict each other.
        """
        if self.cache_write_1h is None or tokens_1h > tokens_cache_write:
            return None
        exact = (tokens_cache_write - tokens_1h) * self.cache_write + tokens_1h * self.cache_write_1h
        return replace(self, cache_write=round(Fraction(exact, tokens_cache_write)))

    def cost(
        self, tokens_in: int, tokens_out: int, tokens_cached: int = 0, tokens_cache_write: int = 0
    ) -> Cost:
        """The exact cost of one call; cached and cache-write tokens are part of `tokens_in`."""
        # written out where `min` would do: it is reckoned for every call, and min costs as much as all the rest
        cached = tokens_cached if tokens_cached < tokens_in else tokens_in
        fresh = tokens_in - cached
        written = tokens_cache_write if tokens_cache_write < fresh else fresh
        exact = (
            (fresh - written) * self.input
            + cached * self.cached
            + written * self.cache_write
            + tokens_out * self.output
            + self.call * MICROS
        )
        micros, rest = divmod(exact, MICROS)
        if rest * 2 > MICROS or (rest * 2 == MICROS and micros % 2):
            return Cost(micros + 1, rest - MICROS)
        return Cost(micros, rest)


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
    cache_write_per_million: Decimal | None = None
    """Prompt tokens written into the provider's cache; None = billed as input."""
    cache_write_1h_per_million: Decimal | None = None
    """Those of them that it keeps for an hour; None = not known."""
    per_call: Decimal | None = None
    """Each call, where the vendor bills calls (searches); each picture."""
    tiers: tuple[Tier, ...] = ()
    """Rates of longer prompts, in rising order; the rates above are those of the shortest."""
    source: str = ""
    """Where the price was read (an address or 'local')."""
    as_of: str = ""
    """ISO date on which it was read."""

    def scaled(self, factor: Decimal) -> Price:
        """The same price times `factor`; what is not known stays so."""

        def times(amount: Decimal | None) -> Decimal | None:
            return None if amount is None else amount * factor

        def each(names: tuple[str, ...], of: Price | Tier) -> dict[str, Any]:
            return {name: times(getattr(of, name)) for name in names}

        common = ("input_per_million", "output_per_million", "cached_per_million")
        return replace(
            self,
            **each((*common, "cache_write_per_million", "cache_write_1h_per_million", "per_call"), self),
            tiers=tuple(replace(tier, **each(common, tier)) for tier in self.tiers),
        )

    @property
    def free(self) -> bool:
        """Whether it is known that no call costs anything."""
        fixed = (self.cache_write_per_million, self.cache_write_1h_per_million, self.per_call)
        each = (self, *self.tiers)
        needed = [rate for one in each for rate in (one.input_per_million, one.output_per_million)]
        return None not in needed and not any((*needed, *fixed, *(one.cached_per_million for one in each)))

    def rates(self, tokens_in: int) -> Rates | None:
        """The rates of a call with a prompt of `tokens_in` tokens; None when one that matters is not known."""
        tier = next((tier for tier in reversed(self.tiers) if tokens_in > tier.above_tokens), self)
        if tier.input_per_million is None or tier.output_per_million is None:
            return None
        base = _micros(tier.input_per_million)
        cached = tier.cached_per_million
        written = self.cache_write_per_million if tier is self else None
        kept = self.cache_write_1h_per_million if tier is self else None
        return Rates(
            base,
            _micros(tier.output_per_million),
            base if cached is None else _micros(cached),
            base if written is None else _micros(written),
            0 if self.per_call is None else _micros(self.per_call),
            None if kept is None else _micros(kept),
        )

    def cost(self, usage: Usage) -> Cost | None:
        """Exact cost of one call in `currency`; None when a price or a count that matters is unknown.

        One unit per million tokens is one micro-unit per token, so the product is exact before rounding.
        """
        if usage.tokens_in is None or usage.tokens_out is None or usage.unpriced:
            return None
        rates = self.rates(usage.tokens_in)
        if rates is not None and usage.tokens_cache_write_1h:
            rates = rates.keeping(usage.tokens_cache_write or 0, usage.tokens_cache_write_1h)
        if rates is None:
            return None
        return rates.cost(
            usage.tokens_in, usage.tokens_out, usage.tokens_cached or 0, usage.tokens_cache_write or 0
        )

    def cost_micros(self, usage: Usage) -> int | None:
        """Cost of one call in micro-units of `currency`, rounded half to even; None when it is not known."""
        cost = self.cost(usage)
        return None if cost is None else cost.micros


def _micros(amount: Decimal) -> int:
    return int((amount * MICROS).to_integral_value(ROUND_HALF_EVEN))


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
