"""Shape of the data files `models/data/vendors/<vendor>.toml`.

A file is strict: an unknown key or a wrong type is an error, so a misspelt price cannot pass for an unknown one.
Prices are decimal text ("0.27"), per million tokens; what is not known is absent.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from baimo.core.model import Model, Vendor
from baimo.core.money import Price, Tier


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prices]: what holds for all prices of the file, unless a model says otherwise."""

    currency: str
    """ISO 4217 code that the vendor bills in, or that the source states."""
    source: str
    """Address where they were read, or `local`."""
    as_of: str
    """ISO date of the source."""


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`price` of a model."""

    input: Decimal
    """Fresh prompt tokens."""
    output: Decimal
    """Generated tokens."""
    cached: Decimal | None = None
    """Prompt tokens read from a cache."""
    currency: str = ""
    """Where it differs from the file's."""
    source: str = ""
    """Where it differs from the file's."""
    as_of: str = ""
    """Where it differs from the file's."""


class LongRates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `tiers`: rates of a call whose prompt is longer than `above` tokens."""

    above: int
    """Tokens of prompt."""
    input: Decimal
    """Fresh prompt tokens."""
    output: Decimal
    """Generated tokens."""
    cached: Decimal | None = None
    """Prompt tokens read from a cache."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[models."name"]: one model, by the name that the vendor's API expects."""

    context_window: int | None = None
    """Tokens of prompt and answer together."""
    max_output: int | None = None
    """Most tokens of an answer."""
    abilities: tuple[str, ...] = ()
    """As in `Model.abilities`."""
    open_weights: bool | None = None
    """Whether the weights can be had."""
    license: str = ""
    """SPDX id of the weights."""
    released: str = ""
    """ISO date, possibly without day or month."""
    shutdown: str = ""
    """ISO date."""
    weights: str = ""
    """Source of the weights of a model that runs here."""
    price: Rates | None = None
    """None = not known."""
    tiers: tuple[LongRates, ...] = ()
    """Rates of longer prompts."""

    def model(self, vendor: str, name: str, prices: Prices | None) -> Model:
        """The noun that this entry describes."""
        return Model(
            name=f"{vendor}/{name}",
            vendor=vendor,
            upstream=name,
            price=None if self.price is None or prices is None else self._price(self.price, prices),
            context_window=self.context_window,
            max_output=self.max_output,
            abilities=self.abilities,
            open_weights=self.open_weights,
            license=self.license,
            released=self.released,
            shutdown=self.shutdown,
            weights=self.weights,
        )

    def _price(self, rates: Rates, prices: Prices) -> Price:
        return Price(
            currency=rates.currency or prices.currency,
            input_per_million=rates.input,
            output_per_million=rates.output,
            cached_per_million=rates.cached,
            tiers=tuple(
                Tier(
                    above_tokens=tier.above,
                    input_per_million=tier.input,
                    output_per_million=tier.output,
                    cached_per_million=tier.cached,
                )
                for tier in self.tiers
            ),
            source=rates.source or prices.source,
            as_of=rates.as_of or prices.as_of,
        )


class VendorFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: a vendor and its models."""

    vendor: Vendor
    """[vendor]: facts of `core.model.Vendor`."""
    prices: Prices | None = None
    """Absent in a file without prices."""
    models: dict[str, Entry] = {}
    """By the name that the API expects."""
