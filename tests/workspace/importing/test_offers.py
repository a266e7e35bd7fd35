"""What an imported name of a model takes from the catalogue."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

from baimo.core.model import Model
from baimo.core.money import Price
from baimo.workspace.importing.offers import facts_of


def test_a_model_under_another_name_keeps_all_its_prices() -> None:
    names = {one.name for one in fields(Price)} - {"currency", "tiers", "source", "as_of"}
    amounts: dict[str, Any] = {name: Decimal(number) for number, name in enumerate(sorted(names), 1)}
    model = Model(name="a/b", vendor="a", upstream="b", price=Price(currency="EUR", **amounts))
    assert {name: value for name, (value, _) in facts_of(model).items()} == {"currency": "EUR", **amounts}
    assert not facts_of(model, priced=True)
