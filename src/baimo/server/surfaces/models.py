"""GET /v1/models and /v1/models/{id}.

OpenAI's fields (id, object, created, owned_by, shutdown_date), and what a client of many vendors asks next: abilities,
context window, longest answer, price, and where the model runs. What is not known is null.
Source: developers.openai.com/api/reference/resources/models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from baimo.core.model import Model
from baimo.core.money import Price
from baimo.server.surfaces.wirejson import written

OWNER = "baimo"
"""`owned_by` of names that only this endpoint knows."""


def models_body(
    models: Iterable[Model],
    routes: Mapping[str, Sequence[Model]] | None = None,
    inside: Collection[str] = (),
) -> bytes:
    """The list of what a key may ask for.

    Args:
        models: each under its full name.
        routes: aliases and routes, and the models that may answer them, best first.
        inside: vendors within the own walls.
    """
    rows = [route_row(name, behind, inside) for name, behind in (routes or {}).items()]
    return written({"object": "list", "data": rows + [model_row(model, inside) for model in models]})


def model_row(model: Model, inside: Collection[str] = ()) -> dict[str, Any]:
    """One model."""
    return {
        "id": model.name,
        "object": "model",
        "created": _seconds(model.released),
        "owned_by": model.vendor,
        "shutdown_date": model.shutdown or None,
        "abilities": list(model.abilities),
        "context_window": model.context_window,
        "max_output_tokens": model.max_output,
        "price": None if model.price is None else _price_row(model.price),
        "open_weights": model.open_weights,
        "inside": model.vendor in inside,
    }


def route_row(name: str, models: Sequence[Model], inside: Collection[str] = ()) -> dict[str, Any]:
    """A name that several models may answer: what it promises is what all of them can do."""
    shutdowns = [model.shutdown for model in models if model.shutdown]
    abilities = set[str]().union(*(model.abilities for model in models[:1]))
    for model in models[1:]:
        abilities &= set(model.abilities)
    return {
        "id": name,
        "object": "model",
        "created": max((_seconds(model.released) for model in models), default=0),
        "owned_by": OWNER,
        # the route lives as long as one of its models does
        "shutdown_date": max(shutdowns) if shutdowns and len(shutdowns) == len(models) else None,
        "abilities": sorted(abilities),
        "context_window": _least(model.context_window for model in models),
        "max_output_tokens": _least(model.max_output for model in models),
        "price": None if len(models) != 1 or models[0].price is None else _price_row(models[0].price),
        "models": [model.name for model in models],
        "inside": all(model.vendor in inside for model in models),
    }


def _price_row(price: Price) -> dict[str, Any]:
    """Amounts as decimal text in units of `currency`: a float would not be the price."""
    amounts = {
        "input_per_million": price.input_per_million,
        "output_per_million": price.output_per_million,
        "cached_per_million": price.cached_per_million,
        "cache_write_per_million": price.cache_write_per_million,
        "cache_write_1h_per_million": price.cache_write_1h_per_million,
        "per_call": price.per_call,
    }
    tiers = [
        {
            "above_tokens": tier.above_tokens,
            "input_per_million": _amount(tier.input_per_million),
            "output_per_million": _amount(tier.output_per_million),
            "cached_per_million": _amount(tier.cached_per_million),
        }
        for tier in price.tiers
    ]
    return {
        "currency": price.currency,
        **{name: _amount(amount) for name, amount in amounts.items()},
        "tiers": tiers,
        "as_of": price.as_of or None,
    }


def _amount(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _least(values: Iterable[int | None]) -> int | None:
    """The smallest; None as soon as one is not known."""
    known = list(values)
    return None if None in known or not known else min(filter(None, known))


def _seconds(date: str) -> int:
    """An ISO date, possibly only year and month, as seconds since 1970; 0 = not known, as the field takes no null."""
    year, month, day = (*(int(part) for part in date.split("-") if part.isdigit()), 1, 1, 1)[:3]
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) if year >= 1970 else 0
