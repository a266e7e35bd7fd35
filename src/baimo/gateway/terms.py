"""What holds for all calls of one key through one route to one model: limits, prices, labels. Reckoned once, kept.

Prevents the failure where each call pays for the same look-ups, and the one where a changed limit is noticed by some
calls only: terms belong to one Key and one Tenant as they were read, and end with them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from baimo.core.call import USUAL_OUTPUT
from baimo.core.model import Model, Vendor
from baimo.core.money import Price, Rates
from baimo.core.tenant import Key, Limit, Tenant
from baimo.errors import BaimoError, Forbidden
from baimo.gateway.answers import lines
from baimo.gateway.bound import WITHOUT_LIMIT, Bound, Bounds
from baimo.gateway.limits import Plan, limit_of, plan
from baimo.gateway.policy import masks
from baimo.gateway.routing import Names, Route, way_to
from baimo.gateway.surface import SEARCHES, Peek, Surface, speaks
from baimo.settings import Settings
from baimo.store.entry import Entry
from baimo.text import text

_REMEMBERED = 8192
_STANDARD = frozenset({"", "default", "auto", "standard", "standard_only", "on_demand"})
"""Service tiers that the catalogue's prices are for; priority, flex … cost more or less, and nobody knows what."""
_TOLD = frozenset({"chat", "completions"})
"""Surfaces whose neutral requests keep what has no neutral word (`Request.extra`)."""


_log = logging.getLogger("baimo.gateway")


def passed_over(model: Model, error: BaimoError) -> None:
    """Say once in a while that a model of a route is no way out for some keys."""
    said = text("gateway.passed_over", model=model.name, problem=str(error))
    _log.warning(said, extra={"repeats": f"passed over:{model.name}:{error.key}"})


class Terms:
    """Of one key, route and model."""

    __slots__ = (
        *(
            "_bounded",
            "_endless",
            "_entry",
            "_per_call",
            "_passes",
            "_wants_most",
            "billed",
            "bounds",
            "currency",
            "flat",
            "key",
            "masked",
            "model",
            "named",
            "plan",
            "price",
            "rate",
        ),
        *("tenant", "unpriced_ok", "vendor"),
    )

    def __init__(
        self, settings: Settings, key: Key, tenant: Tenant, model: Model, vendor: Vendor, plan: Plan
    ) -> None:
        money = settings.money
        price = model.price
        self.key = key
        self.tenant = tenant
        self.model = model
        self.vendor = vendor
        self.plan = plan
        self.price: Price | None = price
        self.currency = money.currency if price is None else price.currency
        self.rate: float | None = 1.0 if self.currency == money.currency else money.rates.get(self.currency)
        self.flat: Rates | None = None if price is None or price.tiers else price.rates(0)
        """The rates, where they do not depend on the prompt's length."""
        own, provider = settings.models.get(model.name), settings.providers.get(vendor.name)
        options = {} if provider is None else provider.options
        self._wants_most = vendor.protocol == "anthropic" and bool(model.max_output)
        self.bounds = Bounds(
            model,
            rate=self.rate,
            assumed_output=settings.ledger.assumed_output,
            own_output=None if own is None else own.max_output,
            usual_output=int(options.get("max_tokens", USUAL_OUTPUT)) if self._wants_most else None,
        )
        self.masked = not vendor.inside and masks(settings.policy, tenant)
        """Personal data is replaced before it goes to this model."""
        self.named = lines([(b"x-baimo-model", model.name.encode("utf-8"))])
        self.billed = lines([(b"x-baimo-currency", self.currency.encode("latin-1"))]).decode("latin-1")
        """Headers that are the same for every answer."""
        self._entry = Entry(
            id="",
            surface="",
            model=model.name,
            tenant=tenant.id,
            key=key.public,
            currency=self.currency,
            tags=json.dumps(dict(key.tags), ensure_ascii=False, separators=(",", ":")),
        )
        self._per_call = price is not None and bool(price.per_call)
        self._passes: dict[str, bool] = {}
        self.unpriced_ok = settings.ledger.unpriced == "allow"
        self._bounded = plan.has_tokens or (plan.has_cost and not self.bounds.free)
        self._endless = self._bounded and self.bounds.endless and not self.unpriced_ok

    def entry(self) -> Entry:
        """A Record in the making, with what these calls have in common: a copy, which is quicker than naming it all."""
        return self._entry.__copy__()  # pyright: ignore[reportAttributeAccessIssue,reportUnknownVariableType]

    def passes(self, surface: Surface) -> bool:
        """Whether the model's server is sent the client's bytes."""
        known = self._passes.get(surface.name)
        if known is None:
            known = self._passes[surface.name] = speaks(self.vendor, surface)
        return known

    def tier(self, peek: Peek, surface: Surface) -> str:
        """Service tier that the model's server is asked for; empty = none. Of neutral requests only those of chat and
        text completions say it, and only in OpenAI's own format."""
        if not peek.tier or (not self.masked and self.passes(surface)):
            return peek.tier
        said = surface.name in _TOLD and self.vendor.protocol == surface.protocol
        return peek.tier if said else ""

    def unpriced(self, peek: Peek, surface: Surface) -> str:
        """Member that asks the model's server for what no price here is for; empty = none. Within our own walls nobody
        bills it; what a neutral request does not say is not asked for."""
        path, vendor = peek.unpriced, self.vendor
        if not path or vendor.inside or (path in SEARCHES and self._per_call):
            return ""
        if not self.masked and self.passes(surface):
            return path
        # chat's members without a neutral word go to Anthropic, but for this one
        told = vendor.protocol == surface.protocol or (
            vendor.protocol == "anthropic" and path != "web_search_options"
        )
        return path if told and surface.name in _TOLD else ""

    def bound(self, peek: Peek, surface: Surface) -> Bound:
        """The most that a call may take.

        Raises:
            Forbidden: there is a limit on money or tokens, but nobody knows what the call may take of it.
        """
        bound = self.bounds.bound(peek, surface.name)
        tier = self.tier(peek, surface) if peek.tier else ""
        asked = self.unpriced(peek, surface) if peek.unpriced else ""
        if asked or tier not in _STANDARD:
            bound = Bound(bound.tokens, None)
        if bound.micros is None and self.plan.has_cost and not self.unpriced_ok:
            if tier not in _STANDARD:
                raise Forbidden("gateway.unpriced_tier", key=self.key.public, field="service_tier", tier=tier)
            if asked:
                raise Forbidden("gateway.unpriced_member", key=self.key.public, field=asked)
            if self.price is not None and self.rate is None:
                raise Forbidden(
                    "gateway.no_rate", model=self.model.name, key=self.key.public, currency=self.currency
                )
            raise Forbidden("gateway.unpriced", model=self.model.name, key=self.key.public)
        if self._endless and surface.name in WITHOUT_LIMIT:
            raise Forbidden("gateway.endless", model=self.model.name, key=self.key.public)
        return bound

    def max_tokens(self, peek: Peek, surface: str) -> int | None:
        """What must be put into the request so that the bound holds, or because its format wants a number that the
        model takes; None = nothing."""
        if self._bounded or self._wants_most:
            return self.bounds.assumes(peek, surface)
        return None

    def reckon(
        self,
        entry: Entry,
        calls: int = 1,
        *,
        tier: str = "",
        unpriced: bool = False,
        tokens_cache_write_1h: int = 0,
    ) -> int | None:
        """Put prices and cost into the Record from its tokens; returns the cost in micro-units of money.currency.

        Args:
            entry: with its tokens.
            calls: how many calls the tokens are the sum of, or how many pictures; 0 = none was answered.
            tier: service tier that the vendor bills by.
            unpriced: something is billed that no price here is for.
            tokens_cache_write_1h: those of the cache-write tokens that are kept for an hour.
        """
        entry.currency = self.currency
        if unpriced or tier not in _STANDARD:
            return None
        tokens_in, tokens_out, rates = entry.tokens_in, entry.tokens_out, self.flat
        if tokens_in is None or tokens_out is None:
            if rates is None or not rates.calls_only:
                return None
            tokens_in = tokens_out = 0  # whatever they are; the Record goes on saying that nobody knows
        if rates is None:
            rates = None if self.price is None else self.price.rates(tokens_in // max(1, calls))
            if rates is None:
                return None
        if tokens_cache_write_1h:
            rates = rates.keeping(entry.tokens_cache_write or 0, tokens_cache_write_1h)
            if rates is None:
                return None
        if calls != 1:
            rates = replace(rates, call=rates.call * calls)
        entry.price_in, entry.price_out, entry.price_call = rates.input, rates.output, rates.call
        entry.price_cached, entry.price_cache_write = rates.cached, rates.cache_write
        micros, rest = rates.cost(
            tokens_in, tokens_out, entry.tokens_cached or 0, entry.tokens_cache_write or 0
        )
        entry.cost_micros, entry.cost_rest = micros, rest
        # a limit is charged whole micro-units; the rest must not add up to a gift
        whole = micros + 1 if rest > 0 else micros
        if self.rate == 1.0:
            return whole
        return None if self.rate is None else ceil(whole * self.rate)


class TermsBook:
    """All terms that are in use."""

    def __init__(self, settings: Settings, names: Names, routes: Mapping[str, Route]) -> None:
        self._settings = settings
        self._names = names
        self._ways = routes
        self._held: dict[tuple[str, str, str, bool], Terms] = {}
        self._models = {
            name: tuple(limit_of(limit) for limit in model.limits) for name, model in settings.models.items()
        }
        self._routes = {
            name: tuple(limit_of(limit) for limit in route.limits) for name, route in settings.routes.items()
        }

    def of(self, key: Key, tenant: Tenant, model: Model, route: str, *, batch: bool = False) -> Terms:
        """The terms of these calls, or of such calls as lines of a batch."""
        place = (key.public, model.name, route, batch)
        terms = self._held.get(place)
        if terms is None or terms.key is not key or terms.tenant is not tenant:
            if len(self._held) >= _REMEMBERED:
                self._held.clear()
            none: Sequence[Limit] = ()
            limits = plan(
                key,
                tenant,
                model=(model.name, self._models.get(model.name, none)),
                routes=[(name, self._routes.get(name, none)) for name in self._on_the_way(route, model)],
            )
            vendor = self._names.vendor(model.vendor)
            if batch and model.batch_price is not None:
                model = replace(model, price=model.batch_price)
            terms = self._held[place] = Terms(self._settings, key, tenant, model, vendor, limits)
        return terms

    def _on_the_way(self, route: str, model: Model) -> tuple[str, ...]:
        """The route that was asked for and those in it through which the model is reached."""
        node = self._ways.get(route)
        # an alias that was released leads past what baimo.toml says of it
        return (node and way_to(model.name, node)) or ((route,) if route else ())
