"""How a route orders its models: by weight, price, speed, or a small share for the newcomer.

Prevents two failures: a conversation that changes its model (and loses the provider's prompt cache) with every turn,
and a "fastest" route that never again tries the model that was slow once.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from baimo.core.model import Model
from baimo.core.money import MICROS
from baimo.gateway.bound import WITHOUT_OUTPUT
from baimo.gateway.surface import Peek
from baimo.settings import RouteSettings

BYTES_PER_TOKEN = 4
"""UTF-8 bytes per token, roughly; for comparing prices, never for bounds."""
EXPECTED_OUTPUT = 211
"""Tokens of a typical answer, for comparing prices: the mean of the Azure 2023 conversation trace."""
WEIGHT = 0.2
"""Share of the newest measurement in a moving average."""
STALE_S = 60.0
"""Age of a measurement after which one call finds out anew."""


class Latencies:
    """Moving averages of the time to the first byte, per model."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, list[float]] = {}

    def seen(self, model: str, first_byte_s: float) -> None:
        """A call's first byte came after so many seconds; a failure counts as the time until it failed, at least
        twice the average."""
        entry = self._seen.get(model)
        if entry is None:
            self._seen[model] = [first_byte_s, self._now()]
        else:
            entry[0] += WEIGHT * (first_byte_s - entry[0])
            entry[1] = self._now()

    def failed(self, model: str, after_s: float) -> None:
        """A call failed after so many seconds: a model that refuses at once must not look fast."""
        average = self._seen.get(model, [1.0])[0]
        self.seen(model, max(after_s, 2 * average))

    def expected_s(self, model: str) -> float | None:
        """Seconds to the first byte; None = find out: never measured, or not for a while (one call is told so)."""
        entry = self._seen.get(model)
        if entry is None:
            self._seen[model] = [1.0, self._now()]  # the others need not find out, too
            return None
        if self._now() - entry[1] > STALE_S:
            entry[1] = self._now()
            return None
        return entry[0]


class Signals(NamedTuple):
    """What strategies go by."""

    latencies: Latencies
    rates: Mapping[str, float]
    """Units of money.currency for one unit of each other currency."""
    currency: str
    ready: Callable[[str], bool] = lambda model: True
    """Whether a model's breaker would let a call through."""


class Draw(NamedTuple):
    """One call, as far as the order of a route depends on it."""

    signals: Signals
    peek: Peek
    surface: str
    conversation: str
    chance: random.Random

    def share(self, route: str, sticky: bool) -> float:
        """A number in [0, 1), uniform over conversations; the same for all turns of one."""
        if not sticky or not self.conversation:
            return self.chance.random()
        # the route's name is part of it: the same conversations must not be the canaries of every route
        hashed = hashlib.blake2b(f"{route}\0{self.conversation}".encode(), digest_size=8).digest()
        return (int.from_bytes(hashed, "big") >> 11) / (1 << 53)


def ordered(name: str, route: RouteSettings, models: Sequence[Model], draw: Draw) -> list[int]:
    """Places of `models` (the first one behind each entry of the route), in the order in which to try them."""
    places = list(range(len(models)))
    match route.strategy:
        case "weighted":
            first = _by_weight(route.weights, draw.share(name, route.sticky))
            return [first, *(place for place in places if place != first)]
        case "canary":
            if draw.share(name, route.sticky) < route.share:
                return [places[-1], *places[:-1]]
            return places
        case "cheapest":
            costs = [expected_cost(model, draw) for model in models]
            return sorted(places, key=lambda place: (costs[place] is None, costs[place] or 0, place))
        case "latency":
            latencies = draw.signals.latencies
            ready = [draw.signals.ready(model.name) for model in models]
            # a closed road is not measured, it would only pretend to have been
            times = [
                latencies.expected_s(model.name) if ready[place] else 0.0
                for place, model in enumerate(models)
            ]
            return sorted(
                places, key=lambda place: (not ready[place], times[place] is not None, times[place] or 0)
            )
        case "fallback":
            return places


def expected_cost(model: Model, draw: Draw) -> float | None:
    """What the call will cost about, micro-units of money.currency; None = not known."""
    signals = draw.signals
    if model.price is None:
        return None
    rate = 1.0 if model.price.currency == signals.currency else signals.rates.get(model.price.currency)
    tokens_in = draw.peek.text_bytes // BYTES_PER_TOKEN
    rates = model.price.rates(tokens_in)
    if rates is None or rate is None:
        return None
    tokens_out = (
        0 if draw.surface in WITHOUT_OUTPUT else min(draw.peek.max_tokens or EXPECTED_OUTPUT, EXPECTED_OUTPUT)
    )
    cost = rates.cost(tokens_in, tokens_out * draw.peek.answers)
    return (cost.micros + cost.rest / MICROS) * rate


def _by_weight(weights: Sequence[float], share: float) -> int:
    point = share * sum(weights)
    for place, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return place
    return max(place for place, weight in enumerate(weights) if weight)  # rounding at the very end
