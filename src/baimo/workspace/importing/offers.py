"""Deployments of another gateway as providers and models of ours.

Prevents two failures: two deployments of one model that silently become one (each keeps its address, key and limits),
and a model that loses its price because its provider got a new name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from baimo.core.model import Model, Vendor
from baimo.models.catalogue import ANY_MODEL, Catalogue
from baimo.settings import Settings
from baimo.workspace.importing.carried import Draft, Interpolated, Path

DUMMIES = frozenset(
    {"", "none", "null", "dummy", "empty", "fake", "anything", "no-key", "not-needed", "na", "ollama"}
)
"""What people write where a server wants no key."""
Sourced = tuple[Any, tuple[Path, ...]]
"""A value, and the places of the source that it reflects."""


@dataclass(slots=True, kw_only=True)
class Offer:
    """One deployment: where it is and what is said of it."""

    path: Path
    """Of the deployment in the source."""
    vendor: str
    """Of the catalogue; empty = a server of which only the address is known."""
    hint: str
    """What the provider may be called where the catalogue has none."""
    upstream: str
    """Name that the server expects."""
    named: tuple[Path, ...]
    """Where the source says so."""
    provider: dict[str, Sourced] = field(default_factory=dict[str, Sourced])
    """Settings of the provider."""
    model: dict[str, Sourced] = field(default_factory=dict[str, Sourced])
    """Settings of the model."""

    @property
    def house(self) -> str:
        """Equal for deployments that share address, key and time-outs."""
        facts = sorted((name, str(value)) for name, (value, _) in self.provider.items())
        return repr((self.vendor, "" if self.vendor else self.hint, facts))

    @property
    def facts(self) -> str:
        """Equal for deployments of one house that are one model."""
        return repr((self.upstream, sorted((name, str(value)) for name, (value, _) in self.model.items())))


class Offers:
    """Gives every deployment its provider and its model, and writes both into the settings."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._catalogue = Catalogue.load(Settings())
        self._vendors = {vendor.name: vendor for vendor in self._catalogue.vendors()}
        self._variables: dict[tuple[str, str], str] = {}

    def vendor(self, name: str) -> Vendor | None:
        """The vendor of the catalogue, if there is one."""
        return self._vendors.get(name)

    def lists(self, vendor: str, model: str) -> Model | None:
        """The model of the catalogue, if it is listed there."""
        listed = {one.name: one for one in self._catalogue.models(vendor)} if vendor in self._vendors else {}
        return listed.get(f"{vendor}/{model}")

    def variable(self, offer: Offer, value: str) -> str:
        """A variable for a key that stood in the source itself; the same for the same key."""
        vendor = self._vendors.get(offer.vendor)
        base = (vendor.key_variable if vendor else None) or variable(f"{slug(offer.hint)}_API_KEY")
        place = (base, value)
        if place not in self._variables:
            same = sum(1 for name, _ in self._variables if name == base)
            self._variables[place] = base if not same else f"{base}_{same + 1}"
        return self._variables[place]

    def placed(
        self, offers: Sequence[Offer], reserved: set[str], clashes: Callable[[Sequence[str]], set[str]]
    ) -> list[str]:
        """Write providers and models; gives the model's name for each offer, equal for equal deployments.

        Args:
            offers: in the order of the source.
            reserved: names that routes have: a model of that name would be taken for the route.
            clashes: of names for the offers, those that routes need for themselves.
        """
        houses = self._houses(offers)
        while not clashes(names := _names(offers, houses, reserved)) <= reserved:
            reserved |= clashes(names)
        for name, offer in zip(names, offers, strict=True):
            self._write(name, offer)
        return names

    def note_tiers(self, path: Path, listed: Model) -> None:
        """Say that a model under another name loses the dearer rates of long prompts, if it has any."""
        if listed.price is not None and listed.price.tiers:
            tokens = listed.price.tiers[0].above_tokens
            self._draft.note(path, "no_tiers", "changed", tokens=tokens)

    def _houses(self, offers: Sequence[Offer]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for offer in offers:
            if offer.house not in found:
                found[offer.house] = self._house(offer, set(found.values()))
            for name, (value, paths) in offer.provider.items():
                self._draft.put(("providers", found[offer.house], name), value, *paths)
        return found

    def _house(self, offer: Offer, taken: set[str]) -> str:
        if offer.vendor and offer.vendor not in taken:
            return offer.vendor
        base, number = offer.vendor or slug(offer.hint), 1
        name = base
        while name in taken or name in self._vendors:
            number += 1
            name = f"{base}-{number}"
        vendor = self._vendors.get(offer.vendor)
        if vendor is not None:  # a second account or address of the same vendor: as the catalogue has it
            table = {
                "protocol": vendor.protocol,
                "base_url": vendor.base_url,
                "quirks": [one for one in vendor.quirks if one != ANY_MODEL],
                "inside": vendor.inside,
            }
            for key, value in table.items():
                if value and key not in offer.provider:
                    self._draft.put(("providers", name, key), value)
        return name

    def _write(self, name: str, offer: Offer) -> None:
        said = dict(offer.model)
        listed = self.lists(offer.vendor, offer.upstream) if offer.vendor else None
        if listed is not None and name != listed.name:
            priced = "input_per_million" in said or "output_per_million" in said
            if not priced:
                self.note_tiers(offer.named[0], listed)
            said = {**facts_of(listed, priced=priced), **said}
        self._draft.put(("models", name, "upstream"), offer.upstream, *offer.named)
        for key, (value, paths) in said.items():
            self._draft.put(("models", name, key), value, *paths)


def _names(offers: Sequence[Offer], houses: Mapping[str, str], reserved: Iterable[str]) -> list[str]:
    taken: dict[str, str] = dict.fromkeys(reserved, "")
    names: list[str] = []
    for offer in offers:
        name, number = f"{houses[offer.house]}/{offer.upstream}", 1
        while taken.setdefault(name, offer.facts) != offer.facts:
            number += 1
            name = f"{houses[offer.house]}/{offer.upstream}-{number}"
        names.append(name)
    return names


def slug(words: str) -> str:
    """A name for a provider: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:40] or "custom"


def variable(words: str) -> str:
    """Words as the name of a variable that a shell takes: it cannot begin with a digit."""
    name = words.replace("-", "_").upper()
    return f"KEY_{name}" if name[:1].isdigit() else name


def host(address: str) -> str:
    """The host of an address, or the variable that holds it."""
    if found := re.search(r"\$\{(\w+)\}", address):
        return found[1]
    try:
        return urlsplit(address).hostname or "custom"
    except ValueError:
        return "custom"


def address(words: str) -> str:
    """An http address that can be written down, or the variable that holds it; else empty."""
    if found := re.fullmatch(r"(?:os\.environ/|env::)(\w+)", words, re.ASCII):
        return Interpolated("${" + found[1] + "}")
    try:
        parts = urlsplit(words)
        fits = (
            parts.scheme in {"http", "https"} and parts.hostname and not parts.username and not parts.password
        )
        fits = fits and (parts.port is None or parts.port > 0)
    except ValueError:
        return ""
    return words.rstrip("/") if fits and not parts.query and not re.search(r"[{}\s]", words) else ""


def per_million(per_token: float) -> float:
    """A price per token as a price per million, without the dust of binary fractions."""
    return float(Decimal(repr(per_token)) * 1_000_000)


_PRICES = (
    *("currency", "input_per_million", "output_per_million", "cached_per_million"),
    *("cache_write_per_million", "cache_write_1h_per_million", "per_call"),
)


def facts_of(listed: Model, *, priced: bool = False) -> dict[str, Sourced]:
    """What the catalogue knows of a model, for the same model under another name; without prices if it is `priced`."""
    facts: dict[str, Any] = {"context_window": listed.context_window, "max_output": listed.max_output}
    if listed.price is not None and not priced:
        facts |= {name: getattr(listed.price, name) for name in _PRICES}
    return {
        name: (float(value) if isinstance(value, Decimal) else value, ())
        for name, value in facts.items()
        if value is not None
    }
