"""A Gateway put together from settings and from what reaches the outside: books, connections, providers."""

from __future__ import annotations

import asyncio
import importlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from baimo.core.call import Provider
from baimo.core.moments import day
from baimo.errors import BaimoError, ConfigError
from baimo.gateway.allowance import allowances
from baimo.gateway.attempts import Attempts, Ways
from baimo.gateway.breaker import Breaker
from baimo.gateway.cache import Cache, Shelf
from baimo.gateway.estimate import CountTokens
from baimo.gateway.gateway import Parts
from baimo.gateway.masking import Masker
from baimo.gateway.observe import Observer, Silent
from baimo.gateway.paced import PacedAttempts
from baimo.gateway.passing import Passing, Pool
from baimo.gateway.routing import Names, Released, Router, Tuned, models_of
from baimo.gateway.semantic import Semantic
from baimo.gateway.settling import Books, Settler
from baimo.gateway.strategies import Latencies, Signals
from baimo.gateway.surface import Surface
from baimo.gateway.terms import TermsBook
from baimo.gateway.translated import Translated
from baimo.gateway.upstream import Upstream, checked_provider
from baimo.providers.wire.origin import proxy_at
from baimo.settings import ProviderSettings, Settings
from baimo.text import text

_log = logging.getLogger("baimo.gateway")


class Outside(NamedTuple):
    """What a gateway stands on."""

    names: Names
    """The catalogue."""
    books: Books
    pool: Pool
    """Connections of this event loop."""
    provider: Callable[[str], Provider]
    """By vendor's name; for everything that is not passed through."""
    secret: bytes
    """Key of the hashes of requests and conversations, at most 64 bytes; the same in all processes of a workspace."""
    masker: Callable[[], Masker] | None = None
    """Makes one for each call whose personal data must be replaced."""
    shelf: Shelf | None = None
    """Where cached answers are kept; None = in memory only."""
    embeddings: Surface | None = None
    """OpenAI's embeddings, for the semantic cache; None = there is no such cache."""
    count_tokens: CountTokens | None = None
    """A model's own tokenizer, where there is one."""
    tuned: Tuned = lambda tenant: {}
    """What a tenant has tuned."""
    released: Released = lambda tenant: {}
    """Aliases that a tenant has released."""
    observer: Observer = Silent()
    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: random.Random = random.Random()


def checked(settings: Settings, names: Names) -> None:
    """Refuse settings that no gateway can be made of.

    Raises:
        ConfigError, UnknownModel: a provider, the proxy, a route, the default model or the semantic cache cannot be
            used.
    """
    for name, given in settings.providers.items():
        checked_provider(names.vendor(name), given)
    if settings.serve.proxy:
        proxy_at(settings.serve.proxy)
    money = settings.money
    Router(settings, names, Signals(Latencies(time.monotonic), money.rates, money.currency))
    if settings.policy.semantic_cache and not settings.policy.semantic_model:
        raise ConfigError("gateway.no_semantic_model")


def assembled(settings: Settings, outside: Outside) -> Parts:
    """The parts of a Gateway.

    Raises:
        ConfigError, UnknownModel: as `checked` does.
    """
    names, now, serve = outside.names, outside.now, settings.serve
    checked(settings, names)
    breakers: dict[str, Breaker] = {}
    upstreams: dict[str, Upstream] = {}

    def breaker(model: str) -> Breaker:
        found = breakers.get(model)
        if found is None:
            if len(breakers) > 8192:  # names of vendors that serve any model come from clients
                breakers.clear()
            found = breakers[model] = Breaker(
                model,
                failures=serve.breaker_failures,
                rest_s=serve.breaker_rest_s,
                now=now,
                told=outside.observer.breaker,
            )
        return found

    def upstream(vendor: str) -> Upstream:
        if vendor not in upstreams:
            facts = names.vendor(vendor)
            given = settings.providers.get(vendor, ProviderSettings())
            upstreams[vendor] = Upstream(facts, given, serve, now=now)
        return upstreams[vendor]

    def usable(vendor: str) -> bool:
        try:
            return names.vendor(vendor).protocol not in ("openai", "anthropic") or upstream(vendor).usable()
        except BaimoError:
            return False

    latencies = Latencies(now)

    def ready(model: str) -> bool:
        return breaker(model).ready()

    signals = Signals(latencies, settings.money.rates, settings.money.currency, ready)
    router = Router(
        settings,
        names,
        signals,
        usable=usable,
        tuned=outside.tuned,
        released=outside.released,
        chance=outside.chance,
    )
    _warn_of_ended(router, day(int(outside.wall() * 1000)))
    terms, allowed = TermsBook(settings, names, router.routes), allowances(settings, now)
    ways = Ways(
        settings,
        terms,
        Passing(
            outside.pool, now=now, wall=outside.wall, limit_bytes=int(serve.max_answer_mib * 1024 * 1024)
        ),
        Translated(outside.provider, now=now, wall=outside.wall, masker=outside.masker),
        upstream,
        breaker,
        latencies,
        outside.books,
        outside.observer,
        now,
        outside.sleep,
        outside.chance,
    )
    return Parts(
        settings,
        settings.snapshot().hash,
        router,
        terms,
        PacedAttempts(ways, allowed) if allowed else Attempts(ways),
        Settler(outside.books, outside.observer, now=now, count_tokens=outside.count_tokens),
        Cache(outside.shelf, ttl_s=settings.policy.cache_ttl_s, wall_ms=outside.books.now_ms),
        outside.books,
        outside.observer,
        outside.secret,
        allowed,
        _semantic(settings, outside),
        now,
        breakers,
        usable,
    )


def _warn_of_ended(router: Router, today: str) -> None:
    for name, route in router.routes.items():
        for model in models_of(route):
            if model.shutdown and model.shutdown <= today:
                said = text("gateway.past_shutdown", route=name, model=model.name, date=model.shutdown)
                _log.warning(said, extra={"repeats": said})


def _semantic(settings: Settings, outside: Outside) -> Semantic | None:
    policy = settings.policy
    if not policy.semantic_cache or outside.embeddings is None:
        return None
    importlib.import_module("numpy")  # now, and not while the first call waits
    return Semantic(
        model=policy.semantic_model,
        threshold=policy.semantic_cache,
        surface=outside.embeddings,
        now=outside.now,
    )
