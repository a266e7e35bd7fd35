"""Every model that can be reached by name: the data files, then what baimo.toml adds or changes.

Prevents two failures: a misspelt model that is only noticed when a paid run has begun, and a model whose price nobody
knows but which is counted as free. One TOML file per vendor, read when something asks for it.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, cast

from baimo.core.model import Model, Vendor
from baimo.core.money import Price
from baimo.errors import UnknownModel
from baimo.models.vendors import VendorFile
from baimo.settings import ModelSettings, ProviderSettings, Settings
from baimo.typed import converted

ANY_MODEL = "any_model"
"""Quirk of a vendor that serves models which no catalogue can list: local servers, resellers, private deployments."""

TUNED = "ft:"
"""Beginning of the names of tuned models: `ft:<base>:<organization>:<suffix>:<id>`."""

LONGEST_NAME = 512
"""Characters of the name of a model that is in no list."""

_SHORT_WRITE, _LONG_WRITE = Decimal("1.25"), Decimal(2)


class Catalogue:
    """Vendors and models by name. Reads a vendor's file when it is first needed."""

    def __init__(self, settings: Settings, tuned: Callable[[str], Model | None] = lambda name: None) -> None:
        """Prefer `Catalogue.load`.

        Args:
            settings: may change models and add some.
            tuned: the owner's tuned models by name; None = there is none of that name.

        Raises:
            UnknownModel: baimo.toml describes a model of a vendor that does not exist.
        """
        self._settings = settings
        self._tuned = tuned
        self._names = sorted({*_files(), *settings.providers})
        for name in settings.models:
            if not name.startswith(TUNED):  # they come and go
                self._existing(name.partition("/")[0], asked=name)

    @classmethod
    def load(cls, settings: Settings, tuned: Callable[[str], Model | None] = lambda name: None) -> Catalogue:
        """The catalogue under these settings."""
        return cls(settings, tuned)

    def vendor(self, name: str) -> Vendor:
        """The vendor of that name.

        Raises:
            UnknownModel: there is none; names the nearest.
        """
        self._existing(name, asked=name)
        known = _file(name).vendor if name in _files() else None
        custom = self._settings.providers.get(name)
        if custom is not None:
            return _customised(name, known, custom)
        assert known is not None  # _existing found it, so it is in a file or in the settings
        return known

    def vendors(self) -> list[Vendor]:
        """All vendors, by name."""
        return [self.vendor(name) for name in self._names]

    def models(self, vendor: str | None = None) -> list[Model]:
        """The models that are listed, of one vendor or of all, by name.

        Raises:
            UnknownModel: there is no such vendor.
        """
        names = self._names if vendor is None else [self.vendor(vendor).name]
        return [model for name in names for model in self._of(name).values()]

    def model(self, name: str) -> Model:
        """The model `vendor/name`, or the only one whose part after the vendor is `name`.

        A vendor that serves any model answers for names that are not listed, with an unknown price.

        Raises:
            UnknownModel: no such vendor or model, or several vendors have it; names the nearest.
        """
        if name.startswith(TUNED):
            found = self._tuned(name)
            if found is None:
                raise UnknownModel("models.unknown", name=name, near="")
            return found
        return self.base(name)

    def base(self, name: str) -> Model:
        """Likewise, of the models that were not tuned here.

        Raises:
            UnknownModel: as `model` does.
        """
        vendor, slash, rest = name.partition("/")
        if slash and rest and vendor in self._names:
            listed = self._of(vendor)
            if name in listed:
                return listed[name]
            # clients choose these names, and they go into headers, logs and the ledger
            if ANY_MODEL in self.vendor(vendor).quirks and rest.isprintable() and len(rest) <= LONGEST_NAME:
                return Model(name=name, vendor=vendor, upstream=rest)
            raise self._missing(name, listed)
        everywhere = self.models()
        same = [model for model in everywhere if model.name.partition("/")[2] == name]
        if len(same) == 1:
            return same[0]
        if same:
            raise UnknownModel("models.ambiguous", name=name, near=", ".join(model.name for model in same))
        raise self._missing(name, [model.name for model in everywhere])

    def search(
        self,
        text: str = "",
        *,
        vendor: str | None = None,
        ability: str | Iterable[str] = (),
        max_price: float | None = None,
        country: str | None = None,
        inside: bool | None = None,
        open_weights: bool | None = None,
    ) -> list[Model]:
        """Listed models that fit every condition, by name.

        Args:
            text: words, each of which occurs in the model's name or its vendor's names.
            vendor: name of a vendor.
            ability: one ability or several, all of which are needed.
            max_price: most that a million generated tokens may cost, in `money.currency`. An unknown price, or one
                in a currency without a rate, does not fit.
            country: ISO 3166 code of the vendor's seat.
            inside: whether data stays within the company's walls.
            open_weights: whether the weights can be had; a model of which it is not known fits neither.

        Raises:
            UnknownModel: there is no such vendor.
        """
        words = text.casefold().split()
        needed = {ability} if isinstance(ability, str) else set(ability)
        found: list[Model] = []
        for house in self.vendors() if vendor is None else [self.vendor(vendor)]:
            if country is not None and house.country.casefold() != country.casefold():
                continue
            if inside is not None and house.inside != inside:
                continue
            names = f"{house.title} {house.title_zh}".casefold()
            for model in self._of(house.name).values():
                haystack = f"{model.name.casefold()} {names}"
                if not all(word in haystack for word in words) or not needed <= set(model.abilities):
                    continue
                if open_weights is not None and model.open_weights is not open_weights:
                    continue
                if max_price is None or self._affordable(model, Decimal(str(max_price))):
                    found.append(model)
        return found

    def configured(self, model: Model) -> Model:
        """A model that is in no list, with what baimo.toml says about it."""
        custom = self._settings.models.get(model.name)
        return model if custom is None else _changed(model, model.name, custom)

    def _affordable(self, model: Model, limit: Decimal) -> bool:
        price = model.price
        if price is None or price.output_per_million is None:
            return False
        money = self._settings.money
        if price.currency == money.currency or price.output_per_million == 0:
            return price.output_per_million <= limit
        rate = money.rates.get(price.currency)
        return rate is not None and price.output_per_million * Decimal(str(rate)) <= limit

    def _of(self, vendor: str) -> Mapping[str, Model]:
        """Models of one vendor by full name, sorted."""
        listed = dict(_listed(vendor)) if vendor in _files() else {}
        for rest in _served(self._settings.providers.get(vendor)):
            listed.setdefault(
                f"{vendor}/{rest}", Model(name=f"{vendor}/{rest}", vendor=vendor, upstream=rest)
            )
        for name, custom in self._settings.models.items():
            if name.partition("/")[0] == vendor:
                listed[name] = _changed(listed.get(name), name, custom)
        if self.vendor(vendor).protocol == "anthropic":
            listed = {name: _with_cache_writes(model) for name, model in listed.items()}
        return dict(sorted(listed.items()))

    def _missing(self, name: str, known: Iterable[str]) -> UnknownModel:
        route = self._settings.routes.get(name)
        if route is not None:
            return UnknownModel("models.route", name=name, near=", ".join(route.models))
        near = _near(name, known)
        return UnknownModel("models.unknown_near" if near else "models.unknown", name=name, near=near)

    def _existing(self, vendor: str, *, asked: str) -> None:
        if vendor not in self._names:
            near = _near(vendor, self._names) or ", ".join(self._names)
            raise UnknownModel("models.unknown_vendor", name=asked, vendor=vendor, near=near)


def _customised(name: str, known: Vendor | None, custom: ProviderSettings) -> Vendor:
    base = known or Vendor(name=name, title=name, title_zh=name, protocol="openai", quirks=(ANY_MODEL,))
    kind, _, variable = custom.key.partition(":")
    return replace(
        base,
        protocol=custom.protocol or base.protocol,
        base_url=custom.base_url.rstrip("/") or base.base_url,
        key_variable=variable if kind == "env" else base.key_variable,
        inside=base.inside if custom.inside is None else custom.inside,
        quirks=tuple(_quirks(base, custom)),
    )


def _quirks(base: Vendor, custom: ProviderSettings) -> dict[str, None]:
    found = dict.fromkeys((*base.quirks, *custom.quirks))
    if custom.models == "any":
        found[ANY_MODEL] = None
    elif custom.models == "listed":
        found.pop(ANY_MODEL, None)
    return found


def _served(custom: ProviderSettings | None) -> list[str]:
    """Names that a server is started with."""
    names: object = (
        custom.options.get("served_names") if custom is not None and custom.protocol == "vllm" else None
    )
    return (
        [one for one in cast("list[object]", names) if isinstance(one, str)]
        if isinstance(names, list)
        else []
    )


def _changed(listed: Model | None, name: str, custom: ModelSettings) -> Model:
    vendor, _, rest = name.partition("/")
    base = listed or Model(name=name, vendor=vendor, upstream=rest)
    names = (
        "input_per_million",
        "output_per_million",
        "cached_per_million",
        "cache_write_per_million",
        "cache_write_1h_per_million",
        "per_call",
    )
    figures: dict[str, Any] = {
        name: Decimal(str(figure)) for name in names if (figure := getattr(custom, name)) is not None
    }
    price = base.price
    if figures:
        if price is None or price.currency != custom.currency or figures.keys() >= {*names[:2]}:
            price = Price(currency=custom.currency)
        price = replace(price, **figures, source="baimo.toml")
    spared = Decimal(str(custom.batch_discount))
    return replace(
        base,
        batch_price=price.scaled(1 - spared) if price is not None and spared else base.batch_price,
        upstream=custom.upstream or base.upstream,
        price=price,
        context_window=custom.context_window or base.context_window,
        max_output=custom.max_output or base.max_output,
        shutdown=custom.shutdown or base.shutdown,
        weights=custom.weights or base.weights,
    )


def _with_cache_writes(model: Model) -> Model:
    """A model of Anthropic's format, with what its price does not say of cache writes: 1.25 times the input's price for
    five minutes, twice for an hour. Source: platform.claude.com/docs/en/about-claude/pricing (November 2026)."""

    def full(price: Price | None) -> Price | None:
        if price is None or price.input_per_million is None:
            return price
        short, long = price.cache_write_per_million, price.cache_write_1h_per_million
        return replace(
            price,
            cache_write_per_million=price.input_per_million * _SHORT_WRITE if short is None else short,
            cache_write_1h_per_million=price.input_per_million * _LONG_WRITE if long is None else long,
        )

    return replace(model, price=full(model.price), batch_price=full(model.batch_price))


def _near(name: str, known: Iterable[str]) -> str:
    """The three known names most like `name`, best first, joined by commas; empty when nothing is alike."""
    from rapidfuzz import fuzz, process, utils

    best = process.extract(
        name, list(known), scorer=fuzz.WRatio, processor=utils.default_process, limit=3, score_cutoff=70
    )
    return ", ".join(choice for choice, _, _ in best)


@functools.cache
def _files() -> Mapping[str, Traversable]:
    folder = resources.files("baimo.models") / "data" / "vendors"
    return {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}


@functools.cache
def _file(vendor: str) -> VendorFile:
    data = tomllib.loads(_files()[vendor].read_text(encoding="utf-8"))
    return converted(data, VendorFile)


@functools.cache
def _listed(vendor: str) -> Mapping[str, Model]:
    file = _file(vendor)
    return {model.name: model for model in _models(file)}


def _models(file: VendorFile) -> Iterator[Model]:
    for name, entry in file.models.items():
        yield entry.model(file.vendor.name, name, file.prices)
