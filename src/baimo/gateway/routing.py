"""From the name that a client asked for to the models that may answer: aliases, routes, policy, rights.

Prevents three failures: a route that leads to itself and is found out by the first caller, a fallback that takes
confidential data outside, and an error message that names models which the caller has no business knowing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol

import msgspec

from baimo.core.model import Model, Vendor
from baimo.core.tenant import DataClass, Key, Tenant
from baimo.errors import CallRefused, ConfigError, Forbidden, NotSupported, UnknownModel
from baimo.gateway.call import Choice
from baimo.gateway.keyring import permits_name, permits_surface
from baimo.gateway.policy import data_class, masks, may_leave
from baimo.gateway.strategies import Draw, Signals, ordered
from baimo.gateway.surface import Peek, Surface, speaks
from baimo.settings import RouteSettings, Settings

KINDS = frozenset({"chat", "embeddings", "rerank", "moderations", "transcriptions", "speech", "images"})
"""Abilities that say what a model is for; a model without any of them is for chat as far as anybody knows."""
TUNED = "ft:"
"""Beginning of the names of tuned models."""
Tuned = Callable[[str], Mapping[str, Model]]
"""Tuned models by name, given the tenant whose they are."""
Released = Callable[[str], Mapping[str, str]]
"""Aliases that were released, each with the name of the model that answers, given the tenant whose they are."""
_REMEMBERED = 4096


class Names(Protocol):
    """The catalogue, as far as routing needs it."""

    def model(self, name: str) -> Model:
        """Raises UnknownModel."""
        ...

    def models(self, vendor: str | None = None) -> list[Model]: ...

    def vendor(self, name: str) -> Vendor: ...


class Route(NamedTuple):
    """A route of baimo.toml with what its names stand for."""

    name: str
    settings: RouteSettings
    children: tuple[Route | Model, ...]


class Road(msgspec.Struct, frozen=True):
    """What a name means for one caller: where it leads, minus what is closed to that caller."""

    key: Key
    tenant: Tenant
    data: DataClass
    node: Route | Model
    choice: Choice | None
    """The answer, where nothing needs to be drawn, measured or reckoned."""


class Router:
    """Turns names into Choices. Made anew when the settings change."""

    def __init__(
        self,
        settings: Settings,
        names: Names,
        signals: Signals,
        *,
        usable: Callable[[str], bool] = lambda vendor: True,
        tuned: Tuned = lambda tenant: {},
        released: Released = lambda tenant: {},
        chance: random.Random | None = None,
    ) -> None:
        """
        Args:
            settings: routes, policy and the default model.
            names: the catalogue.
            signals: what strategies go by.
            usable: whether a vendor can be called (its key is there); decides between vendors of the same model.
            tuned: what a tenant has tuned and may ask for now; nobody else may.
            released: a tenant's aliases that were released; they come before routes of the same name.
            chance: for weighted and canary routes.

        Raises:
            ConfigError: a route leads to itself, has no models, or its weights do not fit.
            UnknownModel: a route names a model that does not exist.
        """
        self._settings = settings
        self._names = names
        self._signals = signals
        self._usable = usable
        self._tuned = tuned
        self._released = released
        self._chance = chance or random.Random()
        self.routes: dict[str, Route] = {}
        for name in settings.routes:
            self._built(name, ())
        if settings.serve.default_model and settings.serve.default_model not in self.routes:
            names.model(settings.serve.default_model)
        self._roads: dict[tuple[str, str, str, bytes | None, str | None], Road] = {}

    def choice(
        self,
        peek: Peek,
        surface: Surface,
        key: Key,
        tenant: Tenant,
        headers: Mapping[bytes, bytes],
        conversation: str,
    ) -> tuple[Choice, DataClass]:
        """Which model answers, and what to try next; and the data class that this heeds.

        Args:
            peek: names the model and bounds the prompt.
            surface: must be spoken or translatable.
            key: its patterns decide what may be asked for.
            tenant: whose call it is.
            headers: may make the data class stricter.
            conversation: hash that keeps a conversation with its model; empty = draw anew.

        Raises:
            UnknownModel: no such name, or none that this key may use; names the nearest that it may.
            Forbidden: the key may not use it, or the data may not go there.
            NotSupported: none of the models can do this.
            CallRefused: no model was named and there is no default, or a header says nothing that is known.
        """
        asked = peek.model or self._settings.serve.default_model
        released = self._released(key.tenant).get(asked)
        place = (key.public, asked, surface.name, headers.get(b"x-baimo-data-class"), released)
        road = self._roads.get(place)
        if road is None or road.key is not key or road.tenant is not tenant:
            data = data_class(self._settings.policy, key, tenant, headers)
            road = self._road(asked, surface, key, tenant, data)
            if len(self._roads) >= _REMEMBERED:
                self._roads.clear()
            if not (released or asked).startswith(TUNED):  # they come and go while the server runs
                self._roads[place] = road
        if road.choice is not None:
            return road.choice, road.data
        draw = Draw(self._signals, peek, surface.name, conversation, self._chance)
        return _choice(asked, road.node, draw), road.data

    def behind(self, asked: str, key: Key) -> list[Model]:
        """Every model that may answer what asks for this name; empty = nobody knows it."""
        name = asked or self._settings.serve.default_model
        try:
            return list(models_of(self._named(name, key)))
        except UnknownModel:
            return []

    def offered(self, key: Key) -> list[tuple[str, Model | Route]]:
        """Everything that this key may ask for, routes first."""
        released = self._released(key.tenant)
        found: list[tuple[str, Model | Route]] = []
        for name in dict.fromkeys((*self.routes, *released)):
            served = name not in released or self._leads_to(released[name], key) is not None
            if served and permits_name(key, name):
                found.append((name, self._named(name, key)))
        taken = {*self.routes, *released}
        found += [
            (model.name, model)
            for model in self._names.models()
            if model.name not in taken and permits_name(key, model.name) and self._usable(model.vendor)
        ]
        mine = self._tuned(key.tenant)
        return [*found, *((name, model) for name, model in mine.items() if permits_name(key, name))]

    def _road(self, asked: str, surface: Surface, key: Key, tenant: Tenant, data: DataClass) -> Road:
        if not asked:
            raise CallRefused("gateway.no_model")
        if not permits_surface(key, surface.name):
            raise Forbidden("gateway.surface_forbidden", key=key.public, surface=surface.name)
        node = self._named(asked, key)
        permitted = permits_name(key, asked) or all(permits_name(key, one.name) for one in models_of(node))
        if not permitted:
            raise Forbidden("gateway.model_forbidden", key=key.public, name=asked)
        inside = self._pruned(node, lambda model: self._may_go(model, data))
        if inside is None:
            raise Forbidden("gateway.stays_inside", name=asked, data=data)
        if masks(self._settings.policy, tenant) and not surface.neutral:
            # what cannot be read cannot be replaced
            inside = self._pruned(inside, lambda model: self._names.vendor(model.vendor).inside)
            if inside is None:
                raise Forbidden("gateway.cannot_mask", name=asked, surface=surface.name)
        able = self._pruned(inside, lambda model: self._can(model, surface))
        if able is None:
            raise NotSupported("gateway.not_able", name=asked, surface=surface.name)
        return Road(key, tenant, data, able, _fixed(asked, able))

    def _named(self, asked: str, key: Key) -> Route | Model:
        """What a name stands for: as it was released, else as it is configured, else as the catalogue knows it."""
        released = self._released(key.tenant).get(asked)
        if released is None:
            return self.routes.get(asked) or self._direct(asked, key)
        model = self._leads_to(released, key)
        if model is None:
            raise UnknownModel("releases.gone", alias=asked[:200], model=released)
        return Route(asked, RouteSettings(models=[released], fallback_on=()), (model,))

    def _leads_to(self, released: str, key: Key) -> Model | None:
        """The model of a release; None = it is not served any more."""
        if released.startswith(TUNED):
            return self._tuned(key.tenant).get(released)
        with suppress(UnknownModel):
            return self._names.model(released)
        return None

    def _direct(self, asked: str, key: Key) -> Model:
        if asked.startswith(TUNED):
            mine = self._tuned(key.tenant).get(asked)
            if mine is None:
                raise self._unknown(asked, key)
            return mine
        try:
            return self._names.model(asked)
        except UnknownModel as error:
            if error.key == "models.ambiguous":
                same = [model for model in self._names.models() if model.name.partition("/")[2] == asked]
                usable = [model for model in same if self._usable(model.vendor)]
                mine = [model for model in usable if permits_name(key, model.name)]
                if len(mine) == 1:
                    return mine[0]
            raise self._unknown(asked, key) from None

    def _unknown(self, asked: str, key: Key) -> UnknownModel:
        from rapidfuzz import fuzz, process, utils

        names = [name for name, _ in self.offered(key)]
        short = asked.partition("/")[2] or asked
        # the very same name at several vendors comes before names that are merely alike
        near = [name for name in names if name.partition("/")[2] == short][:3]
        if not near:
            best = process.extract(
                asked, names, scorer=fuzz.WRatio, processor=utils.default_process, limit=3, score_cutoff=70
            )
            near = [name for name, _, _ in best]
        if near:
            return UnknownModel("gateway.unknown_near", name=asked[:200], near=", ".join(near))
        return UnknownModel("gateway.unknown", name=asked[:200])

    def _may_go(self, model: Model, data: DataClass) -> bool:
        return self._names.vendor(model.vendor).inside or may_leave(self._settings.policy.outside, data)

    def _can(self, model: Model, surface: Surface) -> bool:
        kinds = KINDS.intersection(model.abilities)
        if kinds and surface.ability in KINDS and surface.ability not in kinds:
            return False
        if not kinds and surface.ability in KINDS and surface.ability != "chat" and model.abilities:
            return False  # what it can do is known, and this is not among it
        return surface.neutral or speaks(self._names.vendor(model.vendor), surface)

    def _pruned(self, node: Route | Model, keeps: Callable[[Model], bool]) -> Route | Model | None:
        """The node without the models that are not kept; None when nothing is left."""
        if isinstance(node, Model):
            return node if keeps(node) else None
        weights = node.settings.weights or [1.0] * len(node.children)
        left = [
            (self._pruned(child, keeps), weight) for child, weight in zip(node.children, weights, strict=True)
        ]
        kept = [(child, weight) for child, weight in left if child is not None]
        if len(kept) == len(left) and all(
            new is old for (new, _), old in zip(kept, node.children, strict=True)
        ):
            return node
        strategy = node.settings.strategy
        if strategy == "canary" and left[-1][0] is None:
            strategy = "fallback"  # the canary itself is closed to this caller
        if strategy == "weighted" and not any(weight for _, weight in kept):
            strategy = "fallback"
        import msgspec

        settings = msgspec.structs.replace(
            node.settings,
            strategy=strategy,
            weights=[weight for _, weight in kept] if node.settings.weights else [],
        )
        return Route(node.name, settings, tuple(child for child, _ in kept)) if kept else None

    def _built(self, name: str, path: tuple[str, ...]) -> Route:
        if name in path:
            raise ConfigError(
                "gateway.route_cycle", name=name, path=" → ".join((*path[path.index(name) :], name))
            )
        if name in self.routes:
            return self.routes[name]
        settings = self._settings.routes[name]
        if not settings.models:
            raise ConfigError("gateway.route_empty", name=name)
        if settings.strategy == "weighted":
            weights = settings.weights
            if len(weights) != len(settings.models) or not any(weights):
                raise ConfigError(
                    "gateway.route_weights", name=name, models=len(settings.models), weights=len(weights)
                )
        if settings.strategy == "canary" and len(settings.models) < 2:
            raise ConfigError("gateway.route_canary", name=name)
        children = tuple(self._child(name, child, (*path, name)) for child in settings.models)
        self.routes[name] = Route(name, settings, children)
        return self.routes[name]

    def _child(self, route: str, name: str, path: tuple[str, ...]) -> Route | Model:
        # a route may be named like a model that it replaces; inside it, the name then means the model
        if name in self._settings.routes and not (name == route and "/" in name):
            return self._built(name, path)
        return self._names.model(name)


def models_of(node: Route | Model) -> Iterable[Model]:
    if isinstance(node, Model):
        yield node
        return
    for child in node.children:
        yield from models_of(child)


def way_to(model: str, node: Route | Model) -> tuple[str, ...] | None:
    """Names of the routes from a node to a model, by the first way in the order of baimo.toml; None = there is none."""
    if isinstance(node, Model):
        return () if node.name == model else None
    for child in node.children:
        way = way_to(model, child)
        if way is not None:
            return (node.name, *way)
    return None


def _fixed(asked: str, node: Route | Model) -> Choice | None:
    """The Choice, where it is the same for every call."""
    if isinstance(node, Model):
        return Choice(node, "direct")
    if any(one.settings.strategy != "fallback" for one in _routes(node)):
        return None
    return _choice(asked, node, None)


def _routes(node: Route | Model) -> Iterable[Route]:
    if not isinstance(node, Model):
        yield node
        for child in node.children:
            yield from _routes(child)


def _choice(asked: str, node: Route | Model, draw: Draw | None) -> Choice:
    if isinstance(node, Model):
        return Choice(node, "direct")
    models, why = _drawn(node, draw)
    unique = tuple({model.name: model for model in models}.values())
    return Choice(
        unique[0],
        "alias" if len(unique) == 1 and len(node.children) == 1 else why,
        unique[1:],
        frozenset(node.settings.fallback_on),
        asked,
        node.settings.hedge_after_ms,
    )


def _drawn(node: Route, draw: Draw | None) -> tuple[list[Model], str]:
    """The models of a route, best first, and the strategy that put the first one there."""
    expanded: list[tuple[list[Model], str]] = [
        ([child], "") if isinstance(child, Model) else _drawn(child, draw) for child in node.children
    ]
    if draw is None or node.settings.strategy == "fallback":
        order = list(range(len(expanded)))
    else:
        order = ordered(node.name, node.settings, [models[0] for models, _ in expanded], draw)
    why = (
        node.settings.strategy
        if node.settings.strategy != "fallback"
        else expanded[order[0]][1] or "fallback"
    )
    return [model for place in order for model in expanded[place][0]], why
