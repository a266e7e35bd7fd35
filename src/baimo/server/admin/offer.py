"""What there is to call: models, routes with what was released to them, and the providers behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from baimo.config import Origin
from baimo.core import rights
from baimo.core.model import Model, Vendor
from baimo.errors import BaimoError, NotFound
from baimo.gateway.keyring import permits_name
from baimo.gateway.limits import limit_of
from baimo.gateway.routing import TUNED, models_of
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.paging import Paged, cut
from baimo.server.surfaces.models import model_row
from baimo.settings import RouteSettings, dotted
from baimo.text import language


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsAsked(Paged):
    """Which models of the catalogue."""

    text: str = ""
    """Words, each of which occurs in the model's name or its vendor's."""
    vendor: str | None = None
    """Name before the slash."""
    ability: tuple[str, ...] = ()
    """All of these: tools, vision, json_schema, embeddings …"""
    max_price: float | None = None
    """Most that a million generated tokens may cost, in money.currency."""
    country: str | None = None
    """ISO 3166 code of the vendor's seat."""
    inside: bool | None = None
    """Whether data stays within the company's walls."""
    open_weights: bool | None = None
    """Whether the weights can be had."""
    usable: bool | None = None
    """Whether its vendor can be called from here: address and key are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceShown:
    """A price. Amounts are decimal text in units of `currency`; null = not known or as input."""

    currency: str
    input_per_million: str | None
    output_per_million: str | None
    cached_per_million: str | None
    cache_write_per_million: str | None
    cache_write_1h_per_million: str | None
    per_call: str | None
    tiers: list[dict[str, Any]]
    """Rates of longer prompts."""
    as_of: str | None
    """Date on which it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShown:
    """A model. What is not known is null."""

    name: str
    """vendor/model."""
    vendor: str
    title: str
    """Of the vendor, in the reader's language."""
    country: str | None
    inside: bool
    """Data sent to it does not leave."""
    usable: bool
    """Its vendor can be called from here."""
    abilities: list[str]
    context_window: int | None
    max_output_tokens: int | None
    price: PriceShown | None
    open_weights: bool | None
    license: str | None
    released: str | None
    shutdown_date: str | None
    """When its vendor switches it off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsPage:
    """Some models, by name."""

    data: list[ModelShown]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNamed:
    """One model."""

    model: str
    """vendor/model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteShown:
    """A name that clients may ask for, as configured and released. One model without more makes an alias."""

    name: str
    alias: bool
    models: list[str]
    """Models and other routes, best first."""
    leads_to: list[str]
    """The models behind all of them."""
    released: str | None
    """Model that answers instead, because it was released to this name by the tenant that asks."""
    strategy: str
    weights: list[float]
    share: float
    fallback_on: list[str]
    hedge_after_ms: float | None
    sticky: bool
    limits: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesPage:
    """Some routes."""

    data: list[RouteShown]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerShown:
    """A model's server, as this process sees it."""

    model: str
    state: str
    """closed (calls pass), open (left alone) or half_open (one call tries it)."""
    rest_s: float
    """Seconds until the next call may try it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderShown:
    """A way to reach models; no secrets."""

    name: str
    title: str
    protocol: str
    address: str | None
    """Without user names, passwords and query."""
    inside: bool
    country: str | None
    configured: bool
    """baimo.toml has a section for it."""
    usable: bool
    """It can be called from here: address and key are known."""
    key: str | None
    """Where its key is looked for; null = it needs none."""
    breakers: list[BreakerShown]
    """Models that were called by this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidersAsked(Paged):
    """Which providers."""

    configured: bool | None = None
    """Whether baimo.toml has a section for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidersPage:
    """Some providers, by name."""

    data: list[ProviderShown]
    next: str | None
    """Cursor of the next page."""


def _models(asking: Asking, asked: ModelsAsked) -> ModelsPage:
    wanted = {name: getattr(asked, name) for name in ("vendor", "ability", "max_price", "country", "inside")}
    found = asking.service.catalogue.search(asked.text, open_weights=asked.open_weights, **wanted)
    found = [model for model in found if permits_name(asking.key, model.name)]
    if asked.usable is not None:
        usable = {name: asking.service.usable(name) for name in {model.vendor for model in found}}
        found = [model for model in found if usable[model.vendor] is asked.usable]
    page, after = cut(found, asked, lambda model: model.name)
    return ModelsPage(data=[_shown(asking, model) for model in page], next=after)


def _model(asking: Asking, asked: ModelNamed) -> ModelShown:
    model = _known(asking, asked.model)
    if model is None or not permits_name(asking.key, model.name):
        raise NotFound("admin.no_model", field="/model")
    return _shown(asking, model)


def _known(asking: Asking, name: str) -> Model | None:
    """A model by its name, or one that the tenant that asks has tuned; None = there is none that is served."""
    mine = asking.service.adapted.models(asking.tenant.id).get(name)
    if mine is None and not name.startswith(TUNED):
        with suppress(BaimoError):
            return asking.service.catalogue.model(name)
    return mine


def _shown(asking: Asking, model: Model) -> ModelShown:
    vendor, row = asking.service.catalogue.vendor(model.vendor), model_row(model)
    price = row["price"]
    return ModelShown(
        name=model.name,
        vendor=model.vendor,
        title=_title(vendor),
        country=vendor.country or None,
        inside=vendor.inside,
        usable=asking.service.usable(vendor.name),
        price=None if price is None else PriceShown(**price),
        license=model.license or None,
        released=model.released or None,
        **{
            name: row[name]
            for name in ("abilities", "context_window", "max_output_tokens", "open_weights", "shutdown_date")
        },
    )


def _routes(asking: Asking, asked: Paged) -> RoutesPage:
    found = list(_configured(asking))
    page, after = cut(found, asked, lambda route: route.name)
    return RoutesPage(data=list(page), next=after)


def _configured(asking: Asking) -> Iterator[RouteShown]:
    built, routes = asking.service.parts.router.routes, asking.service.settings.routes
    released = asking.service.adapted.released(asking.tenant.id)
    for name in sorted({*routes, *released}):
        if not permits_name(asking.key, name):
            continue
        now = released.get(name)
        route = routes.get(name) or RouteSettings(models=[str(now)])
        facts = msgspec.structs.asdict(route)
        facts["limits"] = [rights.shown(limit_of(limit)) for limit in route.limits]
        facts["fallback_on"] = list(route.fallback_on)
        behind = (
            [now] * bool(_known(asking, now)) if now else [model.name for model in models_of(built[name])]
        )
        leads_to, alias = list(dict.fromkeys(behind)), bool(now) or len(route.models) == 1
        yield RouteShown(name=name, alias=alias, leads_to=leads_to, released=now, **facts)


def _providers(asking: Asking, asked: ProvidersAsked) -> ProvidersPage:
    configured = asking.service.settings.providers
    found = [
        vendor
        for vendor in asking.service.catalogue.vendors()
        if asked.configured in (None, vendor.name in configured)
    ]
    page, after = cut(found, asked, lambda vendor: vendor.name)
    try:
        origins = asking.service.origins()
    except BaimoError:
        origins = None
    return ProvidersPage(data=[_provider(asking, vendor, origins) for vendor in page], next=after)


def _provider(asking: Asking, vendor: Vendor, origins: Mapping[str, Origin] | None) -> ProviderShown:
    service = asking.service
    given = service.settings.providers.get(vendor.name)
    key = given.key if given is not None else ""
    if not key and vendor.key_variable:
        key = f"env:{vendor.key_variable}"
    breakers = [
        BreakerShown(model=name, state=breaker.state, rest_s=round(breaker.rest, 3))
        for name, breaker in sorted(dict(service.parts.breakers).items())
        if name.partition("/")[0] == vendor.name
    ]
    return ProviderShown(
        name=vendor.name,
        title=_title(vendor),
        protocol=vendor.protocol,
        address=_address(vendor, origins) if given is None or origins is not None else None,
        inside=vendor.inside,
        country=vendor.country or None,
        configured=given is not None,
        usable=service.usable(vendor.name),
        key=key or None,
        breakers=breakers,
    )


def _title(vendor: Vendor) -> str:
    return (vendor.title_zh if language() == "zh" else "") or vendor.title


def _address(vendor: Vendor, origins: Mapping[str, Origin] | None) -> str | None:
    """As it is written, where variables are named in it; keys stand in user names, passwords and queries, too."""
    origin = (origins or {}).get(dotted(("providers", vendor.name, "base_url")))
    url = vendor.base_url if origin is None else origin.written or vendor.base_url
    if not url:
        return None
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


OFFER = (
    Operation(
        method="GET", path="/api/models", role="viewer", takes=ModelsAsked, gives=ModelsPage, does=_models,
        tag="models", summary="admin.models_list", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/models/{model:path}", role="viewer", takes=ModelNamed, gives=ModelShown,
        does=_model, tag="models", summary="admin.models_get", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/routes", role="viewer", takes=Paged, gives=RoutesPage, does=_routes,
        tag="models", summary="admin.routes_list",
    ),
    Operation(
        method="GET", path="/api/providers", role="engineer", owners=True, takes=ProvidersAsked,
        gives=ProvidersPage, does=_providers, tag="models", summary="admin.providers_list",
    ),
)  # fmt: skip
